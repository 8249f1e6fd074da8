//! What a worker could do with a job now, and what keeps it from it: `explain`, alerts and lists say
//! the same.

use super::{accepts, free_slots};
use crate::{
    matching::{self, Availability, Capabilities, Explanation, Rule, Throttle},
    record::{Connector, Job, Worker},
    time::Timestamp,
};

/// A worker, and its connector to the service in question.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub worker: &'a Worker,
    pub capabilities: &'a Capabilities,
    pub connector: Option<&'a Connector>,
}

/// What the worker could do with a job of the connector's service, were it able to run it.
pub fn availability(
    worker: &Worker,
    connector: Option<&Connector>,
    now: Timestamp,
) -> Availability {
    match connector.filter(|connector| connector.trouble().is_none()) {
        _ if worker.is_offline() => Availability::Offline,
        _ if worker.is_stopping() => Availability::Stopping,
        _ if worker.orders.drain => Availability::Draining,
        Some(connector)
            if free_slots(worker, &connector.service_type, connector) > 0
                && accepts(worker, now) =>
        {
            Availability::Free
        }
        Some(connector) if !connector.job_ids.is_empty() => Availability::Full,
        _ => Availability::NotReady,
    }
}

/// What keeps a worker that is there from jobs of the connector's service; none where nothing does.
pub fn unready(worker: &Worker, connector: Option<&Connector>, now: Timestamp) -> Option<String> {
    match connector {
        None => Some("its service has not reported yet".into()),
        Some(connector) => connector.trouble().or_else(|| worker.suspicion(now)),
    }
}

/// Why a job waits: its class held against every worker.
pub fn explain(
    job: &Job,
    throttle: Throttle,
    candidates: &[Candidate<'_>],
    now: Timestamp,
) -> Explanation {
    let class = job.class();
    let workers = candidates.iter().map(|Candidate { worker, capabilities, connector }| {
        (&worker.id, *capabilities, availability(worker, *connector, now))
    });
    let mut explanation = matching::explain(&class, throttle, workers, |id| {
        let named = candidates.iter().find(|candidate| candidate.worker.id == *id);
        // Of a service that it does not have it has nothing to report.
        let named = named.filter(|of| of.capabilities.services.contains_key(&class.service));
        named.and_then(|Candidate { worker, connector, .. }| unready(worker, *connector, now))
    });
    // Of the job itself it is known why it has each of its exclusions.
    let excluded = explanation.rules.iter_mut().filter(|rule| rule.rule == Rule::Excluded);
    for failing in excluded.flat_map(|rule| &mut rule.failing) {
        let why = failing.worker.as_ref().and_then(|worker| job.excluded(worker));
        failing.found = why.unwrap_or_else(|| std::mem::take(&mut failing.found));
    }
    explanation
}
