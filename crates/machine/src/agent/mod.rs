//! The agent: starting → ready → stopping → offline, and degraded while something is broken.

mod crew;
mod telling;
#[cfg(test)]
mod tests;

use std::{pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use crew::{Crew, any_changed};
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use pointsman_core::{
    Incarnation, MachineId, WorkerId,
    command::{RegisterMachine, SetMachine},
    matching::Gpu,
    record::MachineStatus,
};
use pointsman_worker::{BrokerError, WorkerError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What did not come up this long after the start is broken, not starting: a ComfyUI with many nodes
/// takes minutes.
const COMES_UP_WITHIN: Duration = Duration::from_secs(300);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What an agent needs of the store.
#[async_trait]
pub trait Host: Send + Sync {
    async fn register_machine(&self, register: RegisterMachine) -> Result<(), BrokerError>;
    /// Says how the machine is; saying it again is its heartbeat.
    async fn set_machine(&self, set: SetMachine) -> Result<(), BrokerError>;
}

/// How a worker's services are, as far as the machine's state follows from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    Fit,
    /// Something of it did not come up yet; says what is waited for.
    Starting(String),
    /// Something of it is broken; says what.
    Unfit(String),
}

/// One of the machine's workers.
pub struct Member {
    pub worker: WorkerId,
    pub run: BoxFuture<'static, Result<(), WorkerError>>,
    pub fitness: watch::Receiver<Fitness>,
}

#[derive(Debug, Clone)]
pub struct AgentConfig {
    pub machine: MachineId,
    pub incarnation: Incarnation,
    pub gpus: Vec<Gpu>,
    /// Between two heartbeats; 5 s.
    pub heartbeat: Duration,
    /// The first pause after a failed call; doubles up to the heartbeat.
    pub backoff: Duration,
}

/// Why an agent stopped other than by being asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    #[error("superseded: a newer process runs under this machine id")]
    Superseded,
    #[error("the broker does not admit this machine: {0}")]
    Refused(String),
}

/// One machine.
pub struct Agent {
    config: AgentConfig,
    host: Arc<dyn Host>,
}

impl Agent {
    pub fn new(config: AgentConfig, host: Arc<dyn Host>) -> Self {
        Self { config, host }
    }

    /// Registers, runs the workers, and says how the machine is all the while: until it is told to
    /// stop and the workers have ended. One that ends before that is not started again, and the
    /// machine says so. `stopping` is cancelled by whoever tells the workers to drain.
    ///
    /// # Errors
    /// [`MachineError`]; the workers are then told to stop through `abandon`.
    pub async fn run(
        self,
        members: Vec<Member>,
        stopping: CancellationToken,
        abandon: CancellationToken,
    ) -> Result<(), MachineError> {
        let outcome = self.host_workers(members, &stopping).await;
        if outcome.is_err() {
            abandon.cancel();
        }
        outcome
    }

    async fn host_workers(
        &self,
        members: Vec<Member>,
        stopping: &CancellationToken,
    ) -> Result<(), MachineError> {
        self.run_crew(members, stopping).await?;
        let reason = Some("it said goodbye".to_owned());
        let offline = self.state(MachineStatus::Offline, reason, None);
        match tokio::time::timeout(GOODBYE, self.host.set_machine(offline)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the goodbye was not heard"),
            Err(_) => tracing::warn!("the goodbye was not heard within {GOODBYE:?}"),
        }
        Ok(())
    }

    /// Runs the workers until it is told to stop and the last one has ended, and tells how the machine
    /// is beside that: a broker that does not answer keeps no worker from running, and none from
    /// ending.
    async fn run_crew(
        &self,
        members: Vec<Member>,
        stopping: &CancellationToken,
    ) -> Result<(), MachineError> {
        let mut crew = Crew::default();
        let mut running = FuturesUnordered::new();
        let mut changes = Vec::new();
        for member in members {
            crew.fitness.insert(member.worker.clone(), member.fitness.borrow().clone());
            changes.push((member.worker.clone(), member.fitness));
            let worker = member.worker;
            running.push(async move { (worker, member.run.await) });
        }
        let state = |crew: &Crew| {
            let (status, reason, action) = crew.status();
            self.state(status, reason, action)
        };
        let (tell, told) = watch::channel(state(&crew));
        let mut telling = pin!(self.keep_told(told));
        let mut came_up_within = pin!(tokio::time::sleep(COMES_UP_WITHIN));
        while !(crew.stopping && running.is_empty()) {
            tokio::select! {
                biased;
                end = &mut telling => return Err(end),
                () = any_changed(&mut changes) => crew.look(&changes),
                () = &mut came_up_within, if !crew.should_be_up => crew.should_be_up = true,
                () = stopping.cancelled(), if !crew.stopping => crew.stopping = true,
                Some((worker, outcome)) = running.next() => {
                    changes.retain(|(id, _)| *id != worker);
                    crew.ended(worker, outcome);
                }
            }
            tell.send_replace(state(&crew));
        }
        Ok(())
    }

    fn state(
        &self,
        status: MachineStatus,
        reason: Option<String>,
        action: Option<String>,
    ) -> SetMachine {
        SetMachine {
            machine: self.config.machine.clone(),
            incarnation: self.config.incarnation,
            status,
            reason,
            action,
        }
    }
}
