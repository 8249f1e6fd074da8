//! At rest: how long from a submission to its start.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use pointsman_core::{EventName, RecordKey};

use crate::{
    fleet::{Local, payload, submit},
    report::{Report, ms, percentile},
};

const SAMPLES: usize = 500;
const APART: Duration = Duration::from_millis(5);

pub async fn in_process(report: &mut Report) -> anyhow::Result<()> {
    let local = Local::open().await?;
    let payload: Arc<[u8]> = payload().into_bytes().into();
    let worker = local.worker("bench-worker-0", 4)?;
    let mut events = local.store.subscribe();
    // One to warm up: until it ended the worker may still be registering.
    local.broker.submit(vec![submit(&payload)]).await?;
    local.completed(1).await?;
    let mut took = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        tokio::time::sleep(APART).await;
        let submit = submit(&payload);
        let key = RecordKey::Job(submit.id);
        let began = Instant::now();
        local.broker.submit(vec![submit]).await?;
        loop {
            let group = events.recv().await.context("the store is open")?;
            let started =
                |e: &pointsman_core::Event| e.key == key && e.name == EventName::JobStarted;
            if group.events.iter().any(started) {
                break;
            }
        }
        took.push(began.elapsed());
    }
    worker.abort();
    report.row("start", "submit to start at rest, p50", ms(percentile(&mut took, 0.5)), "<= 1 ms");
    report.row("start", "submit to start at rest, p99", ms(percentile(&mut took, 0.99)), "<= 5 ms");
    Ok(())
}
