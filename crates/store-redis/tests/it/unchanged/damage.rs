//! What somebody may do to a key by hand.

use redis::{Connection, Value};

#[derive(Debug, Clone)]
pub enum Damage {
    AnotherType,
    /// Every value of it is garbage, or garbage is among them.
    Garbage,
    /// These fields hold a number that Redis does not take for one.
    NearlyNumbers(Vec<String>),
    /// An entry that was put there and deleted again: Redis takes none before it.
    Deleted,
}

/// An entry after all that are there.
const LATER: &str = "9000000000000-0";

const RECORDS: [&str; 5] = ["job:", "worker:", "connector:", "machine:", "alert:"];

fn ask<T: redis::FromRedisValue>(redis: &mut Connection, parts: &[&str]) -> T {
    let mut command = redis::cmd(parts[0]);
    command.arg(&parts[1..]).query(redis).expect("Redis does as it is told")
}

fn tell(redis: &mut Connection, parts: &[&str]) {
    drop(ask::<Value>(redis, parts));
}

/// All that may be done to a key.
pub fn damages(redis: &mut Connection, prefix: &str, key: &str) -> Vec<Damage> {
    let mut damages = vec![Damage::AnotherType, Damage::Garbage];
    match ask::<String>(redis, &["TYPE", key]).as_str() {
        "hash" => {
            let values: Vec<String> = ask(redis, &["HGETALL", key]);
            let pairs = values.chunks(2).filter(|pair| pair[1].parse::<u64>().is_ok());
            let fields: Vec<String> = pairs.map(|pair| pair[0].clone()).collect();
            if RECORDS.iter().any(|kind| key[prefix.len()..].starts_with(kind)) {
                damages.push(Damage::NearlyNumbers(fields));
            } else {
                damages.extend(fields.into_iter().map(|f| Damage::NearlyNumbers(vec![f])));
            }
        }
        "stream" => damages.push(Damage::Deleted),
        _ => {}
    }
    damages
}

pub fn damage(redis: &mut Connection, key: &str, how: &Damage) {
    let kind: String = ask(redis, &["TYPE", key]);
    match (how, kind.as_str()) {
        (Damage::AnotherType, _) => {
            tell(redis, &["DEL", key]);
            tell(redis, &[if kind == "list" { "SADD" } else { "RPUSH" }, key, "garbage"]);
        }
        (Damage::NearlyNumbers(fields), _) => {
            for field in fields {
                let value: String = ask(redis, &["HGET", key, field]);
                tell(redis, &["HSET", key, field, &format!("{value}.0")]);
            }
        }
        (Damage::Deleted, _) => {
            tell(redis, &["XADD", key, LATER, "a", "b"]);
            tell(redis, &["XDEL", key, LATER]);
        }
        (Damage::Garbage, "hash") => {
            let fields: Vec<String> = ask(redis, &["HKEYS", key]);
            for field in fields.iter().filter(|field| *field != "epoch") {
                tell(redis, &["HSET", key, field, "\"gar}bage"]);
            }
        }
        (Damage::Garbage, "string") => tell(redis, &["SET", key, "garbage"]),
        (Damage::Garbage, "set") => tell(redis, &["SADD", key, "garbage"]),
        (Damage::Garbage, "zset") => tell(redis, &["ZADD", key, "7", "garbage"]),
        (Damage::Garbage, "list") => tell(redis, &["LPUSH", key, "garbage"]),
        (Damage::Garbage, "stream") => tell(redis, &["XADD", key, LATER, "a", "b"]),
        (Damage::Garbage, other) => panic!("{key} is a {other}"),
    }
}
