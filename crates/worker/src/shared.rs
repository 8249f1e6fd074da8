use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use pointsman_connectors::RawMessage;
use pointsman_core::{
    Incarnation, LossReason, Token,
    command::{AttemptOp, Exchange, Held, Op, Register},
};
use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};

use crate::{
    attempt::Attempt, broker::Broker, broker::Claimed, config::WorkerConfig, draw, service::Service,
};

/// Raw messages of services that wait for a slow listener; beyond that it misses some.
const RAW_MESSAGES: usize = 256;

/// What the parts of one worker share.
pub(crate) struct Shared {
    pub(crate) config: WorkerConfig,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) incarnation: Incarnation,
    pub(crate) services: Vec<Arc<Service>>,
    /// What is registered; held while registering, so that registrations do not cross.
    pub(crate) registration: tokio::sync::Mutex<Register>,
    pub(crate) raw: broadcast::Sender<RawMessage>,
    /// A renewal is due at once.
    pub(crate) urgent: Notify,
    /// Some attempt has new progress.
    pub(crate) progress: Notify,
    /// Some attempt has a new preview.
    pub(crate) previews: Notify,
    epoch: Instant,
    attempts: Mutex<HashMap<Token, Arc<Attempt>>>,
    errands: Mutex<Vec<AttemptOp>>,
    in_contact: AtomicBool,
    ordered_to_drain: AtomicBool,
    stopping: AtomicBool,
}

impl Shared {
    pub(crate) fn new(config: WorkerConfig, broker: Arc<dyn Broker>) -> Arc<Self> {
        let incarnation = draw::incarnation();
        let services = config.services.iter().map(Service::new).map(Arc::new);
        Arc::new(Self {
            services: services.collect(),
            registration: tokio::sync::Mutex::new(config.registration(incarnation)),
            config,
            broker,
            incarnation,
            raw: broadcast::Sender::new(RAW_MESSAGES),
            urgent: Notify::new(),
            progress: Notify::new(),
            previews: Notify::new(),
            epoch: Instant::now(),
            attempts: Mutex::default(),
            errands: Mutex::default(),
            in_contact: AtomicBool::new(false),
            ordered_to_drain: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        })
    }

    /// Milliseconds since this worker began, for what is kept in an atomic.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether the worker as a whole may take another job.
    pub(crate) fn takes_jobs(&self) -> bool {
        self.in_contact.load(Ordering::SeqCst)
            && !self.ordered_to_drain.load(Ordering::SeqCst)
            && !self.is_stopping()
    }

    pub(crate) fn set_contact(&self, in_contact: bool) {
        if self.in_contact.swap(in_contact, Ordering::SeqCst) != in_contact {
            self.wake_lanes();
        }
    }

    pub(crate) fn set_orders(&self, drain: bool) {
        if self.ordered_to_drain.swap(drain, Ordering::SeqCst) != drain {
            tracing::info!(worker = %self.config.worker, drain, "new orders");
            self.wake_lanes();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(crate) fn stop_taking_jobs(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake_lanes();
    }

    fn wake_lanes(&self) {
        for service in &self.services {
            service.lane.notify_one();
        }
    }

    pub(crate) fn keep(&self, attempt: &Arc<Attempt>) {
        let token = attempt.held().token;
        self.attempts.lock().insert(token, attempt.clone());
    }

    pub(crate) fn forget(&self, token: Token) {
        self.attempts.lock().remove(&token);
    }

    pub(crate) fn forget_all(&self) {
        self.attempts.lock().clear();
    }

    pub(crate) fn attempt(&self, token: Token) -> Option<Arc<Attempt>> {
        self.attempts.lock().get(&token).cloned()
    }

    pub(crate) fn attempts(&self) -> Vec<Arc<Attempt>> {
        self.attempts.lock().values().cloned().collect()
    }

    /// The attempts of one service.
    pub(crate) fn attempts_at(&self, service: &Arc<Service>) -> Vec<Arc<Attempt>> {
        let attempts = self.attempts.lock();
        let here = |attempt: &&Arc<Attempt>| Arc::ptr_eq(&attempt.service, service);
        attempts.values().filter(here).cloned().collect()
    }

    /// What the store says is running here, from before a restart: it waits for its service.
    pub(crate) fn sort_running(&self, running: Vec<Claimed>) {
        for claimed in running {
            let found = self.services.iter().find(|s| s.name == *claimed.job.service());
            match found {
                _ if self.attempt(claimed.held.token).is_some() => {}
                Some(service) => service.put_in_limbo(claimed),
                None => self.give_back(claimed.held, LossReason::NotAdopted, "service is gone"),
            }
        }
    }

    /// Gives back an attempt that no lane has. The keeper sees to it.
    pub(crate) fn give_back(&self, held: Held, reason: LossReason, message: &str) {
        let message = message.to_owned();
        let op = op_of(held, Op::Release { reason, message });
        self.errands.lock().push(op);
        self.urgent.notify_one();
    }

    pub(crate) fn is_on_errand(&self, token: Token) -> bool {
        self.errands.lock().iter().any(|errand| errand.token == token)
    }

    pub(crate) fn take_errands(&self) -> Vec<AttemptOp> {
        std::mem::take(&mut self.errands.lock())
    }

    pub(crate) fn put_errands_back(&self, errands: Vec<AttemptOp>) {
        self.errands.lock().extend(errands);
    }

    pub(crate) fn exchange_of(&self, ops: Vec<AttemptOp>) -> Exchange {
        Exchange {
            worker: self.config.worker.clone(),
            incarnation: self.incarnation,
            ops,
            claim: None,
        }
    }

    pub(crate) fn call_limit(&self) -> Duration {
        self.config.timings.call
    }
}

pub(crate) fn op_of(held: Held, op: Op) -> AttemptOp {
    AttemptOp { job: held.job, attempt: held.attempt, token: held.token, op }
}
