//! What can be read: pages of jobs, the queues, the pulse.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use pointsman_core::{
    ConnectorId, CustomerId, JobId, MachineId, Record, ServiceName, Timestamp, WorkerId,
    WorkflowId,
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey, Requirements},
    record::{Hold, Job, JobStatus, Worker},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ClassIx, ConfirmedBy, State, queue::ClassEntry};

/// Which jobs a list shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobFilter {
    pub status: Option<JobStatus>,
    pub service: Option<ServiceName>,
    pub customer: Option<CustomerId>,
    pub worker: Option<WorkerId>,
}

impl JobFilter {
    pub fn admits(&self, job: &Job) -> bool {
        let worker = || {
            let running = job.assignment().map(|assignment| &assignment.worker_id);
            running.or(job.ended().and_then(|ended| ended.worker_id.as_ref()))
        };
        self.status.is_none_or(|status| status == job.status())
            && self.service.as_ref().is_none_or(|service| service == job.service())
            && self.customer.as_ref().is_none_or(|c| Some(c) == job.spec.customer_id.as_ref())
            && self.worker.as_ref().is_none_or(|w| Some(w) == worker())
    }
}

/// A page of jobs, newest first. A page may be short although more follow: then `next` is set.
#[derive(Debug, Clone, Default)]
pub struct JobsPage {
    pub jobs: Vec<Arc<Job>>,
    /// Ask for the jobs before this one.
    pub next: Option<JobId>,
}

/// A page of ended jobs, the last ended first. It may be short, too.
#[derive(Debug, Clone, Default)]
pub struct EndedPage {
    pub jobs: Vec<Arc<Job>>,
    /// Ask for the jobs whose endings have lower numbers.
    pub next: Option<u64>,
}

/// Jobs looked at for one page at most.
const MAX_SCAN: usize = 20_000;

/// How many there are of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// In their queues.
    pub pending: u64,
    /// Pending, and not in their queues.
    pub held: u64,
    /// Claimed, and not taken by their services yet.
    pub assigned: u64,
    /// Running.
    pub in_progress: u64,
    /// Completed, and still kept.
    pub completed: u64,
    /// Failed, and still kept.
    pub failed: u64,
    /// Cancelled, and still kept.
    pub cancelled: u64,
    /// Workers that are known, also those that are offline.
    pub workers: u64,
    /// Machines that are known, also those that are gone.
    pub machines: u64,
    /// Classes that have jobs.
    pub classes: u64,
}

/// The queues: the first pending jobs, the classes with the oldest heads,
/// and the counts of everything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Queues {
    /// The first 200 of those in their queues, in the order of claims; then those that are held, by when
    /// that ends: what is left of the 200, and never less than 50.
    pub pending: Vec<WaitingJob>,
    /// Those with the oldest heads, at most 200.
    pub classes: Vec<ClassSummary>,
    /// Of everything.
    pub counts: Counts,
}

/// How many held jobs are listed behind so many that are in their queues.
#[must_use]
pub fn held_listed(limit: usize, queued: usize) -> usize {
    limit.saturating_sub(queued).max(limit / 4)
}

/// A pending job, in brief.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WaitingJob {
    /// The job.
    pub id: JobId,
    /// The kind of service that it runs on.
    pub service: ServiceName,
    /// The one that orders it: the workflow's where it has one.
    pub priority: u8,
    /// Whose job it is.
    pub customer_id: Option<CustomerId>,
    /// The group in which it keeps one place in the queue.
    pub workflow_id: Option<WorkflowId>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// Jobs of equal requirements are in one.
    pub class: ClassKey,
    /// Claims so far; 0: never claimed.
    pub attempt: u32,
    /// Why it is not in its queue; null: it is.
    pub hold: Option<Hold>,
}

impl WaitingJob {
    /// A pending job, which is of this class.
    pub fn of(job: &Job, class: ClassKey) -> Self {
        Self {
            id: job.id,
            service: job.service().clone(),
            priority: job.spec.effective_priority(),
            customer_id: job.spec.customer_id.clone(),
            workflow_id: job.spec.workflow_id.clone(),
            created_at: job.spec.created_at,
            class,
            attempt: job.attempt,
            hold: job.hold(),
        }
    }
}

/// Jobs of equal requirements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClassSummary {
    /// Which one.
    pub class: ClassKey,
    /// The kind of service that its jobs run on.
    pub service: ServiceName,
    /// What they all ask.
    #[schema(value_type = Requirements)]
    pub requirements: Arc<Requirements>,
    /// Whose jobs they are, of a fleet with several customers.
    pub customer: Option<CustomerId>,
    /// Jobs in its queue.
    pub waiting: u64,
    /// Pending jobs that are not in it.
    pub held: u64,
    /// When its oldest waiting job was submitted, of those that are the first of their priority.
    pub oldest_at: Option<Timestamp>,
    /// That job.
    pub oldest_job: Option<JobId>,
    /// Workers that are there and able, whether they are ready or not.
    pub able_workers: u64,
}

/// When everybody was last heard.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Pulse {
    /// All workers.
    pub workers: Vec<PulseEntry>,
    /// All machines.
    pub machines: Vec<PulseEntry>,
    /// All connectors.
    pub connectors: Vec<PulseConnector>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PulseEntry {
    /// Of the worker, or the machine.
    pub id: String,
    /// Null when it was not heard since the store was opened.
    pub heartbeat_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PulseConnector {
    /// Of the connector.
    pub id: ConnectorId,
    /// Null when nothing confirmed it since the store was opened.
    pub confirmed_at: Option<Timestamp>,
    /// What confirmed it.
    pub source: Option<ConfirmedBy>,
}

impl ClassSummary {
    /// What it asks for beside its service, in a few words.
    pub fn wants(&self) -> Option<String> {
        let Self { service, requirements, customer, .. } = self;
        let (service, requirements) = (service.clone(), requirements.clone());
        let excluded = BTreeSet::new();
        Class { service, requirements, customer: customer.clone(), excluded }.wants()
    }
}

/// Classes in the order of their oldest jobs, those in which none waits last.
pub fn oldest_first(mut classes: Vec<ClassSummary>) -> Vec<ClassSummary> {
    classes.sort_by_key(|class| (class.oldest_at.is_none(), class.oldest_at, class.class));
    classes
}

/// A page of these jobs, and the place after which the next begins.
fn page<'a, P: Copy>(
    jobs: impl Iterator<Item = (P, &'a Arc<Job>)>,
    filter: &JobFilter,
    limit: usize,
) -> (Vec<Arc<Job>>, Option<P>) {
    let (mut page, mut last) = (Vec::new(), None);
    for (n, (place, job)) in jobs.enumerate() {
        if page.len() == limit {
            return (page, last);
        }
        if filter.admits(job) {
            page.push(job.clone());
            last = Some(place);
        }
        if n + 1 >= MAX_SCAN {
            return (page, Some(place));
        }
    }
    (page, None)
}

/// How many workers of each profile are there.
type Present = BTreeMap<CapabilitiesDigest, u64>;

impl State {
    pub fn jobs_page(&self, filter: &JobFilter, before: Option<JobId>, limit: usize) -> JobsPage {
        let range = match before {
            Some(id) => (Bound::Unbounded, Bound::Excluded(id)),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let jobs = self.jobs.range(range).rev().map(|(id, entry)| (*id, &entry.job));
        let (jobs, next) = page(jobs, filter, limit);
        JobsPage { jobs, next }
    }

    pub fn ended_page(&self, filter: &JobFilter, before: Option<u64>, limit: usize) -> EndedPage {
        let ended = self.ended.range(..before.unwrap_or(u64::MAX)).rev();
        let jobs = ended.filter_map(|(no, id)| Some((*no, &self.jobs.get(id)?.job)));
        let (jobs, next) = page(jobs, filter, limit);
        EndedPage { jobs, next }
    }

    /// Jobs that have not ended.
    pub fn live_jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.iter().filter_map(|(id, entry)| (!entry.job.is_ended()).then_some(*id))
    }

    pub fn counts(&self) -> Counts {
        let count = |status: JobStatus| self.counts[status as usize];
        let held = self.queues.held_jobs();
        Counts {
            pending: count(JobStatus::Pending).saturating_sub(held),
            held,
            assigned: count(JobStatus::Assigned),
            in_progress: count(JobStatus::InProgress),
            completed: count(JobStatus::Completed),
            failed: count(JobStatus::Failed),
            cancelled: count(JobStatus::Cancelled),
            workers: self.workers.len() as u64,
            machines: self.machines.len() as u64,
            classes: self.queues.live_classes() as u64,
        }
    }

    /// At most `limit` jobs in their queues and `limit` classes; of those that are held see
    /// [`held_listed`].
    pub fn queues(&self, limit: usize) -> Queues {
        if limit == 0 {
            return Queues { counts: self.counts(), ..Queues::default() };
        }
        let mut first = self.queues.first_waiting(limit);
        let held = held_listed(limit, first.len());
        first.extend(self.holds.iter().take(held).map(|(_, id)| *id));
        let present = self.present();
        let classes = self.queues.by_head(limit).into_iter();
        Queues {
            pending: first.iter().filter_map(|id| self.waiting_job(id)).collect(),
            classes: classes.map(|entry| self.class_summary(entry, &present)).collect(),
            counts: self.counts(),
        }
    }

    fn waiting_job(&self, id: &JobId) -> Option<WaitingJob> {
        let entry = self.jobs.get(id)?;
        Some(WaitingJob::of(&entry.job, self.queues.entry(entry.class?)?.key))
    }

    /// The workers that are there, by what they offer.
    pub(super) fn present(&self) -> Present {
        let mut present = Present::new();
        for worker in self.workers.values().filter(|worker| !worker.is_offline()) {
            *present.entry(worker.capabilities_digest).or_default() += 1;
        }
        present
    }

    /// How many of those present are able to run a class; counted by profile, so that ten
    /// thousand equal workers cost no more than one.
    fn able_workers(&self, entry: &ClassEntry, present: &Present) -> u64 {
        let able = present.iter().filter(|(digest, _)| self.queues.serves_key(digest, &entry.key));
        let able: u64 = able.map(|(_, workers)| workers).sum();
        let excluded = entry.class.excluded.union(&entry.class.requirements.must_not.workers);
        let excluded = excluded.filter_map(|id| self.workers.get(id)).filter(|worker| {
            !worker.is_offline() && self.queues.serves_key(&worker.capabilities_digest, &entry.key)
        });
        able - excluded.count() as u64
    }

    fn class_summary(&self, entry: &ClassEntry, present: &Present) -> ClassSummary {
        let firsts = entry.firsts().filter_map(|id| self.jobs.get(id));
        let firsts = firsts.map(|entry| (entry.job.spec.created_at, entry.job.id));
        let oldest = firsts.min();
        ClassSummary {
            class: entry.key,
            service: entry.class.service.clone(),
            requirements: entry.class.requirements.clone(),
            customer: entry.class.customer.clone(),
            waiting: entry.waiting.len() as u64,
            held: entry.held,
            oldest_at: oldest.map(|(at, _)| at),
            oldest_job: oldest.map(|(_, id)| id),
            able_workers: self.able_workers(entry, present),
        }
    }

    /// Whether anybody present could run the jobs of a class.
    pub(super) fn anybody_able(&self, ix: ClassIx, present: &Present) -> bool {
        self.queues.entry(ix).is_some_and(|entry| self.able_workers(entry, present) > 0)
    }

    pub fn pulse(&self) -> Pulse {
        let worker = |id: &WorkerId| PulseEntry {
            id: id.to_string(),
            heartbeat_at: self.volatile.heartbeat(id),
        };
        let machine = |id: &MachineId| PulseEntry {
            id: id.to_string(),
            heartbeat_at: self.machine_heard(id),
        };
        let connector = |id: &ConnectorId| {
            let confirmed = self.volatile.confirmed(id);
            PulseConnector {
                id: id.clone(),
                confirmed_at: confirmed.map(|c| c.at),
                source: confirmed.map(|c| c.source),
            }
        };
        Pulse {
            workers: self.workers.keys().map(worker).collect(),
            machines: self.machines.keys().map(machine).collect(),
            connectors: self.connectors.keys().map(connector).collect(),
        }
    }

    /// Everything that the view may show: all but pending jobs and all but the newest ended ones.
    pub fn view_records(&self) -> Vec<Record> {
        let kept = pointsman_core::view::ENDED_IN_VIEW;
        let newest = self.ended.range(self.last_ended_no.saturating_sub(kept)..);
        let ended = newest.filter_map(|(_, id)| self.jobs.get(id));
        let workers_jobs = self.volatile.leased_jobs().map(|(job, _)| job);
        let running = workers_jobs.filter_map(|id| self.jobs.get(id));
        let jobs = running.chain(ended).map(|entry| Record::Job(entry.job.clone()));
        self.fleet_records().chain(jobs).collect()
    }

    /// All records but the jobs.
    pub fn fleet_records(&self) -> impl Iterator<Item = Record> {
        let machines = self.machines.values().cloned().map(Record::Machine);
        let workers = self.workers.values().cloned().map(Record::Worker);
        let connectors = self.connectors.values().cloned().map(Record::Connector);
        let alerts = self.alerts.values().cloned().map(Record::Alert);
        machines.chain(workers).chain(connectors).chain(alerts)
    }

    pub fn workers(&self) -> impl Iterator<Item = &Arc<Worker>> {
        self.workers.values()
    }

    pub fn capabilities(&self, digest: &CapabilitiesDigest) -> Option<Arc<Capabilities>> {
        self.queues.capabilities(digest).cloned()
    }

    /// The classes in which jobs wait.
    pub fn waiting_classes(&self) -> Vec<(ClassKey, Arc<Class>)> {
        let waiting = self.queues.entries().filter(|(_, entry)| !entry.waiting.is_empty());
        waiting.map(|(_, entry)| (entry.key, entry.class.clone())).collect()
    }

    /// Of those that live, in their order.
    pub fn class_summaries(&self, classes: &[ClassKey]) -> Vec<ClassSummary> {
        let present = self.present();
        let live = classes.iter().filter_map(|key| self.queues.entry_of(key));
        live.map(|entry| self.class_summary(entry, &present)).collect()
    }

    pub fn poisonous(&self) -> Vec<(ClassKey, u32)> {
        let mut poisonous: Vec<_> = self.queues.poisonous().collect();
        poisonous.sort_unstable();
        poisonous
    }
}
