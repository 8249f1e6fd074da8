use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_connectors::{Connector, Health};
use pointsman_core::{
    ServiceName, Token,
    bounds::Bounded as _,
    command::{ConnectorReport, Held, Op},
    record::ConnectorStatus,
};
use tokio::sync::{Notify, watch};

use crate::{attempt::Attempt, broker::Claimed, config::ServiceConfig};

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
    /// Tokens of claims that were not answered yet.
    asking: Vec<Token>,
    /// Attempts from before a restart that nobody has looked for yet.
    limbo: Vec<Claimed>,
    /// Those of them that the service still has, until the lane has begun to run them.
    adopted: Vec<Claimed>,
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
                asking: Vec::new(),
                limbo: Vec::new(),
                adopted: Vec::new(),
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

    pub(crate) fn ask(&self, tokens: &[Token]) {
        self.asked(tokens);
        self.state.lock().asking.extend_from_slice(tokens);
    }

    pub(crate) fn asked(&self, tokens: &[Token]) {
        let mut state = self.state.lock();
        state.asking.retain(|token| !tokens.contains(token));
    }

    pub(crate) fn is_asking(&self, token: Token) -> bool {
        self.state.lock().asking.contains(&token)
    }

    pub(crate) fn put_in_limbo(&self, claimed: Claimed) {
        self.state.lock().limbo.push(claimed);
    }

    /// Ends the limbo: what was found is adopted, the rest comes back. Nothing is in neither
    /// place at any moment, or a renewal in between would give it back.
    pub(crate) fn end_limbo(&self, found: &[Held]) -> Vec<Claimed> {
        let mut state = self.state.lock();
        let (found, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.limbo).into_iter().partition(|c| found.contains(&c.held));
        state.adopted.extend(found);
        drop(state);
        self.lane.notify_one();
        rest
    }

    pub(crate) fn adopted(&self) -> Vec<Claimed> {
        self.state.lock().adopted.clone()
    }

    /// In limbo, or adopted and not run yet.
    pub(crate) fn in_transit(&self) -> Vec<Claimed> {
        let state = self.state.lock();
        state.limbo.iter().chain(&state.adopted).cloned().collect()
    }

    pub(crate) fn drop_from_transit(&self, token: Token) {
        let mut state = self.state.lock();
        state.limbo.retain(|c| c.held.token != token);
        state.adopted.retain(|c| c.held.token != token);
    }
}
