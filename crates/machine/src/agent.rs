//! The agent: starting → ready → stopping → offline, and degraded while something is broken.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use pointsman_core::{
    Incarnation, MachineId, Rejected, WorkerId,
    command::{RegisterMachine, SetMachine},
    matching::Gpu,
    record::MachineStatus,
};
use pointsman_worker::{BrokerError, JUST_REGISTERED, WorkerError};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

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
    Starting,
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
    #[error("every worker of this machine stopped; the last one: {0}")]
    NoWorkers(WorkerError),
}

/// One machine.
pub struct Agent {
    config: AgentConfig,
    host: Arc<dyn Host>,
    contact: Mutex<Contact>,
}

/// When this process was answered.
#[derive(Default)]
struct Contact {
    registered: Option<Instant>,
    last: Option<Instant>,
}

impl Agent {
    pub fn new(config: AgentConfig, host: Arc<dyn Host>) -> Self {
        Self { config, host, contact: Mutex::default() }
    }

    /// Registers, runs the workers until they end, and says how the machine is all the while.
    /// `stopping` is cancelled by whoever tells the workers to drain.
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
        self.register().await?;
        let mut crew = Crew::default();
        let mut running = FuturesUnordered::new();
        let mut changes = Vec::new();
        for member in members {
            crew.fitness.insert(member.worker.clone(), member.fitness.borrow().clone());
            changes.push((member.worker.clone(), member.fitness));
            let worker = member.worker;
            running.push(async move { (worker, member.run.await) });
        }
        let mut beat = tokio::time::interval(self.config.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => self.say(&crew, stopping).await?,
                () = any_changed(&mut changes) => {
                    crew.look(&changes);
                    self.say(&crew, stopping).await?;
                }
                () = stopping.cancelled(), if !crew.stopping => {
                    crew.stopping = true;
                    self.say(&crew, stopping).await?;
                }
                ended = running.next() => match ended {
                    None => return self.ended(crew, stopping).await,
                    Some((worker, outcome)) => {
                        changes.retain(|(id, _)| *id != worker);
                        crew.ended(worker, outcome);
                        self.say(&crew, stopping).await?;
                    }
                }
            }
        }
    }

    async fn ended(&self, crew: Crew, stopping: &CancellationToken) -> Result<(), MachineError> {
        let reason = Some("it said goodbye".to_owned());
        let offline = self.status(MachineStatus::Offline, reason, None);
        let said = self.host.set_machine(offline).await;
        if let Err(error) = said {
            tracing::warn!(%error, "the goodbye was not heard");
        }
        match crew.last_error.filter(|_| !stopping.is_cancelled()) {
            Some(error) => Err(MachineError::NoWorkers(error)),
            None => Ok(()),
        }
    }

    async fn register(&self) -> Result<(), MachineError> {
        let mut pause = self.config.backoff;
        loop {
            let register = RegisterMachine {
                machine: self.config.machine.clone(),
                incarnation: self.config.incarnation,
                gpus: self.config.gpus.clone(),
            };
            match self.host.register_machine(register).await {
                Ok(()) => {
                    let now = Some(Instant::now());
                    *self.contact.lock() = Contact { registered: now, last: now };
                    return Ok(());
                }
                Err(error) => self.bear(error)?,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.config.heartbeat);
        }
    }

    async fn say(&self, crew: &Crew, stopping: &CancellationToken) -> Result<(), MachineError> {
        let (status, reason, action) = crew.status(stopping.is_cancelled());
        let status = self.status(status, reason, action);
        let mut said = self.host.set_machine(status.clone()).await;
        if let Err(BrokerError::Rejected(why)) = &said
            && self.may_be_forgotten(why)
        {
            tracing::warn!(machine = %self.config.machine, %why, "registering again");
            self.register().await?;
            said = self.host.set_machine(status).await;
        }
        match said {
            Ok(()) => self.contact.lock().last = Some(Instant::now()),
            Err(error) => self.bear(error)?,
        }
        Ok(())
    }

    /// Whether the store may have come back as it was before this machine registered, or have removed
    /// it after a long silence. One that a newer process took over is refused when it registers.
    fn may_be_forgotten(&self, why: &Rejected) -> bool {
        match why {
            Rejected::MachineNotFound(_) => true,
            Rejected::Superseded(_) => {
                let Contact { registered, last } = &*self.contact.lock();
                let known = registered.zip(*last);
                known.is_some_and(|(at, last)| last.duration_since(at) < JUST_REGISTERED)
            }
            _ => false,
        }
    }

    /// A broker that is away is waited for; being superseded or refused is the end.
    fn bear(&self, error: BrokerError) -> Result<(), MachineError> {
        match error {
            BrokerError::Unreachable(why) => {
                tracing::debug!(why, "the broker is away");
                Ok(())
            }
            BrokerError::Rejected(Rejected::Superseded(_)) => Err(MachineError::Superseded),
            BrokerError::Rejected(why) => Err(MachineError::Refused(why.to_string())),
            BrokerError::Refused(why) => Err(MachineError::Refused(why)),
        }
    }

    fn status(
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

/// The workers, as the machine's state follows from them.
#[derive(Debug, Default)]
struct Crew {
    fitness: BTreeMap<WorkerId, Fitness>,
    /// All were fit once: from then on what is not is broken, not starting.
    was_ready: bool,
    stopping: bool,
    last_error: Option<WorkerError>,
}

impl Crew {
    fn look(&mut self, changes: &[(WorkerId, watch::Receiver<Fitness>)]) {
        for (worker, fitness) in changes {
            self.fitness.insert(worker.clone(), fitness.borrow().clone());
        }
        self.was_ready |= self.fitness.values().all(|fitness| *fitness == Fitness::Fit);
    }

    fn ended(&mut self, worker: WorkerId, outcome: Result<(), WorkerError>) {
        if let Err(error) = outcome {
            let unfit = Fitness::Unfit(format!("worker stopped: {error}"));
            self.fitness.insert(worker, unfit);
            self.last_error = Some(error);
        } else {
            self.fitness.remove(&worker);
        }
    }

    fn status(&self, stopping: bool) -> (MachineStatus, Option<String>, Option<String>) {
        if stopping {
            return (MachineStatus::Stopping, Some("told to stop".into()), None);
        }
        let broken: Vec<String> = self
            .fitness
            .iter()
            .filter_map(|(worker, fitness)| match fitness {
                Fitness::Unfit(why) => Some(format!("{worker}: {why}")),
                Fitness::Starting if self.was_ready => {
                    Some(format!("{worker}: a service of it does not answer yet"))
                }
                _ => None,
            })
            .collect();
        if !broken.is_empty() {
            let action = "look at the service it names; it is used again once it is well";
            return (MachineStatus::Degraded, Some(broken.join("; ")), Some(action.into()));
        }
        let status = if self.was_ready { MachineStatus::Ready } else { MachineStatus::Starting };
        (status, None, None)
    }
}

/// Ends when any worker's fitness changed; never when none is left to change.
async fn any_changed(changes: &mut Vec<(WorkerId, watch::Receiver<Fitness>)>) {
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<MachineStatus>>);

    #[async_trait]
    impl Host for Heard {
        async fn register_machine(&self, _: RegisterMachine) -> Result<(), BrokerError> {
            Ok(())
        }
        async fn set_machine(&self, set: SetMachine) -> Result<(), BrokerError> {
            let mut heard = self.0.lock();
            if heard.last() != Some(&set.status) {
                heard.push(set.status);
            }
            Ok(())
        }
    }

    fn config() -> AgentConfig {
        AgentConfig {
            machine: MachineId::new("m").unwrap(),
            incarnation: Incarnation::from_uuid(Uuid::from_u128(1)),
            gpus: Vec::new(),
            heartbeat: Duration::from_secs(5),
            backoff: Duration::from_millis(100),
        }
    }

    /// Refuses what it is told to, and notes what was asked of it.
    #[derive(Default)]
    struct Refuses {
        next: Mutex<Vec<(&'static str, Rejected)>>,
        asked: Mutex<Vec<&'static str>>,
    }

    impl Refuses {
        fn answer(&self, asked: &'static str) -> Result<(), BrokerError> {
            self.asked.lock().push(asked);
            let mut next = self.next.lock();
            let at = next.iter().position(|(what, _)| *what == asked);
            at.map_or(Ok(()), |at| Err(BrokerError::Rejected(next.remove(at).1)))
        }
    }

    #[async_trait]
    impl Host for Refuses {
        async fn register_machine(&self, _: RegisterMachine) -> Result<(), BrokerError> {
            self.answer("register")
        }
        async fn set_machine(&self, _: SetMachine) -> Result<(), BrokerError> {
            self.answer("set")
        }
    }

    /// What an agent asks for, and how it ends, if it does, where `refused` comes so many seconds
    /// after it registered.
    async fn asked_when(
        after_s: u64,
        refused: Vec<(&'static str, Rejected)>,
    ) -> (Vec<&'static str>, Option<MachineError>) {
        let host = Arc::new(Refuses::default());
        let (_fit, fitness) = watch::channel(Fitness::Starting);
        let run = Box::pin(std::future::pending());
        let member = Member { worker: WorkerId::new("m-worker-0").unwrap(), run, fitness };
        let agent = Agent::new(config(), host.clone());
        let stop = CancellationToken::new;
        let mut running = tokio::spawn(agent.run(vec![member], stop(), stop()));
        tokio::time::sleep(Duration::from_secs(after_s)).await;
        host.asked.lock().clear();
        *host.next.lock() = refused;
        let ended = tokio::time::timeout(Duration::from_secs(5), &mut running).await;
        running.abort();
        let asked = host.asked.lock().clone();
        (asked, ended.ok().and_then(|ended| ended.unwrap().err()))
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_the_store_forgot_registers_again() {
        let forgotten = || ("set", Rejected::MachineNotFound("m".into()));
        for after in [12, 122] {
            let (asked, ended) = asked_when(after, vec![forgotten()]).await;
            assert_eq!((asked, ended), (vec!["set", "register", "set"], None), "after {after} s");
        }
    }

    /// A store that came back from before knows the process before this one; a newer one is told
    /// apart as this one may not register any more.
    #[tokio::test(start_paused = true)]
    async fn one_that_was_superseded_ends() {
        let superseded = |what| (what, Rejected::Superseded(config().incarnation));
        let (asked, ended) = asked_when(12, vec![superseded("set")]).await;
        assert_eq!((asked, ended), (vec!["set", "register", "set"], None));
        let both = vec![superseded("set"), superseded("register")];
        let (asked, ended) = asked_when(12, both).await;
        assert_eq!((asked, ended), (vec!["set", "register"], Some(MachineError::Superseded)));
        let (asked, ended) = asked_when(122, vec![superseded("set")]).await;
        assert_eq!((asked, ended), (vec!["set"], Some(MachineError::Superseded)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_machines_life() {
        let heard = Arc::new(Heard::default());
        let config = config();
        let stopping = CancellationToken::new();
        let (fit, fitness) = watch::channel(Fitness::Starting);
        let until = stopping.clone();
        let member = Member {
            worker: WorkerId::new("m-worker-0").unwrap(),
            run: Box::pin(async move {
                until.cancelled().await;
                Ok(())
            }),
            fitness,
        };
        let agent = Agent::new(config, heard.clone());
        let running =
            tokio::spawn(agent.run(vec![member], stopping.clone(), CancellationToken::new()));
        let beat = || tokio::time::sleep(Duration::from_secs(6));
        beat().await;
        fit.send_replace(Fitness::Fit);
        beat().await;
        fit.send_replace(Fitness::Unfit("comfyui: does not answer".into()));
        beat().await;
        fit.send_replace(Fitness::Fit);
        beat().await;
        stopping.cancel();
        running.await.unwrap().unwrap();
        use MachineStatus as S;
        let expected = [S::Starting, S::Ready, S::Degraded, S::Ready, S::Stopping, S::Offline];
        assert_eq!(*heard.0.lock(), expected);
    }
}
