use std::time::Duration;

use pointsman_comfyui::{RequestError, Truth, Verdict};
use pointsman_core::LossReason;
use tokio::time::Instant;

use super::run::Run;
use crate::RunEnd;

/// A cancel that has not worked yet is repeated this often.
const AGAIN: Duration = Duration::from_secs(2);
/// The longest pause between two looks whether it has.
const LOOK: Duration = Duration::from_millis(500);

impl Run<'_> {
    /// Cancels this prompt, and no other, and waits until it has left the queue. Answers the last
    /// truth about it; none when the service died, and the prompt with it, or when it has left the
    /// queue and what is said of its end cannot be read.
    ///
    /// # Errors
    /// [`RunEnd::Wedged`] when it does not leave.
    pub(super) async fn make_it_stop(&self, reason: LossReason) -> Result<Option<Truth>, RunEnd> {
        let client = &self.connector.client;
        let pace = self.connector.settings.pace;
        let begin = Instant::now();
        let (mut cancel_at, mut pause) = (begin, pace.truth_first);
        let mut refused_since = None;
        while begin.elapsed() < pace.cancel {
            if Instant::now() >= cancel_at {
                if let Err(why) = self.context.ticking(client.cancel(&self.prompt_id)).await {
                    tracing::debug!(prompt = self.prompt_id, %why, "cancel without an answer");
                }
                cancel_at = Instant::now() + AGAIN;
            }
            match self.context.ticking(client.truth(&self.prompt_id)).await {
                Ok(truth) if truth.verdict.is_final() => return Ok(Some(truth)),
                Ok(_) => refused_since = None,
                Err(error) if says_nothing(&error) && self.has_left_the_queue().await => {
                    return Ok(None);
                }
                Err(error) => match self.dead_after(&error) {
                    Some(dead_after) => {
                        let since = *refused_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= dead_after {
                            return Ok(None);
                        }
                    }
                    None => refused_since = None,
                },
            }
            self.context.ticking(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(LOOK);
        }
        // What is said of its end may only come too slowly.
        if self.has_left_the_queue().await {
            return Ok(None);
        }
        self.connector.condition.lock().stuck.insert(self.prompt_id.clone());
        let message = format!("prompt {} does not stop: restart ComfyUI", self.prompt_id);
        Err(RunEnd::Wedged { reason, message, failure: None })
    }

    /// After how long of this error alone the service is dead; none when it may just be busy.
    pub(super) fn dead_after(&self, error: &RequestError) -> Option<Duration> {
        let pace = &self.connector.settings.pace;
        match error {
            RequestError::Unreachable { refused: true, .. } => Some(pace.dead_after),
            error if is_cut_off(error) => Some(pace.cut_off_after),
            _ => None,
        }
    }

    pub(super) async fn has_left_the_queue(&self) -> bool {
        let queue = self.context.ticking(self.connector.client.queue()).await;
        queue.is_ok_and(|queue| !queue.contains(&self.prompt_id))
    }
}

/// Whether a connection was made and closed, or a proxy finds nothing behind it. A server that is
/// only busy keeps its connections.
pub(super) fn is_cut_off(error: &RequestError) -> bool {
    matches!(error, RequestError::AnswerLost { .. }) || error.is_proxys()
}

/// Whether what came in the place of an answer says nothing of what was asked: ComfyUI's own that cannot be
/// read, or that of what stands before it.
pub(super) fn says_nothing(error: &RequestError) -> bool {
    error.is_unreadable() || error.is_proxys()
}

/// Whether the prompt ended by itself before it was stopped.
pub(super) fn ended_by_itself(truth: &Truth) -> bool {
    !matches!(truth.verdict, Verdict::Interrupted(_) | Verdict::Lost)
}
