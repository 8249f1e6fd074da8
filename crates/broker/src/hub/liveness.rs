//! Whether what is shown is true now.

use std::time::Duration;

use parking_lot::Mutex;
use pointsman_core::Timestamp;
use pointsman_store::{Health, Store};
use tokio::time::Instant;

use crate::frame::NotLive;

/// A server that has not read the log to its end for this long does not claim to be live.
pub const LIVE_FOR: Duration = Duration::from_secs(5);

/// Whether this server's view is the store's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    Live,
    NotLive(NotLive),
}

/// When the log was last read to its end, and what has gone wrong since.
pub(crate) struct Contact(Mutex<LastContact>);

struct LastContact {
    at: Instant,
    store_time: Timestamp,
    trouble: Option<String>,
}

impl Contact {
    pub fn new(store_time: Timestamp) -> Self {
        Self(Mutex::new(LastContact { at: Instant::now(), store_time, trouble: None }))
    }

    /// The log has been read to its end now.
    pub fn at_end(&self, store_time: Timestamp) {
        *self.0.lock() = LastContact { at: Instant::now(), store_time, trouble: None };
    }

    pub fn trouble(&self, what: String) {
        self.0.lock().trouble = Some(what);
    }

    pub fn liveness(&self, store: &dyn Store) -> Liveness {
        let last = self.0.lock();
        let not_live =
            |reason: String| Liveness::NotLive(NotLive { reason, since: last.store_time });
        match store.health() {
            Health::Ready | Health::Full(_) => {}
            Health::Importing => return not_live("an import fills the store".into()),
            Health::Failed(why) => return not_live(format!("the store failed: {why}")),
            Health::Newer(why) => return not_live(why),
        }
        if last.at.elapsed() < LIVE_FOR {
            return Liveness::Live;
        }
        // For how long follows from `since`: the reason is said again every few seconds, and is to
        // be heard as the same one.
        match &last.trouble {
            Some(what) => not_live(format!("the log cannot be read: {what}")),
            None => not_live("the log has not been read to its end".into()),
        }
    }
}
