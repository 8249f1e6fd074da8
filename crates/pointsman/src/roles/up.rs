//! `pointsman up`: server, one machine and its workers in one process.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use pointsman_comfyui_sim::{SimConfig, SimHandle, Simulator};
use pointsman_core::{Incarnation, MachineId, WorkerId};
use pointsman_machine::{Agent, AgentConfig, Hardware, Host, MachineError, Member, discover};
use pointsman_worker::Shutdown;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    machine::{WorkerPlan, member},
    server::{Places, Running},
};
use crate::{
    Exit,
    adapters::InProcess,
    args,
    identity::{self, StoreId},
    print,
    services::ServiceArg,
    stop,
    store_url::StoreUrl,
};

pub async fn up(args: args::Up) -> Result<(), Exit> {
    args.redis.belong_to(args.store.as_ref().is_some_and(StoreUrl::is_redis), "--store")?;
    if let Some(StoreUrl::Sqlite(dir)) = &args.store
        && *dir != args.data
    {
        let dir = dir.display();
        return Err(Exit::Usage(format!(
            "`up` keeps its embedded store in the data directory, with all else: give it as --data \
             {dir}, and no --store (or POINTSMAN_STORE) sqlite:{dir}"
        )));
    }
    Ok(run(args).await?)
}

async fn run(args: args::Up) -> anyhow::Result<()> {
    let shutdown = stop::on_signals(stop::workers_deadline(args.listen.drain.time()))?;
    let embedded = StoreUrl::Sqlite(args.data.clone());
    let places = Places {
        data: &args.data,
        store: args.store.as_ref().unwrap_or(&embedded),
        redis: &args.redis,
        artifacts: args.artifacts.as_deref(),
    };
    let running = Running::start(places, &args.listen).await?;
    let machine = identity::machine_id(&args.data, args.machine.clone())?;
    let store_id = running.store_id.clone();
    let store: StoreId = Arc::new(move || store_id.clone());
    let (simulator, services) = services(&args).await?;
    let host = Arc::new(InProcess::new(running.broker.clone(), running.files.clone()));
    let hardware = discover().await;
    // The server is not cut off where the agent gives its workers up.
    let abandon = shutdown.abort.child_token();
    let told = Shutdown { drain: shutdown.drain.clone(), abort: abandon.clone() };
    let members = members(&args, (&machine, &store), &hardware, &services, &host, &told)?;
    print::said(&format!("machine: {machine}"));
    running.say_where();

    // The server outlives the workers: it stops when it is told to, once their goodbyes are said.
    let stop_server = CancellationToken::new();
    let serving = tokio::spawn(running.run(stop_server.clone(), shutdown.abort));
    let config = AgentConfig {
        machine,
        incarnation: Incarnation::from_uuid(Uuid::new_v4()),
        gpus: hardware.gpus,
        heartbeat: Duration::from_secs(5),
        backoff: Duration::from_millis(100),
    };
    let agent = Agent::new(config, host as Arc<dyn Host>);
    let machine = agent.run(members, shutdown.drain.clone(), abandon);
    let served = beside(serving, machine, &shutdown.drain, &stop_server).await;
    if let Some(simulator) = simulator {
        simulator.stop().await;
    }
    served
}

/// Runs the machine beside the server until both have ended. The server is stopped after the machine; one
/// that dies has the machine stopped.
async fn beside(
    mut serving: JoinHandle<anyhow::Result<()>>,
    machine: impl Future<Output = Result<(), MachineError>>,
    drain: &CancellationToken,
    stop_server: &CancellationToken,
) -> anyhow::Result<()> {
    let mut hosting = pin!(async {
        if let Err(why) = machine.await {
            let cure = "start this process again, with another --machine if need be";
            tracing::error!(%why, cure, "the server goes on without its machine");
            drain.cancelled().await;
        }
    });
    let served = tokio::select! {
        () = &mut hosting => {
            stop_server.cancel();
            serving.await
        }
        served = &mut serving => {
            // Nobody sees any more what the workers do, or could stop them.
            drain.cancel();
            hosting.await;
            served
        }
    };
    served.context("the server died")?
}

/// The ComfyUIs to drive; without any, the bundled simulator.
async fn services(args: &args::Up) -> anyhow::Result<(Option<SimHandle>, Vec<String>)> {
    if !args.comfyui.is_empty() {
        return Ok((None, args.comfyui.clone()));
    }
    let folder = args.data.join("comfyui-sim");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let config = SimConfig { folder: Some(folder), ..SimConfig::default() };
    let simulator = Simulator::start(config).await.context("cannot start the simulator")?;
    print::said(&format!(
        "comfyui: none given, so the bundled simulator serves at {}",
        simulator.url()
    ));
    let url = simulator.url();
    Ok((Some(simulator), vec![url]))
}

fn members(
    args: &args::Up,
    (machine, store): (&MachineId, &StoreId),
    hardware: &Hardware,
    comfyuis: &[String],
    host: &Arc<InProcess>,
    shutdown: &Shutdown,
) -> anyhow::Result<Vec<Member>> {
    let count = args.workers.map_or(comfyuis.len(), |workers| workers as usize);
    let mut members = Vec::with_capacity(count);
    for n in 0..count {
        let id = WorkerId::new(format!("{machine}-worker-{n}"))
            .context("the machine's id is too long for its workers': give a shorter --machine")?;
        let url = comfyuis.get(n % comfyuis.len().max(1)).cloned();
        let plan = WorkerPlan {
            id: id.clone(),
            machine: machine.clone(),
            store: store.clone(),
            services: vec![
                ServiceArg::new("comfyui", 1, url)?,
                ServiceArg::new("simulation", args.simulation_slots, None)?,
            ],
            labels: Vec::new(),
            customers: args.customers.rules(),
            limits: args.limits.clone(),
            drain: args.listen.drain.time(),
        };
        let worker = plan.build(hardware, (n, count), host.clone(), host.clock())?;
        members.push(member(id, worker, shutdown.clone()));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn machine(fails: bool, drain: &CancellationToken) -> Result<(), MachineError> {
        if fails {
            return Err(MachineError::Superseded);
        }
        drain.cancelled().await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_dies_ends_the_machine_beside_it_and_the_process() {
        for fails in [false, true] {
            let (drain, stop_server) = (CancellationToken::new(), CancellationToken::new());
            let serving = tokio::spawn(async { panic!("the server's task") });
            let both = beside(serving, machine(fails, &drain), &drain, &stop_server);
            let ended = tokio::time::timeout(HOUR, both).await.expect("it goes on");
            assert!(ended.unwrap_err().to_string().contains("the server died"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_outlives_its_machine_and_a_machine_that_fails_does_not_end_it() {
        for fails in [false, true] {
            let (drain, stop_server) = (CancellationToken::new(), CancellationToken::new());
            let stop = stop_server.clone();
            let serving = tokio::spawn(async move {
                stop.cancelled().await;
                Ok(())
            });
            let mut both = pin!(beside(serving, machine(fails, &drain), &drain, &stop_server));
            assert!(tokio::time::timeout(HOUR, &mut both).await.is_err());
            assert!(!stop_server.is_cancelled());
            drain.cancel();
            both.await.unwrap();
        }
    }
}
