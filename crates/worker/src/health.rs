//! Whether a service can be given jobs.

use std::{sync::Arc, time::Duration};

use pointsman_connectors::{Health, NotClear};
use pointsman_core::{command::Held, record::ConnectorStatus};
use tokio::time::Instant;

use crate::{
    WorkerError,
    attempt::{Attempt, Phase},
    service::Service,
    shared::Shared,
};

/// While the service is not clear it is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// What a service has is asked again this often while nothing is wrong with it: models and nodes
/// come and go while it runs.
const LEARN_AGAIN: Duration = Duration::from_secs(300);
/// The same after it got a job that was not for it: it would get the next one of the like, too.
const LEARN_SOON: Duration = Duration::from_secs(10);

/// Looks after one service: probes it, learns what it has, and clears it of ghosts before it gets
/// jobs. The one writer of its reported status.
pub(crate) struct HealthTask {
    shared: Arc<Shared>,
    service: Arc<Service>,
    /// It was able at the last look.
    was_able: bool,
    /// When what it has was asked last; none while that is not registered.
    learned: Option<Instant>,
    began: Instant,
}

impl HealthTask {
    pub(crate) fn new(shared: Arc<Shared>, service: Arc<Service>) -> Self {
        Self { shared, service, was_able: false, learned: None, began: Instant::now() }
    }

    /// Runs until the worker must end.
    pub(crate) async fn run(mut self) -> Result<(), WorkerError> {
        loop {
            let health = self.look().await?;
            if self.service.set_health(health) {
                self.shared.urgent.notify_one();
            }
            self.release_orphans();
            let again = match self.service.is_clear() {
                true => self.shared.config.timings.health_check,
                false => LOOK_AGAIN.min(self.shared.config.timings.health_check),
            };
            tokio::select! {
                () = tokio::time::sleep(again) => {}
                () = self.service.look.notified() => {}
            }
        }
    }

    /// Probes the service, and makes sure of it when there is doubt.
    async fn look(&mut self) -> Result<Health, WorkerError> {
        let health = self.service.connector.probe().await;
        if !health.is_able() {
            if std::mem::take(&mut self.was_able) {
                self.learned = None;
                self.service.doubt();
            }
            if health.status == ConnectorStatus::Offline {
                self.let_go().await;
            }
            return Ok(health);
        }
        self.was_able = true;
        match self.learned {
            None => {
                if let Err(health) = self.learn().await? {
                    return Ok(health);
                }
            }
            Some(at) if at.elapsed() >= self.learn_after() && health == Health::idle() => {
                // What is known stands until there is an answer.
                self.learned = Some(Instant::now());
                if let Err(Health { message, .. }) = self.learn().await? {
                    let (service, why) = (&self.service.name, message.unwrap_or_default());
                    tracing::warn!(%service, why, "not known whether it has something new");
                }
            }
            Some(_) => {}
        }
        if self.service.is_clear() {
            return Ok(health);
        }
        Ok(self.clear(health).await)
    }

    fn learn_after(&self) -> Duration {
        if self.service.is_misjudged() { LEARN_SOON } else { LEARN_AGAIN }
    }

    /// Asks what the service has, and registers it if that is new.
    async fn learn(&mut self) -> Result<Result<(), Health>, WorkerError> {
        self.service.judge_anew();
        let capabilities = match self.service.connector.capabilities().await {
            Ok(capabilities) => capabilities,
            Err(why) => return Ok(Err(Health::new(ConnectorStatus::Connecting, why.to_string()))),
        };
        let is_news = match self.shared.offer(&self.service, capabilities).await {
            Ok(is_news) => is_news,
            Err(why) => {
                let message = format!("what it has cannot be registered: {why}");
                return Ok(Err(Health::new(ConnectorStatus::Error, message)));
            }
        };
        if is_news {
            let running = self.shared.register(false).await?;
            self.shared.sort_running(running);
        }
        self.learned = Some(Instant::now());
        Ok(Ok(()))
    }

    /// Clears the service of everything that is not this worker's now.
    async fn clear(&self, health: Health) -> Health {
        // In this order: what is doubted, kept or stuck later than this is left to the next round.
        let doubts = self.service.doubts();
        let stuck = self.stuck();
        match self.clear_of(stuck).await {
            Ok(found) => {
                let message = "the service does not have it any more";
                self.shared.end_limbo(&self.service, &found, message);
                self.service.prove(doubts);
                health
            }
            Err(why) => Health::new(ConnectorStatus::Error, why.to_string()),
        }
    }

    /// Where nothing listens, what it could not be made to stop died with it. It is not proven clear
    /// by that: what comes up in its place is looked at before it gets a job.
    async fn let_go(&self) {
        let stuck = self.stuck();
        if stuck.is_empty() {
            return;
        }
        match self.clear_of(stuck).await {
            Ok(_) => self.service.lane.notify_one(),
            Err(why) => tracing::debug!(service = %self.service.name, %why, "not let go yet"),
        }
    }

    /// Clears the service, and settles what is stuck by that. Answers what of this worker's it has.
    async fn clear_of(&self, stuck: Vec<Arc<Attempt>>) -> Result<Vec<Held>, NotClear> {
        let ours = self.shared.ours.all(
            |attempt| self.has(attempt, Phase::Running).then(|| attempt.held()),
            |_| None,
            |claimed| (*claimed.job.service() == self.service.name).then_some(claimed.held),
        );
        let found = self.service.connector.clear_ghosts(&ours).await?;
        let held: Vec<_> = stuck.iter().map(|attempt| attempt.held()).collect();
        let known = match held[..] {
            [] => Vec::new(),
            _ => self.service.connector.knows(&held).await?,
        };
        for attempt in stuck {
            let is_known = known.contains(&attempt.held());
            attempt.set_phase(if is_known { Phase::Known } else { Phase::Gone });
        }
        Ok(found)
    }

    /// The attempts that the service could not be made to stop.
    fn stuck(&self) -> Vec<Arc<Attempt>> {
        let stuck =
            |attempt: &Arc<Attempt>| self.has(attempt, Phase::Stuck).then(|| attempt.clone());
        self.shared.ours.all(stuck, |_| None, |_| None)
    }

    /// Whether the attempt is one of this service's, and has come so far.
    fn has(&self, attempt: &Attempt, phase: Phase) -> bool {
        Arc::ptr_eq(&attempt.service, &self.service) && attempt.phase() == phase
    }

    /// A service that does not come up after a restart cannot be asked about its attempts for ever.
    fn release_orphans(&self) {
        if self.began.elapsed() < self.shared.config.timings.adopt {
            return;
        }
        self.shared.end_limbo(&self.service, &[], "its service did not come up again");
    }
}
