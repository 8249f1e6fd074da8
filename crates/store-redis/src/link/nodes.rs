//! Which nodes an address leads to, and connections to them.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisError, Value,
    aio::MultiplexedConnection,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use super::{
    Place, list, number,
    refusals::{OpenError, failure},
    text,
};
use crate::{address::Topology, keys::Keys, tls};

pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// A connection on which nothing moves is probed after this long, and each so often again. So a
/// firewall does not forget it; where one did, it breaks 15 s later.
const PROBED_AFTER: Duration = Duration::from_secs(10);
const PROBED_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
/// What was sent, or probed for, and is not confirmed for this long breaks a connection.
#[cfg(target_os = "linux")]
const GONE_AFTER: Duration = Duration::from_secs(25);

/// Name and port, as the address has them.
pub(super) type Host = (String, u16);

/// Who a connection is made as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// The address's user, in its database.
    User,
    /// The address's user, where there are no databases: at a Sentinel that asks for a password.
    UserOfSentinel,
    /// Nobody in particular, as most Sentinels want it.
    Anyone,
}

/// A node that should have the fleet's keys.
pub(super) struct Candidate {
    pub host: String,
    pub port: u16,
    /// The Sentinel that says so.
    pub named_by: Option<String>,
}

/// Why the nodes that the address leads to are no good: each is tried, as a Sentinel or a node of a
/// cluster may have slept through a fail-over.
#[derive(Default)]
pub(super) struct Failures(Option<OpenError>);

impl Failures {
    /// Takes note of what another node may make good.
    ///
    /// # Errors
    /// What no other node can.
    pub fn add(&mut self, error: OpenError) -> Result<(), OpenError> {
        if !error.is_of_one_node() {
            return Err(error);
        }
        // Of several the one that says most is told.
        if matches!(self.0, None | Some(OpenError::Unreachable { .. })) {
            self.0 = Some(error);
        }
        Ok(())
    }

    pub fn told(self, place: &Place) -> OpenError {
        self.0.unwrap_or_else(|| no_host(place))
    }
}

/// The node that has the fleet's keys, as one of the hosts knows it.
pub(super) async fn candidate(
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

pub(super) fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_WITHIN))
}

fn no_host(place: &Place) -> OpenError {
    OpenError::Unreachable { address: place.address.to_string(), why: "no host".into() }
}

pub(super) async fn connected(
    place: &Place,
    host: &str,
    port: u16,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, OpenError> {
    let client = client(place, host, port, As::User)?;
    let connection = client.get_multiplexed_async_connection_with_config(config).await;
    connection.map_err(|error| failure(place, &error))
}

/// A client of one node.
pub(super) fn client(place: &Place, host: &str, port: u16, who: As) -> Result<Client, OpenError> {
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
    if who == As::User {
        redis = redis.set_db(address.db);
    }
    if who != As::Anyone {
        if let Some(user) = &address.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &address.password {
            redis = redis.set_password(password);
        }
    }
    let info = info.set_redis_settings(redis).set_tcp_settings(probed());
    tls::client(info, address).map_err(wrong)
}

fn probed() -> TcpSettings {
    let probes = TcpKeepalive::new().with_time(PROBED_AFTER).with_interval(PROBED_EVERY);
    let settings = TcpSettings::default().set_keepalive(probes.with_retries(PROBES));
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(GONE_AFTER);
    settings
}

async fn ask(
    place: &Place,
    host: &str,
    port: u16,
    who: As,
    command: &redis::Cmd,
) -> Result<Value, OpenError> {
    let failed = |error: RedisError| failure(place, &error);
    let client = client(place, host, port, who)?;
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
    let mut found = ask(place, host, port, As::Anyone, &command).await;
    if let (Err(OpenError::Denied { .. }), Some(_)) = (&found, &place.address.password) {
        found = ask(place, host, port, As::UserOfSentinel, &command).await;
    }
    let found = found.map_err(|error| match error {
        OpenError::Denied { why, .. } => OpenError::Denied {
            address: format!("{host}:{port}"),
            why,
            cure: "it is a Sentinel: let it ask for no password, or for the address's",
        },
        error => error,
    })?;
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
    let slot = number(&ask(place, host, port, As::User, &slot).await?).unwrap_or(-1);
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("SLOTS");
    let found = ask(place, host, port, As::User, &slots).await?;
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
