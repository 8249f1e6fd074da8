//! Points in time as the store's clock gives them. This crate reads no clock.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::string_schema;

/// Milliseconds since 1970 on the store's clock; written as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

string_schema!(Timestamp, "On the store's clock: RFC 3339 in UTC with milliseconds.");

impl Timestamp {
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }
    pub const fn as_millis(self) -> i64 {
        self.0
    }
    /// Whether a span that ends here is over. One that lasts `at_most` so long and ends further off
    /// was begun by a clock that was ahead of this one, and is over too.
    pub fn is_over(self, now: Self, at_most: Duration) -> bool {
        self <= now || self > now + at_most
    }
    /// The time from `earlier` to this; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }
}

const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
const OF_SECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(0));

impl Timestamp {
    /// For sentences: RFC 3339 in UTC, to the second.
    pub fn to_the_second(self) -> String {
        self.printed(&OF_SECONDS)
    }

    fn text(self) -> String {
        self.printed(&PRINTER)
    }

    fn printed(self, printer: &DateTimePrinter) -> String {
        let mut text = String::with_capacity(24);
        let printed = jiff::Timestamp::from_millisecond(self.0)
            .and_then(|at| printer.print_timestamp(&at, &mut text));
        match printed {
            Ok(()) => text,
            Err(_) => format!("{} ms", self.0),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        let at: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(at.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_with_milliseconds_and_read_back() {
        let at = Timestamp::from_millis(1_795_461_601_100);
        let text = serde_json::to_string(&at).unwrap();
        assert_eq!(text, "\"2026-11-23T18:00:01.100Z\"".replace("18:00:01", &text[12..20]));
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), at);
        assert_eq!(at.to_the_second(), at.to_string().replace(".100Z", "Z"));
        assert_eq!((at + Duration::from_millis(899)).to_the_second(), at.to_the_second());
        let whole = Timestamp::from_millis(1_795_461_601_000);
        assert!(whole.to_string().ends_with(".000Z"), "{whole}");
        let beyond = Timestamp::from_millis(i64::MAX);
        assert_eq!(beyond.to_string(), format!("{} ms", i64::MAX));
    }
}
