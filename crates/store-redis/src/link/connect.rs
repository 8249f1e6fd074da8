//! Connecting, and the first look at what is there.

use std::collections::HashSet;

use futures::{StreamExt as _, stream::FuturesUnordered};
use pointsman_store::Epoch;
use redis::{RedisError, Value, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{
    ANSWER_WITHIN, Opening, Place, list, lost_meta,
    nodes::{
        As, CONNECT_WITHIN, Candidate, Failures, Host, candidate, client, config, connected,
        no_answer,
    },
    number,
    refusals::{
        OpenError, denied, failure, garbled_epoch, garbled_seq, is_not_allowed, is_not_loaded,
        named, other_fleet, other_format,
    },
    reply::{SCANNED, scan, scanned},
    sentinels::Left,
    text, whole,
};
use crate::{
    encoding::keys::{FORMAT, Keys},
    link::{
        library,
        settings::{Info, SettingsError},
    },
};

/// Keys looked at for strangers under the prefix, when a fleet is made.
const MAX_SCANNED: usize = 1_000_000;

/// A server that a connection leads to.
pub struct Node {
    host: Host,
    run_id: String,
}

impl Node {
    pub fn host(&self) -> &Host {
        &self.host
    }
}

/// A connection that was looked at.
pub struct Made {
    pub connection: MultiplexedConnection,
    pub node: Node,
    pub epoch: Epoch,
    pub seq: u64,
    pub now: i64,
    /// When the store was made.
    pub made_at: i64,
    pub info: Info,
}

/// Connects, and looks at what is there. All hosts are asked at once which node that is, as some may
/// be away; the first one named that is well is taken. What a running fleet can do nothing about for
/// now, such as a policy of eviction, refuses only the `first` connection.
pub async fn connect(
    place: &Place,
    keys: &Keys,
    left: &Left,
    first: bool,
) -> Result<Made, OpenError> {
    let mut failures = Failures::default();
    let asked = place.address.hosts.iter().map(|host| candidate(place, host, keys));
    let mut named: FuturesUnordered<_> = asked.collect();
    let mut looked_at = HashSet::new();
    while let Some(candidate) = named.next().await {
        let made = match candidate {
            Ok(node) if !looked_at.insert(node.host.clone()) => continue,
            Ok(node) => match left.refusal(place, &node.host) {
                Some(refusal) => Err(refusal),
                None => look_at(place, keys, node, first).await,
            },
            Err(error) => Err(error),
        };
        match made {
            Err(error) => failures.add(error)?,
            made => return made,
        }
    }
    Err(failures.told(place))
}

async fn look_at(
    place: &Place,
    keys: &Keys,
    Candidate { host, named_by }: Candidate,
    first: bool,
) -> Result<Made, OpenError> {
    let config = config().set_response_timeout(Some(ANSWER_WITHIN));
    let mut connection = connected(place, &host, &config).await?;
    let failed = |error: RedisError| failure(place, &host, &error);
    let info: Value = redis::cmd("INFO").query_async(&mut connection).await.map_err(failed)?;
    let info = Info::parse(&text(&info));
    if info.is_loading {
        let why = "it is still loading what it keeps".to_owned();
        return Err(OpenError::Unreachable { address: place.address.to_string(), why });
    }
    match info.refusal() {
        Some(SettingsError::NotPrimary { name, role, .. }) => {
            return Err(SettingsError::NotPrimary { name, role, named_by }.into());
        }
        Some(SettingsError::Evicts { .. }) if !first => {}
        Some(refusal) => return Err(refusal.into()),
        None => {}
    }
    check_meta(&mut connection, place, &host, keys).await?;
    let mut open = redis::cmd("FCALL");
    open.arg(library::name("open")).arg(1).arg(keys.meta());
    open.arg(&place.fleet).arg(&info.replid).arg(Epoch::mint().to_string());
    open.arg(place.given_time());
    open.arg(place.opening.word());
    let mut opened = open.query_async(&mut connection).await;
    // Where it is loaded already, as it mostly is, no memory is needed to connect.
    if opened.as_ref().is_err_and(is_not_loaded) {
        load_library(&mut connection).await.map_err(|error| {
            // Those who make stores need the right; workers may be without it.
            match is_not_allowed(&error) && !place.opening.makes() {
                true => OpenError::NotLoaded { library: library::named() },
                false => failed(error),
            }
        })?;
        opened = open.query_async(&mut connection).await;
    }
    let opened: Value = opened.map_err(failed)?;
    let parts = list(&opened);
    let part = |n: usize| parts.get(n).map(text).unwrap_or_default();
    let odd = || OpenError::Odd(format!("{opened:?}"));
    match part(0).as_str() {
        "ok" => {}
        "newer" => return Err(other_format(keys, part(1))),
        "fleet" => return Err(other_fleet(keys, place, part(1))),
        "importing" => return Err(OpenError::Importing),
        "denied" => return Err(denied(named(place, &host), format!("it may not use {}", part(1)))),
        _ => return Err(odd()),
    }
    if !part(4).is_empty() {
        tracing::info!(
            from = part(4),
            to = FORMAT,
            "the store's format was raised: versions that know only the older one do not serve it \
             any more"
        );
    }
    let epoch = part(1).parse().map_err(|_| garbled_epoch(keys, part(1)))?;
    let now = part(2).parse().map_err(|_| odd())?;
    let mut meta = redis::cmd("HMGET");
    meta.arg(keys.meta()).arg("seq").arg("created_at");
    let meta: Value = meta.query_async(&mut connection).await.map_err(failed)?;
    let field = |n: usize| list(&meta).get(n);
    // What is no time is nobody's.
    let made_at = field(1).and_then(number).unwrap_or(0);
    let seq = field(0).and_then(|seq| u64::try_from(whole(&text(seq))?).ok());
    let seq = seq.ok_or_else(|| garbled_seq(keys, list(&meta).first().map(text)))?;
    let node = Node { host, run_id: info.run_id.clone() };
    Ok(Made { connection, node, epoch, seq, now, made_at, info })
}

/// A connection for calls that block: without a limit to the answer. None when another process
/// answers at the node's address by now.
pub async fn blocking(
    place: &Place,
    node: &Node,
) -> Result<Option<MultiplexedConnection>, OpenError> {
    let failed = |error: RedisError| failure(place, &node.host, &error);
    let config = config().set_response_timeout(None);
    let mut connection = connected(place, &node.host, &config).await?;
    let mut info = redis::cmd("INFO");
    let info = info.arg("server").query_async(&mut connection);
    let info = timeout(CONNECT_WITHIN, info).await.unwrap_or_else(|_| Err(no_answer()));
    let info: Value = info.map_err(failed)?;
    Ok((Info::parse(&text(&info)).run_id == node.run_id).then_some(connection))
}

/// A connection that hears what is published.
pub async fn pubsub(place: &Place, node: &Node) -> Result<redis::aio::PubSub, OpenError> {
    let client = client(place, &node.host, As::User)?;
    let connected = timeout(CONNECT_WITHIN, client.get_async_pubsub()).await;
    connected
        .unwrap_or_else(|_| Err(no_answer()))
        .map_err(|error| failure(place, &node.host, &error))
}

/// Whatever stands there already must be this fleet's, before anything is written or loaded. While it
/// is looked at another server may make the store, so what seems to lack its `meta` is looked at again.
async fn check_meta(
    connection: &mut MultiplexedConnection,
    place: &Place,
    host: &Host,
    keys: &Keys,
) -> Result<(), OpenError> {
    match look_at_meta(connection, place, host, keys).await {
        Err(OpenError::Foreign { .. } | OpenError::Lost { .. }) => {
            look_at_meta(connection, place, host, keys).await
        }
        looked => looked,
    }
}

async fn look_at_meta(
    connection: &mut MultiplexedConnection,
    place: &Place,
    host: &Host,
    keys: &Keys,
) -> Result<(), OpenError> {
    let failed = |error: RedisError| failure(place, host, &error);
    let mut kind = redis::cmd("TYPE");
    let kind: Value = kind.arg(keys.meta()).query_async(connection).await.map_err(failed)?;
    let foreign = |key: String| OpenError::Foreign { prefix: keys.prefix().to_owned(), key };
    match text(&kind).as_str() {
        "hash" => {
            let mut fleet = redis::cmd("HMGET");
            fleet.arg(keys.meta()).arg("format").arg("fleet");
            let found: Value = fleet.query_async(connection).await.map_err(failed)?;
            match list(&found) {
                [Value::Nil, _] if is_left_over(connection, keys).await.map_err(failed)? => {
                    Err(lost_meta(keys.prefix()))
                }
                [Value::Nil, _] => Err(foreign(keys.meta())),
                [format, _] if number(format).is_none_or(|format| format > FORMAT) => {
                    Err(other_format(keys, text(format)))
                }
                [_, fleet] if text(fleet) != place.fleet => {
                    Err(other_fleet(keys, place, text(fleet)))
                }
                // It never becomes less, so nobody needs to look at it in the step that opens.
                [format, _]
                    if place.opening == Opening::Work
                        && number(format).is_some_and(|format| format < FORMAT) =>
                {
                    Err(OpenError::Older { format: text(format) })
                }
                _ => Ok(()),
            }
        }
        "none" if is_left_over(connection, keys).await.map_err(failed)? => {
            Err(lost_meta(keys.prefix()))
        }
        "none" if !place.opening.makes() => {
            Err(OpenError::Missing { prefix: keys.prefix().to_owned() })
        }
        "none" => match stranger(connection, place, host, keys).await? {
            Some(key) => Err(foreign(key)),
            None => Ok(()),
        },
        _ => Err(foreign(keys.meta())),
    }
}

/// Whether a fleet's log is there, though its `meta` is not.
async fn is_left_over(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
) -> Result<bool, RedisError> {
    let mut kind = redis::cmd("TYPE");
    let kind: Value = kind.arg(keys.full("log")).query_async(connection).await?;
    Ok(text(&kind) == "stream")
}

/// A key under the prefix of a fleet that is not there.
async fn stranger(
    connection: &mut MultiplexedConnection,
    place: &Place,
    host: &Host,
    keys: &Keys,
) -> Result<Option<String>, OpenError> {
    let (pattern, mut cursor) = (keys.full("*"), 0);
    for _ in 0..MAX_SCANNED / SCANNED {
        let answer = scan(&pattern, cursor).query_async(connection).await;
        let answer: Value = answer.map_err(|error| failure(place, host, &error))?;
        let (next, some) = scanned(&answer).ok_or_else(|| OpenError::Odd(format!("{answer:?}")))?;
        if let Some(key) = some.iter().map(text).find(|key| !keys.is_hint(key)) {
            return Ok(Some(key));
        }
        if next == 0 {
            return Ok(None);
        }
        cursor = next;
    }
    tracing::warn!(
        "whether somebody else's keys begin with {} is not known: only {MAX_SCANNED} keys \
         were looked at",
        keys.prefix()
    );
    Ok(None)
}

async fn load_library(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let mut load = redis::cmd("FUNCTION");
    load.arg("LOAD").arg(library::code());
    let loaded: Result<Value, RedisError> = load.query_async(connection).await;
    match loaded {
        // It is there: the name says that it is the same.
        Err(error) if error.to_string().contains("already exists") => Ok(()),
        loaded => loaded.map(drop),
    }
}
