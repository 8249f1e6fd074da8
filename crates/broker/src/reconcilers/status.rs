//! What each reconciler did, and which of them fail.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use pointsman_core::Timestamp;
use pointsman_store::{Health, Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReconcilerStatus {
    pub name: &'static str,
    pub runs: u64,
    /// Commands of its that the store carried out so far.
    pub done: u64,
    /// Why the last run did not get through.
    pub error: Option<String>,
}

/// One that fails so long although its store is there will not get through by itself.
const FAILS_FOR_GOOD: Duration = Duration::from_secs(30);

/// The statuses of all reconcilers.
#[derive(Default)]
pub(crate) struct Statuses(Mutex<All>);

#[derive(Default)]
struct All {
    standings: BTreeMap<&'static str, Standing>,
    /// When any of them last found the store away: what failed before tells nothing of itself.
    store_away_at: Option<Timestamp>,
}

#[derive(Default)]
struct Standing {
    status: ReconcilerStatus,
    /// Since when it has failed, but for a lack of room, of which there is an alert of its own.
    failing_since: Option<Timestamp>,
}

impl Statuses {
    pub(super) fn ran(
        &self,
        name: &'static str,
        store: &dyn Store,
        outcome: Result<u64, StoreError>,
    ) {
        let All { standings, store_away_at } = &mut *self.0.lock();
        let Standing { status, failing_since } = standings.entry(name).or_default();
        let at = store.now();
        if !matches!(store.health(), Health::Ready | Health::Full(_)) {
            *store_away_at = Some(at);
        }
        let fails = !matches!(outcome, Ok(_) | Err(StoreError::Full(_)));
        *failing_since = fails.then(|| failing_since.unwrap_or(at));
        status.name = name;
        status.runs += 1;
        status.done += outcome.as_ref().unwrap_or(&0);
        status.error = outcome.err().map(|error| error.to_string());
    }

    pub fn all(&self) -> Vec<ReconcilerStatus> {
        self.0.lock().standings.values().map(|standing| standing.status.clone()).collect()
    }

    /// Those that do not get through although the store is there, and why.
    pub(super) fn failing(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let All { standings, store_away_at } = &*self.0.lock();
        let failing = standings.iter().filter_map(|(name, Standing { status, failing_since })| {
            let since = (*failing_since)?.max(store_away_at.unwrap_or_default());
            let is_for_good = now.since(since) >= FAILS_FOR_GOOD;
            is_for_good.then(|| Some((*name, status.error.clone()?)))?
        });
        failing.collect()
    }
}
