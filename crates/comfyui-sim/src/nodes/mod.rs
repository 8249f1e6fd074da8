//! The nodes: what they are called, and what they do.

mod catalog;
mod diffusion;
mod images;
mod testing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use image::RgbImage;
use serde_json::Value;

pub(crate) use catalog::{Catalog, Class, Input};

use crate::engine::Progress;
use crate::life::{Interrupted, Life};
use crate::picture::Recipe;
use crate::sim::Sim;

/// What a node hands to another.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    Images(Arc<Vec<RgbImage>>),
    Latent(Arc<Latent>),
    /// A prompt text.
    Conditioning(Arc<str>),
    /// Models and everything else that has no content here.
    Opaque,
}

/// Pictures that are not drawn yet.
#[derive(Debug)]
pub(crate) struct Latent {
    pub(crate) recipe: Recipe,
    pub(crate) batch: u32,
}

/// What a node produced.
#[derive(Debug, Default)]
pub(crate) struct NodeOutput {
    pub(crate) values: Vec<Output>,
    /// What it shows to users; only output nodes have it.
    pub(crate) ui: Option<Value>,
}

impl NodeOutput {
    fn one(output: Output) -> Self {
        Self { values: vec![output], ui: None }
    }

    /// Memory it takes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |output: &Output| match output {
            Output::Images(images) => images.iter().map(|image| image.as_raw().len()).sum(),
            Output::Latent(_) | Output::Conditioning(_) | Output::Opaque => 64,
        };
        256 + self.values.iter().map(bytes).sum::<usize>()
    }
}

/// Why a node produced nothing.
#[derive(Debug)]
pub(crate) enum NodeFailure {
    Interrupted,
    /// It raised an error.
    Raised(Raised),
}

/// A Python exception.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Raised {
    pub(crate) class: String,
    pub(crate) message: String,
}

impl From<Interrupted> for NodeFailure {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

impl NodeFailure {
    fn raise(class: &str, message: impl std::fmt::Display) -> Self {
        Self::Raised(Raised { class: class.to_owned(), message: message.to_string() })
    }
}

/// What a node works with.
pub(crate) struct Job<'a> {
    pub(crate) sim: &'a Sim,
    pub(crate) life: &'a Life,
    pub(crate) progress: &'a mut Progress,
    pub(crate) node_id: &'a str,
    pub(crate) inputs: Inputs,
    /// Whether nothing takes time, because the result is only wanted for the cache.
    pub(crate) hurried: bool,
}

impl Job<'_> {
    /// Works for that long, ready to be interrupted.
    async fn work(&self, length: Duration) -> Result<(), Interrupted> {
        if self.hurried { Ok(()) } else { self.life.interrupt.pause(length).await }
    }
}

/// The inputs of a node: plain values, and what other nodes handed over.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) plain: HashMap<String, Value>,
    pub(crate) linked: HashMap<String, Output>,
}

impl Inputs {
    fn text(&self, name: &str) -> &str {
        self.plain.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn unsigned(&self, name: &str) -> u64 {
        self.plain.get(name).and_then(Value::as_u64).unwrap_or_default()
    }

    /// A size in pixels or a count; validation keeps it within u32.
    fn size(&self, name: &str) -> u32 {
        u32::try_from(self.unsigned(name)).unwrap_or(u32::MAX)
    }

    fn float(&self, name: &str) -> f64 {
        self.plain.get(name).and_then(Value::as_f64).unwrap_or_default()
    }

    fn flag(&self, name: &str) -> bool {
        self.plain.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn images(&self, name: &str) -> Result<Arc<Vec<RgbImage>>, NodeFailure> {
        match self.linked.get(name) {
            Some(Output::Images(images)) => Ok(images.clone()),
            _ => Err(NodeFailure::raise("AttributeError", format_args!("{name} is not an image"))),
        }
    }

    fn latent(&self, name: &str) -> Result<Arc<Latent>, NodeFailure> {
        match self.linked.get(name) {
            Some(Output::Latent(latent)) => Ok(latent.clone()),
            _ => Err(NodeFailure::raise("TypeError", format_args!("{name} is not a latent"))),
        }
    }

    fn conditioning(&self, name: &str) -> &str {
        match self.linked.get(name) {
            Some(Output::Conditioning(text)) => text,
            _ => "",
        }
    }

    /// What a node that passes things through passes on.
    fn passed_through(&self) -> Output {
        self.linked.get("value").cloned().unwrap_or(Output::Opaque)
    }
}

/// Runs one node.
pub(crate) async fn run(class_type: &str, job: Job<'_>) -> Result<NodeOutput, NodeFailure> {
    match class_type {
        "EmptyImage" => images::empty(job).await,
        "ImageScale" => images::scale(job).await,
        "ImageBlur" => images::blur(job).await,
        "ImageInvert" => images::invert(job).await,
        "LoadImage" => images::load(job).await,
        "SaveImage" => images::save(job).await,
        "PreviewImage" => images::preview(job).await,
        "CheckpointLoaderSimple" => Ok(diffusion::load_checkpoint()),
        "CLIPTextEncode" => Ok(diffusion::encode_text(&job)),
        "EmptyLatentImage" => Ok(diffusion::empty_latent(&job)),
        "KSampler" => diffusion::sample(job).await,
        "VAEDecode" => diffusion::decode(job).await,
        "SimSleep" => testing::sleep(job).await,
        "SimShow" => Ok(testing::show(&job)),
        "SimFail" => Err(testing::fail(&job)),
        other => Err(NodeFailure::raise("KeyError", other)),
    }
}

/// Draws or encodes beside the event loop, as the prompt thread of ComfyUI does.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NodeFailure> + Send + 'static,
) -> Result<T, NodeFailure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(NodeFailure::raise("RuntimeError", error)))
}
