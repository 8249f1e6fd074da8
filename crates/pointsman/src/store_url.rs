//! Where a store is, as the command line says it, and opening it.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::anyhow;
use pointsman_store::Transfer;
use pointsman_store_redis::{
    Address, OpenError as NotOpened, Opening, Options, RedisStore, Topology,
};
use pointsman_store_sqlite::{OpenError, SqliteStore};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    Sqlite(PathBuf),
    Redis(Address),
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if Address::looks_like(text) {
            return text.parse().map(Self::Redis).map_err(|error| format!("{error}"));
        }
        match text.split_once(':') {
            Some(("sqlite", dir)) if !dir.is_empty() => Ok(Self::Sqlite(dir.into())),
            _ => Err("this is no store: use sqlite:DIR or redis://HOST:PORT".to_owned()),
        }
    }
}

/// What a worker works on: a server, or the store itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerUrl {
    Server(String),
    Redis(Address),
}

impl FromStr for BrokerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if Address::looks_like(text) {
            return text.parse().map(Self::Redis).map_err(|error| format!("{error}"));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Server(text.to_owned()));
        }
        let what = match text.starts_with("sqlite:") {
            true => "an embedded store is reached through its server",
            false => "this is no broker",
        };
        Err(format!("{what}: use http://HOST:PORT of a server, or redis://HOST:PORT of a Redis"))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(dir) => write!(f, "sqlite:{}", dir.display()),
            Self::Redis(address) => address.fmt(f),
        }
    }
}

/// Which store on a Redis it is, and how safe its writes are.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RedisArgs {
    /// The fleet: the store of this name on a Redis (1 to 64 characters: a-z, 0-9, '.', '_', '-');
    /// `default` unless said.
    #[arg(long, value_parser = fleet)]
    pub fleet: Option<String>,
    /// Replicas of a Redis that must have a submission or an ending before it is answered, 16 at
    /// most; none unless said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=16))]
    pub acks: Option<u32>,
}

impl RedisArgs {
    pub fn fleet(&self) -> &str {
        self.fleet.as_deref().unwrap_or("default")
    }

    /// Refuses what was said of a Redis where there is none.
    ///
    /// # Errors
    /// [`Exit::Usage`]; `place` is the argument that would name one.
    pub fn belong_to(&self, redis: bool, place: &str) -> Result<(), Exit> {
        let given = match (&self.fleet, self.acks) {
            _ if redis => return Ok(()),
            (Some(_), _) => "--fleet",
            (None, Some(_)) => "--acks",
            (None, None) => return Ok(()),
        };
        Err(Exit::Usage(format!(
            "{given} goes with {place} redis://…: only a Redis has several fleets, and replicas"
        )))
    }
}

fn fleet(text: &str) -> Result<String, String> {
    // The same alphabet as a machine's: it stands in the names of keys.
    pointsman_core::MachineId::new(text)
        .map(|name| name.to_string())
        .map_err(|error| error.to_string().replace("machine id", "fleet"))
}

/// How often a worker looks whether the store that it is to work on is there, and can be reached.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Opens the store on a Redis, to serve from it.
pub async fn open_redis(address: &Address, args: &RedisArgs) -> anyhow::Result<RedisStore> {
    open_redis_for(address, args, Opening::Serve).await
}

/// Opens the store on a Redis to work on it: one that a server or an import makes, and that a server
/// takes over from an older version. It waits for that, as for a Redis that is away. None when it was
/// told to stop meanwhile.
pub async fn join_redis(
    address: &Address,
    args: &RedisArgs,
    stop: &CancellationToken,
) -> anyhow::Result<Option<RedisStore>> {
    let mut told = None;
    loop {
        let why = match RedisStore::open(with(Options::of_worker(address.clone()), args)).await {
            Ok(store) => return Ok(Some(store)),
            Err(
                why @ (NotOpened::Missing { .. }
                | NotOpened::NotLoaded { .. }
                | NotOpened::Importing
                | NotOpened::Older { .. }),
            ) => why,
            Err(why) if why.may_pass() && mistake(address, &why).is_none() => {
                with_guess(address, why)
            }
            Err(why) => return Err(cannot_open(address, why)),
        };
        if told.as_ref() != Some(&why) {
            match &why {
                NotOpened::Importing => tracing::warn!("{why}; waiting for the import's end"),
                NotOpened::Missing { .. } => {
                    tracing::warn!("{why}, or start a server on it; waiting for that");
                }
                NotOpened::Older { .. } => tracing::warn!("{why}; waiting for that"),
                _ => tracing::warn!("{why}; waiting for it"),
            }
        }
        told = Some(why);
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

async fn open_redis_for(
    address: &Address,
    args: &RedisArgs,
    opening: Opening,
) -> anyhow::Result<RedisStore> {
    let options = Options { opening, ..Options::new(address.clone()) };
    RedisStore::open(with(options, args)).await.map_err(|error| cannot_open(address, error))
}

fn with(options: Options, args: &RedisArgs) -> Options {
    Options { fleet: args.fleet().to_owned(), acks: args.acks.unwrap_or(0), ..options }
}

fn cannot_open(address: &Address, error: NotOpened) -> anyhow::Error {
    let error = match mistake(address, &error) {
        // Not as one that is not reachable, which may work later.
        Some(mistake) => anyhow!("{error}: {mistake}"),
        None => anyhow!(with_guess(address, error)),
    };
    error.context(format!("cannot open the store at {address}"))
}

/// What is wrong with the address, as the other side's answer tells: no waiting mends it.
fn mistake(address: &Address, error: &NotOpened) -> Option<&'static str> {
    let NotOpened::Unreachable { why, .. } = error else { return None };
    let sentinels = matches!(address.topology, Topology::Sentinel { .. });
    if sentinels && why.contains("unknown command") {
        return Some(
            "it is no Sentinel: give the port of the Sentinels (26379 unless set otherwise), or \
             redis://HOST:PORT where there are none",
        );
    }
    if address.topology == Topology::Cluster && why.contains("cluster support disabled") {
        return Some("it is no cluster: use redis://HOST:PORT");
    }
    (address.tls && why.contains("invalid peer certificate")).then_some(
        "the certificate must name the host of the address, and ?ca=FILE its authority where that \
         is a private one",
    )
}

/// Where there is no answer, with what else may be the reason: a port of another kind gives none
/// either, and cannot be told from a Redis that is away.
fn with_guess(to: &Address, error: NotOpened) -> NotOpened {
    let (address, why) = match error {
        NotOpened::Unreachable { address, why } => (address, why),
        error => return error,
    };
    let guess = match to.tls {
        true if why.contains("timed out") => {
            ": does this port speak TLS? One that does not is redis://, not rediss://"
        }
        false if why.contains("reset by peer") => {
            ": does this port speak TLS? One that does is rediss://, not redis://"
        }
        _ => "",
    };
    NotOpened::Unreachable { address, why: why + guess }
}

/// What a store is opened for, beside serving it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read it, or to open or close its intake: it is there.
    Export,
    /// To fill it: it is made where it is missing, and what an import that broke off left is
    /// deleted.
    Import,
    /// To tell an embedded one that it came back from a backup: it is there.
    Restore,
}

impl StoreUrl {
    pub fn is_redis(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// Opens the store for a command that acts on it without a server.
    pub async fn open(
        &self,
        purpose: Purpose,
        redis: &RedisArgs,
    ) -> Result<Arc<dyn Transfer>, Exit> {
        redis.belong_to(self.is_redis(), "--store")?;
        match self {
            Self::Sqlite(dir) => Ok(Arc::new(open_sqlite(dir, purpose)?)),
            Self::Redis(address) => {
                let opening = match purpose {
                    Purpose::Export => Opening::Visit,
                    Purpose::Import => Opening::Import,
                    Purpose::Restore => {
                        let why = "a store on Redis sees by itself that it came back: `restored` is \
                                   for sqlite:DIR";
                        return Err(Exit::Usage(why.into()));
                    }
                };
                Ok(Arc::new(open_redis_for(address, redis, opening).await?))
            }
        }
    }
}

fn open_sqlite(dir: &Path, purpose: Purpose) -> anyhow::Result<SqliteStore> {
    if purpose != Purpose::Import && !SqliteStore::is_in(dir) {
        anyhow::bail!("there is no store in {}: use the server's data directory", dir.display())
    }
    let opening = match purpose {
        Purpose::Export => pointsman_store_sqlite::Opening::Visit,
        Purpose::Import => pointsman_store_sqlite::Opening::Import,
        Purpose::Restore => pointsman_store_sqlite::Opening::Serve,
    };
    let options = pointsman_store_sqlite::Options {
        opening,
        restored: purpose == Purpose::Restore,
        ..pointsman_store_sqlite::Options::default()
    };
    SqliteStore::open(dir, options).map_err(|error| match error {
        OpenError::Locked { holder, .. } => {
            anyhow!("{} is in use by {holder}: stop the server first", dir.display())
        }
        error => anyhow!(error).context(format!("cannot open the store in {}", dir.display())),
    })
}

#[cfg(test)]
mod tests {
    use pointsman_redis_testing::{RedisOptions, RedisServer};

    use super::*;

    #[test]
    fn an_unknown_store_is_refused() {
        assert!("sqlite:data".parse::<StoreUrl>().is_ok());
        assert!("redis://127.0.0.1:6379/1".parse::<StoreUrl>().is_ok());
        for wrong in ["", "sqlite:", "postgres://x", "data", "redis://host:port"] {
            assert!(wrong.parse::<StoreUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_broker_is_a_server_or_a_redis() {
        let server = "http://127.0.0.1:7780";
        assert_eq!(server.parse(), Ok(BrokerUrl::Server(server.to_owned())));
        assert!(matches!("redis://127.0.0.1:1".parse(), Ok(BrokerUrl::Redis(_))));
        for wrong in ["", "sqlite:data", "127.0.0.1:7780", "postgres://x"] {
            let why = wrong.parse::<BrokerUrl>().unwrap_err();
            assert!(why.contains("http://HOST:PORT") && why.contains("redis://HOST:PORT"), "{why}");
        }
        assert!("sqlite:data".parse::<BrokerUrl>().unwrap_err().contains("through its server"));
    }

    #[test]
    fn what_was_said_of_a_redis_is_refused_where_there_is_none() {
        let said = |fleet: Option<&str>, acks| RedisArgs { fleet: fleet.map(Into::into), acks };
        assert!(said(None, None).belong_to(false, "--broker").is_ok());
        assert!(said(Some("a"), Some(1)).belong_to(true, "--broker").is_ok());
        for (args, flag) in
            [(said(Some("default"), None), "--fleet"), (said(None, Some(0)), "--acks")]
        {
            let Err(Exit::Usage(why)) = args.belong_to(false, "--broker") else {
                panic!("{args:?}")
            };
            assert!(why.contains(flag) && why.contains("--broker redis://"), "{why}");
        }
    }

    #[test]
    fn a_fleet_has_a_name_that_keys_can_have() {
        assert_eq!(fleet("gpu-1").as_deref(), Ok("gpu-1"));
        assert!(fleet("a}b").unwrap_err().contains("fleet"));
    }

    #[test]
    fn what_gives_no_answer_may_work_later_and_what_says_that_it_is_something_else_does_not() {
        let exit = |address: &str, why: &str| {
            let (address, why) = (address.parse().expect("an address"), why.to_owned());
            Exit::from(cannot_open(&address, NotOpened::Unreachable { address: "it".into(), why }))
        };
        for (address, why, hint) in [
            ("redis://a:1", "Connection refused", "refused"),
            ("redis://a:1", "Connection reset by peer", "rediss://, not redis://"),
            ("rediss://a:1", "timed out", "redis://, not rediss://"),
            ("redis+sentinel://a:1/main", "timed out", "timed out"),
        ] {
            let exit = exit(address, why);
            assert!(matches!(&exit, Exit::Unreachable(said) if said.ends_with(hint)), "{exit:?}");
        }
        for (address, why, hint) in [
            ("redis+sentinel://a:1/main", "unknown command 'SENTINEL'", "no Sentinel"),
            ("redis+cluster://a:1", "This instance has cluster support disabled", "no cluster"),
            ("rediss://a:1", "invalid peer certificate: UnknownIssuer", "?ca=FILE"),
        ] {
            let exit = exit(address, why);
            let said = exit.message().unwrap_or_default();
            assert!(matches!(exit, Exit::Other(_)) && said.contains(hint), "{said}");
        }
    }

    /// Its servers would be shut out, and with none of this version nobody would look after its jobs.
    #[tokio::test]
    async fn a_worker_waits_until_a_server_takes_over_the_store_of_an_older_version() {
        let server = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
        let address: Address = server.url().parse().expect("an address");
        let args = RedisArgs { fleet: None, acks: None };
        let made = open_redis(&address, &args).await.expect("a store");
        pointsman_store::Store::close(&made).await.expect("it is closed");
        let mut redis = server.connect().await.expect("it answers");
        let older = redis::cmd("HSET").arg("{pointsman:default}:meta").arg("format").arg(3).clone();
        older.exec_async(&mut redis).await.expect("it is set");
        let before = server.dump().await.expect("a dump");
        let stop = CancellationToken::new();
        let (to, its, stopped) = (address.clone(), args.clone(), stop.clone());
        let joining = tokio::spawn(async move { join_redis(&to, &its, &stopped).await });
        // It came, was refused, and comes again.
        let mut looks = async || -> u64 {
            let info: String = redis::cmd("INFO").query_async(&mut redis).await.expect("INFO");
            let count = info.lines().find_map(|l| l.strip_prefix("total_connections_received:"));
            count.and_then(|count| count.trim().parse().ok()).expect("a number")
        };
        let first = looks().await;
        let comes_again = async {
            while looks().await < first + 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let soon = Duration::from_secs(20);
        tokio::time::timeout(soon, comes_again).await.expect("it comes again");
        assert!(!joining.is_finished() && server.dump().await.expect("a dump") == before);
        open_redis(&address, &args).await.expect("a server takes it over");
        let joined = joining.await.expect("no panic").expect("no error");
        assert!(joined.is_some(), "the worker goes on");
    }

    /// As the port of something else does, and a load balancer whose Redis is away.
    #[tokio::test]
    async fn a_worker_waits_for_what_takes_connections_and_ends_them() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let address: Address = format!("redis://127.0.0.1:{port}").parse().expect("an address");
        let stop = CancellationToken::new();
        let (args, stopped) = (RedisArgs { fleet: None, acks: None }, stop.clone());
        let joining = tokio::spawn(async move {
            join_redis(&address, &args, &stopped).await.map(|store| store.is_none())
        });
        for _ in 0..2 {
            let (connection, _) = listener.accept().await.expect("it comes, and comes again");
            // What was sent and not read makes it a reset.
            connection.readable().await.expect("it sends something");
        }
        stop.cancel();
        assert!(joining.await.expect("no panic").expect("no error"), "told to stop meanwhile");
    }
}
