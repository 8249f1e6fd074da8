//! A cached ComfyUI prompt: through Pointsman, and by driving the same simulator directly.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::TryStreamExt as _;
use pointsman_api::Submission;
use pointsman_comfyui::{ComfyClient, Submission as Prompt, Verdict};
use pointsman_comfyui_sim::{SimConfig, Simulator};
use pointsman_core::record::{JobRecord, JobStatus};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    fleet::Remote,
    report::{Report, ms, percentile},
};

const SAMPLES: usize = 200;

pub async fn cached(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let simulator = Simulator::start(SimConfig::default()).await?;
    let graph: Value = serde_json::from_str(include_str!("../../../examples/first-picture.json"))?;
    let comfyui = ComfyClient::new(&simulator.url())?;
    let mut direct = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        direct.push(directly(&comfyui, &graph).await?);
    }
    let url = simulator.url();
    let up = Remote::start(binary, "up", &["--comfyui", &url]).await?;
    let submission = Submission::new("comfyui", &json!({"workflow": graph}))?;
    through(&up, &submission).await?;
    let mut brokered = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        brokered.push(through(&up, &submission).await?);
    }
    let (direct, brokered) = (percentile(&mut direct, 0.5), percentile(&mut brokered, 0.5));
    report.row("comfyui", "cached prompt, directly, p50", ms(direct), "");
    report.row("comfyui", "cached prompt, through Pointsman, p50", ms(brokered), "");
    report.row(
        "comfyui",
        "what Pointsman adds, p50",
        ms(brokered.saturating_sub(direct)),
        "<= 5 ms",
    );
    simulator.stop().await;
    Ok(())
}

/// Submits, waits for the last message, reads history and the picture.
async fn directly(comfyui: &ComfyClient, graph: &Value) -> anyhow::Result<Duration> {
    let id = Uuid::new_v4().to_string();
    let began = Instant::now();
    let mut events = comfyui.events(&id).await?;
    let extra_data = Map::new();
    let prompt = Prompt { graph, prompt_id: &id, client_id: &id, extra_data: &extra_data };
    comfyui.submit(&prompt).await?;
    while !events.next_for(&id).await?.ends_prompt() {}
    let Verdict::Succeeded(files) = comfyui.truth(&id).await?.verdict else {
        anyhow::bail!("the prompt did not succeed")
    };
    for file in files {
        let _bytes: Vec<_> = comfyui.view_output(&file).await?.try_collect().await?;
    }
    Ok(began.elapsed())
}

/// From the POST to the completed event, which stands for the stored picture.
async fn through(up: &Remote, submission: &Submission) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let id = up.client.submit(submission).await?.job.id;
    let mut events = up.client.job_events(id).await?;
    while let Some(event) = events.next().await? {
        let value: Value = event.read()?;
        let Some(record) = value.get("record").filter(|record| !record.is_null()) else { continue };
        let job: JobRecord = serde_json::from_value(record.clone()).context("a job's record")?;
        if job.status.is_ended() {
            ensure!(job.status == JobStatus::Completed, "{:?}", job.failure);
            return Ok(began.elapsed());
        }
    }
    anyhow::bail!("the stream ended before the job")
}
