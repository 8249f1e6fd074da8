//! What the broker does by itself and fails at while its store is away: said once, not each time.

use std::{collections::BTreeSet, fmt::Display};

use parking_lot::Mutex;
use pointsman_core::Outage;
use tokio::time::Instant;

/// Everything that fails now. It is one outage until all of it works again.
#[derive(Default)]
pub(crate) struct Troubles(Mutex<(BTreeSet<&'static str>, Outage)>);

impl Troubles {
    /// `what` was tried.
    pub fn tried<T>(&self, what: &'static str, outcome: &Result<T, impl Display>) {
        let now = Instant::now().into_std();
        let (failing, outage) = &mut *self.0.lock();
        match outcome {
            Err(error) => {
                failing.insert(what);
                if outage.failed(&error.to_string(), now) {
                    tracing::warn!(what, %error, "the store cannot be used; trying on");
                }
            }
            Ok(_) => {
                if failing.remove(what)
                    && failing.is_empty()
                    && let Some(away) = outage.works(now)
                {
                    tracing::info!(?away, "the store can be used again");
                }
            }
        }
    }
}
