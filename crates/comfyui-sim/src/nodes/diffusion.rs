use std::sync::Arc;

use super::{Job, Latent, NodeFailure, NodeOutput, Output, aside};
use crate::picture::Recipe;

pub(super) fn load_checkpoint() -> NodeOutput {
    NodeOutput { values: vec![Output::Opaque; 3], ui: None }
}

pub(super) fn encode_text(job: &Job<'_>) -> NodeOutput {
    NodeOutput::one(Output::Conditioning(job.inputs.text("text").into()))
}

pub(super) fn empty_latent(job: &Job<'_>) -> NodeOutput {
    let (width, height) = (job.inputs.size("width"), job.inputs.size("height"));
    let recipe = Recipe { seed: 0, text: String::new(), width, height };
    NodeOutput::one(Output::Latent(Arc::new(Latent {
        recipe,
        batch: job.inputs.size("batch_size"),
    })))
}

/// Takes its time, step by step, with a preview of each step that is reported. What comes out is settled by the seed
/// and the texts alone, and drawn by the decoder.
pub(super) async fn sample(job: Job<'_>) -> Result<NodeOutput, NodeFailure> {
    let blank = job.inputs.latent("latent_image")?;
    let recipe = Recipe {
        seed: job.inputs.unsigned("seed"),
        text: format!(
            "{}\0{}",
            job.inputs.conditioning("positive"),
            job.inputs.conditioning("negative")
        ),
        width: blank.recipe.width,
        height: blank.recipe.height,
    };
    let steps = job.inputs.unsigned("steps");
    for step in 1..=steps {
        job.work(job.sim.config.step).await?;
        if job.hurried {
            continue;
        }
        let preview = job.sim.config.previews.then_some(&recipe);
        job.progress.step(job.life, job.node_id, step, steps, preview).await;
    }
    Ok(NodeOutput::one(Output::Latent(Arc::new(Latent { recipe, batch: blank.batch }))))
}

pub(super) async fn decode(job: Job<'_>) -> Result<NodeOutput, NodeFailure> {
    let latent = job.inputs.latent("samples")?;
    let draw = move || Ok((0..latent.batch).map(|item| latent.recipe.draw(item)).collect());
    Ok(NodeOutput::one(Output::Images(Arc::new(aside(draw).await?))))
}
