//! The rules: what a command changes, given the records and the time.
//!
//! Architecture invariant: a rejection changes nothing. Every check stands before the first
//! change of its operation, and a [`Transition`] is applied whole or not at all.

mod attempt;
mod availability;
mod claim;
mod class_health;
mod draft;
pub mod due;
mod ending;
mod intake;
mod machine;
mod moved;
mod operator;
mod reclaim;
mod reconcile;
mod repair;
mod submit;
mod worker;

pub use availability::{Candidate, availability, explain, unready};
pub use claim::{accepts, free_slots};
pub use class_health::{ClassHealth, class_health};
use draft::Draft;
pub use draft::{
    Change, GroupKey, Guard, KeptIdempotency, KeptResult, Key, Side, Source, Stop, Transition,
    Unread, Value,
};
pub use intake::Intake;

use crate::{
    command::{Answer, Command, Exchange},
    ids::{Incarnation, JobId, ServiceName},
    record::JobStatus,
    time::Timestamp,
};

/// Lengths of time and limits that the rules use.
pub mod limits {
    use std::time::Duration;

    /// A claim's lease, and each renewal's.
    pub const LEASE: Duration = Duration::from_secs(10);
    /// A worker or machine without a heartbeat for this long is silent.
    pub const SILENT_AFTER: Duration = Duration::from_secs(15);
    /// The same for a worker whose lease ended: while it holds one it renews it every 2 to 3 s.
    pub const SILENT_WITH_LEASE: Duration = Duration::from_secs(7);
    /// A connector's status that nothing confirmed for this long is `unknown`.
    pub const STALE_AFTER: Duration = Duration::from_secs(60);
    /// How long a worker that failed a job as *wrong worker* does not get it again.
    pub const EXCLUSION: Duration = Duration::from_secs(600);
    /// The same at least, when nobody else can run it: somebody may be about to come back.
    pub const EXCLUSION_AT_LEAST: Duration = Duration::from_secs(10);
    /// How long a worker whose service failed under a job does not get it again, from the end of its
    /// backoff on: others that are able go first. Where nobody is, it does not last.
    pub const EXCLUSION_AFTER_FAULT: Duration = Duration::from_secs(60);
    /// The first wait after a failed attempt; doubles with each failure.
    pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(1);
    /// The first wait of a job that was lost when an attempt had broken off before: it may be the job that
    /// ends its services, and others go first. Doubles with each.
    pub const LOST_AGAIN: Duration = Duration::from_secs(10);
    /// The longest wait after an attempt.
    pub const BACKOFF_MAX: Duration = Duration::from_secs(60);
    /// Different jobs in a row that a worker may break before it is suspect.
    pub const SUSPECT_AFTER: usize = 3;
    /// How long a suspect worker takes no job before it gets one to prove itself.
    pub const SUSPECT_FOR: Duration = Duration::from_secs(60);
    /// Losses in a row in one class before it is held to one probe at a time.
    pub const POISONOUS_AFTER: u32 = 5;
    /// Bases (classes without exclusions) whose losses are remembered although none of their jobs is live.
    pub const IDLE_BASES: usize = 1_000;
    /// After a store came back from before a while ago nobody claims for so long: workers are heard again
    /// well within it, and have taken back what they run.
    pub const CALM: Duration = Duration::from_secs(5);
    /// Classes with live jobs at most; a submission that would need one more is refused.
    pub const MAX_CLASSES: usize = 10_000;
    /// A worker's claims that it does not list in a renewal are shown to it after this long.
    pub const UNKNOWN_AFTER: Duration = Duration::from_secs(3);
    /// Attempts that a store may have lost of one job; a worker that names a later one is wrong.
    pub const LOST_ATTEMPTS: u32 = 1_000;
    /// An idempotency key is kept this long.
    pub const IDEMPOTENCY: Duration = Duration::from_secs(24 * 3600);
    /// A claim takes no more jobs once the payloads of those that it took have so many bytes: they
    /// are in memory together, and travel in one answer.
    pub const CLAIM_BYTES: u64 = 16 << 20;
    /// Operations in one exchange at most, and attempts in one renewal.
    pub const MAX_OPS: usize = 1_024;
    /// Bytes a second of the slowest line that results, files and other bodies come over.
    pub const SLOWEST_LINE: usize = 64 << 10;

    /// Whole seconds that the slowest line takes for so many bytes.
    pub fn transfer(bytes: usize) -> Duration {
        Duration::from_secs((bytes / SLOWEST_LINE) as u64)
    }
}

/// Why a command is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("job {0} does not exist")]
    JobNotFound(JobId),
    #[error("worker {0} does not exist")]
    WorkerNotFound(String),
    #[error("machine {0} does not exist")]
    MachineNotFound(String),
    #[error("{0} does not exist")]
    NotFound(String),
    #[error("this attempt is over, or another worker's: the job's latest is attempt {current}")]
    StaleAttempt { job: JobId, current: u32 },
    #[error("job {job} has ended already: {}", status.as_str())]
    AlreadyEnded { job: JobId, status: JobStatus },
    #[error("job {job} has not ended: {}", status.as_str())]
    NotEnded { job: JobId, status: JobStatus },
    #[error("the store never gave out this attempt of job {0}")]
    UnknownAttempt(JobId),
    #[error("incarnation {0} was superseded by a newer process with the same id")]
    Superseded(Incarnation),
    /// A registration of the same process may bring it.
    #[error("the worker did not register the service {service}, only {}", list(registered))]
    ServiceNotRegistered { service: ServiceName, registered: Vec<ServiceName> },
    #[error("this idempotency key was used for job {0} with another body")]
    IdempotencyConflict(JobId),
    /// Within the time of its key: after it the same submission is a new job.
    #[error("job {0} of this idempotency key is no longer kept, and the key admits no other")]
    JobGone(JobId),
    #[error("{id} is not gone: {why}")]
    NotGone { id: String, why: &'static str },
    #[error("{0} classes of jobs are live, which is the limit")]
    TooManyClasses(usize),
    #[error(
        "the store takes no new work: it was closed for its export; `pointsman intake open` opens it again"
    )]
    IntakeClosed,
    #[error("the store is being filled by an import, and serves nobody until that is finished")]
    Importing,
    /// Nothing was changed; once it is mended the same command may succeed.
    #[error("what is stored of it is damaged: {0}")]
    Damaged(String),
    #[error("invalid: {0}")]
    Invalid(String),
    /// A reconciler's reason no longer holds.
    #[error("nothing to do: the reason no longer holds")]
    NotDue,
}

impl Rejected {
    /// Whether the same command may well succeed later, though nothing about it changes.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Importing | Self::Damaged(_) | Self::ServiceNotRegistered { .. })
    }
}

fn list(services: &[ServiceName]) -> String {
    let services: Vec<_> = services.iter().map(ServiceName::as_str).collect();
    services.join(", ")
}

/// Decides one command. A claim gets nothing but what its tokens have already: which jobs it takes is
/// the store's choice, see [`decide_exchange`].
pub fn decide(source: &dyn Source, command: &Command, now: Timestamp) -> Result<Transition, Stop> {
    let mut draft = Draft::new(source, now);
    let answer = match command {
        Command::Exchange(exchange) => {
            return decide_exchange(source, exchange, now, &mut |_, _| None);
        }
        Command::Submit(submit) => submit::submit(&mut draft, submit)?,
        Command::Cancel { job } => operator::cancel(&mut draft, *job)?,
        Command::Retry { job, run } => operator::retry(&mut draft, *job, *run)?,
        Command::Renew(renew) => worker::renew(&mut draft, renew)?,
        Command::Register(register) => worker::register(&mut draft, register)?,
        Command::Leave { worker, incarnation } => worker::leave(&mut draft, worker, *incarnation)?,
        Command::SetOrders { worker, orders } => operator::orders(&mut draft, worker, *orders)?,
        Command::SetMachineOrders { machine, orders } => {
            operator::machine_orders(&mut draft, machine, *orders)?
        }
        Command::Repair(what) => repair::repair(&mut draft, what)?,
        Command::RegisterMachine(register) => machine::register(&mut draft, register)?,
        Command::SetMachine(set) => machine::set(&mut draft, set)?,
        Command::Reconcile(what) => reconcile::reconcile(&mut draft, what)?,
        Command::Raise(raise) => operator::raise(&mut draft, raise)?,
        Command::Clear { alert } => operator::clear(&mut draft, alert)?,
    };
    Ok(draft.finish(answer))
}

/// Decides a worker's exchange with the claimed jobs that the store chose for it: `choose` is
/// called after the exchange's operations, once a token, with the worker as it then is.
pub fn decide_exchange(
    source: &dyn Source,
    exchange: &Exchange,
    now: Timestamp,
    choose: &mut dyn FnMut(&crate::record::Worker, &[ServiceName]) -> Option<JobId>,
) -> Result<Transition, Stop> {
    let mut draft = Draft::new(source, now);
    let ops = attempt::exchange(&mut draft, exchange)?;
    let mut claimed = Vec::new();
    let mut claim_refused = None;
    // A claim could take the very job that its worker is about to reclaim.
    if let Some(claim) = &exchange.claim
        && !reclaim::is_due(exchange, &ops)
    {
        match claim::claim(&mut draft, exchange, claim, choose, &mut claimed) {
            // What stands beside it is done: that is not to wait for the claim to be put right.
            Err(Stop::Rejected(why @ Rejected::ServiceNotRegistered { .. }))
                if !(ops.is_empty() && claimed.is_empty()) =>
            {
                claim_refused = Some(why);
            }
            done => done?,
        }
    }
    Ok(draft.finish(Answer::Exchanged { ops, claimed, claim_refused }))
}

/// Decides the claim of an exchange whose operations were decided before, as `base`: what it changes
/// beyond them.
pub fn decide_claim(
    source: &dyn Source,
    exchange: &Exchange,
    base: &Transition,
    now: Timestamp,
    choose: &mut dyn FnMut(&crate::record::Worker, &[ServiceName]) -> Option<JobId>,
) -> Result<Transition, Stop> {
    let after = After { source, base };
    let mut draft = Draft::new(&after, now);
    let mut claimed = Vec::new();
    if let (Some(claim), Answer::Exchanged { ops, .. }) = (&exchange.claim, &base.answer)
        && !reclaim::is_due(exchange, ops)
    {
        claim::claim(&mut draft, exchange, claim, choose, &mut claimed)?;
    }
    Ok(draft.finish(Answer::Exchanged { ops: Vec::new(), claimed, claim_refused: None }))
}

/// The records as a transition leaves them.
struct After<'a> {
    source: &'a dyn Source,
    base: &'a Transition,
}

impl Source for After<'_> {
    fn get(&self, key: &Key) -> Result<Option<Value>, Unread> {
        if let Key::Record(record) = key
            && let Some(event) = self.base.changes.iter().rfind(|event| event.key == *record)
        {
            return Ok(event.record.clone().map(Value::Record));
        }
        self.source.get(key)
    }
}
