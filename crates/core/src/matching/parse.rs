//! Reading requirements from JSON, strictly, with a pointer to whatever is wrong.

use serde_json::Value;
use serde_path_to_error::{Deserializer, Path, Segment, Track};

use super::{
    Requirements,
    refusal::{Pointer, RequirementError, RequirementErrorCode as Code},
    validate::{CPU_CORES, GPU_COUNT},
};

impl Requirements {
    /// Reads and checks what a submitter sent. Refused are unknown fields, wrong types, and all
    /// that [`check`](Self::check) refuses; the pointer is relative to `value`.
    pub fn parse(value: &Value) -> Result<Self, RequirementError> {
        let requirements = Self::read(value)?;
        requirements.check_bytes()?;
        requirements.check()?;
        Ok(requirements)
    }

    /// Reads without checking what the values say.
    pub(super) fn read(value: &Value) -> Result<Self, RequirementError> {
        refuse_lists(value)?;
        let mut track = Track::new();
        // The derived, strict reader; the trait's own is the lenient one for records.
        Self::deserialize(Deserializer::new(value, &mut track)).map_err(|error| {
            let pointer = pointer(&track.path());
            refusal(&pointer, value.pointer(pointer.as_str()), &error)
        })
    }
}

/// Serde also reads an object from a list of its fields in order, so that `{"hardware":[24]}`
/// would ask for 24 GiB of GPU memory. Whatever is to be an object must be one.
fn refuse_lists(value: &Value) -> Result<(), RequirementError> {
    let root = Pointer::root();
    object(value, &root)?;
    for field in ["hardware", "must_not", "customer", "prefer"] {
        if let Some(value) = value.get(field) {
            object(value, &root.field(field))?;
        }
    }
    let labels = [
        (root.field("labels"), value.get("labels")),
        (root.field("must_not").field("labels"), value.pointer("/must_not/labels")),
    ];
    for (pointer, conditions) in labels {
        for (label, condition) in conditions.and_then(Value::as_object).into_iter().flatten() {
            object(condition, &pointer.field(label))?;
        }
    }
    Ok(())
}

fn object(value: &Value, pointer: &Pointer) -> Result<(), RequirementError> {
    if value.is_array() {
        let message = "a list stands where an object belongs: write {\"name\": value}";
        return Err(pointer.refuse(Code::Malformed, message));
    }
    Ok(())
}

fn pointer(path: &Path) -> Pointer {
    path.iter().fold(Pointer::root(), |pointer, segment| match segment {
        Segment::Map { key } => pointer.field(key),
        Segment::Enum { variant } => pointer.field(variant),
        Segment::Seq { index } => pointer.item(*index),
        Segment::Unknown => pointer,
    })
}

/// What serde said, in words for people who do not write Rust.
fn refusal(
    pointer: &Pointer,
    found: Option<&Value>,
    error: &serde_json::Error,
) -> RequirementError {
    let range = match pointer.as_str() {
        "/hardware/gpu_count" => Some(GPU_COUNT),
        "/hardware/cpu_cores" => Some(CPU_CORES),
        _ => None,
    };
    if let (Some(range), Some(number)) = (range, found.and_then(Value::as_f64))
        && let Err(out_of_range) = pointer.number(number, &range)
    {
        return out_of_range;
    }
    let text = error.to_string().replace("expected f64", "expected a number");
    let text = text.replace("expected u32", "expected a whole number");
    let message = match found {
        // Serde does not say what it found where several types would do.
        Some(value) if text.starts_with("expected") => {
            let found: String = value.to_string().chars().take(80).collect();
            format!("{text}, found {found}")
        }
        _ => text,
    };
    pointer.refuse(Code::Malformed, message)
}
