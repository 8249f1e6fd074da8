//! What became of jobs since this server started, counted from the log as it comes in.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use pointsman_core::{
    Event, EventName, FailureKind, LogGroup, LossReason, Record, ServiceName,
    record::{Job, JobState, JobStatus, PastOutcome, Worker},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::services::BUILT_IN;

/// Workers name services: so many become series of their own, and the built-in ones always; the others
/// are `OTHER`.
const SERVICES: usize = 100;
/// Of one worker's services so many have series before their first event: the place is for others' too.
const OF_A_WORKER: usize = 10;
const OTHER: &str = "other";

/// Upper bounds, seconds: from a cached picture to a long video.
const BUCKETS: [f64; 14] =
    [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Service {
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    service: String,
    status: &'static str,
    /// Of a failed job, else empty.
    failure_kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Return {
    service: String,
    reason: &'static str,
}

type Seconds = Family<Service, Histogram, fn() -> Histogram>;

pub(super) struct Jobs {
    submitted: Family<Service, Counter>,
    ended: Family<End, Counter>,
    returned: Family<Return, Counter>,
    waited: Seconds,
    ran: Seconds,
    services: Mutex<BTreeSet<ServiceName>>,
}

impl Jobs {
    pub fn new(registry: &mut Registry) -> Self {
        let seconds = || Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> _);
        let jobs = Self {
            submitted: Family::default(),
            ended: Family::default(),
            returned: Family::default(),
            waited: seconds(),
            ran: seconds(),
            services: Mutex::default(),
        };
        registry.register("jobs_submitted", "Jobs that were submitted", jobs.submitted.clone());
        registry.register("jobs_ended", "Jobs that ended, by how", jobs.ended.clone());
        let help = "Attempts after which the job waits again, by why";
        registry.register("attempts_returned", help, jobs.returned.clone());
        let help = "From a job's submission to its first start";
        registry.register_with_unit("job_wait", help, Unit::Seconds, jobs.waited.clone());
        let help = "From the start of the attempt that completed a job to its end";
        registry.register_with_unit("job_run", help, Unit::Seconds, jobs.ran.clone());
        jobs
    }

    /// Services that are there: their series begin before their first event, so that no rate misses it.
    pub fn know<'a>(&self, workers: impl IntoIterator<Item = &'a Worker>) {
        let of_each =
            workers.into_iter().flat_map(|worker| worker.services.iter().take(OF_A_WORKER));
        for service in of_each.map(|slots| &slots.name).collect::<BTreeSet<_>>() {
            self.label(service);
        }
    }

    pub fn count(&self, group: &LogGroup) {
        for event in &group.events {
            if let Some(Record::Job(job)) = &event.record {
                self.count_event(event, job);
            }
        }
    }

    fn count_event(&self, event: &Event, job: &Job) {
        let service = || self.label(&job.spec.service);
        match event.name {
            EventName::JobSubmitted => {
                self.submitted.get_or_create(&Service { service: service() }).inc();
            }
            EventName::JobStarted if job.past.iter().all(|past| past.started_at.is_none()) => {
                if let Some(at) = job.started_at() {
                    let waited = at.since(job.spec.created_at).as_secs_f64();
                    self.waited.get_or_create(&Service { service: service() }).observe(waited);
                }
            }
            EventName::JobReturned => {
                let reason = match job.past.last().map(|past| &past.outcome) {
                    Some(PastOutcome::Returned { reason, .. }) => reason.as_str(),
                    Some(PastOutcome::Failed { failure }) => failure.kind.as_str(),
                    _ => return,
                };
                self.returned.get_or_create(&Return { service: service(), reason }).inc();
            }
            EventName::JobCompleted | EventName::JobFailed | EventName::JobCancelled => {
                self.count_end(job, service());
            }
            _ => {}
        }
    }

    fn count_end(&self, job: &Job, service: String) {
        if let JobState::Completed(ended) = &job.state
            && let Some(started_at) = ended.started_at
        {
            let ran = ended.at.since(started_at).as_secs_f64();
            self.ran.get_or_create(&Service { service: service.clone() }).observe(ran);
        }
        let failure_kind = match &job.state {
            JobState::Failed(_, failure) => failure.kind.as_str(),
            _ => "",
        };
        let status = job.status().as_str();
        self.ended.get_or_create(&End { service, status, failure_kind }).inc();
    }

    fn label(&self, service: &ServiceName) -> String {
        let mut services = self.services.lock();
        if !services.contains(service) {
            let is_built_in = BUILT_IN.contains(&service.as_str());
            if !is_built_in && services.len() >= SERVICES {
                return OTHER.to_owned();
            }
            services.insert(service.clone());
            self.begin(service.as_str());
            if services.len() == SERVICES {
                self.begin(OTHER);
            }
        }
        service.to_string()
    }

    /// Every series that a service may come to have, at zero.
    fn begin(&self, service: &str) {
        let service = || service.to_owned();
        drop(self.submitted.get_or_create(&Service { service: service() }));
        drop(self.waited.get_or_create(&Service { service: service() }));
        drop(self.ran.get_or_create(&Service { service: service() }));
        let failed = FailureKind::ALL.into_iter().filter(|kind| *kind != FailureKind::Cancelled);
        let failed = failed.map(|kind| (JobStatus::Failed, kind.as_str()));
        let ends = [(JobStatus::Completed, ""), (JobStatus::Cancelled, "")];
        for (status, failure_kind) in ends.into_iter().chain(failed) {
            let status = status.as_str();
            drop(self.ended.get_or_create(&End { service: service(), status, failure_kind }));
        }
        use FailureKind::{ServiceFault, Timeout, WrongWorker};
        let failures = [WrongWorker, ServiceFault, Timeout].map(FailureKind::as_str);
        for reason in LossReason::ALL.into_iter().map(LossReason::as_str).chain(failures) {
            drop(self.returned.get_or_create(&Return { service: service(), reason }));
        }
    }
}
