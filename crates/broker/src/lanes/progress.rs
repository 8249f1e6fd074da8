//! The progress of running jobs: the newest value of each.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use pointsman_core::{
    JobId,
    bounds::{MAX_SHOWN, cut},
    record::Progress,
};
use tokio::sync::watch;

use crate::frame::{AsOf, ProgressLane, ProgressValue};

/// Newest values, each with the version at which it came; so a viewer asks for what is newer than
/// what it has seen.
pub(crate) struct ProgressValues {
    inner: Mutex<Inner>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    last_version: u64,
    values: HashMap<JobId, (u64, Progress)>,
    /// The jobs by the version of their value.
    by_version: BTreeMap<u64, JobId>,
}

impl Default for ProgressValues {
    fn default() -> Self {
        Self { inner: Mutex::default(), version: watch::Sender::new(0) }
    }
}

impl ProgressValues {
    /// Takes a value in if it is newer than the one that is here. The caller has compared the
    /// attempt with the record.
    pub fn take(&self, job: JobId, mut progress: Progress) -> bool {
        if let Some(message) = &mut progress.message {
            cut(message, MAX_SHOWN);
        }
        let version = {
            let mut inner = self.inner.lock();
            let before = inner.values.get(&job).map(|(version, p)| (*version, (p.attempt, p.n)));
            if before.is_some_and(|(_, before)| before >= (progress.attempt, progress.n)) {
                return false;
            }
            if let Some((version, _)) = before {
                inner.by_version.remove(&version);
            }
            inner.last_version += 1;
            let version = inner.last_version;
            inner.by_version.insert(version, job);
            inner.values.insert(job, (version, progress));
            version
        };
        self.version.send_replace(version);
        true
    }

    pub fn is_empty(&self) -> bool {
        self.inner.lock().values.is_empty()
    }

    /// Tells when a value came.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub fn get(&self, job: &JobId) -> Option<ProgressValue> {
        let inner = self.inner.lock();
        let (_, progress) = inner.values.get(job)?;
        Some(ProgressValue { job: *job, progress: progress.clone() })
    }

    pub fn all(&self, as_of: AsOf) -> ProgressLane {
        let (_, values) = self.newer(0, usize::MAX);
        ProgressLane { as_of, values }
    }

    /// The version of the newest value.
    pub fn last_version(&self) -> u64 {
        self.inner.lock().last_version
    }

    /// Values newer than a version, those that waited longest first, and the version up to which
    /// they go.
    pub fn newer(&self, than: u64, limit: usize) -> (u64, Vec<ProgressValue>) {
        let inner = self.inner.lock();
        let mut seen = than;
        let mut values = Vec::new();
        for (&version, job) in inner.by_version.range(than + 1..).take(limit) {
            seen = version;
            if let Some((_, progress)) = inner.values.get(job) {
                values.push(ProgressValue { job: *job, progress: progress.clone() });
            }
        }
        (seen, values)
    }

    pub fn keep_from(&self, job: &JobId, attempt: u32) {
        self.inner.lock().drop_unless(job, |kept| kept >= attempt);
    }

    pub fn forget(&self, job: &JobId) {
        self.inner.lock().drop_unless(job, |_| false);
    }

    pub fn retain(&self, running: &impl Fn(&JobId) -> Option<u32>) {
        let mut inner = self.inner.lock();
        let jobs: Vec<JobId> = inner.values.keys().copied().collect();
        for job in jobs {
            let running = running(&job);
            inner.drop_unless(&job, |kept| running == Some(kept));
        }
    }
}

impl Inner {
    fn drop_unless(&mut self, job: &JobId, stays: impl Fn(u32) -> bool) {
        let Some((version, progress)) = self.values.get(job) else { return };
        if !stays(progress.attempt) {
            self.by_version.remove(version);
            self.values.remove(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(n: u128) -> JobId {
        JobId::from_uuid(uuid::Uuid::from_u128(n))
    }

    fn progress(attempt: u32, n: u64) -> Progress {
        Progress { attempt, n, ..Progress::default() }
    }

    #[test]
    fn the_newest_wins_and_old_news_is_refused() {
        let lane = ProgressValues::default();
        assert!(lane.take(job(1), progress(1, 5)));
        assert!(!lane.take(job(1), progress(1, 5)), "an exact repeat");
        assert!(!lane.take(job(1), progress(1, 4)));
        assert!(lane.take(job(1), progress(2, 1)), "a newer attempt counts from its own start");
        assert!(!lane.take(job(1), progress(1, 9)), "an older attempt is over");
        assert_eq!(lane.get(&job(1)).unwrap().progress, progress(2, 1));
    }

    #[test]
    fn a_viewer_gets_what_changed_since_it_looked_and_only_the_newest_of_it() {
        let lane = ProgressValues::default();
        for n in 1..=3 {
            lane.take(job(1), progress(1, n));
            lane.take(job(2), progress(1, n));
        }
        let (seen, values) = lane.newer(0, 1);
        assert_eq!((values.len(), values[0].job), (1, job(1)));
        let (seen, values) = lane.newer(seen, 10);
        assert_eq!((values.len(), values[0].job, values[0].progress.n), (1, job(2), 3));
        assert!(lane.newer(seen, 10).1.is_empty());
    }

    #[test]
    fn long_texts_are_cut() {
        let lane = ProgressValues::default();
        let message = Some("ü".repeat(1_000));
        lane.take(job(1), Progress { message, ..progress(1, 1) });
        let kept = lane.get(&job(1)).unwrap().progress.message.unwrap();
        assert_eq!(kept, "ü".repeat(248) + "…", "which shows it");
        assert_eq!(kept.len(), 499);
    }

    #[test]
    fn dropped_with_its_attempt() {
        let lane = ProgressValues::default();
        lane.take(job(1), progress(1, 1));
        lane.take(job(2), progress(1, 1));
        lane.keep_from(&job(1), 1);
        assert!(lane.get(&job(1)).is_some());
        lane.take(job(1), progress(2, 1));
        lane.keep_from(&job(1), 1);
        assert!(lane.get(&job(1)).is_some(), "it is not shown yet");
        lane.keep_from(&job(1), 3);
        assert!(lane.get(&job(1)).is_none());
        lane.forget(&job(2));
        assert!(lane.is_empty());
        assert!(lane.newer(0, 10).1.is_empty());
    }
}
