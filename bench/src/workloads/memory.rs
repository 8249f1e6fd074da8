//! Resident memory of `up`: at rest, and with jobs that nobody can run.

use std::{path::Path, time::Duration};

use serde_json::json;

use crate::{
    fleet::{Remote, no_op},
    report::Report,
};

const WAITING: usize = 100_000;

pub async fn at_rest_and_full(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let up = Remote::start(binary, "up", &[]).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    report.row("memory", "up at rest", format!("{:.1} MB", up.resident_mb()?), "<= 40 MB");
    let mut submission = no_op()?;
    submission.requirements = Some(json!({"labels": {"nobody": {"eq": true}}}));
    let batch: Vec<_> = (0..500).map(|_| submission.clone()).collect();
    for _ in 0..WAITING / 500 {
        up.client.submit_batch(&batch).await?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let resident = format!("{:.1} MB", up.resident_mb()?);
    report.row("memory", "up with 100,000 waiting jobs", resident, "<= 200 MB");
    Ok(())
}
