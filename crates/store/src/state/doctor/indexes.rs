//! Indexes against the records that they are made of. Every record looks itself up; only where an
//! index holds more than was looked up are its entries gone through.

use std::collections::{BTreeSet, HashMap};

use pointsman_core::{
    JobId, RecordKey,
    decide::GroupKey,
    doctor::{Examination, Finding, FindingRule as Rule},
    record::{Job, JobState, JobStatus},
};

use super::super::{ClassIx, JobEntry, QueueKey, State};

/// Entries that the records account for.
#[derive(Default)]
struct Accounted {
    counts: [u64; JobStatus::ALL.len()],
    ended_bytes: u64,
    ended: usize,
    holds: usize,
    exclusions: usize,
    grouped: usize,
    waiting: usize,
    leases: usize,
    of_class: HashMap<ClassIx, OfClass>,
}

#[derive(Default, PartialEq, Eq, Debug)]
struct OfClass {
    live: u64,
    held: u64,
}

impl State {
    pub(super) fn examine_indexes(&self, found: &mut Examination) {
        let mut sum = Accounted::default();
        for entry in self.jobs.values() {
            self.look_up(entry, &mut sum, found);
        }
        self.examine_places(found);
        self.examine_queues(&sum, found);
        self.examine_lists(&sum, found);
        self.examine_leases(&sum, found);
        let mut count = |what: &str, is: u64, right: u64| {
            if is != right {
                let problem = format!("{is} are counted, and there are {right}");
                found.add(Finding::new(Rule::WrongCount, format!("index/{what}"), problem));
            }
        };
        for status in JobStatus::ALL {
            let (is, right) = (self.counts[status as usize], sum.counts[status as usize]);
            count(&format!("{}_jobs", status.as_str()), is, right);
        }
        count("held_jobs", self.queues.held_jobs(), sum.of_class.values().map(|c| c.held).sum());
        let (is, right) = (self.ended_bytes, sum.ended_bytes);
        if is != right {
            found.add(Finding::ended_bytes(format!("{is} are counted, and there are {right}")));
        }
    }

    /// Whether every index that should name a job does.
    fn look_up(&self, entry: &JobEntry, sum: &mut Accounted, found: &mut Examination) {
        let job = &entry.job;
        sum.counts[job.status() as usize] += 1;
        let mut named = |there: bool, index: &str| match there {
            true => 1,
            false => {
                let problem = format!("{index} do not name it");
                found.add(Finding::about(
                    Rule::RecordWithoutIndex,
                    &RecordKey::Job(job.id),
                    problem,
                ));
                0
            }
        };
        if let Some(ended) = job.ended() {
            sum.ended_bytes += job.bytes();
            // One that shares its number is another finding.
            if self.ended.contains_key(&ended.ended_no) {
                sum.ended += usize::from(self.ended.get(&ended.ended_no) == Some(&job.id));
            } else {
                sum.ended += named(false, "the ended jobs");
            }
            return;
        }
        if let Some(group) = GroupKey::of(&job.spec) {
            let group = self.groups.get(&group);
            let there = group.is_some_and(|group| group.contains(&(job.place, job.id)));
            sum.grouped += named(there, "the jobs of its workflow");
        }
        if let Some(until) = job.first_exclusion() {
            let there = self.exclusions.contains(&(until, job.id));
            sum.exclusions += named(there, "the jobs with exclusions");
        }
        let class = entry.class.and_then(|ix| Some((ix, self.queues.entry(ix)?)));
        let Some((ix, class)) = class else {
            named(false, "the classes of jobs");
            return;
        };
        let of_class = sum.of_class.entry(ix).or_default();
        of_class.live += 1;
        match &job.state {
            JobState::Pending { hold: None } => {
                let there = class.waiting.get(&QueueKey::of(job)) == Some(&job.id);
                sum.waiting += named(there, "the queues");
            }
            JobState::Pending { hold: Some(hold) } => {
                of_class.held += 1;
                if let Some(until) = hold.until {
                    sum.holds += named(self.holds.contains(&(until, job.id)), "the held jobs");
                }
            }
            _ => sum.leases += usize::from(self.volatile.has_lease(&job.id)),
        }
    }

    /// The workers of each machine, and of each profile.
    fn examine_places(&self, found: &mut Examination) {
        let mut users = HashMap::new();
        for worker in self.workers.values() {
            *users.entry(worker.capabilities_digest).or_insert(0) += 1;
            let there = self.workers_of.get(&worker.machine_id);
            if there.is_none_or(|workers| !workers.contains(&worker.id)) {
                let problem = format!("the workers of {} do not name it", worker.machine_id);
                let key = RecordKey::Worker(worker.id.clone());
                found.add(Finding::about(Rule::RecordWithoutIndex, &key, problem));
            }
        }
        for (machine, worker) in
            self.workers_of.iter().flat_map(|(m, ws)| ws.iter().map(move |w| (m, w)))
        {
            if self.workers.get(worker).is_none_or(|found| found.machine_id != *machine) {
                let problem = format!("the workers of {machine} name it, and it is not there");
                let key = RecordKey::Worker(worker.clone());
                found.add(Finding::about(Rule::IndexWithoutRecord, &key, problem));
            }
        }
        if users != self.profile_users {
            let problem = "workers are not counted rightly by their capabilities";
            found.add(Finding::new(Rule::WrongCount, "index/workers_by_capabilities", problem));
        }
    }

    fn examine_queues(&self, sum: &Accounted, found: &mut Examination) {
        let mut waiting = 0;
        for (ix, class) in self.queues.entries() {
            waiting += class.waiting.len();
            let right = sum.of_class.get(&ix).unwrap_or(&OfClass { live: 0, held: 0 });
            let is = OfClass { live: class.live(), held: class.held };
            if is != *right {
                let problem = format!(
                    "{} live and {} held jobs are counted, and there are {} and {}",
                    is.live, is.held, right.live, right.held
                );
                let subject = format!("class/{}", class.key);
                found.add(Finding::new(Rule::WrongCount, subject, problem));
            }
        }
        if waiting > sum.waiting {
            for (ix, class) in self.queues.entries() {
                for (key, job) in &class.waiting {
                    let right = self.jobs.get(job).is_some_and(|entry| {
                        entry.class == Some(ix)
                            && entry.job.is_waiting()
                            && QueueKey::of(&entry.job) == *key
                    });
                    self.stray(right, *job, "the queues", found);
                }
            }
        }
        for class in self.queues.out_of_order() {
            let problem = "its first job is not where claims look for it";
            let subject = format!("class/{class}");
            found.add(Finding::new(Rule::RecordWithoutIndex, subject, problem));
        }
    }

    /// The lists of jobs by time, number or workflow.
    fn examine_lists(&self, sum: &Accounted, found: &mut Examination) {
        let job = |id: &JobId| self.jobs.get(id).map(|entry| &*entry.job);
        let is = |id: &JobId, right: &dyn Fn(&Job) -> bool| job(id).is_some_and(right);
        if self.ended.len() > sum.ended {
            for (no, id) in &self.ended {
                let right = is(id, &|job| job.ended().is_some_and(|ended| ended.ended_no == *no));
                self.stray(right, *id, "the ended jobs", found);
            }
        }
        if self.holds.len() > sum.holds {
            for (until, id) in &self.holds {
                let held = |job: &Job| matches!(&job.state, JobState::Pending { hold: Some(hold) } if hold.until == Some(*until));
                self.stray(is(id, &held), *id, "the held jobs", found);
            }
        }
        if self.exclusions.len() > sum.exclusions {
            for (until, id) in &self.exclusions {
                let right = is(id, &|job| job.first_exclusion() == Some(*until));
                self.stray(right, *id, "the jobs with exclusions", found);
            }
        }
        if self.groups.values().map(BTreeSet::len).sum::<usize>() > sum.grouped {
            for (group, (place, id)) in
                self.groups.iter().flat_map(|(g, all)| all.iter().map(move |one| (g, one)))
            {
                let right = is(id, &|job| {
                    let same = GroupKey::of(&job.spec).as_ref() == Some(group);
                    same && job.place == *place && !job.is_ended()
                });
                self.stray(right, *id, "the jobs of a workflow", found);
            }
        }
    }

    fn examine_leases(&self, sum: &Accounted, found: &mut Examination) {
        let leases = self.volatile.leased_jobs();
        if leases.len() <= sum.leases {
            return;
        }
        for (id, _) in leases {
            if self.jobs.get(id).is_none_or(|entry| !entry.job.is_running()) {
                let key = RecordKey::Job(*id);
                let problem = "a lease is kept for it, and it does not run";
                found.add(Finding::about(Rule::LeaseWithoutJob, &key, problem));
            }
        }
    }

    fn stray(&self, right: bool, job: JobId, index: &str, found: &mut Examination) {
        if !right {
            let there = if self.jobs.contains_key(&job) {
                "it does not belong there"
            } else {
                "it is not there"
            };
            let problem = format!("{index} name it, and {there}");
            let key = RecordKey::Job(job);
            found.add(Finding::about(Rule::IndexWithoutRecord, &key, problem));
        }
    }
}
