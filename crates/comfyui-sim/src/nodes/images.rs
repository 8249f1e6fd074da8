use std::io::Cursor;
use std::sync::Arc;

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use serde_json::json;

use super::{Job, NodeFailure, NodeOutput, Output, aside};
use crate::folders::Root;

fn images(images: Vec<RgbImage>) -> NodeOutput {
    NodeOutput::one(Output::Images(Arc::new(images)))
}

/// Applies `change` to every picture of the batch.
async fn each(
    job: &Job<'_>,
    input: &str,
    change: impl Fn(&RgbImage) -> RgbImage + Send + 'static,
) -> Result<NodeOutput, NodeFailure> {
    let batch = job.inputs.images(input)?;
    aside(move || Ok(images(batch.iter().map(change).collect()))).await
}

pub(super) async fn empty(job: Job<'_>) -> Result<NodeOutput, NodeFailure> {
    let inputs = &job.inputs;
    let (width, height, batch) =
        (inputs.size("width"), inputs.size("height"), inputs.size("batch_size"));
    let [_, red, green, blue] = inputs.size("color").to_be_bytes();
    let draw = move || {
        Ok(vec![RgbImage::from_pixel(width, height, Rgb([red, green, blue])); batch as usize])
    };
    Ok(images(aside(draw).await?))
}

pub(super) async fn scale(job: Job<'_>) -> Result<NodeOutput, NodeFailure> {
    let (width, height) = (job.inputs.size("width"), job.inputs.size("height"));
    let filter = match job.inputs.text("upscale_method") {
        "nearest-exact" => FilterType::Nearest,
        "bicubic" => FilterType::CatmullRom,
        "lanczos" => FilterType::Lanczos3,
        _ => FilterType::Triangle,
    };
    let center = job.inputs.text("crop") == "center";
    let scale = move |image: &RgbImage| {
        // A side of 0 is worked out from the other one (ComfyUI source).
        let side = |wanted: u32, other: u32, own: u32, across: u32| match (wanted, other) {
            (0, 0) => own,
            (0, other) => {
                (u64::from(own) * u64::from(other) / u64::from(across.max(1))).max(1) as u32
            }
            (wanted, _) => wanted,
        };
        let width = side(width, height, image.width(), image.height());
        let height = side(height, width, image.height(), image.width());
        if center {
            DynamicImage::ImageRgb8(image.clone()).resize_to_fill(width, height, filter).into_rgb8()
        } else {
            imageops::resize(image, width, height, filter)
        }
    };
    each(&job, "image", scale).await
}

pub(super) async fn blur(job: Job<'_>) -> Result<NodeOutput, NodeFailure> {
    let sigma = (job.inputs.float("sigma") * job.inputs.float("blur_radius").max(1.0) / 3.0) as f32;
    each(&job, "image", move |image| imageops::fast_blur(image, sigma.max(0.1))).await
}

pub(super) async fn invert(job: Job<'_>) -> Result<NodeOutput, NodeFailure> {
    let invert = |image: &RgbImage| {
        let mut image = image.clone();
        imageops::invert(&mut image);
        image
    };
    each(&job, "image", invert).await
}

pub(super) async fn load(job: Job<'_>) -> Result<NodeOutput, NodeFailure> {
    let path = job.sim.folders.resolve(Root::Input, "", job.inputs.text("image"));
    let load = move || {
        let path = path.map_err(|error| NodeFailure::raise("FileNotFoundError", error))?;
        let image =
            std::fs::read(&path).map_err(|error| NodeFailure::raise("FileNotFoundError", error))?;
        let image = image::load_from_memory(&image);
        image
            .map(DynamicImage::into_rgb8)
            .map_err(|error| NodeFailure::raise("PIL.UnidentifiedImageError", error))
    };
    let mut loaded = images(vec![aside(load).await?]);
    loaded.values.push(Output::Opaque);
    Ok(loaded)
}

pub(super) async fn save(job: Job<'_>) -> Result<NodeOutput, NodeFailure> {
    let prefix = job.inputs.text("filename_prefix").to_owned();
    write(&job, Root::Output, prefix).await
}

pub(super) async fn preview(job: Job<'_>) -> Result<NodeOutput, NodeFailure> {
    let prefix = format!("ComfyUI_temp_{}", job.sim.folders.temp_tag());
    write(&job, Root::Temp, prefix).await
}

/// Writes every picture of the batch and shows where it lies.
async fn write(job: &Job<'_>, root: Root, prefix: String) -> Result<NodeOutput, NodeFailure> {
    let batch = job.inputs.images("images")?;
    let folders = job.sim.folders.clone();
    let save = move || {
        let write_one = |image: &RgbImage| {
            let mut png = Cursor::new(Vec::new());
            image
                .write_to(&mut png, ImageFormat::Png)
                .map_err(|error| NodeFailure::raise("OSError", error))?;
            let saved = folders.save(root, &prefix, "png", png.get_ref());
            let saved = saved.map_err(|error| NodeFailure::raise("Exception", error))?;
            Ok(
                json!({ "filename": saved.filename, "subfolder": saved.subfolder, "type": root.as_str() }),
            )
        };
        batch.iter().map(write_one).collect::<Result<Vec<_>, NodeFailure>>()
    };
    Ok(NodeOutput { values: Vec::new(), ui: Some(json!({ "images": aside(save).await? })) })
}
