//! The store's clock: times that decide anything come from here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use pointsman_core::Timestamp;

/// Tells the time. Never goes back.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The wall clock as it was at the start, and from then on the monotonic one: a wall clock that
/// is set while the store is open moves nothing.
#[derive(Debug, Clone, Copy)]
pub struct MonotonicClock {
    wall: Timestamp,
    start: Instant,
}

impl MonotonicClock {
    /// A clock that never shows a time before `not_before` (the newest time in an opened store).
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn starting(not_before: Timestamp) -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let wall = since_1970.map_or(0, |span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        Self { wall: Timestamp::from_millis(wall).max(not_before), start: Instant::now() }
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Timestamp {
        self.wall + self.start.elapsed()
    }
}

/// A clock that tests move by hand.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl Default for ManualClock {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(1_700_000_000_000)))
    }
}

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }

    /// As the host's clock of a Redis may be set back, or a store be moved here from a host whose
    /// clock was ahead.
    pub fn set_back(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.fetch_sub(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
