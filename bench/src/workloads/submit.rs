//! Submissions over HTTP, one job a request.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::task::JoinSet;

use crate::{
    fleet::{Remote, no_op},
    report::{Report, ms, percentile, rate},
};

const CONNECTIONS: usize = 50;

pub async fn over_http(report: &mut Report, jobs: usize, binary: &Path) -> anyhow::Result<()> {
    let server = Remote::start(binary, "server", &[]).await?;
    let body = bytes_of(&no_op()?)?;
    let left = Arc::new(AtomicUsize::new(jobs));
    let began = Instant::now();
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (client, body, left) = (server.client.clone(), body.clone(), left.clone());
        connections.spawn(async move {
            let mut took = Vec::new();
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                let began = Instant::now();
                client.submit_json(body.clone()).await?;
                took.push(began.elapsed());
            }
            Ok::<_, pointsman_client::ClientError>(took)
        });
    }
    let mut took = Vec::new();
    while let Some(done) = connections.join_next().await {
        took.extend(done??);
    }
    let rate = rate(jobs, began.elapsed());
    report.row("submit-http", "submitted, 50 connections", rate, ">= 8000/s");
    report.row("submit-http", "answer p50", ms(percentile(&mut took, 0.5)), "");
    report.row("submit-http", "answer p99", ms(percentile(&mut took, 0.99)), "");
    Ok(())
}

fn bytes_of(submission: &pointsman_api::Submission) -> anyhow::Result<bytes::Bytes> {
    Ok(serde_json::to_vec(submission)?.into())
}
