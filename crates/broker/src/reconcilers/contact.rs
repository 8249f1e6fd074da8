//! The store's absence is not the workers' silence.
//!
//! While this process was stopped, frozen or cut off from its store, nobody could be heard. So
//! after a gap every deadline starts anew, before anything is declared silent.

use std::time::Duration;

use pointsman_store::{CONTACT_GAP, Store, StoreError};
use tokio::{sync::Mutex, time::Instant};

/// When a reconciler last looked. Shared by all that judge silence: after a gap, whichever looks
/// first breaks the contact, and the others wait for that.
#[derive(Default)]
pub(super) struct Absence {
    last_look: Mutex<Option<Instant>>,
    suspected: std::sync::atomic::AtomicBool,
}

impl Absence {
    /// The store could not be reached: whoever it hears of next was perhaps there all along.
    pub fn suspect(&self) {
        self.suspected.store(true, std::sync::atomic::Ordering::Release);
    }

    /// Breaks the contact if there was a gap since the last look; the store says whether it is broken.
    pub async fn check(&self, store: &dyn Store) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering::{AcqRel, Release};
        let mut last = self.last_look.lock().await;
        let gap = last.map_or(Duration::ZERO, |last| last.elapsed());
        let suspected = self.suspected.swap(false, AcqRel);
        if gap > CONTACT_GAP || suspected {
            let begun_anew = store.break_contact().await;
            let begun_anew = begun_anew.inspect_err(|_| self.suspected.store(true, Release))?;
            match suspected {
                // Others look too, and were not away.
                _ if !begun_anew => {}
                true => tracing::warn!("the store was away: every deadline starts anew"),
                false => tracing::warn!(?gap, "this process was away: every deadline starts anew"),
            }
        }
        *last = Some(Instant::now());
        Ok(())
    }
}
