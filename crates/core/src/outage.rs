//! What is tried again and again while something is away is told by its changes: a log that has
//! every failure has nothing else.

use std::time::{Duration, Instant};

/// Different reasons that are told of one outage at most.
const REASONS: usize = 8;

/// A time in which something fails. Each reason is told once, and the end with how long it took.
#[derive(Debug, Default)]
pub struct Outage {
    since: Option<Instant>,
    told: Vec<String>,
}

impl Outage {
    /// It failed: whether that is to be told.
    pub fn failed(&mut self, why: &str, now: Instant) -> bool {
        self.since.get_or_insert(now);
        let is_news = self.told.len() < REASONS && !self.has_told(why);
        if is_news {
            self.told.push(why.to_owned());
        }
        is_news
    }

    /// Whether one of the reasons that were told of it was told of the other, too.
    pub fn shares_a_reason_with(&self, other: &Self) -> bool {
        self.told.iter().any(|why| other.has_told(why))
    }

    pub fn has_told(&self, why: &str) -> bool {
        self.told.iter().any(|told| told == why)
    }

    /// It works: for how long it did not; none when it did before, too.
    pub fn works(&mut self, now: Instant) -> Option<Duration> {
        self.told.clear();
        Some(now.saturating_duration_since(self.since.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once_and_the_end_with_its_length() {
        // The one clock of a test that needs any moment at all.
        #[expect(clippy::disallowed_methods)]
        let begin = Instant::now();
        let later = begin + Duration::from_secs(30);
        let mut outage = Outage::default();
        assert_eq!(outage.works(begin), None);
        let told = ["away", "away", "refused", "away", "refused"].map(|w| outage.failed(w, begin));
        assert_eq!(told, [true, false, true, false, false]);
        assert_eq!(outage.works(later), Some(Duration::from_secs(30)));
        assert_eq!(outage.works(later), None);
        assert!(outage.failed("away", later), "a new outage");
        let told = (0..100).filter(|n| outage.failed(&n.to_string(), later)).count();
        assert_eq!(told, REASONS - 1);
    }
}
