use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use super::transport::LARGE_ANSWER;
use crate::{
    ComfyClient, HistoryEntry, ObjectInfo, QueueState, RawLogs, RequestError, SystemStats, Verdict,
    verdict,
};

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

impl Truth {
    /// The output nodes of this prompt that run or ran, without those that validation dropped; None where the service
    /// does not say, and for a prompt that is in neither place.
    #[must_use]
    pub fn outputs_to_execute(&self, prompt_id: &str) -> Option<&[String]> {
        let queued = self.queue.iter().find(|entry| entry.prompt_id == prompt_id);
        let outputs = match (&self.history, queued) {
            (Some(entry), _) => &entry.outputs_to_execute,
            (None, Some(entry)) => &entry.outputs_to_execute,
            (None, None) => return None,
        };
        outputs.as_deref()
    }
}

/// Questions. None of them changes anything.
impl ComfyClient {
    /// What runs and what waits, without the graphs.
    ///
    /// # Errors
    /// [`RequestError`]; never an empty queue for a failed read.
    pub async fn queue(&self) -> Result<QueueState, RequestError> {
        QueueState::parse(&self.get("queue", LARGE_ANSWER).await?, false)
    }

    /// What runs and what waits, with the graphs, which can make it many MB.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn queue_with_graphs(&self) -> Result<QueueState, RequestError> {
        QueueState::parse(&self.get("queue", LARGE_ANSWER).await?, true)
    }

    /// How many prompts run or wait: the cheapest question there is (`GET /prompt`).
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn queue_remaining(&self) -> Result<u64, RequestError> {
        let reply: Value = self.get_json("prompt").await?;
        let remaining = reply.pointer("/exec_info/queue_remaining").and_then(Value::as_u64);
        remaining.ok_or_else(|| RequestError::malformed("no exec_info.queue_remaining"))
    }

    /// How a prompt ended; None while it has not ended **and** when it is unknown.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn history(&self, prompt_id: &str) -> Result<Option<HistoryEntry>, RequestError> {
        self.history_seen(prompt_id, |_| {}).await
    }

    /// The same, and each time that more of the answer came `seen` is told how many bytes are here: of a prompt that
    /// ended it may be long in coming.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn history_seen(
        &self,
        prompt_id: &str,
        seen: impl FnMut(usize),
    ) -> Result<Option<HistoryEntry>, RequestError> {
        let request = self.request(Method::GET, &format!("history/{prompt_id}"));
        let limit = self.timeouts.request;
        let body = self.execute_seen(request, limit, LARGE_ANSWER, seen).await?;
        HistoryEntry::parse(&body, prompt_id)
    }

    /// Reads the queue, then the history, and judges (see [`verdict()`] for why in that order).
    ///
    /// # Errors
    /// [`RequestError`] when either read failed: then nothing is known. Of what is in the queue a proxy's answer in the
    /// place of its history leaves the queue's word.
    pub async fn truth(&self, prompt_id: &str) -> Result<Truth, RequestError> {
        self.truth_seen(prompt_id, |_| {}).await
    }

    /// The same, and `seen` is told how much of the history is here (see [`Self::history_seen`]).
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn truth_seen(
        &self,
        prompt_id: &str,
        seen: impl FnMut(usize),
    ) -> Result<Truth, RequestError> {
        let queue = self.queue().await?;
        let history = match self.history_seen(prompt_id, seen).await {
            // What was in the queue had not ended.
            Err(error) if error.is_proxys() && queue.contains(prompt_id) => None,
            history => history?,
        };
        Ok(Truth { verdict: verdict(prompt_id, &queue, history.as_ref()), queue, history })
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
        let request = self.request(Method::GET, "object_info");
        let body = self.execute(request, self.timeouts.object_info, LARGE_ANSWER).await?;
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
}
