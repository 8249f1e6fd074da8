//! What the broker does by itself and fails at, as its store is away or refuses it: said once, not each
//! time.

use std::{collections::BTreeMap, fmt::Display};

use parking_lot::Mutex;
use pointsman_core::Outage;
use tokio::time::Instant;

/// Everything that fails now. What fails for the same reason is told together, and what fails for one
/// of its own, perhaps for long, keeps nothing else from being told.
#[derive(Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<&'static str, Outage>>);

impl Troubles {
    /// `what` was tried.
    pub fn tried<T>(&self, what: &'static str, outcome: &Result<T, impl Display>) {
        let now = Instant::now().into_std();
        let failing = &mut *self.0.lock();
        match outcome {
            Err(error) => {
                let why = error.to_string();
                let is_told = failing.values().any(|outage| outage.has_told(&why));
                if failing.entry(what).or_default().failed(&why, now) && !is_told {
                    tracing::warn!(what, %error, "the store does not do this; trying on");
                }
            }
            Ok(_) => {
                let Some(mut outage) = failing.remove(what) else { return };
                let lasts = failing.values().any(|other| outage.shares_a_reason_with(other));
                if !lasts && let Some(away) = outage.works(now) {
                    tracing::info!(what, ?away, "the store does it again");
                }
            }
        }
    }
}
