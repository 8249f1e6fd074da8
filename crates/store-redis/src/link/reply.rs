//! Reading Redis' answers.

use pointsman_store::StoreError;
use redis::{Cmd, RedisResult, Value};

use super::Link;

/// Keys that one step of a scan is about.
pub const SCANNED: usize = 1_000;

/// An answer, or the error that Redis gave as one.
pub fn answered(answer: RedisResult<Value>) -> RedisResult<Value> {
    match answer {
        Ok(Value::ServerError(error)) => Err(error.into()),
        answer => answer,
    }
}

/// A text; empty where there is none.
pub fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        Value::Int(n) => n.to_string(),
        Value::Okay => "OK".to_owned(),
        _ => String::new(),
    }
}

pub fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

pub fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(n) => Some(*n),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    }
}

/// A whole number as our functions take one (lua/head.lua): digits alone, none of them in vain.
pub fn whole(text: &str) -> Option<i64> {
    let n: i64 = text.parse().ok()?;
    ((0..1 << 53).contains(&n) && n.to_string() == text).then_some(n)
}

/// A number of things.
pub fn count(value: &Value) -> Option<u64> {
    number(value).and_then(|n| u64::try_from(n).ok())
}

/// What is said of an answer that no function of ours gives.
pub fn odd(answer: &Value) -> String {
    format!("an odd answer: {answer:?}")
}

/// The parts of a list; none where it is no list.
pub fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) | Value::Set(values) => values,
        _ => &[],
    }
}

/// One step through the keys under a pattern.
pub fn scan(pattern: &str, cursor: u64) -> Cmd {
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCANNED);
    scan
}

/// Where the next step begins, 0 after the last one, and keys; none where it is
/// another answer, which must not be taken for the end.
pub fn scanned(answer: &Value) -> Option<(u64, Vec<Value>)> {
    match list(answer) {
        [next, Value::Array(keys)] => Some((text(next).parse().ok()?, keys.clone())),
        _ => None,
    }
}

/// Goes through all keys of the fleet that fit a pattern, some at a time.
pub struct Scan<'a> {
    link: &'a Link,
    pattern: String,
    /// None after the last step.
    cursor: Option<u64>,
    /// The generation of the connection that it began on.
    began: Option<u64>,
}

impl Scan<'_> {
    /// Keys, whole; some may come twice.
    ///
    /// # Errors
    /// Where the connection was made anew meanwhile: another node makes something else of the cursor,
    /// and would pass keys over.
    pub async fn next(&mut self) -> Result<Option<Vec<Value>>, StoreError> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let (answer, generation) = self.link.ask(&scan(&self.pattern, cursor)).await?;
        if generation != *self.began.get_or_insert(generation) {
            let why = "the connection to Redis was made anew while its keys were listed";
            return Err(StoreError::Failed(why.into()));
        }
        let odd = || StoreError::Failed(format!("an odd answer to SCAN: {answer:?}"));
        let (next, keys) = scanned(&answer).ok_or_else(odd)?;
        self.cursor = (next != 0).then_some(next);
        Ok(Some(keys))
    }
}

impl Link {
    /// A pattern without the fleet's prefix.
    pub fn scan(&self, pattern: &str) -> Scan<'_> {
        Scan { link: self, pattern: self.keys().full(pattern), cursor: Some(0), began: None }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_redis_testing::{RedisOptions, RedisServer};

    use super::*;
    use crate::link::{Opening, Place};

    /// What another node makes of a cursor passes keys over, and nobody would miss them.
    #[tokio::test]
    async fn a_scan_does_not_go_on_over_another_connection() {
        let server = RedisServer::start(RedisOptions::default()).await.unwrap();
        let (address, fleet) = (server.url().parse().unwrap(), "test".to_owned());
        let place = Place { address, fleet, acks: 0, clock: None, opening: Opening::Serve };
        let link = Link::open(place).await.unwrap();
        let mut keys = redis::pipe();
        for n in 0..3 * SCANNED {
            keys.set(link.keys().full(&format!("some:{n}")), n).ignore();
        }
        keys.exec_async(&mut server.connect().await.unwrap()).await.unwrap();
        let mut scan = link.scan("some:*");
        assert!(scan.next().await.unwrap().is_some());
        link.drop_live(1, "a test");
        let why = scan.next().await.unwrap_err().to_string();
        assert!(why.contains("made anew while its keys were listed"), "{why}");
        let (mut scan, mut found) = (link.scan("some:*"), std::collections::BTreeSet::new());
        while let Some(some) = scan.next().await.unwrap() {
            found.extend(some.iter().map(text));
        }
        assert_eq!(found.len(), 3 * SCANNED);
    }

    #[test]
    fn a_whole_number_is_what_our_functions_take_for_one() {
        assert_eq!(whole("0"), Some(0));
        assert_eq!(whole("9007199254740991"), Some(9_007_199_254_740_991));
        for odd in ["", "01", "+1", "-1", "-0", "1.0", " 1", "1e0", "0x1", "9007199254740992"] {
            assert_eq!(whole(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn an_odd_answer_is_not_the_end_of_a_scan() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let keys = || Value::Array(vec![text("a")]);
        let next = |cursor| scanned(&Value::Array(vec![text(cursor), keys()]));
        assert_eq!(next("18446744073709551615"), Some((u64::MAX, vec![text("a")])));
        for odd in [
            Value::Nil,
            text("0"),
            Value::Array(vec![]),
            Value::Array(vec![text("0")]),
            Value::Array(vec![text("0"), Value::Nil]),
            Value::Array(vec![text("end"), keys()]),
        ] {
            assert_eq!(scanned(&odd), None, "{odd:?}");
        }
    }
}
