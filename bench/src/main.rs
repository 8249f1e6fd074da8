//! The benchmarks: figures with the machine they ran on, never tests.

mod bullmq;
mod fleet;
mod redis_store;
mod report;
mod stopwatch;
mod workloads;

use std::path::PathBuf;

use clap::Parser;

use crate::report::Report;

/// Measures Pointsman on this machine and prints a table.
#[derive(Debug, Parser)]
struct Args {
    /// The binary for what needs a process of its own.
    #[arg(long, default_value = "target/release/pointsman")]
    pointsman: PathBuf,
    /// BullMQ with its packages installed (`npm ci`), to be measured beside us.
    #[arg(long, default_value = "bench/bullmq")]
    bullmq: PathBuf,
    /// Jobs of the throughput workloads.
    #[arg(long, default_value_t = 20_000)]
    jobs: usize,
    /// Only workloads whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let mut report = Report::begin();
    if wanted("drain-in-process") {
        workloads::drain::in_process(&mut report, args.jobs).await?;
    }
    if wanted("drain-http") {
        workloads::drain::over_http(&mut report, args.jobs, &args.pointsman).await?;
    }
    if wanted("submit-http") {
        workloads::submit::over_http(&mut report, args.jobs, &args.pointsman).await?;
    }
    if wanted("start") {
        workloads::start::in_process(&mut report).await?;
    }
    if wanted("claim") {
        workloads::claim::by_classes(&mut report)?;
    }
    if wanted("viewers") {
        workloads::viewers::over_http(&mut report, &args.pointsman).await?;
    }
    if wanted("memory") {
        workloads::memory::at_rest_and_full(&mut report, &args.pointsman).await?;
    }
    if wanted("comfyui") {
        workloads::comfyui::cached(&mut report, &args.pointsman).await?;
    }
    workloads::redis::all(&mut report, args.jobs, &args.bullmq, wanted).await;
    report.end()
}
