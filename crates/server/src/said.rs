//! What many requests fail at while the store is away is said now and then, not of each.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The same code is said again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// When a code was said last, and how often not since.
pub(crate) struct Said(Mutex<BTreeMap<String, (Instant, u64)>>);

impl Said {
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether to say it now, and how many like it were not said before.
    pub fn may_say(&self, code: &str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock();
        match said.get_mut(code) {
            Some((at, unsaid)) if now.saturating_duration_since(*at) < AGAIN => {
                *unsaid += 1;
                None
            }
            Some((at, unsaid)) => {
                *at = now;
                Some(std::mem::take(unsaid))
            }
            None => {
                said.insert(code.to_owned(), (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_said_at_most_every_ten_seconds_with_how_many_were_not() {
        let (said, begin) = (Said::new(), Instant::now());
        let says = |code, s| said.may_say(code, begin + Duration::from_secs(s));
        assert_eq!(says("store_failed", 0), Some(0));
        assert_eq!(says("store_failed", 1), None);
        assert_eq!(says("store_full", 1), Some(0));
        assert_eq!(says("store_failed", 9), None);
        assert_eq!(says("store_failed", 10), Some(2));
        assert_eq!(says("store_failed", 30), Some(0));
    }
}
