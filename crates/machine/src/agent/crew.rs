//! The workers of a machine, and how it is by them.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_core::{WorkerId, record::MachineStatus};
use pointsman_worker::WorkerError;
use tokio::sync::watch;

use super::Fitness;

/// The workers, as the machine's state follows from them.
#[derive(Debug, Default)]
pub(super) struct Crew {
    pub(super) fitness: BTreeMap<WorkerId, Fitness>,
    /// All were fit once, or had the time to be: from then on what is not is broken, not starting.
    pub(super) should_be_up: bool,
    pub(super) stopping: bool,
    /// Why a worker ended that was not told to. It does not come back in this process.
    pub(super) stopped: BTreeMap<WorkerId, WorkerError>,
}

impl Crew {
    pub(super) fn look(&mut self, changes: &[(WorkerId, watch::Receiver<Fitness>)]) {
        for (worker, fitness) in changes {
            self.fitness.insert(worker.clone(), fitness.borrow().clone());
        }
        self.should_be_up |= self.fitness.values().all(|fitness| *fitness == Fitness::Fit);
    }

    pub(super) fn ended(&mut self, worker: WorkerId, outcome: Result<(), WorkerError>) {
        self.fitness.remove(&worker);
        if let Err(error) = outcome {
            tracing::error!(%worker, %error, "worker stopped");
            self.stopped.insert(worker, error);
        }
    }

    pub(super) fn status(&self) -> (MachineStatus, Option<String>, Option<String>) {
        if self.stopping {
            return (MachineStatus::Stopping, Some("told to stop".into()), None);
        }
        let (mut broken, mut awaited, mut actions) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (worker, error) in &self.stopped {
            broken.push(format!("{worker}: worker stopped: {error}"));
            actions.insert(cure_of(error));
        }
        for (worker, fitness) in &self.fitness {
            match fitness {
                Fitness::Fit => {}
                Fitness::Starting(what) if !self.should_be_up => {
                    awaited.push(format!("{worker}: {what}"));
                }
                Fitness::Starting(what) | Fitness::Unfit(what) => {
                    broken.push(format!("{worker}: {what}"));
                    actions
                        .insert("look at the service it names; it is used again once it is well");
                }
            }
        }
        if !broken.is_empty() {
            let actions: Vec<_> = actions.into_iter().collect();
            return (MachineStatus::Degraded, Some(broken.join("; ")), Some(actions.join("; ")));
        }
        match self.should_be_up {
            true => (MachineStatus::Ready, None, None),
            false => {
                let reason = (!awaited.is_empty()).then(|| awaited.join("; "));
                (MachineStatus::Starting, reason, None)
            }
        }
    }
}

/// What brings back a worker that stopped.
fn cure_of(error: &WorkerError) -> &'static str {
    match error {
        WorkerError::Superseded(_) => {
            "give the other process an id of its own, such as with `--id`, and start this one again"
        }
        WorkerError::Newer(_) => "start that version in its place",
        _ => "start its process again: a worker that stopped does not come back by itself",
    }
}

/// Ends when any worker's fitness changed; never when none is left to change.
pub(super) async fn any_changed(changes: &mut Vec<(WorkerId, watch::Receiver<Fitness>)>) {
    loop {
        if changes.is_empty() {
            return std::future::pending().await;
        }
        let (changed, at) = {
            let waits = changes.iter_mut().map(|(_, fitness)| Box::pin(fitness.changed()));
            let (changed, at, _) = futures::future::select_all(waits).await;
            (changed.is_ok(), at)
        };
        if changed {
            return;
        }
        changes.remove(at);
    }
}
