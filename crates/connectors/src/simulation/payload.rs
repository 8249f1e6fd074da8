use std::time::Duration;

use pointsman_core::FailureKind;
use serde::Deserialize;

use crate::payload;
pub use crate::payload::PayloadError;

/// A simulated job lasts a day at most.
const MAX_DURATION_MS: u64 = 24 * 3600 * 1000;
const MAX_STEPS: u32 = 10_000;

/// What the simulation is asked to pretend: `{"duration_ms": 2000, "steps": 20, "fail": null}`.
/// What is left out is as here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulation {
    /// How long it takes, 0 to a day.
    pub duration: Duration,
    /// How many times it reports progress, 0 to 10,000.
    pub steps: u32,
    /// How it fails at its end.
    pub fail: Option<SimulatedFailure>,
}

/// A failure that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "null, or a failure such as {\"kind\": \"bad_job\", \"message\": \"no\"}"
)]
pub struct SimulatedFailure {
    /// `wrong_worker`, `bad_job`, `service_fault` or `timeout`.
    #[serde(deserialize_with = "own_kind")]
    pub kind: FailureKind,
    /// What it says.
    #[serde(default = "default_message")]
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(default = "default_duration_ms", deserialize_with = "duration_ms")]
    duration_ms: u64,
    #[serde(default = "default_steps", deserialize_with = "steps")]
    steps: u32,
    #[serde(default)]
    fail: Option<SimulatedFailure>,
}

impl Simulation {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`PayloadError`] with the first thing that is wrong: no JSON, an unknown field, a wrong
    /// type, a number out of its range.
    pub fn parse(payload: &[u8]) -> Result<Self, PayloadError> {
        let wire: Wire = payload::read(payload)?;
        Ok(Self {
            duration: Duration::from_millis(wire.duration_ms),
            steps: wire.steps,
            fail: wire.fail,
        })
    }
}

fn default_duration_ms() -> u64 {
    2000
}

fn default_steps() -> u32 {
    20
}

fn default_message() -> String {
    "asked to fail".to_owned()
}

fn duration_ms<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let ms = u64::deserialize(from)?;
    at_most(ms, MAX_DURATION_MS)
}

fn steps<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let steps = u32::deserialize(from)?;
    at_most(steps, MAX_STEPS)
}

fn at_most<T: PartialOrd + std::fmt::Display, E: serde::de::Error>(
    value: T,
    most: T,
) -> Result<T, E> {
    if value <= most { Ok(value) } else { Err(E::custom(format!("{value} is more than {most}"))) }
}

/// Kinds that a service can fail with; the others are the broker's own.
fn own_kind<'de, D: serde::Deserializer<'de>>(from: D) -> Result<FailureKind, D::Error> {
    match FailureKind::deserialize(from)? {
        FailureKind::Lost | FailureKind::Cancelled => Err(serde::de::Error::custom(
            "expected wrong_worker, bad_job, service_fault or timeout",
        )),
        kind => Ok(kind),
    }
}
