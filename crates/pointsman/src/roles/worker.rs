//! `pointsman worker`: a bare worker for a server elsewhere.

use std::sync::Arc;

use pointsman_machine::discover;
use pointsman_store::Store as _;
use pointsman_store_redis::RedisStore;
use pointsman_worker::{Broker, Clock, WorkerError};
use tokio_util::sync::CancellationToken;

use super::{machine::WorkerPlan, server::log_warnings};
use crate::{
    Exit,
    adapters::{ArtifactPlace, ArtifactsArg, OverHttp, OverRedis},
    args,
    identity::{self, StoreId},
    print, stop,
    store_url::{BrokerUrl, RedisArgs, join_redis},
};

/// The way to the store, and the time there.
struct Way {
    broker: Arc<dyn Broker>,
    clock: Clock,
    store_id: StoreId,
    /// What a direct worker holds open.
    store: Option<RedisStore>,
}

/// The way that the address asks for; none when it was told to stop before there was one.
async fn way(
    broker: BrokerUrl,
    redis: &RedisArgs,
    artifacts: Option<&ArtifactsArg>,
    token: Option<String>,
    stop: &CancellationToken,
) -> Result<Option<Way>, Exit> {
    redis.belong_to(matches!(broker, BrokerUrl::Redis(_)), "--broker")?;
    let address = match broker {
        BrokerUrl::Redis(address) => address,
        BrokerUrl::Server(_) if artifacts.is_some() => {
            let why = "--artifacts goes with --broker redis://…: over HTTP files go to the server";
            return Err(Exit::Usage(why.into()));
        }
        BrokerUrl::Server(url) => {
            let server = OverHttp::new(&url, token).map_err(anyhow::Error::from)?;
            let (clock, store_id) = (server.clock(), server.store_id());
            return Ok(Some(Way { broker: Arc::new(server), clock, store_id, store: None }));
        }
    };
    let Some(artifacts) = artifacts else {
        let why = "a worker on redis:// needs --artifacts: a directory that it shares with the \
                   servers, or a server's address";
        return Err(Exit::Usage(why.into()));
    };
    let Some(store) = join_redis(&address, redis, stop).await? else { return Ok(None) };
    log_warnings(&store);
    let id = identity::shared_store(redis.fleet(), store.made_at())?;
    let store_id: StoreId = Arc::new(move || id.clone());
    let files = Arc::new(store.clone());
    let place = ArtifactPlace::join(artifacts, token.as_deref(), redis.fleet(), files, stop);
    let Some(place) = place.await? else { return Ok(None) };
    let broker = OverRedis::new(store.clone(), place);
    let clock = broker.clock();
    Ok(Some(Way { broker: Arc::new(broker), clock, store_id, store: Some(store) }))
}

pub async fn worker(args: args::Worker, token: Option<String>) -> Result<(), Exit> {
    let deadline = stop::workers_deadline(args.drain.time());
    let shutdown = stop::on_signals(deadline).map_err(anyhow::Error::from)?;
    let machine = args.machine.map_or_else(identity::host_name, Ok)?;
    let mut hardware = discover().await;
    if let Some(gpus) = &args.gpus {
        hardware =
            hardware.with_gpus(gpus).map_err(|error| Exit::Usage(format!("--gpus: {error}")))?;
    }
    let (redis, artifacts, stop) = (&args.redis, args.artifacts.as_ref(), &shutdown.drain);
    let Some(way) = way(args.broker, redis, artifacts, token, stop).await? else { return Ok(()) };
    let plan = WorkerPlan {
        id: args.id,
        machine,
        store: way.store_id,
        services: args.service,
        labels: args.labels,
        customers: args.customers.rules(),
        limits: args.limits,
        drain: args.drain.time(),
    };
    let worker = plan.build(&hardware, (0, 1), way.broker, way.clock)?;
    print::said(&format!("worker: {}", worker.incarnation()));
    let ran = worker.run(shutdown).await;
    if let Some(store) = way.store
        && let Err(error) = store.close().await
    {
        tracing::debug!(%error, "the store does not know that the worker has gone");
    }
    ran.map_err(|error| match error {
        WorkerError::Refused(_) => Exit::Refused(error.to_string()),
        other => Exit::Other(other.into()),
    })
}
