//! Pictures that look like something, from a seed and a text: soft light on a gradient sky, with discs and waves.
//! Equal inputs give equal bytes on every machine.

use std::f32::consts::TAU;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageError, Rgb, RgbImage};
use sha2::{Digest as _, Sha256};

/// Longest side of a preview, in pixels.
const PREVIEW_SIDE: u32 = 192;
/// JPEG quality of a preview, out of 100.
const PREVIEW_QUALITY: u8 = 80;

/// What decides how a picture looks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recipe {
    pub(crate) seed: u64,
    pub(crate) text: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

struct Scene {
    sky: [[f32; 3]; 2],
    discs: Vec<Disc>,
    waves: Vec<Wave>,
    grain: u64,
}

struct Disc {
    x: f32,
    y: f32,
    radius: f32,
    colour: [f32; 3],
}

struct Wave {
    level: f32,
    height: f32,
    turns: f32,
    phase: f32,
    colour: [f32; 3],
}

/// A splitmix64 generator: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Between `low` and `high`.
    fn between(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1u64 << 24) as f32;
        low + (high - low) * unit
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Recipe {
    /// The picture. `item` tells the pictures of a batch apart.
    pub(crate) fn draw(&self, item: u32) -> RgbImage {
        self.scene(item).paint(self.width, self.height)
    }

    /// The picture as it looks after a part of its steps, small, as JPEG.
    ///
    /// # Errors
    /// When the encoder fails.
    pub(crate) fn preview(&self, done: f32) -> Result<Vec<u8>, ImageError> {
        let scale = PREVIEW_SIDE as f32 / self.width.max(self.height).max(1) as f32;
        let side = |length: u32| ((length as f32 * scale.min(1.0)) as u32).max(1);
        let mut picture = self.scene(0).paint(side(self.width), side(self.height));
        blend_with_noise(&mut picture, 1.0 - done.clamp(0.0, 1.0), self.seed);
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, PREVIEW_QUALITY).encode_image(&picture)?;
        Ok(bytes)
    }

    fn scene(&self, item: u32) -> Scene {
        let digest = Sha256::new().chain_update(&self.text).chain_update(self.seed.to_le_bytes());
        let digest = digest.chain_update(item.to_le_bytes()).finalize();
        let mut dice =
            Dice(digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte)));
        let hue = dice.between(0.0, 1.0);
        let second = hue + dice.between(0.08, 0.22);
        let accent = hue + dice.between(0.42, 0.58);
        let discs = (0..3 + dice.next() % 4).map(|_| Disc {
            x: dice.between(0.05, 0.95),
            y: dice.between(0.05, 0.65),
            radius: dice.between(0.04, 0.22),
            colour: hsv(
                accent + dice.between(-0.06, 0.06),
                dice.between(0.25, 0.7),
                dice.between(0.85, 1.0),
            ),
        });
        let discs = discs.collect();
        let layers = 3 + dice.next() % 3;
        let waves = (0..layers).map(|layer| {
            let depth = layer as f32 / layers as f32;
            Wave {
                level: 0.55 + 0.4 * depth + dice.between(-0.03, 0.03),
                height: dice.between(0.02, 0.09),
                turns: dice.between(0.6, 2.6),
                phase: dice.between(0.0, TAU),
                colour: hsv(second + 0.05 * depth, 0.45 + 0.3 * depth, 0.75 - 0.5 * depth),
            }
        });
        let waves = waves.collect();
        let sky = [hsv(hue, 0.65, 0.45), hsv(second, 0.35, 0.98)];
        Scene { sky, discs, waves, grain: dice.next() }
    }
}

impl Scene {
    fn paint(&self, width: u32, height: u32) -> RgbImage {
        let short = width.min(height).max(1) as f32;
        RgbImage::from_fn(width, height, |x, y| {
            let (u, v) = ((x as f32 + 0.5) / width as f32, (y as f32 + 0.5) / height as f32);
            let mut colour = lerp(self.sky[0], self.sky[1], (v * 1.2).min(1.0));
            for disc in &self.discs {
                let across = ((u - disc.x) * width as f32 / short)
                    .hypot((v - disc.y) * height as f32 / short);
                let glow = (1.0 - across / (disc.radius * 2.4)).clamp(0.0, 1.0).powi(2) * 0.45;
                let body = ((disc.radius - across) * short / 1.5 + 0.5).clamp(0.0, 1.0);
                colour = lerp(colour, disc.colour, glow.max(body));
            }
            for wave in &self.waves {
                let crest = wave.level + wave.height * (u * wave.turns * TAU + wave.phase).sin();
                let cover = ((v - crest) * height as f32 / 1.5 + 0.5).clamp(0.0, 1.0);
                colour = lerp(colour, wave.colour, cover);
            }
            let grain = (mix(self.grain ^ (u64::from(x) << 32 | u64::from(y))) >> 40) as f32
                / (1u64 << 24) as f32;
            Rgb(colour.map(|channel| {
                ((channel + (grain - 0.5) * 0.015) * 255.0).round().clamp(0.0, 255.0) as u8
            }))
        })
    }
}

fn blend_with_noise(picture: &mut RgbImage, share: f32, seed: u64) {
    let mut dice = Dice(seed);
    for channel in picture.pixels_mut().flat_map(|pixel| pixel.0.iter_mut()) {
        let noise = (dice.next() >> 56) as f32;
        *channel = (f32::from(*channel) * (1.0 - share) + noise * share) as u8;
    }
}

fn lerp(from: [f32; 3], to: [f32; 3], share: f32) -> [f32; 3] {
    std::array::from_fn(|i| from[i] + (to[i] - from[i]) * share)
}

/// A colour from hue (in turns), saturation and value (0 to 1).
fn hsv(hue: f32, saturation: f32, value: f32) -> [f32; 3] {
    [5.0, 3.0, 1.0].map(|n| {
        let k = (n + hue.rem_euclid(1.0) * 6.0) % 6.0;
        value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(seed: u64, text: &str) -> Recipe {
        Recipe { seed, text: text.into(), width: 96, height: 64 }
    }

    #[test]
    fn equal_inputs_give_equal_pictures_and_others_differ() {
        let picture = recipe(1, "a lake").draw(0);
        assert_eq!(picture, recipe(1, "a lake").draw(0));
        assert_ne!(picture, recipe(2, "a lake").draw(0));
        assert_ne!(picture, recipe(1, "a hill").draw(0));
        assert_ne!(picture, recipe(1, "a lake").draw(1));
        assert_eq!(picture.dimensions(), (96, 64));
    }

    #[test]
    fn previews_are_small_jpegs_that_change_as_it_goes() {
        let large = Recipe { width: 1024, height: 512, ..recipe(1, "a lake") };
        let early = large.preview(0.1).unwrap();
        assert_ne!(early, large.preview(0.9).unwrap());
        let decoded =
            image::load_from_memory_with_format(&early, image::ImageFormat::Jpeg).unwrap();
        assert_eq!((decoded.width(), decoded.height()), (192, 96));
    }
}
