//! `pointsman worker`: a bare worker for a server elsewhere.

use std::{sync::Arc, time::Duration};

use pointsman_machine::discover;

use super::machine::WorkerPlan;
use crate::{adapters::OverHttp, args, identity, stop};

/// How long running jobs may go on after the first signal to stop.
const DRAIN: Duration = Duration::from_secs(30);

pub async fn worker(args: args::Worker, token: Option<String>) -> anyhow::Result<()> {
    let shutdown = stop::on_signals(DRAIN + Duration::from_secs(10))?;
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
    let broker = Arc::new(OverHttp::new(&args.broker, token)?);
    let worker = plan.build(&hardware, (0, 1), broker)?;
    println!("worker: {}", worker.incarnation());
    Ok(worker.run(shutdown).await?)
}
