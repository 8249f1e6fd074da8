//! A hundred viewers while much happens: how long from a commit to a viewer.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pointsman_api::ViewEvent;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    fleet::{Remote, no_op},
    report::{Report, ms, percentile},
};

const VIEWERS: usize = 100;
const FOR: Duration = Duration::from_secs(10);
const CONFLATE_MS: u64 = 100;
/// A job brings three events of its own to the view, and with them those of its worker and
/// connector.
const JOBS_A_SECOND: f64 = 500.0;

pub async fn over_http(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let up = Remote::start(binary, "up", &["--simulation-slots", "16"]).await?;
    let until = Instant::now() + FOR;
    let mut viewers = JoinSet::new();
    for _ in 0..VIEWERS {
        let client = up.client.clone();
        viewers.spawn(async move {
            let mut took = Vec::new();
            let mut events = client.events(None, Some(CONFLATE_MS)).await?;
            while let Ok(Ok(Some(event))) = tokio::time::timeout_at(until, events.next()).await {
                if let Ok(change) = event.read::<ViewEvent>() {
                    took.push(since(change.at.as_millis()));
                }
            }
            Ok::<_, pointsman_client::ClientError>(took)
        });
    }
    let client = up.client.clone();
    let counter = tokio::spawn(async move {
        let mut count = 0;
        let mut events = client.events(None, None).await?;
        while let Ok(Ok(Some(event))) = tokio::time::timeout_at(until, events.next()).await {
            count += usize::from(event.read::<ViewEvent>().is_ok());
        }
        Ok::<_, pointsman_client::ClientError>(count)
    });
    let submission = no_op()?;
    let mut tick = tokio::time::interval(Duration::from_secs_f64(10.0 / JOBS_A_SECOND));
    let batch: Vec<_> = (0..10).map(|_| submission.clone()).collect();
    while Instant::now() < until {
        tick.tick().await;
        up.client.submit_batch(&batch).await?;
    }
    let mut took = Vec::new();
    while let Some(viewer) = viewers.join_next().await {
        took.extend(viewer??);
    }
    let a_second = |n: f64| format!("{:.0}/s", n / FOR.as_secs_f64());
    let happened = counter.await??;
    report.row("viewers", "view events", a_second(happened as f64), ">= 2000/s");
    report.row(
        "viewers",
        "events to each of 100 viewers",
        a_second(took.len() as f64 / VIEWERS as f64),
        "",
    );
    report.row("viewers", "commit to viewer, p50", ms(percentile(&mut took, 0.5)), "");
    report.row("viewers", "commit to viewer, p99", ms(percentile(&mut took, 0.99)), "<= 200 ms");
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "compared with the store's time on the same machine")]
fn since(at_millis: i64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(u64::try_from(at_millis).unwrap_or(0)))
}
