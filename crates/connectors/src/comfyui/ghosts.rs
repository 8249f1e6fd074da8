use std::time::Duration;

use pointsman_comfyui::{QueueState, RequestError};
use pointsman_core::command::Held;
use tokio::time::Instant;

use super::ComfyUiConnector;
use crate::NotClear;

/// How long ghosts may take to go in one round; the caller comes again.
const ROUND: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);

impl ComfyUiConnector {
    /// Cancels every prompt of this connector's that is not among `ours`, and waits until they have
    /// left the queue. Answers which of `ours` are there, running or ended.
    pub(super) async fn clear(&self, ours: &[Held]) -> Result<Vec<Held>, NotClear> {
        let begin = Instant::now();
        let mut cancelled = Vec::new();
        loop {
            let Some(queue) = self.queue_of_the_living().await? else { return Ok(Vec::new()) };
            self.condition.lock().stuck.retain(|prompt_id| queue.contains(prompt_id));
            let ghosts = self.ghosts(&queue, ours);
            let Some(first) = ghosts.first() else { break };
            if begin.elapsed() >= ROUND {
                return Err(NotClear(format!(
                    "prompt {first} was cancelled and still runs; if it does not stop: restart \
                     ComfyUI"
                )));
            }
            for ghost in ghosts {
                if !cancelled.contains(&ghost) {
                    tracing::info!(prompt = ghost, "cancelling a prompt that is nobody's any more");
                    self.client.cancel(&ghost).await.map_err(not_clear)?;
                    cancelled.push(ghost);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        self.find(ours).await
    }

    /// None when nothing listens there: a dead process has no prompts. One that is only held up may have.
    pub(super) async fn queue_of_the_living(&self) -> Result<Option<QueueState>, NotClear> {
        match self.client.queue().await {
            Ok(queue) => Ok(Some(queue)),
            Err(RequestError::Unreachable { refused: true, .. }) => Ok(None),
            Err(error) => Err(not_clear(error)),
        }
    }

    /// A prompt is this connector's when it says so, or when it is named: one of a former version, or
    /// of before the worker's store became another one, has another owner.
    fn ghosts(&self, queue: &QueueState, ours: &[Held]) -> Vec<String> {
        let ours: Vec<_> = ours.iter().map(|held| held.token.to_string()).collect();
        let mut named = self.named.lock();
        named.retain(|prompt_id| queue.contains(prompt_id));
        named.extend(ours.iter().cloned());
        let owner = (self.settings.owner)();
        let own = queue.iter().filter(|entry| {
            entry.owner.as_deref() == Some(&owner) || named.contains(&entry.prompt_id)
        });
        let ghosts = own.filter(|entry| !ours.contains(&entry.prompt_id));
        ghosts.map(|entry| entry.prompt_id.clone()).collect()
    }

    /// Which of these prompts are in the queue or in history. What is said of one that has left the
    /// queue may make no sense, or not come at all: it may be there.
    pub(super) async fn find(&self, prompts: &[Held]) -> Result<Vec<Held>, NotClear> {
        let queue = self.client.queue().await.map_err(not_clear)?;
        let mut found = Vec::new();
        for held in prompts {
            let prompt_id = held.token.to_string();
            if queue.contains(&prompt_id) {
                found.push(*held);
                continue;
            }
            match self.client.history(&prompt_id).await {
                Ok(None) => {}
                Err(error @ RequestError::Unreachable { .. }) => return Err(not_clear(error)),
                _ => found.push(*held),
            }
        }
        Ok(found)
    }
}

fn not_clear(error: RequestError) -> NotClear {
    NotClear(format!("its queue cannot be read: {error}"))
}
