//! `pointsman server`, and the part of `up` that is one.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use pointsman_broker::{Broker, BrokerConfig, BrokerTasks};
use pointsman_server::{Files, Server, ServerConfig};
use pointsman_store::{Retention, Store};
use pointsman_store_sqlite::{Options, SqliteStore};
use tokio_util::sync::CancellationToken;

use crate::{args, services::StoreUrl, stop};

/// A server that listens, over an opened store.
pub struct Running {
    pub broker: Broker,
    pub files: Arc<Files>,
    pub server: Server,
    store: Arc<dyn Store>,
    tasks: BrokerTasks,
    drain: Duration,
}

impl Running {
    /// Opens the store in `data` and listens.
    pub async fn start(data: &Path, listen: &args::Listen) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data)
            .with_context(|| format!("cannot make the data directory {}", data.display()))?;
        let opened = SqliteStore::open(data, Options::default());
        let store: Arc<dyn Store> = Arc::new(
            opened.with_context(|| format!("cannot open the store in {}", data.display()))?,
        );
        let retention = Retention {
            ended_jobs: listen.keep_jobs,
            ended_for: Duration::from_secs(listen.keep_days * 24 * 3600),
            ended_bytes: listen.keep_gib << 30,
            ..Retention::default()
        };
        let config = BrokerConfig { retention, ..BrokerConfig::default() };
        let (broker, tasks) = Broker::start(store.clone(), config).await?;
        let files = Arc::new(Files::open(data)?);
        let config = ServerConfig { listen: listen.listen, data: data.to_owned() };
        let server = Server::bind(config, broker.clone(), files.clone()).await?;
        let drain = Duration::from_secs(listen.drain_s);
        Ok(Self { broker, files, server, store, tasks, drain })
    }

    /// Serves until told to stop; then lets what is under way end, up to the deadline.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { server, store, tasks, drain, .. } = self;
        let served = server.run(stop, drain).await;
        tasks.stop().await;
        store.close().await?;
        Ok(served?)
    }
}

pub async fn server(args: args::Server) -> anyhow::Result<()> {
    let StoreUrl::Sqlite(data) = &args.store;
    let shutdown = stop::on_signals(Duration::from_secs(args.listen.drain_s))?;
    let running = Running::start(data, &args.listen).await?;
    println!("monitor: {}/", running.server.url());
    running.run(shutdown.drain).await
}
