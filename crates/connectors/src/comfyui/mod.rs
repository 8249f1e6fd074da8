//! Drives a ComfyUI server.
//!
//! Its protocol has no acknowledgements and no replay, so events are only hints: what became of a
//! prompt is read from its queue and its history, from 25 ms after the submission on. The attempt's
//! token is the prompt's id and the websocket's, and every submission says which worker of which store
//! it is from, so that a worker finds its own prompts again after anything that may happen.

mod cancel;
mod clocks;
mod ears;
mod fetched;
mod ghosts;
mod health;
mod inputs;
mod outputs;
mod payload;
mod run;
mod settings;
mod submit;
#[cfg(test)]
mod tests;
mod tracker;
mod watch;
mod written;

use std::collections::BTreeSet;

use async_trait::async_trait;
use parking_lot::Mutex;
use pointsman_comfyui::{Classified, ComfyClient, InvalidUrl, classify};
use pointsman_core::{
    Failure, FailureKind, ServiceName, command::Held, matching::ServiceCapabilities,
};
use tokio::time::Instant;

pub use payload::{ComfyUiPayload, PayloadError};
pub use settings::{ComfyUiSettings, Owner, Pace};
use written::Written;

use crate::{Completion, Connector, Health, NotClear, RunContext, RunEnd, Task, Unavailable};

/// Drives one ComfyUI server.
pub struct ComfyUiConnector {
    settings: ComfyUiSettings,
    client: ComfyClient,
    condition: Mutex<Condition>,
    written: Written,
    /// Prompts that are this connector's whatever they say: that it submitted or the worker named as
    /// its own, and that may be in the queue since.
    named: Mutex<BTreeSet<String>>,
}

/// What is known of the server beside its answers.
#[derive(Debug, Default)]
struct Condition {
    /// It has answered before.
    was_up: bool,
    /// Looks in a row that brought no answer, though something listens.
    silent_looks: u32,
    /// Prompts of this connector that run now.
    runs: u32,
    /// A prompt after whose failure the process can do nothing right any more, and why.
    poisoned_by: Option<(String, String)>,
    /// The classes of nodes that are outputs there, as it said when it was last asked what it has: a
    /// worker does so before anything runs.
    output_classes: BTreeSet<String>,
    /// Prompts that could not be stopped, and may be in the queue since: what waits behind one waits for
    /// ever.
    stuck: BTreeSet<String>,
    /// Until when its disk is taken to be full, and what said so.
    full: Option<(Instant, String)>,
}

/// A run that is counted while it lives, however it ends.
struct Counted<'a>(&'a Mutex<Condition>);

impl<'a> Counted<'a> {
    fn new(condition: &'a Mutex<Condition>) -> Self {
        condition.lock().runs += 1;
        Self(condition)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.lock().runs -= 1;
    }
}

impl ComfyUiConnector {
    /// A connector; it opens no connection yet.
    ///
    /// # Errors
    /// [`InvalidUrl`] when the address is not an `http` URL.
    pub fn new(settings: ComfyUiSettings) -> Result<Self, InvalidUrl> {
        let client = ComfyClient::with_timeouts(&settings.url, settings.timeouts)?;
        let (condition, named) = (Mutex::default(), Mutex::default());
        Ok(Self { settings, client, condition, written: Written::new(), named })
    }

    /// Turns a classified failure into the job's, and remembers when the process is poisoned or cannot
    /// write to its disk.
    fn failure(&self, prompt_id: &str, classified: Classified) -> Failure {
        use pointsman_comfyui::FailureKind as Kind;
        if [classify::DISK_FULL, classify::DISK_FAILED].contains(&&*classified.code) {
            let until = Instant::now() + self.settings.pace.full_for;
            self.condition.lock().full = Some((until, classified.message.clone()));
        }
        let kind = match classified.kind {
            Kind::WrongWorker => FailureKind::WrongWorker,
            Kind::BadJob => FailureKind::BadJob,
            Kind::ServiceFault { poisoned } => {
                if poisoned {
                    let why = classified.message.clone();
                    self.condition.lock().poisoned_by = Some((prompt_id.to_owned(), why));
                }
                FailureKind::ServiceFault
            }
        };
        Failure {
            node: classified.node_id,
            node_type: classified.node_type,
            ..Failure::new(kind, classified.code, classified.message)
        }
    }
}

#[async_trait]
impl Connector for ComfyUiConnector {
    fn service(&self) -> &ServiceName {
        &self.settings.service
    }

    async fn probe(&self) -> Health {
        self.look().await
    }

    async fn capabilities(&self) -> Result<ServiceCapabilities, Unavailable> {
        self.what_it_has().await
    }

    async fn run(&self, task: Task, context: RunContext) -> Result<Completion, RunEnd> {
        let _counted = Counted::new(&self.condition);
        let prompt_id = task.held.token.to_string();
        self.named.lock().insert(prompt_id.clone());
        let end = run::run(self, &task, &context).await;
        if !matches!(end, Err(RunEnd::Wedged { .. })) {
            self.named.lock().remove(&prompt_id);
        }
        end
    }

    async fn clear_ghosts(&self, ours: &[Held]) -> Result<Vec<Held>, NotClear> {
        self.clear(ours).await
    }

    async fn knows(&self, cleared: &[Held]) -> Result<Vec<Held>, NotClear> {
        match self.queue_of_the_living().await? {
            Some(_) => self.find(cleared).await,
            None => Ok(Vec::new()),
        }
    }
}
