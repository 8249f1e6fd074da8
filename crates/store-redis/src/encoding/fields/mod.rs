//! Records as Redis hashes: one field of the hash for one of the record, as an operator reads it.
//! Texts stand as they are, everything else as JSON, and what is null is left out.

mod joined;
mod list;
mod read;
mod write;

pub use joined::{BETWEEN, join, split};
pub use list::Fields;
use pointsman_core::{Record, RecordKind};
use read::FieldValue;
use serde::{Serialize as _, de::value::MapDeserializer};
use write::FieldWriter;

/// Fields that lie in a record's hash without being part of the record: copies for operators.
pub const APART: [&str; 1] = ["connector_statuses"];

/// What most jobs have is not written: a waiting job is small, and an operator sees what matters.
const USUAL: [(&str, &str); 9] = [
    ("run", "1"),
    ("failures", "0"),
    ("losses", "0"),
    ("max_failures", "3"),
    ("max_losses", "3"),
    ("cached", "false"),
    ("artifacts", "[]"),
    ("payload_bytes", "0"),
    ("result_bytes", "0"),
];

/// How the value of a field stands in a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it is, without quotes.
    Text,
    Json,
    /// This version does not know the field: as JSON where it reads as that, else as it is.
    Unknown,
}

fn form(kind: RecordKind, field: &str) -> Form {
    match kind {
        RecordKind::Job => match field {
            "id"
            | "status"
            | "service"
            | "token"
            | "worker_id"
            | "machine_id"
            | "incarnation"
            | "customer_id"
            | "workflow_id"
            | "created_at"
            | "assigned_at"
            | "started_at"
            | "completed_at"
            | "cancel_requested_at" => Form::Text,
            "rev" | "priority" | "run" | "attempt" | "failures" | "losses" | "max_failures"
            | "max_losses" | "place" | "queued_seq" | "hold" | "workflow_priority" | "ended_no"
            | "failure" | "cached" | "handed_in" | "artifacts" | "last_progress"
            | "requirements" | "timeouts" | "inputs" | "exclusions" | "past_attempts"
            | "late_results" | "payload_bytes" | "record_bytes" | "result_bytes" | "metadata" => {
                Form::Json
            }
            _ => Form::Unknown,
        },
        RecordKind::Worker => match field {
            "id"
            | "machine_id"
            | "incarnation"
            | "status"
            | "reason"
            | "action"
            | "capabilities_digest"
            | "summary"
            | "connected_at"
            | "last_status_change"
            | "stopping"
            | "suspicion_at"
            | "suspect_until" => Form::Text,
            "rev"
            | "presence"
            | "orders"
            | "services"
            | "current_job_ids"
            | "jobs_completed"
            | "jobs_failed"
            | "suspect_jobs"
            | "former_incarnations"
            | "superseded_at" => Form::Json,
            _ => Form::Unknown,
        },
        RecordKind::Connector => match field {
            "id" | "worker_id" | "machine_id" | "service_type" | "status" | "reported"
            | "timestamp" | "error_message" => Form::Text,
            "rev" | "job_ids" => Form::Json,
            _ => Form::Unknown,
        },
        RecordKind::Machine => match field {
            "id" | "status" | "reason" | "action" | "incarnation" | "connected_at"
            | "last_status_change" => Form::Text,
            "rev" | "orders" | "gpus" | "former_incarnations" => Form::Json,
            _ => Form::Unknown,
        },
        RecordKind::Alert => match field {
            "id" | "rule" | "severity" | "subject" | "message" | "action" | "raised_at" => {
                Form::Text
            }
            "rev" => Form::Json,
            _ => Form::Unknown,
        },
    }
}

/// A stored hash that is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct FieldsError {
    pub key: String,
    pub why: String,
}

/// The fields of a record's hash.
pub fn of_record(record: &Record) -> Fields {
    let kind = record.key().kind();
    let fields = match record {
        Record::Machine(r) => r.serialize(FieldWriter { kind }),
        Record::Worker(r) => r.serialize(FieldWriter { kind }),
        Record::Connector(r) => r.serialize(FieldWriter { kind }),
        Record::Job(r) => r.serialize(FieldWriter { kind }),
        Record::Alert(r) => r.serialize(FieldWriter { kind }),
    };
    fields.expect("records hold nothing that JSON cannot write")
}

/// Reads a record from the fields of its hash; `None` when there are none.
pub fn to_record<K: AsRef<[u8]>>(
    kind: RecordKind,
    key: &str,
    fields: &[(K, K)],
) -> Result<Option<Record>, FieldsError> {
    if fields.is_empty() {
        return Ok(None);
    }
    let wrong = |why: String| FieldsError { key: key.to_owned(), why };
    let usual: &[(&str, &str)] = if kind == RecordKind::Job { &USUAL } else { &[] };
    let mut is_told = [false; USUAL.len()];
    let mut values = Vec::with_capacity(fields.len() + usual.len());
    for (field, value) in fields {
        let read = |bytes| {
            std::str::from_utf8(bytes).map_err(|_| wrong("a field is not UTF-8".to_owned()))
        };
        let (field, value) = (read(field.as_ref())?, read(value.as_ref())?);
        if APART.contains(&field) {
            continue;
        }
        let field = match (kind, field) {
            (RecordKind::Worker, "worker_id") => "id",
            (_, field) => field,
        };
        let is_json = match form(kind, field) {
            Form::Text => false,
            Form::Json => {
                if let Some(at) = usual.iter().position(|(name, _)| *name == field) {
                    is_told[at] = true;
                }
                true
            }
            Form::Unknown => is_json(value),
        };
        values.push((field, FieldValue { field, value, is_json }));
    }
    if values.is_empty() {
        return Err(wrong("it has none of a record's fields".to_owned()));
    }
    for ((field, value), _) in usual.iter().zip(is_told).filter(|(_, is_told)| !is_told) {
        values.push((field, FieldValue { field, value, is_json: true }));
    }
    let values = MapDeserializer::new(values.into_iter());
    Record::read(kind, values).map(Some).map_err(|error| wrong(error.to_string()))
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A newer version may have written them.
    #[test]
    fn fields_that_are_not_known_stay_as_they_stand() {
        let mut fields = vec![
            ("id", "inconsistent:some"),
            ("rule", "inconsistent"),
            ("subject", "some"),
            ("severity", "warning"),
            ("message", "a test's"),
            ("action", "none"),
            ("raised_at", "2026-11-27T00:00:00.000Z"),
            ("rev", "7"),
            ("number", "12"),
            ("text_like_a_number", "\"12\""),
            ("text", "twelve"),
            ("object", "{\"a\":1}"),
            // Of a job it would be the usual one, and left out.
            ("run", "1"),
        ];
        let read = to_record(RecordKind::Alert, "alert:inconsistent:some", &fields);
        let written = of_record(&read.expect("a record").expect("there is one"));
        let mut written: Vec<(&str, &str)> = written.iter().collect();
        written.sort_unstable();
        fields.sort_unstable();
        assert_eq!(written, fields);
    }
}
