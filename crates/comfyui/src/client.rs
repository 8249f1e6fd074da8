use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::excerpt;
use crate::events::Events;
use crate::submit::read_answer;
use crate::{
    ConnectError, HistoryEntry, InvalidUrl, ObjectInfo, QueueState, RawLogs, RequestError,
    Submission, SubmitError, SubmitReply, SystemStats, Verdict, verdict,
};

/// How long a client waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TCP connection, and for the websocket's handshake.
    pub connect: Duration,
    /// For a whole small request, from sending to the end of the answer.
    pub request: Duration,
    /// For a submission: validation runs inside it, and custom nodes may take seconds.
    pub submit: Duration,
    /// For `GET /object_info`, which runs code of every installed node.
    pub object_info: Duration,
    /// For the next bytes of a file on its way.
    pub transfer_idle: Duration,
}

impl Default for Timeouts {
    /// 2 s to connect, 10 s for a request, 120 s for a submission, 60 s for the rest.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            request: Duration::from_secs(10),
            submit: Duration::from_secs(120),
            object_info: Duration::from_secs(60),
            transfer_idle: Duration::from_secs(60),
        }
    }
}

/// A ComfyUI server, by its address. Cheap to clone; clones share connections.
///
/// It sends no `Origin` header, because ComfyUI refuses foreign ones with 403 (ComfyUI source), and goes through no
/// proxy, because the service sits beside the worker.
#[derive(Debug, Clone)]
pub struct ComfyClient {
    http: reqwest::Client,
    base: Url,
    timeouts: Timeouts,
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// The service looked and acted in one step: the prompt was there (true), or neither ran nor waited (false).
    Confirmed(bool),
    /// An older version was told to delete and interrupt it, and does not say whether anything happened. Read the truth.
    Requested,
}

/// The truth about a prompt, as two reads found it.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// The judgement.
    pub verdict: Verdict,
    /// The queue as it was read first, without graphs: who else is there.
    pub queue: QueueState,
    /// The history entry, once there is one.
    pub history: Option<HistoryEntry>,
}

impl ComfyClient {
    /// A client for `http://host:port`, with the default timeouts. Opens no connection.
    ///
    /// # Errors
    /// [`InvalidUrl`] when it is not an `http` URL.
    pub fn new(base_url: &str) -> Result<Self, InvalidUrl> {
        Self::with_timeouts(base_url, Timeouts::default())
    }

    /// A client with timeouts of the caller's choice.
    ///
    /// # Errors
    /// As [`ComfyClient::new`].
    pub fn with_timeouts(base_url: &str, timeouts: Timeouts) -> Result<Self, InvalidUrl> {
        let invalid = |reason: String| InvalidUrl { url: base_url.to_owned(), reason };
        let mut base = Url::parse(base_url).map_err(|error| invalid(error.to_string()))?;
        if base.scheme() != "http" || !base.has_host() {
            return Err(invalid("expected http://host:port".to_owned()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(timeouts.connect)
            // Shorter than any server keeps an idle connection, so that a request never meets a closing one.
            .pool_idle_timeout(Duration::from_secs(15))
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self { http, base, timeouts })
    }

    /// The address, with a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.base.as_str()
    }

    /// The timeouts in use.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Submits a graph. Open the websocket first, or a cached prompt is over before anyone listens (recording
    /// cached_socket_too_late.json).
    ///
    /// # Errors
    /// [`SubmitError`]; mind [`SubmitError::surely_refused`].
    pub async fn submit(&self, submission: &Submission<'_>) -> Result<SubmitReply, SubmitError> {
        let body = serde_json::to_vec(submission).map_err(RequestError::malformed)?;
        let sent_bytes = body.len();
        let request = self
            .request(Method::POST, "prompt")
            .header("content-type", "application/json")
            .body(body);
        let limit = self.timeouts.submit;
        let transport = |error: reqwest::Error| RequestError::from_transport(&error, limit);
        let response = request.timeout(limit).send().await.map_err(transport)?;
        let status = response.status().as_u16();
        let answer = response.bytes().await.map_err(transport)?;
        read_answer(status, &answer, sent_bytes)
    }

    /// What runs and what waits, without the graphs.
    ///
    /// # Errors
    /// [`RequestError`]; never an empty queue for a failed read.
    pub async fn queue(&self) -> Result<QueueState, RequestError> {
        QueueState::parse(&self.get("queue").await?, false)
    }

    /// What runs and what waits, with the graphs, which can make it many MB.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn queue_with_graphs(&self) -> Result<QueueState, RequestError> {
        QueueState::parse(&self.get("queue").await?, true)
    }

    /// How many prompts run or wait: the cheapest question there is (`GET /prompt`).
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn queue_remaining(&self) -> Result<u64, RequestError> {
        let reply: serde_json::Value = self.get_json("prompt").await?;
        let remaining =
            reply.pointer("/exec_info/queue_remaining").and_then(serde_json::Value::as_u64);
        remaining.ok_or_else(|| RequestError::malformed("no exec_info.queue_remaining"))
    }

    /// How a prompt ended; None while it has not ended **and** when it is unknown.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn history(&self, prompt_id: &str) -> Result<Option<HistoryEntry>, RequestError> {
        HistoryEntry::parse(&self.get(&format!("history/{prompt_id}")).await?, prompt_id)
    }

    /// Reads the queue, then the history, and judges (see [`verdict()`] for why in that order).
    ///
    /// # Errors
    /// [`RequestError`] when either read failed: then nothing is known.
    pub async fn truth(&self, prompt_id: &str) -> Result<Truth, RequestError> {
        let queue = self.queue().await?;
        let history = self.history(prompt_id).await?;
        Ok(Truth { verdict: verdict(prompt_id, &queue, history.as_ref()), queue, history })
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
                let reply: serde_json::Value =
                    serde_json::from_slice(&body).map_err(RequestError::malformed)?;
                Ok(Cancelled::Confirmed(
                    reply.get("cancelled").and_then(serde_json::Value::as_bool).unwrap_or(false),
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

    /// The host, the versions and the accelerators.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn system_stats(&self) -> Result<SystemStats, RequestError> {
        self.get_json("system_stats").await
    }

    /// The installed node classes and the files that their loaders offer. Costs the service real work: ask once after
    /// its start, and when something was installed.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn object_info(&self) -> Result<ObjectInfo, RequestError> {
        let body = self
            .execute(self.request(Method::GET, "object_info"), self.timeouts.object_info)
            .await?;
        ObjectInfo::parse(&body)
    }

    /// The installed node classes alone.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn node_classes(&self) -> Result<BTreeSet<String>, RequestError> {
        Ok(self.object_info().await?.node_classes())
    }

    /// The newest console output.
    ///
    /// # Errors
    /// [`RequestError`]; the route is internal to ComfyUI and may be missing.
    pub async fn logs_raw(&self) -> Result<RawLogs, RequestError> {
        self.get_json("internal/logs/raw").await
    }

    /// Asks for console output as [`crate::Message::Logs`] on the websocket of `client_id`.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn subscribe_logs(&self, client_id: &str, enabled: bool) -> Result<(), RequestError> {
        let body = json!({ "clientId": client_id, "enabled": enabled });
        let request = self.request(Method::PATCH, "internal/logs/subscribe").json(&body);
        self.execute(request, self.timeouts.request).await.map(drop)
    }

    /// Opens a websocket for the messages of this client's prompts.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn events(&self, client_id: &str) -> Result<Events, ConnectError> {
        let mut url = self.url("ws");
        url.query_pairs_mut().append_pair("clientId", client_id);
        let url = url.as_str().replacen("http", "ws", 1);
        Events::open(&url, self.timeouts.connect).await
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        // The base is an http URL with a path, and every path here is relative and plain: joining cannot fail.
        self.base.join(path).unwrap_or_else(|_| self.base.clone())
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    async fn get(&self, path: &str) -> Result<Bytes, RequestError> {
        self.execute(self.request(Method::GET, path), self.timeouts.request).await
    }

    async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, RequestError> {
        serde_json::from_slice(&self.get(path).await?).map_err(RequestError::malformed)
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Result<Bytes, RequestError> {
        self.execute(self.request(Method::POST, path).json(body), self.timeouts.request).await
    }

    /// Sends a request and reads the whole answer, both within `limit`.
    async fn execute(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Bytes, RequestError> {
        let transport = |error: reqwest::Error| RequestError::from_transport(&error, limit);
        let response = request.timeout(limit).send().await.map_err(transport)?;
        let status = response.status();
        let body = response.bytes().await.map_err(transport)?;
        if status.is_success() { Ok(body) } else { Err(status_error(status.as_u16(), &body)) }
    }

    /// Turns an answer that means "no" into an error, after reading its body within `limit`.
    pub(crate) async fn expect_success(
        response: Response,
        limit: Duration,
    ) -> Result<Response, RequestError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = tokio::time::timeout(limit, response.bytes()).await;
        Err(status_error(status.as_u16(), &body.ok().and_then(Result::ok).unwrap_or_default()))
    }
}

/// An error for a status that means "no".
pub(crate) fn status_error(status: u16, body: &[u8]) -> RequestError {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    RequestError::Status { status, body: excerpt(body) }
}
