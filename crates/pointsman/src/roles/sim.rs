//! `pointsman comfyui-sim`: the simulator alone.

use std::time::Duration;

use anyhow::{Context as _, bail};
use pointsman_comfyui_sim::{Faults, SimConfig, Simulator};

use crate::{args, print, stop};

pub async fn comfyui_sim(args: args::ComfyuiSim) -> anyhow::Result<()> {
    let mut faults = Faults::default();
    for fault in &args.fault {
        faults = faults.and(&fault.parse()?);
    }
    let shutdown = stop::on_signals(Duration::from_secs(5))?;
    let config = SimConfig { version: args.comfyui_version, faults, ..SimConfig::default() };
    let simulator = Simulator::start_at(args.listen, config)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    print::said(&format!("comfyui: {}", simulator.url()));
    tokio::select! {
        () = shutdown.drain.cancelled() => simulator.stop().await,
        () = simulator.exited() => bail!("the simulated process ended, as its fault says"),
    }
    Ok(())
}
