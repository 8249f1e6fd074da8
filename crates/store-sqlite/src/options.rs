//! What can be chosen when a store is opened.

use std::{sync::Arc, time::Duration};

use pointsman_store::{CONTACT_GAP, Clock};

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// To serve it: older programs do not open it any more.
    Serve,
    /// To read it, or to move the intake: nothing is written that older programs cannot read, and
    /// they may serve it on.
    Visit,
    /// To import into it: what an import that broke off put in is deleted. Older programs are shut
    /// out once the import begins: one that is refused leaves the store to them.
    Import,
}

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    pub opening: Opening,
    /// The store's clock. `None` is the monotonic clock, starting no earlier than the newest time
    /// in the store.
    pub clock: Option<Arc<dyn Clock>>,
    /// When nobody looked for silence for so long, by the store's clock, this process or its host was
    /// away: every deadline starts anew. `None`: only when it is told so.
    pub contact_gap: Option<Duration>,
    pub log: LogRetention,
    /// Bytes on the disk that are given up when it is full, so that running jobs can still end;
    /// 0 sets none aside.
    pub reserve_bytes: u64,
    /// Bytes that the database may take; `None` leaves the disk as the only limit. At the limit
    /// the store behaves as on a full disk.
    pub max_bytes: Option<u64>,
    /// The store came back from a backup in a way that opening cannot see: its log gets another
    /// epoch. What can be seen needs no saying.
    pub restored: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            opening: Opening::Serve,
            clock: None,
            contact_gap: Some(CONTACT_GAP),
            log: LogRetention::default(),
            reserve_bytes: 32 << 20,
            max_bytes: None,
            restored: false,
        }
    }
}

/// How much of the log is kept: as long as all three limits hold. The oldest goes first, a few
/// groups more or less at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRetention {
    pub groups: u64,
    /// Bytes of the log's text.
    pub bytes: u64,
    pub age: Duration,
}

impl Default for LogRetention {
    fn default() -> Self {
        Self { groups: 2_000_000, bytes: 512 << 20, age: Duration::from_secs(7 * 24 * 3600) }
    }
}
