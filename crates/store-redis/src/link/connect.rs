//! Finding the primary, and the first look at it.

use std::time::Duration;

use pointsman_store::Epoch;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisError,
    ServerErrorKind, Value, aio::MultiplexedConnection,
};
use tokio::time::timeout;

use super::{ANSWER_WITHIN, Opening, Place, list, number, text};
use crate::{
    address::Topology,
    keys::Keys,
    library,
    settings::{Info, SettingsError},
};

/// How keys are laid out; a store with a higher number is a newer version's (head.lua).
const FORMAT: i64 = 3;
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Keys looked at for strangers under the prefix, when a fleet is made.
const MAX_SCANNED: u64 = 1_000_000;

/// Why a store on Redis could not be opened. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("cannot reach Redis at {address}: {why}")]
    Unreachable { address: String, why: String },
    #[error("Redis at {address} does not let us in: {why}: {cure}")]
    Denied { address: String, why: String, cure: &'static str },
    #[error("this address of Redis cannot be right: {address}: {why}")]
    Address { address: String, why: String },
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("the keys under {prefix} are another application's ({key}): use another --fleet")]
    Foreign { prefix: String, key: String },
    #[error("the store under {prefix} is fleet {found:?}, not {wanted:?}: check --fleet")]
    OtherFleet { prefix: String, found: String, wanted: String },
    #[error("the store was written by a newer version (format {format}): use that version")]
    Newer { format: String },
    #[error("an import fills this store, or broke off: run `pointsman import` into it anew")]
    Importing,
    #[error("there is no store under {prefix}: check the address and --fleet")]
    Missing { prefix: String },
    #[error("{prefix}meta is gone, and without it nothing of the store can be read: {cure}")]
    Lost { prefix: String, cure: String },
    #[error("{key} {field} is {found:?}, {wanted}: {cure}")]
    Garbled { key: String, field: &'static str, found: String, wanted: &'static str, cure: String },
    #[error("Redis answered {0}, which is not understood")]
    Odd(String),
    #[error("the store is closed")]
    Closed,
}

impl OpenError {
    /// Whether waiting may mend it: Redis cannot be reached, or Sentinels have not seen a fail-over.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Settings(SettingsError::NotPrimary { named_by, .. }) => named_by.is_some(),
            _ => false,
        }
    }

    /// Whether another Sentinel, or node of the cluster, may lead to one that is well.
    fn is_of_one_node(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Denied { .. } => true,
            Self::Settings(settings) => matches!(settings, SettingsError::NotPrimary { .. }),
            _ => false,
        }
    }
}

/// A server that a connection leads to.
pub struct Node {
    host: String,
    port: u16,
    run_id: String,
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

/// Connects, and looks at what is there. What a running fleet can do nothing about for now, such as
/// a policy of eviction, refuses only the `first` connection.
pub async fn connect(place: &Place, keys: &Keys, first: bool) -> Result<Made, OpenError> {
    let mut failures = Failures::default();
    for host in &place.address.hosts {
        match look_at(place, keys, host, first).await {
            Err(error) => failures.add(error)?,
            made => return made,
        }
    }
    Err(failures.told(place))
}

async fn look_at(place: &Place, keys: &Keys, host: &Host, first: bool) -> Result<Made, OpenError> {
    let Candidate { host, port, named_by } = candidate(place, host, keys).await?;
    let config = config().set_response_timeout(Some(ANSWER_WITHIN));
    let mut connection = connected(place, &host, port, &config).await?;
    let failed = |error: RedisError| failure(place, &error);
    let info: Value = redis::cmd("INFO").query_async(&mut connection).await.map_err(failed)?;
    let info = Info::parse(&text(&info));
    match info.refusal() {
        Some(SettingsError::NotPrimary { role, .. }) => {
            return Err(SettingsError::NotPrimary { role, named_by }.into());
        }
        Some(SettingsError::Evicts { .. }) if !first => {}
        Some(refusal) => return Err(refusal.into()),
        None => {}
    }
    check_meta(&mut connection, place, keys).await?;
    let clock = place.clock.as_ref();
    let now = clock.map(|clock| clock.now().as_millis().to_string()).unwrap_or_default();
    let mut open = redis::cmd("FCALL");
    open.arg(library::name("open")).arg(1).arg(keys.meta());
    open.arg(&place.fleet).arg(&info.replid).arg(Epoch::mint().to_string()).arg(now);
    open.arg(i32::from(place.opening == Opening::Import));
    let mut opened = open.query_async(&mut connection).await;
    // Where it is loaded already, as it mostly is, no memory is needed to connect.
    if opened.as_ref().is_err_and(is_not_loaded) {
        load_library(&mut connection).await.map_err(failed)?;
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
        "denied" => return Err(denied(place, format!("it may not use {}", part(1)))),
        _ => return Err(odd()),
    }
    let epoch = part(1).parse().map_err(|_| garbled_epoch(keys, part(1)))?;
    let now = part(2).parse().map_err(|_| odd())?;
    let mut meta = redis::cmd("HMGET");
    meta.arg(keys.meta()).arg("seq").arg("created_at");
    let meta: Value = meta.query_async(&mut connection).await.map_err(failed)?;
    let field = |n: usize| list(&meta).get(n).and_then(number);
    // What is no time is nobody's.
    let (seq, made_at) = (field(0), field(1).unwrap_or(0));
    let seq = seq.and_then(|seq| u64::try_from(seq).ok());
    let seq = seq.ok_or_else(|| garbled_seq(keys, list(&meta).first().map(text)))?;
    let node = Node { host, port, run_id: info.run_id.clone() };
    Ok(Made { connection, node, epoch, seq, now, made_at, info })
}

/// A connection for calls that block: without a limit to the answer. None when another process
/// answers at the node's address by now.
pub async fn blocking(
    place: &Place,
    node: &Node,
) -> Result<Option<MultiplexedConnection>, OpenError> {
    let failed = |error: RedisError| failure(place, &error);
    let config = config().set_response_timeout(None);
    let mut connection = connected(place, &node.host, node.port, &config).await?;
    let mut info = redis::cmd("INFO");
    let info = info.arg("server").query_async(&mut connection);
    let info = timeout(CONNECT_WITHIN, info).await.unwrap_or_else(|_| Err(no_answer()));
    let info: Value = info.map_err(failed)?;
    Ok((Info::parse(&text(&info)).run_id == node.run_id).then_some(connection))
}

/// A connection that hears what is published.
pub async fn pubsub(place: &Place, node: &Node) -> Result<redis::aio::PubSub, OpenError> {
    let client = client(place, &node.host, node.port, false)?;
    let connected = timeout(CONNECT_WITHIN, client.get_async_pubsub()).await;
    connected.unwrap_or_else(|_| Err(no_answer())).map_err(|error| failure(place, &error))
}

fn no_answer() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

fn no_host(place: &Place) -> OpenError {
    OpenError::Unreachable { address: place.address.to_string(), why: "no host".into() }
}

/// Name and port, as the address has them.
type Host = (String, u16);

/// A node that should have the fleet's keys.
struct Candidate {
    host: String,
    port: u16,
    /// The Sentinel that says so.
    named_by: Option<String>,
}

/// Why the nodes that the address leads to are no good: they are tried one after the other, as a
/// Sentinel or a node of a cluster may have slept through a fail-over.
#[derive(Default)]
struct Failures(Option<OpenError>);

impl Failures {
    /// Takes note of what another node may make good.
    ///
    /// # Errors
    /// What no other node can.
    fn add(&mut self, error: OpenError) -> Result<(), OpenError> {
        if !error.is_of_one_node() {
            return Err(error);
        }
        // Of several the one that says most is told.
        if matches!(self.0, None | Some(OpenError::Unreachable { .. })) {
            self.0 = Some(error);
        }
        Ok(())
    }

    fn told(self, place: &Place) -> OpenError {
        self.0.unwrap_or_else(|| no_host(place))
    }
}

/// The node that has the fleet's keys, as one of the hosts knows it.
async fn candidate(
    place: &Place,
    (host, port): &Host,
    keys: &Keys,
) -> Result<Candidate, OpenError> {
    let port = *port;
    let ((host, port), named_by) = match &place.address.topology {
        Topology::Server => ((host.to_owned(), port), None),
        Topology::Sentinel { master } => {
            let named = ask_sentinel(place, host, port, master).await?;
            (named, Some(format!("{host}:{port}")))
        }
        Topology::Cluster => (ask_cluster(place, host, port, keys).await?, None),
    };
    Ok(Candidate { host, port, named_by })
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_WITHIN))
}

/// What makes up for a lost `meta`.
pub fn lost_meta(prefix: &str) -> OpenError {
    let cure = "restore the store from a backup, or make the key anew as docs/operating.md says \
                under Repairs";
    OpenError::Lost { prefix: prefix.to_owned(), cure: cure.to_owned() }
}

fn garbled_seq(keys: &Keys, found: Option<String>) -> OpenError {
    let found = found.unwrap_or_default();
    let (key, log) = (keys.meta(), keys.full("log"));
    let cure = format!(
        "set it to the number before the dash of the log's last entry (`XREVRANGE {log} + - COUNT \
         1`): `HSET {key} seq NUMBER`"
    );
    OpenError::Garbled { key, field: "seq", found, wanted: "which is no whole number", cure }
}

/// A newer version's store, unless what stands there is no format at all.
pub fn other_format(keys: &Keys, found: String) -> OpenError {
    if found.parse::<u64>().is_ok() {
        return OpenError::Newer { format: found };
    }
    let key = keys.meta();
    let cure = format!("`HSET {key} format {FORMAT}`, unless a newer version wrote the store");
    OpenError::Garbled { key, field: "format", found, wanted: "which is no whole number", cure }
}

fn garbled_epoch(keys: &Keys, found: String) -> OpenError {
    let key = keys.meta();
    let cure = format!("`HSET {key} replid unknown`, and start again: then a new one begins");
    OpenError::Garbled { key, field: "epoch", found, wanted: "which is no epoch", cure }
}

fn other_fleet(keys: &Keys, place: &Place, found: String) -> OpenError {
    let prefix = keys.prefix().to_owned();
    OpenError::OtherFleet { prefix, found, wanted: place.fleet.clone() }
}

/// Whatever stands there already must be this fleet's, before anything is written or loaded.
async fn check_meta(
    connection: &mut MultiplexedConnection,
    place: &Place,
    keys: &Keys,
) -> Result<(), OpenError> {
    let failed = |error: RedisError| failure(place, &error);
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
                _ => Ok(()),
            }
        }
        "none" if is_left_over(connection, keys).await.map_err(failed)? => {
            Err(lost_meta(keys.prefix()))
        }
        "none" if place.opening == Opening::Existing => {
            Err(OpenError::Missing { prefix: keys.prefix().to_owned() })
        }
        "none" => match stranger(connection, keys).await.map_err(failed)? {
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
    keys: &Keys,
) -> Result<Option<String>, RedisError> {
    let pattern = format!("{}*", keys.prefix());
    let mut cursor = "0".to_owned();
    for _ in 0..MAX_SCANNED / 1_000 {
        let mut scan = redis::cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000);
        let found: Value = scan.query_async(connection).await?;
        let [next, some] = list(&found) else { return Ok(None) };
        if let Some(key) = list(some).iter().map(text).find(|key| !keys.is_hint(key)) {
            return Ok(Some(key));
        }
        cursor = text(next);
        if cursor == "0" {
            break;
        }
    }
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

async fn connected(
    place: &Place,
    host: &str,
    port: u16,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, OpenError> {
    let client = client(place, host, port, false)?;
    let connection = client.get_multiplexed_async_connection_with_config(config).await;
    connection.map_err(|error| failure(place, &error))
}

/// A client of one node; Sentinels have no databases and no passwords of the data's.
fn client(place: &Place, host: &str, port: u16, sentinel: bool) -> Result<Client, OpenError> {
    let address = &place.address;
    // Nothing was sent yet.
    let wrong = |error: RedisError| OpenError::Address {
        address: address.to_string(),
        why: error.to_string(),
    };
    let addr = match address.tls {
        true => {
            ConnectionAddr::TcpTls { host: host.into(), port, insecure: false, tls_params: None }
        }
        false => ConnectionAddr::Tcp(host.into(), port),
    };
    let info = addr.into_connection_info().map_err(wrong)?;
    let mut redis = info.redis_settings().clone();
    if !sentinel {
        redis = redis.set_db(address.db);
        if let Some(user) = &address.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &address.password {
            redis = redis.set_password(password);
        }
    }
    super::super::tls::client(info.set_redis_settings(redis), address).map_err(wrong)
}

async fn ask(
    place: &Place,
    host: &str,
    port: u16,
    sentinel: bool,
    command: &redis::Cmd,
) -> Result<Value, OpenError> {
    let failed = |error: RedisError| match failure(place, &error) {
        OpenError::Denied { why, .. } if sentinel => OpenError::Denied {
            address: format!("{host}:{port}"),
            why,
            cure: "it is a Sentinel, and those are asked without a password: let it ask for none",
        },
        failure => failure,
    };
    let client = client(place, host, port, sentinel)?;
    let config = config().set_response_timeout(Some(CONNECT_WITHIN));
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    command.query_async(&mut connection.map_err(failed)?).await.map_err(failed)
}

async fn ask_sentinel(
    place: &Place,
    host: &str,
    port: u16,
    master: &str,
) -> Result<(String, u16), OpenError> {
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let found = ask(place, host, port, true, &command).await?;
    let unknown = || OpenError::Unreachable {
        address: place.address.to_string(),
        why: format!("the Sentinel at {host}:{port} knows no master {master:?}"),
    };
    match list(&found) {
        [host, port] => Ok((text(host), text(port).parse().map_err(|_| unknown())?)),
        _ => Err(unknown()),
    }
}

/// Which node has the fleet's slot.
async fn ask_cluster(
    place: &Place,
    host: &str,
    port: u16,
    keys: &Keys,
) -> Result<(String, u16), OpenError> {
    let mut slot = redis::cmd("CLUSTER");
    slot.arg("KEYSLOT").arg(keys.meta());
    let slot = number(&ask(place, host, port, false, &slot).await?).unwrap_or(-1);
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("SLOTS");
    let found = ask(place, host, port, false, &slots).await?;
    let has = |range: &&Value| match list(range) {
        [from, till, ..] => {
            number(from).is_some_and(|from| from <= slot)
                && number(till).is_some_and(|till| slot <= till)
        }
        _ => false,
    };
    let range = list(&found).iter().find(has);
    let node = range.and_then(|range| list(range).get(2)).map(list).unwrap_or_default();
    match node {
        [name, node_port, ..] => {
            // A node that does not know its own address is the one that was asked.
            let name = Some(text(name)).filter(|name| !name.is_empty() && name != "?");
            let node_port = number(node_port).and_then(|port| u16::try_from(port).ok());
            Ok((name.unwrap_or_else(|| host.to_owned()), node_port.unwrap_or(port)))
        }
        _ => Err(OpenError::Unreachable {
            address: place.address.to_string(),
            why: format!("no node of the cluster has slot {slot}"),
        }),
    }
}

fn denied(place: &Place, why: String) -> OpenError {
    let cure = "give the user the rights of deploy/users.acl, with this fleet's prefix";
    OpenError::Denied { address: place.address.to_string(), why, cure }
}

fn failure(place: &Place, error: &RedisError) -> OpenError {
    let (address, why) = (place.address.to_string(), error.to_string());
    if is_not_allowed(error) {
        return denied(place, why);
    }
    if ["NOAUTH", "WRONGPASS"].iter().any(|code| why.contains(code))
        || error.kind() == ErrorKind::AuthenticationFailed
    {
        return OpenError::Denied { address, why, cure: "check user and password" };
    }
    match why.contains("DB index is out of range") {
        true => OpenError::Address { address, why },
        false => OpenError::Unreachable { address, why },
    }
}

/// A right is missing.
pub fn is_not_allowed(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}

/// What an error says of the connection.
pub enum Means {
    /// It is gone, and whether the call was carried out is not known.
    Broken,
    /// The primary is elsewhere, or not there yet; the call was not carried out.
    ElseWhere,
    /// The connection is well; the call was refused.
    Refused,
}

/// Our functions are not there: a Redis that was emptied, or another one.
fn is_not_loaded(error: &RedisError) -> bool {
    error.to_string().contains("Function not found")
}

pub fn means(error: &RedisError) -> Means {
    let moved = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
        )
    );
    if moved || is_not_loaded(error) {
        return Means::ElseWhere;
    }
    if error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
    {
        return Means::Broken;
    }
    Means::Refused
}
