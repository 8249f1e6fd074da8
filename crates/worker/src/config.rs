//! What a worker is told before it starts.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use pointsman_connectors::{Connector, Limits};
use pointsman_core::{
    MachineId, ServiceName, Timestamp, WorkerId, bounds::Bounded as _, command::Register,
    matching::Capabilities, record::ServiceSlots,
};

use crate::ConfigError;

/// How long the goodbye may take.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);
/// How long a registration or a renewal that is under way may take before the goodbye.
pub(crate) const LAST_CALL: Duration = Duration::from_secs(1);

/// The store's time as the worker knows it. It tells how long an attempt that is adopted ran before,
/// and dates the last event of a service for those who watch.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// One service of a worker.
#[derive(Clone)]
pub struct ServiceConfig {
    /// Drives it.
    pub connector: Arc<dyn Connector>,
    /// How many jobs it runs at once, 1 to 1,024.
    pub slots: u32,
}

/// Who a worker is, what it drives, and how it keeps time.
#[derive(Clone)]
pub struct WorkerConfig {
    /// Its id. Of two processes with one id the newest wins.
    pub worker: WorkerId,
    /// The machine it runs on.
    pub machine: MachineId,
    /// What it drives.
    pub services: Vec<ServiceConfig>,
    /// Hardware, labels and customers; the services' part is asked of the connectors.
    pub capabilities: Capabilities,
    /// One line for people; empty means a list of the services.
    pub summary: String,
    /// Limits of an attempt whose job sets none.
    pub limits: Limits,
    /// The periods of everything that repeats.
    pub timings: Timings,
    /// The store's time.
    pub clock: Clock,
}

impl fmt::Debug for WorkerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerConfig")
            .field("worker", &self.worker)
            .field("machine", &self.machine)
            .field("services", &self.slots())
            .finish_non_exhaustive()
    }
}

/// The periods of everything that repeats, and how long is waited for what. Only `health_check` and
/// `drain` are settings of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Between two renewals; a third of a lease.
    pub renew: Duration,
    /// Between two renewals while nothing runs; a third of the silence after which a worker is gone.
    pub heartbeat: Duration,
    /// Between two renewals that carry progress.
    pub progress: Duration,
    /// Between two reports of all connector statuses.
    pub full_report: Duration,
    /// An attempt whose executor has not ticked for this long is not renewed.
    pub tick_within: Duration,
    /// Between two looks at a service, also while it is idle.
    pub health_check: Duration,
    /// How long a claim may wait for a job.
    pub claim_wait: Duration,
    /// The first pause after a failed call; doubles up to `backoff_max`, each shortened at random
    /// by up to a half.
    pub backoff: Duration,
    /// The longest pause after a failed call.
    pub backoff_max: Duration,
    /// How long an answer of the broker may take to begin, or to go on; one to results that are handed
    /// in a second more for each 64 KiB of them.
    pub call: Duration,
    /// How long running jobs may go on after the first signal to stop.
    pub drain: Duration,
    /// How long a service may take to drop what is then still running.
    pub stop: Duration,
    /// How long an attempt that its service does not stop is kept, in the hope that it does yet: then
    /// it is given back.
    pub stuck: Duration,
    /// How long attempts from before a restart wait for their service to come up.
    pub adopt: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            renew: Duration::from_secs(3),
            heartbeat: Duration::from_secs(5),
            progress: Duration::from_millis(250),
            full_report: Duration::from_secs(15),
            tick_within: Duration::from_secs(5),
            health_check: Duration::from_secs(5),
            claim_wait: Duration::from_secs(30),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(2),
            call: Duration::from_secs(5),
            drain: Duration::from_secs(30),
            stop: Duration::from_secs(10),
            stuck: Duration::from_secs(60),
            adopt: Duration::from_secs(60),
        }
    }
}

impl Timings {
    /// How long a worker takes at most from the first signal to stop until it has left.
    #[must_use]
    pub fn until_left(&self) -> Duration {
        LAST_CALL + self.drain + self.stop + LAST_CALL + GOODBYE
    }
}

impl WorkerConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.services.is_empty() {
            return Err(ConfigError::NoServices);
        }
        let mut seen = BTreeSet::new();
        for ServiceSlots { name, slots } in self.slots() {
            if !(1..=1024).contains(&slots) {
                return Err(ConfigError::Slots { service: name, slots });
            }
            if !seen.insert(name.clone()) {
                return Err(ConfigError::TwiceTheService(name));
            }
        }
        self.capabilities.check().map_err(ConfigError::Capabilities)
    }

    pub(crate) fn slots(&self) -> Vec<ServiceSlots> {
        let slots = |config: &ServiceConfig| ServiceSlots {
            name: config.connector.service().clone(),
            slots: config.slots,
        };
        self.services.iter().map(slots).collect()
    }

    /// The registration of one incarnation, with nothing known yet of what its services have.
    pub(crate) fn registration(&self, incarnation: pointsman_core::Incarnation) -> Register {
        let services = self.slots();
        let listed = |s: &ServiceSlots| format!("{} ×{}", s.name, s.slots);
        let summary = match self.summary.as_str() {
            "" => services.iter().map(listed).collect::<Vec<_>>().join(", "),
            given => given.to_owned(),
        };
        let mut capabilities = self.capabilities.clone();
        let nothing = |name: ServiceName| (name, Default::default());
        capabilities.services = services.iter().map(|s| nothing(s.name.clone())).collect();
        let mut register = Register {
            worker: self.worker.clone(),
            machine: self.machine.clone(),
            incarnation,
            services,
            capabilities,
            summary,
        };
        register.shorten();
        register
    }
}
