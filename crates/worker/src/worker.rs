//! A worker from its registration to its goodbye.

use std::{future::Future, sync::Arc, time::Duration};

use pointsman_connectors::StopReason;
use pointsman_core::{
    Incarnation,
    command::{ConnectorReport, Held},
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Broker, ConfigError, WorkerConfig, WorkerError,
    attempt::{Attempt, Phase},
    config::{GOODBYE, LAST_CALL},
    confirm,
    health::HealthTask,
    keeper::Keeper,
    lane::Lane,
    previews,
    shared::Shared,
};

/// What a service has is asked this long before the first registration; one that is not up yet is
/// registered without, and again when it is.
const FIRST_LOOK: Duration = Duration::from_millis(500);

/// How a worker is told to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Finish what can be finished within the drain's time, give the rest back, leave.
    pub drain: CancellationToken,
    /// Leave now.
    pub abort: CancellationToken,
}

/// One worker. See [`Worker::run`].
pub struct Worker {
    shared: Arc<Shared>,
}

/// How its tasks end.
type Tasks = JoinSet<Result<(), WorkerError>>;

impl Worker {
    /// A worker that has not registered yet, under a new incarnation.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: WorkerConfig, broker: Arc<dyn Broker>) -> Result<Self, ConfigError> {
        config.check()?;
        let shared = Shared::new(config, broker);
        Ok(Self { shared })
    }

    /// This start of the worker.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// How each of its services is, from now on.
    #[must_use]
    pub fn reports(&self) -> Vec<watch::Receiver<ConnectorReport>> {
        self.shared.services.iter().map(|service| service.reported.subscribe()).collect()
    }

    /// Registers and works until it is told to stop. On [`Shutdown::drain`] it takes no more jobs,
    /// gives back those that have not started, lets the others run for the drain's time
    /// ([`crate::Timings`]), gives back the rest and leaves. On [`Shutdown::abort`] it leaves at
    /// once; whatever a service still does is a ghost, which the next start clears.
    ///
    /// # Errors
    /// [`WorkerError`] when it ended without being told to. After
    /// [`WorkerError::Superseded`] it must not be started again under the same id.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), WorkerError> {
        let shared = self.shared;
        if !register(&shared, &shutdown).await? {
            return Ok(());
        }
        tracing::info!(worker = %shared.config.worker, incarnation = %shared.incarnation, "registered");
        let (mut lanes, mut others) = start(&shared);
        let ended = tokio::select! {
            ended = work(&shared, &mut lanes, &mut others, &shutdown.drain) => ended,
            () = shutdown.abort.cancelled() => Ok(()),
        };
        lanes.shutdown().await;
        // Broken off it may be heard after the goodbye, and a renewal brings a worker back.
        let renewing = within(LAST_CALL, shared.renewing.lock()).await;
        others.shutdown().await;
        drop(renewing);
        if let Err(WorkerError::Newer(_)) = &ended {
            tell_of_the_lost(&shared);
        }
        shared.ours.forget_all();
        match &ended {
            // Nobody would hear it.
            Err(WorkerError::Superseded(_) | WorkerError::Newer(_)) => {}
            _ => leave(&shared).await,
        }
        ended
    }
}

/// Registers; `false`: it was told to stop before that. A registration that is under way then is waited
/// for: broken off it may be carried out all the same, and whoever has registered says goodbye.
async fn register(shared: &Arc<Shared>, shutdown: &Shutdown) -> Result<bool, WorkerError> {
    let Shutdown { drain, abort } = shutdown;
    tokio::select! {
        () = first_look(shared) => {}
        () = drain.cancelled() => return Ok(false),
        () = abort.cancelled() => return Ok(false),
    }
    let too_late = async {
        drain.cancelled().await;
        tokio::time::sleep(LAST_CALL).await;
    };
    let running = tokio::select! {
        running = shared.register(true) => running?,
        () = too_late => return Ok(false),
        () = abort.cancelled() => return Ok(false),
    };
    shared.sort_running(running);
    shared.renewed(Instant::now());
    Ok(true)
}

/// What its services have, as far as they say it soon.
async fn first_look(shared: &Arc<Shared>) {
    for service in &shared.services {
        let asked = tokio::time::timeout(FIRST_LOOK, service.connector.capabilities()).await;
        if let Ok(Ok(capabilities)) = asked {
            // What cannot be registered is seen again, and told, when the service is looked after.
            let _ = shared.offer(service, capabilities).await;
        }
    }
}

fn start(shared: &Arc<Shared>) -> (Tasks, Tasks) {
    let (mut lanes, mut others) = (Tasks::new(), Tasks::new());
    for service in &shared.services {
        lanes.spawn(Lane::new(shared.clone(), service.clone()).run());
        others.spawn(HealthTask::new(shared.clone(), service.clone()).run());
    }
    others.spawn(Keeper::new(shared.clone()).run());
    others.spawn(previews::run(shared.clone()));
    others.spawn(confirm::run(shared.clone()));
    (lanes, others)
}

/// Works until told to drain, and then until nothing is left or its time is up.
async fn work(
    shared: &Arc<Shared>,
    lanes: &mut Tasks,
    others: &mut Tasks,
    drain: &CancellationToken,
) -> Result<(), WorkerError> {
    tokio::select! {
        ended = first_end(lanes, others) => return ended,
        () = drain.cancelled() => {}
    }
    shared.stop_taking_jobs();
    stop_attempts(shared, false);
    let timings = shared.config.timings;
    if let Some(ended) = within(timings.drain, all_lanes(lanes, others)).await {
        return ended;
    }
    stop_attempts(shared, true);
    if let Some(ended) = within(timings.stop, all_lanes(lanes, others)).await {
        return ended;
    }
    tracing::warn!(worker = %shared.config.worker, "leaving with attempts that did not stop");
    Ok(())
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// Tells attempts to stop: those that the service has not taken yet, or all.
fn stop_attempts(shared: &Shared, all: bool) {
    for attempt in shared.ours.all_kept() {
        if all || !attempt.has_started() {
            attempt.signal().raise(StopReason::Drain);
        }
    }
}

/// No task ends by itself while the worker works, so the first one to end has its reason.
async fn first_end(lanes: &mut Tasks, others: &mut Tasks) -> Result<(), WorkerError> {
    tokio::select! {
        Some(ended) = lanes.join_next() => reason(ended),
        Some(ended) = others.join_next() => reason(ended),
    }
}

/// Waits until every lane has ended, or something else has.
async fn all_lanes(lanes: &mut Tasks, others: &mut Tasks) -> Result<(), WorkerError> {
    loop {
        tokio::select! {
            ended = lanes.join_next() => match ended {
                Some(ended) => reason(ended)?,
                None => return Ok(()),
            },
            Some(ended) = others.join_next() => return reason(ended),
        }
    }
}

fn reason(ended: Result<Result<(), WorkerError>, JoinError>) -> Result<(), WorkerError> {
    ended.unwrap_or_else(|died| Err(WorkerError::Died(died.to_string())))
}

/// What this worker has that the store will not hear of any more.
fn tell_of_the_lost(shared: &Shared) {
    let kept = |attempt: &Arc<Attempt>| Some((attempt.held(), attempt.phase() == Phase::Over));
    let running = |held| Some((held, false));
    for (Held { job, attempt, .. }, is_over) in
        shared.ours.all(kept, running, |claimed| running(claimed.held))
    {
        if is_over {
            tracing::error!(%job, attempt, "it is not known whether its end was taken: see the job");
        } else {
            tracing::error!(%job, attempt, "it can't be handed in: it is given back after its lease");
        }
    }
}

/// Says goodbye, so that nobody waits for this worker's leases to end.
async fn leave(shared: &Shared) {
    let (worker, incarnation) = (shared.config.worker.clone(), shared.incarnation);
    let goodbye = shared.broker.leave(worker, incarnation);
    if let Err(why) = shared.within(GOODBYE, goodbye).await {
        tracing::warn!(worker = %shared.config.worker, %why, "could not say goodbye");
    }
}
