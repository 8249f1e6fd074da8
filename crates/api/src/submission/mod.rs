//! Submissions: what a caller asks, checked field by field.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive, sync::Arc};

use pointsman_core::{
    CustomerId, IdError, JobId, ServiceName, Timestamp, WorkflowId,
    command::{Idempotency, Submit},
    matching::{
        MAX_BYTES as MAX_REQUIREMENTS, RequirementError, RequirementErrorCode, Requirements,
    },
    record::{InputRef, JobRecord, JobSpec, Timeouts},
    to_json,
};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use crate::{
    ErrorCode as Code, InputSource, Problem, check_file_name,
    depth::check_depth,
    idempotency,
    legible::check_legible,
    read_json,
    values::{MAX_SUBMITTED, check_values, without_blanks},
};

/// Bytes of a JSON body at most.
pub const MAX_BODY: usize = 64_000_000;
/// Jobs in one batch at most.
pub const MAX_BATCH: usize = 1_000;
/// Files that one job brings at most.
const MAX_INPUTS: usize = 200;
/// Bytes of all `inputs` of one job as they stand in its record, at most.
const MAX_INPUTS_BYTES: usize = 32 << 10;
/// Bytes of `metadata` at most: it is part of every event of the job.
const MAX_METADATA: usize = 16_384;
/// Bytes that one of a text may take where it is escaped: `\u0041`.
const ESCAPED: usize = 6;
/// Levels of `metadata` at most.
const MAX_METADATA_DEPTH: usize = 32;
/// Levels of a payload at most.
const MAX_PAYLOAD_DEPTH: usize = 100;
/// Bytes of `idempotency_key` and of an input's `node` and `field` at most.
const MAX_TEXT: usize = 200;

const PRIORITY: RangeInclusive<i64> = 0..=100;
const FAILURES: RangeInclusive<i64> = 1..=100;
const LOSSES: RangeInclusive<i64> = 0..=100;
const WEEK_S: RangeInclusive<i64> = 1..=604_800;
const DAY_S: RangeInclusive<i64> = 1..=86_400;

/// A new job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The kind of service that runs it, such as `comfyui`.
    pub service: String,
    /// What the service is to do. For ComfyUI `{"workflow": …}` with a workflow in API format, and
    /// beside it, where wanted, `extra_data`, an object that ComfyUI gets as it is with fields of
    /// the worker's own added, and `allow_partial`: `true` runs what ComfyUI takes of a workflow
    /// when it refuses some of its outputs, which else fails the job. For the simulation
    /// `{"duration_ms": 2000, "steps": 20, "fail": null}`. At most 100 levels, and a workflow at
    /// most 10,000 nodes.
    #[schema(value_type = Object)]
    pub payload: Box<RawValue>,
    /// Files that the job brings, at most 200, and 32 KiB as JSON as they stand in its record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputRef>,
    /// 0 to 100, higher first; 50 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100, default = 50)]
    pub priority: Option<i64>,
    /// What the worker must have; at most 64 KiB as JSON. Completed from the workflow, to 128 KiB
    /// at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Requirements>)]
    pub requirements: Option<Value>,
    /// Whose job it is. A token of a customer sets it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// Jobs of one workflow keep one place in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<String>,
    /// Wins over `priority`; the same range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100)]
    pub workflow_priority: Option<i64>,
    /// Attempts that may fail before the job fails, 1 to 100; 3 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100, default = 3)]
    pub max_failures: Option<i64>,
    /// Attempts that may be lost before the job fails as lost, 0 to 100; 3 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100, default = 3)]
    pub max_losses: Option<i64>,
    /// Limits of each attempt.
    #[serde(default, skip_serializing_if = "Timeouts::is_empty")]
    pub timeouts: Timeouts,
    /// The caller's own name for this submission, 1 to 200 bytes, kept for 24 hours for each
    /// customer: the same key with the same body answers the same job again (200), with another
    /// body 409, and once the job is no longer kept 410 `job_gone`. Never does it run twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Whatever the caller wants to keep with the job: an object of at most 16 KiB and
    /// 32 levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Value>,
}

/// A submission whose fields are all right by themselves. What depends on other things (the
/// service being known, inputs being there, the workflow) is still to be checked.
#[derive(Debug, Clone)]
pub struct ValidSubmission {
    pub spec: JobSpec,
    pub payload: Arc<[u8]>,
    /// Where each of `spec.inputs` comes from.
    pub sources: Vec<InputSource>,
    pub idempotency: Option<Idempotency>,
}

impl Submission {
    /// A submission with nothing but service and payload.
    ///
    /// # Errors
    /// When the payload is not JSON.
    pub fn new(service: &str, payload: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self {
            service: service.to_owned(),
            payload: serde_json::value::to_raw_value(payload)?,
            inputs: Vec::new(),
            priority: None,
            requirements: None,
            customer_id: None,
            workflow_id: None,
            workflow_priority: None,
            max_failures: None,
            max_losses: None,
            timeouts: Timeouts::default(),
            idempotency_key: None,
            metadata: None,
        })
    }

    /// Reads a submission strictly.
    ///
    /// # Errors
    /// A problem with the place of the first mistake.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        check_values(body, MAX_SUBMITTED)?;
        check_texts(body)?;
        read_json(body)
    }

    /// Checks every field by itself.
    ///
    /// # Errors
    /// A problem with the place of the first mistake.
    pub fn validate(self) -> Result<ValidSubmission, Problem> {
        let sources = check_inputs(&self.inputs)?;
        check_metadata(self.metadata.as_ref())?;
        check_timeouts(&self.timeouts)?;
        if !self.payload.get().trim_start().starts_with('{') {
            let detail = "payload is not an object";
            return Err(Problem::new(Code::WrongType, detail).at("/payload"));
        }
        check_depth(self.payload.get(), MAX_PAYLOAD_DEPTH, "/payload")?;
        check_legible(self.payload.get(), "/payload")?;
        let idempotency = self.idempotency()?;
        let requirements = match &self.requirements {
            Some(value) => Requirements::parse(value).map_err(refused_requirements)?,
            None => Requirements::default(),
        };
        let customer_id = self.customer_id.map(CustomerId::new).transpose();
        let workflow_id = self.workflow_id.map(WorkflowId::new).transpose();
        let spec = JobSpec {
            service: ServiceName::new(&self.service)
                .map_err(|error| invalid_id(error, "/service"))?,
            priority: ranged(self.priority, 50, &PRIORITY, "/priority")?,
            requirements: Arc::new(requirements),
            customer_id: customer_id.map_err(|error| invalid_id(error, "/customer_id"))?,
            workflow_id: workflow_id.map_err(|error| invalid_id(error, "/workflow_id"))?,
            workflow_priority: match self.workflow_priority {
                Some(_) => {
                    Some(ranged(self.workflow_priority, 50, &PRIORITY, "/workflow_priority")?)
                }
                None => None,
            },
            max_failures: ranged(self.max_failures, 3, &FAILURES, "/max_failures")?,
            max_losses: ranged(self.max_losses, 3, &LOSSES, "/max_losses")?,
            timeouts: self.timeouts,
            inputs: self.inputs,
            metadata: self.metadata,
            created_at: Timestamp::default(),
            payload_bytes: 0,
            record_bytes: 0,
        };
        let payload = String::from(Box::<str>::from(self.payload)).into_bytes().into();
        Ok(ValidSubmission { spec, payload, sources, idempotency })
    }

    fn idempotency(&self) -> Result<Option<Idempotency>, Problem> {
        let Some(key) = &self.idempotency_key else { return Ok(None) };
        check_text(key, Code::InvalidId, "/idempotency_key")?;
        let internal = |error: serde_json::Error| Problem::new(Code::Internal, error.to_string());
        let payload = serde_json::from_str(self.payload.get()).map_err(internal)?;
        let rest = Self { payload: RawValue::NULL.to_owned(), ..self.clone() };
        let rest = serde_json::to_value(rest).map_err(internal)?;
        let body = idempotency::fingerprint(&[&rest, &payload]);
        Ok(Some(Idempotency { key: key.clone(), body }))
    }
}

impl ValidSubmission {
    /// The command, under a new id, at the store's time.
    pub fn into_command(self, id: JobId, now: Timestamp) -> Submit {
        let spec = JobSpec { created_at: now, ..self.spec };
        Submit { id, spec, payload: self.payload, idempotency: self.idempotency }
    }

    /// The names of the files that the job brings: no worker needs to have those.
    pub fn brought_files(&self) -> BTreeSet<String> {
        self.spec.inputs.iter().map(|input| input.name.clone()).collect()
    }

    /// Checks the requirements again, after they were completed.
    ///
    /// # Errors
    /// A problem that points into `requirements`; to the workflow where they are too large as a
    /// whole, since those that were sent were not.
    pub fn check_requirements(&self) -> Result<(), Problem> {
        self.spec.requirements.check().map_err(|error| {
            match error.code == RequirementErrorCode::TooLarge && error.pointer.is_empty() {
                true => refused_requirements(error)
                    .at("/payload/workflow")
                    .cure("use fewer different node classes and models in one workflow"),
                false => refused_requirements(error),
            }
        })
    }
}

fn refused_requirements(error: RequirementError) -> Problem {
    let code = match error.code {
        RequirementErrorCode::OutOfRange => Code::OutOfRange,
        RequirementErrorCode::Contradictory => Code::ContradictoryRequirements,
        RequirementErrorCode::Malformed => Code::InvalidRequirements,
        RequirementErrorCode::TooLarge => Code::TooLong,
    };
    Problem::new(code, error.message).at(format!("/requirements{}", error.pointer))
}

fn invalid_id(error: IdError, pointer: &str) -> Problem {
    Problem::new(Code::InvalidId, error.to_string()).at(pointer).cure(error.rule)
}

fn ranged<T: TryFrom<i64>>(
    given: Option<i64>,
    default: i64,
    range: &RangeInclusive<i64>,
    pointer: &str,
) -> Result<T, Problem> {
    let value = given.unwrap_or(default);
    let fits = range.contains(&value).then(|| T::try_from(value).ok()).flatten();
    fits.ok_or_else(|| out_of_range(value, range, pointer))
}

fn out_of_range(value: i64, range: &RangeInclusive<i64>, pointer: &str) -> Problem {
    let (low, high) = (range.start(), range.end());
    let detail = format!("{value} is out of range: use a whole number from {low} to {high}");
    Problem::new(Code::OutOfRange, detail).at(pointer)
}

fn check_timeouts(timeouts: &Timeouts) -> Result<(), Problem> {
    for (name, given, range) in [
        ("total_s", timeouts.total_s, WEEK_S),
        ("silence_after_s", timeouts.silence_after_s, DAY_S),
        ("stall_after_s", timeouts.stall_after_s, WEEK_S),
    ] {
        if let Some(seconds) = given.map(i64::from)
            && !range.contains(&seconds)
        {
            return Err(out_of_range(seconds, &range, &format!("/timeouts/{name}")));
        }
    }
    Ok(())
}

/// Refuses requirements and metadata that cannot but be too large before anything is made of them:
/// that takes many times the bytes of their text.
fn check_texts(body: &[u8]) -> Result<(), Problem> {
    #[derive(Deserialize)]
    struct Texts<'a> {
        #[serde(borrow, default)]
        requirements: Option<&'a RawValue>,
        #[serde(borrow, default)]
        metadata: Option<&'a RawValue>,
    }
    if body.len() <= ESCAPED * MAX_METADATA {
        return Ok(());
    }
    // What else is wrong is told where it is.
    let Ok(texts) = serde_json::from_slice::<Texts<'_>>(body) else { return Ok(()) };
    for (name, text, most) in [
        ("requirements", texts.requirements, MAX_REQUIREMENTS),
        ("metadata", texts.metadata, MAX_METADATA),
    ] {
        let size = text.map_or(0, |text| without_blanks(text.get()));
        if size > ESCAPED * most {
            let detail = format!("{name} has {size} bytes without blanks, and {most} is the most");
            return Err(Problem::new(Code::TooLong, detail).at(format!("/{name}")));
        }
    }
    Ok(())
}

fn check_metadata(metadata: Option<&Value>) -> Result<(), Problem> {
    let Some(metadata) = metadata else { return Ok(()) };
    if !metadata.is_object() {
        let detail = "metadata is not an object";
        return Err(Problem::new(Code::WrongType, detail).at("/metadata"));
    }
    let text = metadata.to_string();
    let size = text.len();
    if size > MAX_METADATA {
        let detail = format!("metadata has {size} bytes, and {MAX_METADATA} is the most");
        return Err(Problem::new(Code::TooLong, detail).at("/metadata"));
    }
    check_depth(&text, MAX_METADATA_DEPTH, "/metadata")
}

/// Checks names and sources, and says where each input comes from.
fn check_inputs(inputs: &[InputRef]) -> Result<Vec<InputSource>, Problem> {
    if inputs.len() > MAX_INPUTS {
        let detail = format!("{} inputs are too many: {MAX_INPUTS} is the most", inputs.len());
        return Err(Problem::new(Code::TooLong, detail).at("/inputs"));
    }
    let mut names = BTreeSet::new();
    let checked = inputs.iter().enumerate().map(|(index, input)| {
        let place = format!("/inputs/{index}");
        check_text(&input.node, Code::InvalidInput, &format!("{place}/node"))?;
        check_text(&input.field, Code::InvalidInput, &format!("{place}/field"))?;
        check_file_name(&input.name).map_err(|problem| problem.at(format!("{place}/name")))?;
        if !names.insert((&input.node, &input.field)) {
            let detail = format!("two inputs are for node {:?}, {:?}", input.node, input.field);
            return Err(Problem::new(Code::InvalidInput, detail)
                .at(place)
                .cure("name each node's field once"));
        }
        input.from.parse().map_err(|problem: Problem| problem.at(format!("{place}/from")))
    });
    let sources = checked.collect::<Result<_, _>>()?;
    let size = kept_bytes(inputs);
    if size > MAX_INPUTS_BYTES {
        let detail =
            format!("the inputs have {size} bytes in all, and {MAX_INPUTS_BYTES} is the most");
        return Err(Problem::new(Code::TooLong, detail)
            .at("/inputs")
            .cure("bring fewer files, or under shorter names"));
    }
    Ok(sources)
}

/// Bytes of the inputs in the job's record, where each is named by its content.
fn kept_bytes(inputs: &[InputRef]) -> usize {
    let kept = inputs.iter().map(|InputRef { node, field, name, .. }| InputRef {
        node: node.clone(),
        field: field.clone(),
        name: name.clone(),
        from: format!("sha256:{}", "0".repeat(64)),
    });
    to_json(&kept.collect::<Vec<_>>()).len()
}

/// `code` is of a text that has the right length, and is wrong all the same.
fn check_text(text: &str, code: Code, pointer: &str) -> Result<(), Problem> {
    let size = text.len();
    let wrong = if size > MAX_TEXT {
        let detail = format!("the text has {size} bytes, and {MAX_TEXT} is the most");
        return Err(Problem::new(Code::TooLong, detail).at(pointer));
    } else if text.is_empty() {
        "the text is empty".to_owned()
    } else if text.chars().any(char::is_control) {
        format!("{text:?} has control characters")
    } else {
        return Ok(());
    };
    let cure = format!("use 1 to {MAX_TEXT} bytes of text without control characters");
    Err(Problem::new(code, wrong).at(pointer).cure(cure))
}

/// Several jobs at once. Each is taken or refused by itself.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// 1 to 1,000.
    #[schema(value_type = Vec<Submission>)]
    #[serde(deserialize_with = "one_too_many_at_most")]
    pub jobs: Vec<Box<RawValue>>,
}

/// A batch that is too long is known by one job too many: nothing is made of the others.
fn one_too_many_at_most<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<Box<RawValue>>, D::Error> {
    struct Jobs;
    impl<'de> de::Visitor<'de> for Jobs {
        type Value = Vec<Box<RawValue>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a sequence")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut given: A) -> Result<Self::Value, A::Error> {
            let mut jobs = Vec::new();
            while jobs.len() <= MAX_BATCH
                && let Some(job) = given.next_element()?
            {
                jobs.push(job);
            }
            while given.next_element::<de::IgnoredAny>()?.is_some() {}
            Ok(jobs)
        }
    }
    from.deserialize_seq(Jobs)
}

impl Batch {
    /// # Errors
    /// A problem when the batch as such is not right.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        let batch: Self = read_json(body)?;
        let (code, given) = match batch.jobs.len() {
            1..=MAX_BATCH => return Ok(batch),
            0 => (Code::MissingField, "no job"),
            _ => (Code::TooLong, "too many jobs"),
        };
        let detail = format!("{given}: a batch has 1 to {MAX_BATCH}");
        Err(Problem::new(code, detail).at("/jobs"))
    }
}

/// What became of one job of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum BatchItem {
    Accepted {
        job: Box<JobRecord>,
        /// The same submission was here before.
        existed: bool,
    },
    Refused {
        /// Why it was not taken; with the code `outcome_unknown`, why it is not known whether it was.
        problem: Problem,
    },
}

/// What became of the jobs of a batch, in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchResult {
    /// One for each job of the batch.
    pub results: Vec<BatchItem>,
}

#[cfg(test)]
mod tests;
