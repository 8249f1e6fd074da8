//! Preview pictures of running jobs: the newest of each.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use pointsman_core::JobId;
use pointsman_store::{Preview, PreviewTooLarge};

/// Why a picture was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PreviewError {
    #[error("the job does not run in this attempt")]
    NotRunning,
    #[error("a newer picture of the job is here already")]
    OldNews,
    #[error(transparent)]
    TooLarge(#[from] PreviewTooLarge),
}

pub(crate) struct Previews {
    max_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    bytes: usize,
    last: u64,
    kept: HashMap<JobId, (u64, Preview)>,
    /// The oldest picture goes first when there are too many bytes.
    by_age: BTreeMap<u64, JobId>,
}

impl Previews {
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, inner: Mutex::default() }
    }

    /// Keeps a picture if it is newer than the one that is here. The caller has compared the
    /// attempt with the record.
    pub fn take(&self, job: JobId, preview: Preview) -> Result<(), PreviewError> {
        preview.check()?;
        preview.fits(self.max_bytes)?;
        let mut inner = self.inner.lock();
        let newest = inner.kept.get(&job).map(|(_, kept)| (kept.attempt, kept.n));
        if newest.is_some_and(|newest| newest >= (preview.attempt, preview.n)) {
            return Err(PreviewError::OldNews);
        }
        inner.drop_job(&job);
        inner.last += 1;
        let age = inner.last;
        inner.bytes += preview.bytes.len();
        inner.by_age.insert(age, job);
        inner.kept.insert(job, (age, preview));
        while inner.bytes > self.max_bytes {
            let Some((_, oldest)) = inner.by_age.first_key_value() else { break };
            let oldest = *oldest;
            inner.drop_job(&oldest);
        }
        Ok(())
    }

    pub fn get(&self, job: &JobId) -> Option<Preview> {
        self.inner.lock().kept.get(job).map(|(_, preview)| preview.clone())
    }

    pub fn is_empty(&self) -> bool {
        self.inner.lock().kept.is_empty()
    }

    pub fn keep_from(&self, job: &JobId, attempt: u32) {
        self.inner.lock().drop_unless(job, |kept| kept >= attempt);
    }

    pub fn forget(&self, job: &JobId) {
        self.inner.lock().drop_job(job);
    }

    pub fn retain(&self, running: &impl Fn(&JobId) -> Option<u32>) {
        let mut inner = self.inner.lock();
        let jobs: Vec<JobId> = inner.kept.keys().copied().collect();
        for job in jobs {
            let running = running(&job);
            inner.drop_unless(&job, |kept| running == Some(kept));
        }
    }
}

impl Inner {
    fn drop_unless(&mut self, job: &JobId, stays: impl Fn(u32) -> bool) {
        if self.kept.get(job).is_some_and(|(_, kept)| !stays(kept.attempt)) {
            self.drop_job(job);
        }
    }

    fn drop_job(&mut self, job: &JobId) {
        if let Some((age, preview)) = self.kept.remove(job) {
            self.by_age.remove(&age);
            self.bytes -= preview.bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(n: u128) -> JobId {
        JobId::from_uuid(uuid::Uuid::from_u128(n))
    }

    fn preview(attempt: u32, n: u32, size: usize) -> Preview {
        let bytes = vec![0; size].into();
        Preview { attempt, n, media_type: "image/jpeg".into(), bytes }
    }

    #[test]
    fn only_the_newest_is_kept() {
        let previews = Previews::new(1_000);
        previews.take(job(1), preview(1, 2, 10)).unwrap();
        assert_eq!(previews.take(job(1), preview(1, 1, 10)), Err(PreviewError::OldNews));
        previews.take(job(1), preview(1, 3, 20)).unwrap();
        assert_eq!(previews.get(&job(1)).unwrap().n, 3);
        assert_eq!(previews.inner.lock().bytes, 20);
    }

    #[test]
    fn bounded_by_bytes_the_oldest_goes_first() {
        let previews = Previews::new(100);
        for n in 1..=3 {
            previews.take(job(n), preview(1, 1, 40)).unwrap();
        }
        assert!(previews.get(&job(1)).is_none());
        assert!(previews.get(&job(2)).is_some() && previews.get(&job(3)).is_some());
        let too_large = PreviewTooLarge { bytes: 101, most: 100 };
        assert_eq!(previews.take(job(4), preview(1, 1, 101)), Err(too_large.into()));
    }

    #[test]
    fn dropped_with_its_attempt() {
        let previews = Previews::new(100);
        previews.take(job(1), preview(1, 1, 40)).unwrap();
        previews.keep_from(&job(1), 2);
        assert!(previews.is_empty());
        assert_eq!(previews.inner.lock().bytes, 0);
    }
}
