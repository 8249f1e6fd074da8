//! The names of a fleet's keys. All begin with one prefix with a hash tag, so that a fleet is one
//! slot of a cluster.

use std::fmt::Display;

use pointsman_core::{
    CustomerId, JobId, MachineId, RecordKey, RecordKind, ServiceName,
    command::IdempotencyKey,
    decide::GroupKey,
    hex,
    matching::{CapabilitiesDigest, ClassKey},
    record::Job,
};
use pointsman_store::RECORDS;
use sha2::{Digest as _, Sha256};

/// How keys are laid out, and what the records in them may hold; a store with a higher number is a newer
/// version's. 2: events of the log may be several lists, and classes rest. 3: records in it are joined
/// texts. 4: records of version 3. This version reads 1 to 3, too. It follows what records may hold: who
/// changes the layout alone adds one here.
pub const FORMAT: i64 = 1 + RECORDS as i64;

/// The prefix of a fleet's keys.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    pub fn of_fleet(fleet: &str) -> Self {
        Self { prefix: format!("{{pointsman:{fleet}}}:") }
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn full(&self, key: &str) -> String {
        [&self.prefix, key].concat()
    }

    pub fn meta(&self) -> String {
        self.full("meta")
    }

    /// Whether a key of the fleet, whole, is one that its workers may leave behind where the fleet is
    /// gone: hints and pictures that vanish by themselves.
    pub fn is_hint(&self, key: &str) -> bool {
        let key = key.strip_prefix(&self.prefix).unwrap_or(key);
        ["preview:", "waiting:", "wake:", "acks_at"].iter().any(|kind| key.starts_with(kind))
    }
}

/// The hash of a record.
pub fn record(key: &RecordKey) -> String {
    match key {
        RecordKey::Machine(id) => format!("machine:{id}"),
        RecordKey::Worker(id) => format!("worker:{id}"),
        RecordKey::Connector(id) => format!("connector:{id}"),
        RecordKey::Job(id) => format!("job:{id}"),
        RecordKey::Alert(id) => format!("alert:{id}"),
    }
}

/// The set of a machine's workers.
pub fn workers_of(machine: &MachineId) -> String {
    format!("machine:{machine}:workers")
}

/// Whether a key is the set of a machine's workers, and no machine's hash.
pub fn is_workers_of(key: &str) -> bool {
    let machine = key.strip_prefix("machine:").and_then(|rest| rest.strip_suffix(":workers"));
    machine.is_some_and(|machine| !machine.is_empty())
}

/// The hash of a class.
pub fn class(key: impl Display) -> String {
    format!("class:{key}")
}

/// A class's waiting jobs.
pub fn queue(class: &ClassKey) -> String {
    format!("queue:{class}")
}

/// The best entries of a service's classes.
pub fn heads(service: impl Display) -> String {
    format!("heads:{service}")
}

/// The classes that differ in exclusions only.
pub fn base(base: &ClassKey) -> String {
    format!("base:{base}")
}

/// What workers with these capabilities share.
pub fn profile(digest: &CapabilitiesDigest) -> String {
    format!("profile:{digest}")
}

/// The classes of a service that a profile can serve.
pub fn serves(digest: &CapabilitiesDigest, service: impl Display) -> String {
    format!("serves:{digest}:{service}")
}

/// The wake-up of a profile for a service.
pub fn wake(digest: &CapabilitiesDigest, service: &ServiceName) -> String {
    format!("wake:{digest}:{service}")
}

pub fn payload(job: JobId) -> String {
    format!("payload:{job}")
}

pub fn preview(job: JobId) -> String {
    format!("preview:{job}")
}

/// A key that was set aside.
pub fn aside(name: &str) -> String {
    format!("quarantine:{name}")
}

/// Below these bits of a queue's score lies the place, above them the rank of the priority.
pub const PLACE_BITS: u32 = 46;

/// A waiting job's score and member in its class's queue.
pub fn queued(job: &Job) -> (u64, String) {
    let rank = u64::from(100 - job.spec.effective_priority().min(100));
    ((rank << PLACE_BITS) + job.place, format!("{:012x}:{}", job.queued_seq, job.id))
}

/// In `pulse` a score is ms times this, and what told it: 0 a report, 1 a job, 2 a registration.
pub const TOLD_BY: i64 = 4;

/// Which set names all records of a kind; jobs are in `jobs`, sorted by id.
pub fn index(key: &RecordKey) -> &'static str {
    index_of(key.kind())
}

pub fn index_of(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Machine => "machines",
        RecordKind::Worker => "workers",
        RecordKind::Connector => "connectors",
        RecordKind::Job => "jobs",
        RecordKind::Alert => "alerts",
    }
}

/// What people chose may be long and hold anything: its digest names the key.
fn digest(parts: [Option<&str>; 2]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update([u8::from(part.is_some())]);
        let part = part.unwrap_or_default();
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..16])
}

pub fn idempotency(key: &IdempotencyKey) -> String {
    let customer = key.customer.as_ref().map(|customer| customer.as_str());
    format!("idempotency:{}", digest([customer, Some(&key.key)]))
}

/// How the index of idempotency keys names one. Neither a customer's name nor the order of keys
/// is in the way: no name has a zero byte in it.
pub fn idempotency_member(key: &IdempotencyKey) -> String {
    let customer = key.customer.as_ref().map_or("", |customer| customer.as_str());
    format!("{customer}\0{}", key.key)
}

pub fn parse_idempotency_member(member: &str) -> Option<IdempotencyKey> {
    let (customer, key) = member.split_once('\0')?;
    let customer = match customer {
        "" => None,
        customer => Some(CustomerId::new(customer).ok()?),
    };
    Some(IdempotencyKey { customer, key: key.to_owned() })
}

pub fn group(key: &GroupKey) -> String {
    let customer = key.customer.as_ref().map(|customer| customer.as_str());
    format!("group:{}", digest([customer, Some(key.workflow.as_str())]))
}
