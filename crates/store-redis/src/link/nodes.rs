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
    sentinels::ask_sentinel,
    text,
};
use crate::{
    encoding::keys::Keys,
    link::{address::Topology, tls},
};

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
    pub host: Host,
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
        // Of several the one that says most is told; that there is no Redis only where all say so.
        let says_more = match &self.0 {
            None | Some(OpenError::NotRedis { .. }) => true,
            Some(OpenError::Unreachable { .. }) => !matches!(error, OpenError::NotRedis { .. }),
            Some(_) => false,
        };
        if says_more {
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
    asked: &Host,
    keys: &Keys,
) -> Result<Candidate, OpenError> {
    let (host, port) = asked;
    let (host, named_by) = match &place.address.topology {
        Topology::Server => (asked.clone(), None),
        Topology::Sentinel { master } => {
            let named = ask_sentinel(place, asked, master).await?;
            (named, Some(format!("{host}:{port}")))
        }
        Topology::Cluster => (ask_cluster(place, asked, keys).await?, None),
    };
    Ok(Candidate { host, named_by })
}

pub(super) fn no_answer() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

pub(super) fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_WITHIN))
}

fn no_host(place: &Place) -> OpenError {
    OpenError::Unreachable { address: place.address.to_string(), why: "no host".into() }
}

pub(super) async fn connected(
    place: &Place,
    host: &Host,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, OpenError> {
    let client = client(place, host, As::User)?;
    let connection = client.get_multiplexed_async_connection_with_config(config).await;
    connection.map_err(|error| failure(place, host, &error))
}

/// A client of one node.
pub(super) fn client(place: &Place, (host, port): &Host, who: As) -> Result<Client, OpenError> {
    let (address, port) = (&place.address, *port);
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

pub(super) async fn ask(
    place: &Place,
    host: &Host,
    who: As,
    command: &redis::Cmd,
) -> Result<Value, OpenError> {
    let failed = |error: RedisError| failure(place, host, &error);
    let client = client(place, host, who)?;
    let config = config().set_response_timeout(Some(CONNECT_WITHIN));
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    command.query_async(&mut connection.map_err(failed)?).await.map_err(failed)
}

/// Which node has the fleet's slot.
async fn ask_cluster(place: &Place, asked: &Host, keys: &Keys) -> Result<Host, OpenError> {
    let mut slot = redis::cmd("CLUSTER");
    slot.arg("KEYSLOT").arg(keys.meta());
    let slot = number(&ask(place, asked, As::User, &slot).await?).unwrap_or(-1);
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("SLOTS");
    let found = ask(place, asked, As::User, &slots).await?;
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
            let (host, port) = asked;
            Ok((name.unwrap_or_else(|| host.clone()), node_port.unwrap_or(*port)))
        }
        _ => Err(OpenError::Unreachable {
            address: place.address.to_string(),
            why: format!("no node of the cluster has slot {slot}"),
        }),
    }
}
