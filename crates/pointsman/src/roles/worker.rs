//! `pointsman worker`: a bare worker for a server elsewhere.

use std::{sync::Arc, time::Duration};

use pointsman_machine::discover;
use pointsman_worker::WorkerError;

use super::machine::WorkerPlan;
use crate::{Exit, adapters::OverHttp, args, identity, stop};

/// How long running jobs may go on after the first signal to stop.
const DRAIN: Duration = Duration::from_secs(30);

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
    let broker = Arc::new(OverHttp::new(&args.broker, token).map_err(anyhow::Error::from)?);
    let worker = plan.build(&hardware, (0, 1), broker)?;
    println!("worker: {}", worker.incarnation());
    worker.run(shutdown).await.map_err(|error| match error {
        WorkerError::Refused(_) => Exit::Refused(error.to_string()),
        other => Exit::Other(other.into()),
    })
}
