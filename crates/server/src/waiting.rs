//! How many jobs may wait.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use pointsman_api::{ErrorCode, Problem};
use pointsman_store::Store;
use tokio::time::Instant;

use crate::refusal::Refusal;

/// So long a count is taken for true, with what came to this server since.
const COUNTED_FOR: Duration = Duration::from_millis(50);

/// About how many jobs wait: it is not known what came to other servers since they were counted, and
/// what was begun.
pub(crate) struct Waiting {
    most: u64,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    counted_at: Option<Instant>,
    /// With those that were let in since.
    jobs: u64,
    /// Let in, and perhaps not in the store yet.
    entering: u64,
}

/// A job that was let in; held until it is in the store.
pub(crate) struct Entering(Arc<Mutex<Known>>);

impl Drop for Entering {
    fn drop(&mut self) {
        self.0.lock().entering -= 1;
    }
}

impl Waiting {
    pub fn new(most: u64) -> Self {
        Self { most, known: Arc::default() }
    }

    /// Lets one more job in.
    ///
    /// # Errors
    /// `too_many_waiting`, or why the store did not count them.
    pub async fn admit(&self, store: &dyn Store) -> Result<Entering, Refusal> {
        if self.is_due() {
            let counts = store.queues(0).await?.counts;
            let mut known = self.known.lock();
            known.jobs = counts.pending + counts.held + known.entering;
        }
        let mut known = self.known.lock();
        if known.jobs >= self.most {
            let detail = format!("{} jobs wait, and {} is the most", known.jobs, self.most);
            return Err(Problem::new(ErrorCode::TooManyWaiting, detail).into());
        }
        known.jobs += 1;
        known.entering += 1;
        Ok(Entering(self.known.clone()))
    }

    /// Whether the caller is to count them anew; nobody else does meanwhile, nor waits for it.
    fn is_due(&self) -> bool {
        let (now, mut known) = (Instant::now(), self.known.lock());
        let is_due = known.counted_at.is_none_or(|at| now.duration_since(at) >= COUNTED_FOR);
        if is_due {
            known.counted_at = Some(now);
        }
        is_due
    }
}
