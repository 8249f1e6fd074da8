use std::{fmt::Display, time::Duration};

use pointsman_core::{FailureKind, bounds::brief};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

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

fn duration_ms<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    whole_number(from, MAX_DURATION_MS)
}

fn steps<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    whole_number(from, MAX_STEPS)
}

fn whole_number<'de, T, D>(from: D, most: T) -> Result<T, D::Error>
where
    T: TryFrom<u64> + PartialOrd + Display,
    D: Deserializer<'de>,
{
    let given = Value::deserialize(from)?;
    let number = given.as_u64().and_then(|number| T::try_from(number).ok());
    number
        .filter(|number| *number <= most)
        .ok_or_else(|| not(&given, format_args!("a whole number from 0 to {most}")))
}

/// Kinds that a service can fail with; the others are the broker's own.
fn own_kind<'de, D: Deserializer<'de>>(from: D) -> Result<FailureKind, D::Error> {
    let given = Value::deserialize(from)?;
    match FailureKind::deserialize(&given) {
        Ok(FailureKind::Lost | FailureKind::Cancelled) | Err(_) => {
            Err(not(&given, "wrong_worker, bad_job, service_fault or timeout"))
        }
        Ok(kind) => Ok(kind),
    }
}

/// What is there, and what would be right.
fn not<E: serde::de::Error>(given: &Value, right: impl Display) -> E {
    E::custom(format_args!("it is {}: use {right}", brief(&given.to_string())))
}
