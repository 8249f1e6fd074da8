//! All keys of a fleet: how they are, and put back as they were.

use std::collections::BTreeMap;

use redis::Value;

use crate::support::connection;

pub type Keys = BTreeMap<String, Vec<u8>>;

fn keys_of(redis: &mut redis::Connection, prefix: &str) -> Vec<String> {
    redis::cmd("KEYS").arg(format!("{prefix}*")).query(redis).expect("KEYS works")
}

/// Every key of a fleet with all that is in it. (What `DUMP` gives differs where a hash or a set
/// has moved its entries about, which a mere look at it may do.)
pub fn dump(prefix: &str) -> Keys {
    let mut redis = connection();
    let keys = keys_of(&mut redis, prefix);
    let mut kinds = redis::pipe();
    for key in &keys {
        kinds.cmd("TYPE").arg(key);
    }
    let kinds: Vec<String> =
        if keys.is_empty() { Vec::new() } else { kinds.query(&mut redis).expect("TYPE works") };
    let mut reads = redis::pipe();
    for (key, kind) in keys.iter().zip(&kinds) {
        match kind.as_str() {
            "hash" => reads.cmd("HGETALL").arg(key),
            "set" => reads.cmd("SMEMBERS").arg(key),
            "zset" => reads.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES"),
            "list" => reads.cmd("LRANGE").arg(key).arg(0).arg(-1),
            "stream" => reads.cmd("XRANGE").arg(key).arg("-").arg("+"),
            _ => reads.cmd("GET").arg(key),
        };
    }
    let values: Vec<Value> =
        if keys.is_empty() { Vec::new() } else { reads.query(&mut redis).expect("it is read") };
    let texts = values.into_iter().zip(&kinds).map(|(value, kind)| {
        let mut parts: Vec<String> = match (kind.as_str(), value) {
            ("hash", Value::Array(parts)) => {
                parts.chunks(2).map(|pair| format!("{pair:?}")).collect()
            }
            ("set", Value::Array(parts)) => parts.iter().map(|p| format!("{p:?}")).collect(),
            (_, other) => vec![format!("{other:?}")],
        };
        parts.sort();
        format!("{kind} {parts:?}").into_bytes()
    });
    keys.into_iter().zip(texts).collect()
}

/// Every key as Redis serializes it, to be restored.
pub fn copies(prefix: &str) -> Keys {
    let mut redis = connection();
    let keys = keys_of(&mut redis, prefix);
    let mut dump = redis::pipe();
    for key in &keys {
        dump.cmd("DUMP").arg(key);
    }
    let values: Vec<Vec<u8>> = dump.query(&mut redis).expect("DUMP works");
    keys.into_iter().zip(values).collect()
}

pub fn restore(key: &str, value: &[u8]) {
    let mut redis = connection();
    let restored: Value = redis::cmd("RESTORE")
        .arg(key)
        .arg(0)
        .arg(value)
        .arg("REPLACE")
        .query(&mut redis)
        .expect("RESTORE works");
    drop(restored);
}

/// The keys that differ.
pub fn changed<'a>(before: &'a Keys, after: &'a Keys) -> Vec<&'a str> {
    let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
    keys.filter(|key| before.get(*key) != after.get(*key)).map(String::as_str).collect()
}

pub fn put_back(prefix: &str, whole: &Keys, backup: &Keys) {
    put_back_from(&dump(prefix), whole, backup);
}

/// The same, where it is known how they are now.
pub fn put_back_from(now: &Keys, whole: &Keys, backup: &Keys) {
    let mut change = redis::pipe();
    for key in now.keys().filter(|key| !whole.contains_key(*key)) {
        change.cmd("DEL").arg(key);
    }
    for (key, _) in whole.iter().filter(|(key, value)| now.get(*key) != Some(*value)) {
        change.cmd("RESTORE").arg(key).arg(0).arg(&backup[key]).arg("REPLACE");
    }
    if !change.is_empty() {
        let _: Vec<Value> = change.query(&mut connection()).expect("they are put back");
    }
}

/// Who was heard when.
pub fn is_pulse(key: &str) -> bool {
    key.ends_with(":pulse")
}
