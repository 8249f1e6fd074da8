use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::transport::{LARGE_ANSWER, SMALL_ANSWER, read_body, refusal, send};
use crate::submit::read_answer;
use crate::{ComfyClient, RequestError, Submission, SubmitError, SubmitReply, json};

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// The service looked and acted in one step: the prompt was there (true), or neither ran nor waited (false).
    Confirmed(bool),
    /// An older version was told to delete and interrupt it, and does not say whether anything happened. Read the truth.
    Requested,
}

/// Orders.
impl ComfyClient {
    /// Submits a graph. Open the websocket first, or a cached prompt is over before anyone listens (recording
    /// cached_socket_too_late.json).
    ///
    /// # Errors
    /// [`SubmitError`]; mind [`SubmitError::Unknown`].
    pub async fn submit(&self, submission: &Submission<'_>) -> Result<SubmitReply, SubmitError> {
        let unsent =
            |error: serde_json::Error| SubmitError::Unreachable { reason: error.to_string() };
        let body = serde_json::to_vec(submission).map_err(unsent)?;
        let sent_bytes = body.len();
        let request = self
            .request(Method::POST, "prompt")
            .header("content-type", "application/json")
            .body(body);
        let limit = self.timeouts.submit;
        let response = send(request, limit).await?;
        if response.status().is_redirection() {
            return Err(refusal(response, limit).await.into());
        }
        let status = response.status().as_u16();
        let answer = read_body(response, limit, LARGE_ANSWER).await?;
        read_answer(status, &answer, sent_bytes)
    }

    /// Stops this prompt if it runs now; does nothing otherwise. A node that never looks is stopped only at its end.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn interrupt(&self, prompt_id: &str) -> Result<(), RequestError> {
        self.post("interrupt", &json!({ "prompt_id": prompt_id })).await.map(drop)
    }

    /// Takes prompts that wait out of the queue. Does nothing to one that runs, leaves no history and no event.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn delete(&self, prompt_ids: &[&str]) -> Result<(), RequestError> {
        self.post("queue", &json!({ "delete": prompt_ids })).await.map(drop)
    }

    /// Takes a prompt's entry out of history.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn forget(&self, prompt_ids: &[&str]) -> Result<(), RequestError> {
        self.post("history", &json!({ "delete": prompt_ids })).await.map(drop)
    }

    /// Cancels a prompt wherever it is: by the newer atomic route where the service has it, else by deleting it from
    /// the queue and then interrupting it, in that order, so that it cannot slip through between the two.
    ///
    /// # Errors
    /// [`RequestError`]; then it is not known whether anything was cancelled.
    pub async fn cancel(&self, prompt_id: &str) -> Result<Cancelled, RequestError> {
        match self.post(&format!("api/jobs/{prompt_id}/cancel"), &json!({})).await {
            Ok(body) => {
                let reply: Value = json::read(&body).map_err(RequestError::malformed)?;
                Ok(Cancelled::Confirmed(
                    reply.get("cancelled").and_then(Value::as_bool).unwrap_or(false),
                ))
            }
            // Older versions answer 405, because only GET is routed below /api (recorded on 0.3.64); 404 behind a proxy.
            Err(RequestError::Status {
                status: StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND,
                ..
            }) => {
                self.delete(&[prompt_id]).await?;
                self.interrupt(prompt_id).await?;
                Ok(Cancelled::Requested)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the service to drop models from memory, and with `forget_cache` its node cache too. Done between prompts,
    /// some time after the answer.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn free(&self, unload_models: bool, forget_cache: bool) -> Result<(), RequestError> {
        self.post("free", &json!({ "unload_models": unload_models, "free_memory": forget_cache }))
            .await
            .map(drop)
    }

    /// Asks for console output as [`crate::Message::Logs`] on the websocket of `client_id`.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn subscribe_logs(&self, client_id: &str, enabled: bool) -> Result<(), RequestError> {
        let body = json!({ "clientId": client_id, "enabled": enabled });
        let request = self.request(Method::PATCH, "internal/logs/subscribe").json(&body);
        self.execute(request, self.timeouts.request, SMALL_ANSWER).await.map(drop)
    }
}
