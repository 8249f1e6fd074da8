//! The store's clock: times that decide anything come from here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use pointsman_core::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Tells the time. Never goes back.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The wall clock as it was at the start, and from then on the host's monotonic one that also counts
/// while the host is suspended: a wall clock that is set while the store is open moves nothing.
#[derive(Debug, Clone, Copy)]
pub struct MonotonicClock {
    wall: Timestamp,
    start: Duration,
}

/// The time since some moment, with the time that the host was suspended: `Instant` leaves that out.
fn since_boot() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let now = clock_gettime(CLOCK);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), nanos)
}

impl MonotonicClock {
    /// A clock that never shows a time before `not_before` (the newest time in an opened store).
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn starting(not_before: Timestamp) -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let wall = since_1970.map_or(0, |span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        Self { wall: Timestamp::from_millis(wall).max(not_before), start: since_boot() }
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Timestamp {
        self.wall + since_boot().saturating_sub(self.start)
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
