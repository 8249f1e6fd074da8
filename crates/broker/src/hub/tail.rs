//! The end of the log from before this server came: so a viewer that stood a little behind, at
//! another server or before a restart, goes on from there.
//!
//! The view as it was then is gone, and with it whether a job that is not in the newest records stood
//! in it. Where that is not known the job is dropped: that does no harm to who does not hold it. So it
//! is only at its end that a viewer holds just what the view is, and it gets all of it as one group.

use std::{collections::HashSet, sync::Arc};

use pointsman_core::{
    Event, LogGroup, Record, RecordKey, Seq, Timestamp, View, record::Job, view::ENDED_IN_VIEW,
};
use pointsman_store::{JobFilter, LogPage, Seed, Store, StoreError};

use super::follower::BATCH;

/// Groups that are read at most.
const GROUPS: u64 = 2_000;
/// Ended jobs that are read at most: as many as may have left the view meanwhile, and those in it.
const ENDED: usize = 2_200;

/// What viewers that stood at `floor` or later must change, group by group, up to the seed.
pub(crate) struct Tail {
    pub floor: Seq,
    pub groups: Vec<(Seq, Timestamp, Vec<Event>)>,
}

/// The newest ended jobs. Read before the seed: what becomes of them after that stands in the log.
pub(crate) struct Ended {
    jobs: Vec<Arc<Job>>,
    /// There are no others.
    are_all: bool,
}

impl Ended {
    pub async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let page = store.ended_jobs(JobFilter::default(), None, ENDED).await?;
        Ok(Self { jobs: page.jobs, are_all: page.next.is_none() })
    }

    /// Those in the view when `last` was the number of the last ending; none where not all are known.
    fn in_view(&self, last: u64) -> Option<impl Iterator<Item = Record>> {
        let number = |job: &Arc<Job>| job.ended().map(|ended| ended.ended_no);
        let reaches = |job| number(job).is_some_and(|number| number + ENDED_IN_VIEW <= last);
        let are_known = self.are_all || self.jobs.iter().any(reaches);
        let is_then = move |job: &&Arc<Job>| number(job).is_some_and(|number| number <= last);
        are_known.then(|| self.jobs.iter().filter(is_then).cloned().map(Record::Job))
    }
}

impl Tail {
    /// Nothing: viewers go on from `seq` at the earliest.
    pub fn none(seq: Seq) -> Self {
        Self { floor: seq, groups: Vec::new() }
    }

    /// The end of the log up to the seed, as far as it is kept, in one piece, and of its epoch.
    pub async fn read(store: &dyn Store, seed: &Seed, ended: &Ended) -> Result<Self, StoreError> {
        let groups = before(store, seed.position.seq).await?;
        let none = Self::none(seed.position.seq);
        let Some(first) = groups.first() else { return Ok(none) };
        if store.epoch() != seed.position.epoch {
            return Ok(none);
        }
        let last_then = last_before(&groups, seed.last_ended_no);
        let Some(ended) = ended.in_view(last_then) else { return Ok(none) };
        let floor = first.seq - 1;
        let mut view = View::restore(floor, last_then, ended);
        let told = groups.iter().map(|group| (group.seq, group.at, changes(&mut view, group)));
        Ok(Self { floor, groups: told.collect() })
    }
}

/// The groups up to `seq`, none missing between them.
async fn before(store: &dyn Store, seq: Seq) -> Result<Vec<Arc<LogGroup>>, StoreError> {
    let mut groups: Vec<Arc<LogGroup>> = Vec::new();
    let mut after = seq.saturating_sub(GROUPS);
    while after < seq {
        match store.log(after, BATCH).await? {
            LogPage::Groups(page) if page.is_empty() => return Ok(Vec::new()),
            LogPage::Groups(page) => {
                after += page.len() as u64;
                groups.extend(page);
            }
            LogPage::Cut { oldest } if oldest > after + 1 => {
                groups.clear();
                after = oldest - 1;
            }
            LogPage::Cut { .. } => return Ok(Vec::new()),
        }
    }
    groups.retain(|group| group.seq <= seq);
    Ok(groups)
}

/// The number that was given out last before these groups, of which `last` is the last: each that was
/// given out in them stands there with the job that got it, when it ended or by a repair.
fn last_before(groups: &[Arc<LogGroup>], last: u64) -> u64 {
    let number = |event: &Event| match &event.record {
        Some(Record::Job(job)) => job.ended().map(|ended| ended.ended_no),
        _ => None,
    };
    let told = groups.iter().flat_map(|group| group.events.iter().filter_map(number));
    let told: HashSet<u64> = told.collect();
    (1..=last).rev().find(|number| !told.contains(number)).unwrap_or(0)
}

/// What a viewer must change: what the view says, and jobs dropped that are not in it, unless nobody
/// ever had them.
fn changes(view: &mut View, group: &LogGroup) -> Vec<Event> {
    let mut changes = view.fold(group);
    for Event { name, key, record } in &group.events {
        let RecordKey::Job(id) = key else { continue };
        let is_new = matches!(record, Some(Record::Job(job)) if has_only_waited(job));
        let is_told = view.jobs.contains_key(id) || changes.iter().any(|event| event.key == *key);
        if !is_new && !is_told {
            changes.push(Event::removed(*name, key.clone()));
        }
    }
    changes
}

/// It neither ran nor ended yet, so it never stood in a view. A retry counts runs, and an attempt is
/// never taken back.
fn has_only_waited(job: &Job) -> bool {
    job.is_pending() && job.attempt == 0 && job.run == 1
}

#[cfg(test)]
mod tests {
    use pointsman_core::{
        JobId,
        record::{self, JobSpec, JobState},
    };
    use uuid::Uuid;

    use super::*;

    fn job(state: JobState) -> Job {
        let spec = JobSpec::new("simulation".parse().unwrap(), Timestamp::default());
        Job { state, ..Job::new(JobId::from_uuid(Uuid::from_u128(1)), spec) }
    }

    fn ended(ended_no: u64) -> Arc<Job> {
        let ended = record::Ended { ended_no, ..record::Ended::default() };
        Arc::new(job(JobState::Completed(ended)))
    }

    #[test]
    fn what_was_in_the_view_is_known_where_older_was_read_or_there_is_none() {
        let last = ENDED_IN_VIEW + 5;
        let is_known = |oldest: u64, are_all| {
            let read = Ended { jobs: (oldest..=last).rev().map(ended).collect(), are_all };
            read.in_view(last).is_some()
        };
        assert!(is_known(5, false));
        assert!(!is_known(6, false));
        assert!(is_known(6, true));
    }

    #[test]
    fn only_a_job_that_nobody_had_yet_is_new() {
        let waits = job(JobState::Pending { hold: None });
        assert!(has_only_waited(&waits));
        assert!(!has_only_waited(&Job { attempt: 1, ..waits.clone() }));
        assert!(!has_only_waited(&Job { run: 2, ..waits }));
        assert!(!has_only_waited(&ended(1)));
    }
}
