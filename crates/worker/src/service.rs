//! One service of a worker, as its lane, its health task and the keeper know it.

use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_connectors::{Connector, Health};
use pointsman_core::{
    ServiceName,
    bounds::Bounded as _,
    command::{ConnectorReport, Op},
    record::ConnectorStatus,
};
use tokio::sync::{Notify, watch};

use crate::{attempt::Attempt, config::ServiceConfig};

/// What the parts of a worker know together about one of its services.
pub(crate) struct Service {
    pub(crate) name: ServiceName,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) slots: u32,
    state: Mutex<State>,
    outbox: Mutex<Vec<(Arc<Attempt>, Op)>>,
    /// Something changed that the lane should look at.
    pub(crate) lane: Notify,
    /// The health task should look now.
    pub(crate) look: Notify,
    /// The newest report, for whoever hosts this worker.
    pub(crate) reported: watch::Sender<ConnectorReport>,
}

struct State {
    health: Health,
    /// The last report that the store confirmed.
    confirmed: Option<ConnectorReport>,
    /// Counts reasons to doubt that the service is clear of ghosts, the first being the start.
    doubts: u64,
    /// Up to which doubt it was proven clear.
    proven: u64,
    /// A job was not for it: what is known of what it has may be old.
    misjudged: bool,
}

impl Service {
    pub(crate) fn new(config: &ServiceConfig) -> Self {
        Self {
            name: config.connector.service().clone(),
            connector: config.connector.clone(),
            slots: config.slots,
            state: Mutex::new(State {
                health: Health { status: ConnectorStatus::Starting, message: None },
                confirmed: None,
                doubts: 1,
                proven: 0,
                misjudged: false,
            }),
            outbox: Mutex::default(),
            lane: Notify::new(),
            look: Notify::new(),
            reported: watch::Sender::new(ConnectorReport {
                service: config.connector.service().clone(),
                status: ConnectorStatus::Starting,
                error_message: None,
            }),
        }
    }

    /// Whether the service, and the store's record of it, are ready for another job.
    pub(crate) fn is_able(&self) -> bool {
        let state = self.state.lock();
        let able =
            |s: ConnectorStatus| matches!(s, ConnectorStatus::Idle | ConnectorStatus::Active);
        state.proven == state.doubts
            && state.health.is_able()
            && state.confirmed.as_ref().is_some_and(|c| able(c.status))
    }

    /// The service may have something that it should not have: no claims until it is proven clear.
    pub(crate) fn doubt(&self) {
        self.state.lock().doubts += 1;
        self.look.notify_one();
    }

    /// The newest doubt; a proof that began after reading it settles it.
    pub(crate) fn doubts(&self) -> u64 {
        self.state.lock().doubts
    }

    /// It was proven clear of everything up to this doubt.
    pub(crate) fn prove(&self, doubts: u64) {
        self.state.lock().proven = doubts;
        self.lane.notify_one();
    }

    pub(crate) fn is_clear(&self) -> bool {
        let state = self.state.lock();
        state.proven == state.doubts
    }

    /// A job was not for it.
    pub(crate) fn misjudge(&self) {
        self.state.lock().misjudged = true;
        self.look.notify_one();
    }

    pub(crate) fn is_misjudged(&self) -> bool {
        self.state.lock().misjudged
    }

    /// It is asked anew what it has.
    pub(crate) fn judge_anew(&self) {
        self.state.lock().misjudged = false;
    }

    /// Sets what is reported; true when that is something new.
    pub(crate) fn set_health(&self, health: Health) -> bool {
        let mut state = self.state.lock();
        let changed = state.health != health;
        state.health = health;
        drop(state);
        if changed {
            self.lane.notify_one();
            self.reported.send_replace(self.report());
        }
        changed
    }

    pub(crate) fn report(&self) -> ConnectorReport {
        let Health { status, message } = self.state.lock().health.clone();
        let service = self.name.clone();
        let mut report = ConnectorReport { service, status, error_message: message };
        report.shorten();
        report
    }

    /// Whether the store has not confirmed this report yet.
    pub(crate) fn is_news(&self, report: &ConnectorReport) -> bool {
        self.state.lock().confirmed.as_ref() != Some(report)
    }

    pub(crate) fn confirm(&self, report: ConnectorReport) {
        let known = self.state.lock().confirmed.replace(report);
        if known.as_ref() != self.state.lock().confirmed.as_ref() {
            self.lane.notify_one();
        }
    }

    pub(crate) fn post(&self, attempt: Arc<Attempt>, op: Op) {
        self.outbox.lock().push((attempt, op));
        self.lane.notify_one();
    }

    pub(crate) fn take_outbox(&self) -> Vec<(Arc<Attempt>, Op)> {
        std::mem::take(&mut self.outbox.lock())
    }
}
