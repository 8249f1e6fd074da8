//! `pointsman worker`: a bare worker for a server elsewhere.

use std::{sync::Arc, time::Duration};

use pointsman_machine::discover;
use pointsman_worker::{Broker, WorkerError};

use super::machine::WorkerPlan;
use crate::{
    Exit,
    adapters::{ArtifactPlace, OverHttp, OverRedis},
    args, identity,
    services::ArtifactsArg,
    stop,
    store_url::{BrokerUrl, RedisArgs, open_redis},
};

/// How long running jobs may go on after the first signal to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// The way to the store that the address asks for.
async fn broker(
    broker: BrokerUrl,
    redis: &RedisArgs,
    artifacts: Option<&ArtifactsArg>,
    token: Option<String>,
) -> Result<Arc<dyn Broker>, Exit> {
    let address = match broker {
        BrokerUrl::Redis(address) => address,
        BrokerUrl::Server(_) if artifacts.is_some() => {
            let why = "--artifacts goes with --broker redis://…: over HTTP files go to the server";
            return Err(Exit::Usage(why.into()));
        }
        BrokerUrl::Server(url) => {
            return Ok(Arc::new(OverHttp::new(&url, token).map_err(anyhow::Error::from)?));
        }
    };
    let Some(artifacts) = artifacts else {
        let why = "a worker on redis:// needs --artifacts: a directory that it shares with the \
                   servers, or a server's address";
        return Err(Exit::Usage(why.into()));
    };
    let store = open_redis(&address, redis).await?;
    let place = ArtifactPlace::open(artifacts, token.as_deref(), Arc::new(store.clone()))?;
    Ok(Arc::new(OverRedis::new(store, place)))
}

pub async fn worker(args: args::Worker, token: Option<String>) -> Result<(), Exit> {
    let shutdown =
        stop::on_signals(DRAIN + Duration::from_secs(10)).map_err(anyhow::Error::from)?;
    let machine = args.machine.map_or_else(identity::host_name, Ok)?;
    let hardware = discover().await;
    let plan = WorkerPlan {
        id: args.id,
        machine,
        services: args.service,
        labels: args.labels,
        limits: args.limits,
        drain: DRAIN,
    };
    let broker = broker(args.broker, &args.redis, args.artifacts.as_ref(), token).await?;
    let worker = plan.build(&hardware, (0, 1), broker)?;
    println!("worker: {}", worker.incarnation());
    worker.run(shutdown).await.map_err(|error| match error {
        WorkerError::Refused(_) => Exit::Refused(error.to_string()),
        other => Exit::Other(other.into()),
    })
}
