//! What a server's answers tell of its clock.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::fmt::rfc2822::DateTimeParser;
use parking_lot::Mutex;
use pointsman_core::Timestamp;
use reqwest::header::{DATE, HeaderMap};

/// The second that a date names, and one for the way.
const AGREES: Duration = Duration::from_secs(2);

/// A server's clock, and when it was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerClock(Arc<Mutex<Option<(Timestamp, Instant)>>>);

impl ServerClock {
    /// An answer came. Its date is in whole seconds: what is known already stays where it agrees.
    pub(crate) fn saw(&self, headers: &HeaderMap, now: Instant) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
        let Some(date) = date.map(|date| Timestamp::from_millis(date.as_millisecond())) else {
            return;
        };
        let agrees = |known| date <= known && known < date + AGREES;
        if !self.at(now).is_some_and(agrees) {
            *self.0.lock() = Some((date, now));
        }
    }

    /// What it shows; none before the first answer.
    pub(crate) fn at(&self, now: Instant) -> Option<Timestamp> {
        self.0.lock().map(|(date, then)| date + now.saturating_duration_since(then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_dates_of_answers() {
        let (clock, start) = (ServerClock::default(), Instant::now());
        let known = |ms| clock.at(start + Duration::from_millis(ms)).map(Timestamp::as_millis);
        let saw = |ms, date: &str| {
            let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
            clock.saw(&headers, start + Duration::from_millis(ms));
        };
        clock.saw(&HeaderMap::new(), start);
        saw(0, "yesterday");
        assert_eq!(known(0), None);
        saw(100, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(known(350), Some(784_111_777_250));
        saw(350, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(known(350), Some(784_111_777_250), "the same second");
        saw(400, "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(known(400), Some(784_111_778_000), "later than was known");
        saw(500, "Sun, 06 Nov 1994 07:00:00 GMT");
        assert_eq!(known(500), Some(784_105_200_000), "it was set back");
    }
}
