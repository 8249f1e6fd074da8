//! `pointsman server`, and the part of `up` that is one.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use pointsman_broker::{Broker, BrokerConfig, BrokerTasks};
use pointsman_server::{Files, Limits, Owner, Server, ServerConfig, make_data_directory};
use pointsman_store::{Retention, Store};
use pointsman_store_sqlite::{Options, SqliteStore};
use tokio_util::sync::CancellationToken;

use crate::{
    Exit,
    adapters::{check_shared_files, shared_files},
    args, identity, open_files, print, stop,
    store_url::{RedisArgs, StoreUrl, open_redis},
};

/// A server that listens, over an opened store.
pub struct Running {
    pub broker: Broker,
    pub files: Arc<Files>,
    pub server: Server,
    /// What tells the store from all others.
    pub store_id: String,
    store: Arc<dyn Store>,
    tasks: BrokerTasks,
    drain: Duration,
}

/// What of the store's settings may lose work: also where nobody looks at a monitor.
pub fn log_warnings(store: &dyn Store) {
    for why in store.warnings() {
        tracing::warn!("{why}");
    }
}

/// Where a server's things are.
pub struct Places<'a> {
    /// Tokens, and what else is this server's own.
    pub data: &'a Path,
    pub store: &'a StoreUrl,
    pub redis: &'a RedisArgs,
    /// The files of jobs, where others share them.
    pub artifacts: Option<&'a Path>,
}

impl Places<'_> {
    async fn open_store(&self) -> anyhow::Result<Arc<dyn Store>> {
        Ok(match self.store {
            StoreUrl::Sqlite(dir) => {
                let opened = SqliteStore::open(dir, Options::default());
                Arc::new(
                    opened
                        .with_context(|| format!("cannot open the store in {}", dir.display()))?,
                )
            }
            StoreUrl::Redis(address) => Arc::new(open_redis(address, self.redis).await?),
        })
    }

    /// Refuses the files of another fleet.
    fn check_files(&self) -> anyhow::Result<()> {
        let fleet = self.redis.fleet();
        match self.artifacts {
            Some(shared) => check_shared_files(shared, fleet),
            None => Files::check_owner(self.data, self.store.is_redis().then_some(fleet))
                .with_context(|| format!("--data {}", self.data.display())),
        }
    }

    /// What tells the store from all others.
    fn store_id(&self, store: &dyn Store) -> anyhow::Result<String> {
        match self.store {
            StoreUrl::Sqlite(dir) => identity::own_store(dir),
            StoreUrl::Redis(_) => identity::shared_store(self.redis.fleet(), store.made_at()),
        }
    }

    fn open_files(&self, store: &dyn Store) -> anyhow::Result<Files> {
        let (fleet, made_at) = (self.redis.fleet().to_owned(), store.made_at());
        let owner = Owner { fleet, store_made_at: made_at };
        match self.artifacts {
            Some(shared) => shared_files(shared, &owner),
            None => Files::open(self.data, made_at.map(|_| &owner))
                .with_context(|| format!("--data {}", self.data.display())),
        }
    }
}

impl Running {
    /// Opens the store and listens. What refuses the server by itself does so before: to open a store
    /// may make it, or raise its format, after which older servers do not serve it any more.
    pub async fn start(places: Places<'_>, listen: &args::Listen) -> anyhow::Result<Self> {
        let data = places.data;
        let reserved = Server::reserve(ServerConfig {
            listen: listen.listen,
            data: data.to_owned(),
            limits: Limits { waiting_jobs: listen.max_waiting, ..open_files::limits() },
        })?;
        places.check_files()?;
        make_data_directory(data)
            .with_context(|| format!("cannot make the data directory {}", data.display()))?;
        let store = places.open_store().await?;
        log_warnings(&*store);
        let files = Arc::new(places.open_files(&*store)?);
        let store_id = places.store_id(&*store)?;
        let retention = Retention {
            ended_jobs: listen.keep_jobs,
            ended_for: Duration::from_secs(listen.keep_days * Retention::DAY_S),
            ended_bytes: listen.keep_gib << 30,
            ..Retention::default()
        };
        let fleet = places.redis.fleet().to_owned();
        let config = BrokerConfig { fleet, retention, ..BrokerConfig::default() };
        let (broker, tasks) = Broker::start(store.clone(), config).await?;
        let server = reserved.listen(broker.clone(), store_id.clone(), files.clone())?;
        let drain = listen.drain.time();
        Ok(Self { broker, files, server, store_id, store, tasks, drain })
    }

    /// Says where the monitor is; a server that listens on all addresses is found at this host's own.
    pub fn say_where(&self) {
        let mut at = self.server.addr();
        if at.ip().is_unspecified() {
            print::said(&format!("listening: {at}, all addresses of this host"));
            at.set_ip(match at.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        print::said(&format!("monitor: http://{at}/"));
    }

    /// Serves until told to stop; then lets what is under way end, up to the deadline. `abort` cuts
    /// it off, at once.
    pub async fn run(
        self,
        stop: CancellationToken,
        abort: CancellationToken,
    ) -> anyhow::Result<()> {
        match abort.run_until_cancelled(self.serve(stop)).await {
            Some(served) => served,
            None => {
                tracing::warn!("stopped at once: what was under way is cut off");
                Ok(())
            }
        }
    }

    async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { server, store, tasks, drain, .. } = self;
        let served = server.run(stop, drain).await;
        tasks.stop().await;
        store.close().await?;
        Ok(served?)
    }
}

pub async fn server(args: args::Server) -> Result<(), Exit> {
    args.redis.belong_to(args.store.is_redis(), "--store")?;
    Ok(run(args).await?)
}

async fn run(args: args::Server) -> anyhow::Result<()> {
    let data = match (&args.data, &args.store) {
        (Some(data), _) | (None, StoreUrl::Sqlite(data)) => data.clone(),
        (None, StoreUrl::Redis(_)) => "data".into(),
    };
    let shutdown = stop::on_signals(stop::deadline(args.listen.drain.time()))?;
    let places = Places {
        data: &data,
        store: &args.store,
        redis: &args.redis,
        artifacts: args.artifacts.as_deref(),
    };
    let running = Running::start(places, &args.listen).await?;
    running.say_where();
    running.run(shutdown.drain, shutdown.abort).await
}
