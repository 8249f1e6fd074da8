//! What the fake broker has and writes down, and the rules of the fence.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use pointsman_core::{
    Incarnation, JobId, LossReason, Rejected, Timestamp, Token,
    command::{AttemptOp, Exchange, Finish, Held, Op, OpAnswer, Outcome, Register, Renew, Renewed},
    decide::limits,
    record::{
        Assignment, InputRef, Job, JobSpec, JobState, JobStatus, Orders, Progress, Running,
        Timeouts,
    },
};
use pointsman_worker::{BrokerError, Claimed, Exchanged};
use tokio::time::Instant;
use uuid::Uuid;

/// How the way to the broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Up,
    /// Nothing arrives.
    Down,
    /// Calls arrive; about every second answer is lost, in no rhythm.
    LosesAnswers,
}

/// A call as it arrived.
#[derive(Debug, Clone)]
pub enum Call {
    Register(Register),
    Exchange {
        ops: Vec<AttemptOp>,
        tokens: Vec<Token>,
        claimed: usize,
    },
    Renew {
        renew: Renew,
        progress: Vec<(JobId, Progress)>,
    },
    /// With its number.
    Preview(u32),
    Artifact,
    Leave,
}

/// When a renewal came, and what it carried.
pub type Renewal = (Instant, Renew, Vec<(JobId, Progress)>);

#[derive(Debug, Clone)]
pub struct FakeJob {
    pub payload: &'static str,
    pub timeouts: Timeouts,
    pub attempt: u32,
    pub token: Option<Token>,
    pub status: JobStatus,
    pub cancel: bool,
    /// When a claim took it.
    pub claimed_at: Option<Instant>,
    /// What the store says of its start.
    pub started_at: Option<Timestamp>,
    /// Another worker has it.
    pub elsewhere: bool,
    /// Every operation about it that was taken.
    pub taken: Vec<Op>,
}

pub struct State {
    /// Renewals arrive, and are never answered.
    pub renewals_hang: bool,
    pub renewals_take: Duration,
    /// A registration that is carried out is answered after this.
    pub registered_takes: Duration,
    /// Claims that wait are not answered any more.
    pub claims_hang: bool,
    /// When anything was tried, whether it arrived or not.
    pub tries: Vec<Instant>,
    pub epoch: Arc<str>,
    pub line: Line,
    /// A newer version took the store over.
    pub taken_over: bool,
    /// No replica confirms an end.
    pub unconfirmed: bool,
    /// Why files are neither taken nor given.
    pub no_files: Option<BrokerError>,
    /// Files arrive, and are never answered.
    pub files_hang: bool,
    pub calls: Vec<(Instant, Call)>,
    pub jobs: BTreeMap<JobId, FakeJob>,
    pub queue: VecDeque<JobId>,
    pub orders: Orders,
    /// How often connections were cut.
    pub cuts: u32,
    pub superseded: bool,
    /// What is stored of this job is damaged.
    pub damaged: Option<JobId>,
    /// Why no result is taken.
    pub unfit: Option<&'static str>,
    /// Nor is a failure, for the same reason.
    pub failures_unfit: bool,
    /// An import fills the store.
    pub importing: bool,
    /// The store came back from before the worker's registration, and knows an earlier process.
    pub registration_lost: bool,
    pub forgotten: bool,
    /// Exchanges with such an operation do not arrive.
    pub unheard: fn(&Op) -> bool,
    /// Bytes a second that the way to the broker takes.
    pub speed: Option<usize>,
    /// How long what was claimed is on its way.
    pub claims_take: Duration,
    /// How long payloads arrive, a part every second.
    pub payloads_take: Duration,
    /// Decides which answers are lost: the state of a small generator of numbers.
    pub dice: u64,
}

pub struct Replica {
    pub jobs: BTreeMap<JobId, FakeJob>,
    pub queue: VecDeque<JobId>,
}

impl Replica {
    pub fn job_mut(&mut self, id: JobId) -> &mut FakeJob {
        self.jobs.get_mut(&id).unwrap()
    }
}

impl State {
    pub fn check(&self, incarnation: Incarnation) -> Result<(), Rejected> {
        if self.forgotten {
            return Err(Rejected::WorkerNotFound("w".into()));
        }
        if self.importing {
            return Err(Rejected::Importing);
        }
        match self.superseded || self.registration_lost {
            true => Err(Rejected::Superseded(incarnation)),
            false => Ok(()),
        }
    }

    pub fn unqueue(&mut self, id: JobId) {
        self.queue.retain(|queued| *queued != id);
    }

    fn held(&self, id: JobId) -> Option<Held> {
        let job = &self.jobs[&id];
        job.token.map(|token| Held { job: id, attempt: job.attempt, token })
    }

    pub fn running(&self) -> Vec<JobId> {
        let runs = |job: &FakeJob| {
            matches!(job.status, JobStatus::Assigned | JobStatus::InProgress) && !job.elsewhere
        };
        self.jobs.iter().filter(|(_, job)| runs(job)).map(|(id, _)| *id).collect()
    }

    pub fn claimed(&self, id: JobId) -> Claimed {
        let job = &self.jobs[&id];
        let held = self.held(id).unwrap();
        Claimed { held, job: Arc::new(record(held, job)), payload: Bytes::from(job.payload) }
    }

    fn take(&mut self, token: Token) -> Option<Claimed> {
        let repeated = self.running().into_iter().find(|id| self.jobs[id].token == Some(token));
        if let Some(id) = repeated {
            return Some(self.claimed(id));
        }
        let id = self.queue.pop_front()?;
        let job = self.jobs.get_mut(&id).unwrap();
        job.attempt += 1;
        job.token = Some(token);
        job.status = JobStatus::Assigned;
        job.claimed_at = Some(Instant::now());
        Some(self.claimed(id))
    }

    fn operate(&mut self, op: &AttemptOp) -> Result<OpAnswer, Rejected> {
        if self.damaged == Some(op.job) {
            return Err(Rejected::Damaged(format!("job:{}: priority is x", op.job)));
        }
        let AttemptOp { job: id, attempt, token, op } = op;
        let job = self.jobs.get_mut(id).ok_or(Rejected::JobNotFound(*id))?;
        let settled = |status| Ok(OpAnswer::Settled { status });
        if let Op::Reclaim { started } = op {
            let status = match started {
                true => JobStatus::InProgress,
                false => JobStatus::Assigned,
            };
            if job.status.is_ended() {
                return Err(Rejected::AlreadyEnded { job: *id, status: job.status });
            }
            if job.token != Some(*token) && (job.attempt >= *attempt || job.cancel) {
                return Err(Rejected::StaleAttempt { job: *id, current: job.attempt });
            }
            job.taken.push(op.clone());
            (job.attempt, job.token, job.status) = (*attempt, Some(*token), status);
            job.elsewhere = false;
            self.unqueue(*id);
            return Ok(OpAnswer::Reclaimed);
        }
        if let Op::Late(_) = op {
            if job.token != Some(*token) && job.attempt < *attempt {
                return Err(Rejected::UnknownAttempt(*id));
            }
            job.taken.push(op.clone());
            return Ok(OpAnswer::LateKept { won: false });
        }
        if job.attempt != *attempt || job.token != Some(*token) {
            return Err(Rejected::StaleAttempt { job: *id, current: job.attempt });
        }
        let takes_no = |outcome: &Outcome| match outcome {
            Outcome::Completed { .. } => true,
            Outcome::Failed { .. } => self.failures_unfit,
            Outcome::Cancelled => false,
        };
        if let (Op::Finish(Finish { outcome, .. }), Some(why)) = (op, self.unfit)
            && takes_no(outcome)
        {
            return Err(Rejected::Invalid(why.into()));
        }
        if !matches!(job.status, JobStatus::Assigned | JobStatus::InProgress) {
            return match job.taken.last() == Some(op) {
                true => settled(job.status),
                false => Err(Rejected::StaleAttempt { job: *id, current: job.attempt }),
            };
        }
        if !(matches!(op, Op::Start) && job.taken.last() == Some(op)) {
            job.taken.push(op.clone());
        }
        job.status = match op {
            Op::Start => JobStatus::InProgress,
            Op::Finish(finish) => match finish.outcome {
                Outcome::Completed { .. } => JobStatus::Completed,
                Outcome::Failed { .. } => JobStatus::Failed,
                Outcome::Cancelled => JobStatus::Cancelled,
            },
            Op::Release { .. } if job.cancel => JobStatus::Cancelled,
            Op::Release { .. } | Op::Late(_) | Op::Reclaim { .. } => JobStatus::Pending,
        };
        match op {
            Op::Start => Ok(OpAnswer::Started),
            Op::Release { reason: LossReason::Unstarted, .. } if !job.cancel => {
                self.queue.push_back(*id);
                settled(JobStatus::Pending)
            }
            _ => settled(job.status),
        }
    }

    pub fn exchange(&mut self, exchange: &Exchange) -> Result<(Exchanged, Call), Rejected> {
        self.check(exchange.incarnation)?;
        let ops: Vec<_> = exchange.ops.iter().map(|op| self.operate(op)).collect();
        let is_behind = |(op, answer): (&AttemptOp, &Result<_, Rejected>)| matches!(answer, Err(Rejected::StaleAttempt { current, .. }) if op.attempt > *current);
        let is_behind = exchange.ops.iter().zip(&ops).any(is_behind);
        let tokens: Vec<_> =
            exchange.claim.iter().filter(|_| !is_behind).flat_map(|c| c.tokens.clone()).collect();
        let claimed: Vec<_> = tokens.iter().map_while(|token| self.take(*token)).collect();
        let call = Call::Exchange { ops: exchange.ops.clone(), tokens, claimed: claimed.len() };
        let ends = |op: &AttemptOp| matches!(op.op, Op::Finish(_) | Op::Late(_));
        let is_unconfirmed = self.unconfirmed && exchange.ops.iter().any(ends);
        let unconfirmed = is_unconfirmed.then(|| "no replica is there".to_owned());
        Ok((Exchanged { ops, claimed, unconfirmed }, call))
    }

    pub fn renew(&mut self, renew: &Renew) -> Result<Renewed, Rejected> {
        self.check(renew.incarnation)?;
        let mut answer = Renewed { orders: self.orders, ..Renewed::default() };
        for held in &renew.held {
            match self.jobs.get(&held.job) {
                Some(job)
                    if job.token == Some(held.token) && self.running().contains(&held.job) =>
                {
                    if job.cancel {
                        answer.cancel.push(*held);
                    }
                }
                _ => answer.lost.push(*held),
            }
        }
        let listed = |held: &Held| renew.held.iter().any(|h| h.token == held.token);
        let is_old = |id: &JobId| {
            self.jobs[id].claimed_at.is_none_or(|at| at.elapsed() >= limits::UNKNOWN_AFTER)
        };
        let running = self.running().into_iter().filter(is_old).filter_map(|id| self.held(id));
        answer.unknown_to_you = running.filter(|held| !listed(held)).collect();
        Ok(answer)
    }
}

fn record(held: Held, job: &FakeJob) -> Job {
    let input = |from: &str| InputRef {
        node: "1".into(),
        field: "image".into(),
        name: "cat.png".into(),
        from: from.into(),
    };
    let service = "fake".parse().unwrap();
    let spec = JobSpec {
        timeouts: job.timeouts,
        inputs: vec![input("sha256:00")],
        ..JobSpec::new(service, Timestamp::default())
    };
    let assignment = Assignment {
        worker_id: "w".parse().unwrap(),
        machine_id: "m".parse().unwrap(),
        incarnation: Incarnation::from_uuid(Uuid::from_u128(1)),
        assigned_at: Timestamp::default(),
    };
    let state = match job.started_at {
        Some(started_at) => JobState::InProgress(Running { assignment, started_at }),
        None => JobState::Assigned(assignment),
    };
    Job {
        state,
        rev: 2,
        place: 1,
        queued_seq: 1,
        attempt: held.attempt,
        token: Some(held.token),
        ..Job::new(held.job, spec)
    }
}
