use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Job, NodeFailure, NodeOutput};
use crate::{folders::Root, picture::Recipe};

/// How often a sleeping node looks around and reports, as ComfyUI's own TestSleep does (recording progress.json).
const TICK: Duration = Duration::from_millis(10);

/// Sleeps, and passes its `value` on. Reports the time gone by, or with `steps` one step after another with a preview
/// each; `silent` says nothing and cannot be interrupted.
pub(super) async fn sleep(mut job: Job<'_>) -> Result<NodeOutput, NodeFailure> {
    let length = Duration::try_from_secs_f64(job.inputs.float("seconds")).unwrap_or_default();
    let steps = job.inputs.unsigned("steps");
    if job.hurried {
        return Ok(NodeOutput::one(job.inputs.passed_through()));
    }
    if job.inputs.flag("silent") {
        tokio::time::sleep(length).await;
    } else if steps > 0 {
        by_steps(&mut job, length, steps).await?;
    } else {
        by_time(&mut job, length).await?;
    }
    Ok(NodeOutput::one(job.inputs.passed_through()))
}

async fn by_steps(job: &mut Job<'_>, length: Duration, steps: u64) -> Result<(), NodeFailure> {
    let recipe = Recipe { seed: steps, text: "sleep".to_owned(), width: 32, height: 32 };
    for step in 1..=steps {
        job.work(length.div_f64(steps as f64)).await?;
        job.progress.step(job.life, job.node_id, step, steps, Some(&recipe)).await;
    }
    Ok(())
}

async fn by_time(job: &mut Job<'_>, length: Duration) -> Result<(), NodeFailure> {
    let began = Instant::now();
    loop {
        let gone = began.elapsed().min(length);
        job.progress
            .step(job.life, job.node_id, gone.as_secs_f64(), length.as_secs_f64(), None)
            .await;
        if gone == length {
            return Ok(());
        }
        job.work(TICK.min(length - gone)).await?;
    }
}

/// Shows a file of the input folder, as nodes do in which one is chosen.
pub(super) fn show(job: &Job<'_>) -> NodeOutput {
    let filename = job.inputs.text("image");
    let file = json!({ "filename": filename, "subfolder": "", "type": Root::Input.as_str() });
    let ui = (!filename.is_empty()).then(|| json!({ "images": [file] }));
    NodeOutput { values: Vec::new(), ui }
}

pub(super) fn fail(job: &Job<'_>) -> NodeFailure {
    let class = Some(job.inputs.text("exception_type")).filter(|class| !class.is_empty());
    NodeFailure::raise(
        class.unwrap_or("RuntimeError"),
        format_args!("{}\n", job.inputs.text("message")),
    )
}
