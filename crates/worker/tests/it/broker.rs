//! A broker in memory that keeps to the rules of the fence, writes down every call, and fails on
//! demand.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use parking_lot::Mutex;
use pointsman_connectors::{ByteStream, NewArtifact, Preview, one_chunk};
use pointsman_core::{
    Incarnation, JobId, LossReason, Rejected, Timestamp, Token, WorkerId,
    command::{AttemptOp, Exchange, Held, Op, OpAnswer, Outcome, Register, Renew, Renewed},
    record::{InputRef, Job, JobSpec, JobStatus, Orders, Progress, Timeouts},
};
use pointsman_worker::{Broker, BrokerError, Claimed, Exchanged, InEpoch, StoredFile};
use tokio::{sync::Notify, time::Instant};
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
    Exchange { ops: Vec<AttemptOp>, tokens: Vec<Token>, claimed: usize },
    Renew { renew: Renew, progress: Vec<(JobId, Progress)> },
    Preview,
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
    /// Another worker has it.
    pub elsewhere: bool,
    /// Every operation about it that was taken.
    pub taken: Vec<Op>,
}

pub struct State {
    /// Renewals arrive, and are never answered.
    pub renewals_hang: bool,
    /// When anything was tried, whether it arrived or not.
    pub tries: Vec<Instant>,
    epoch: Arc<str>,
    pub line: Line,
    /// No replica confirms an end.
    pub unconfirmed: bool,
    /// Why files are neither taken nor given.
    pub no_files: Option<BrokerError>,
    /// Files arrive, and are never answered.
    pub files_hang: bool,
    pub calls: Vec<(Instant, Call)>,
    pub jobs: BTreeMap<JobId, FakeJob>,
    queue: VecDeque<JobId>,
    pub orders: Orders,
    /// How often connections were cut.
    cuts: u32,
    pub superseded: bool,
    /// The store came back from before the worker's registration, and knows an earlier process.
    pub registration_lost: bool,
    pub forgotten: bool,
    /// How long what was claimed is on its way.
    pub claims_take: Duration,
    /// Decides which answers are lost: the state of a small generator of numbers.
    dice: u64,
}

pub struct Replica {
    jobs: BTreeMap<JobId, FakeJob>,
    queue: VecDeque<JobId>,
}

impl Replica {
    pub fn job_mut(&mut self, id: JobId) -> &mut FakeJob {
        self.jobs.get_mut(&id).unwrap()
    }
}

pub struct FakeBroker {
    state: Mutex<State>,
    posted: Notify,
}

impl FakeBroker {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                renewals_hang: false,
                tries: Vec::new(),
                epoch: "first".into(),
                line: Line::Up,
                unconfirmed: false,
                no_files: None,
                files_hang: false,
                calls: Vec::new(),
                jobs: BTreeMap::new(),
                queue: VecDeque::new(),
                orders: Orders::default(),
                cuts: 0,
                superseded: false,
                registration_lost: false,
                forgotten: false,
                claims_take: Duration::ZERO,
                dice: 1,
            }),
            posted: Notify::new(),
        })
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }

    pub fn post(&self, payload: &'static str) -> JobId {
        self.post_with(payload, Timeouts::default())
    }

    pub fn post_with(&self, payload: &'static str, timeouts: Timeouts) -> JobId {
        let id = JobId::from_uuid(Uuid::now_v7());
        let mut state = self.state.lock();
        let status = JobStatus::Pending;
        let (attempt, token, taken, cancel, elsewhere) = (0, None, Vec::new(), false, false);
        let job = FakeJob { payload, timeouts, attempt, token, status, cancel, elsewhere, taken };
        state.jobs.insert(id, job);
        state.queue.push_back(id);
        drop(state);
        self.posted.notify_waiters();
        id
    }

    /// Assigns the job to this worker, which never hears of it.
    pub fn assign_unheard(&self, id: JobId) {
        self.with(|s| {
            s.unqueue(id);
            let job = s.jobs.get_mut(&id).unwrap();
            job.attempt += 1;
            job.token = Some(Token::from_uuid(Uuid::new_v4()));
            job.status = JobStatus::Assigned;
        });
    }

    /// Takes the job from whoever has it, and gives it to another worker.
    pub fn fence(&self, id: JobId) {
        self.with(|s| {
            let job = s.jobs.get_mut(&id).unwrap();
            job.attempt += 1;
            job.token = Some(Token::from_uuid(Uuid::new_v4()));
            job.elsewhere = true;
        });
    }

    /// What a replica has: the jobs as they are now.
    pub fn replicate(&self) -> Replica {
        self.with(|s| Replica { jobs: s.jobs.clone(), queue: s.queue.clone() })
    }

    /// The replica takes over: what came after it is lost, and the epoch is another one.
    pub fn fail_over(&self, to: Replica) {
        self.with(|s| {
            (s.jobs, s.queue) = (to.jobs, to.queue);
            s.epoch = Uuid::new_v4().to_string().into();
        });
    }

    /// Cuts the connections: claims that wait end without an answer.
    pub fn cut(&self) {
        self.with(|s| s.cuts += 1);
        self.posted.notify_waiters();
    }

    pub fn job(&self, id: JobId) -> FakeJob {
        self.with(|s| s.jobs[&id].clone())
    }

    pub fn status(&self, id: JobId) -> JobStatus {
        self.job(id).status
    }

    pub fn calls(&self) -> Vec<Call> {
        self.with(|s| s.calls.iter().map(|(_, call)| call.clone()).collect())
    }

    pub fn renewals(&self) -> Vec<Renewal> {
        let renewal = |(at, call): &(Instant, Call)| match call {
            Call::Renew { renew, progress } => Some((*at, renew.clone(), progress.clone())),
            _ => None,
        };
        self.with(|s| s.calls.iter().filter_map(renewal).collect())
    }

    /// Applies a call and writes it down, unless the line is down; loses answers as the line does.
    fn call<T>(
        &self,
        apply: impl FnOnce(&mut State) -> Result<(T, Call), Rejected>,
    ) -> Result<T, BrokerError> {
        let mut state = self.state.lock();
        state.tries.push(Instant::now());
        if state.line == Line::Down {
            return Err(BrokerError::Unreachable("line is down".into()));
        }
        let (answer, call) = apply(&mut state)?;
        state.calls.push((Instant::now(), call));
        state.dice = state.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if state.line == Line::LosesAnswers && (state.dice >> 33) % 2 == 1 {
            return Err(BrokerError::Unreachable("answer lost".into()));
        }
        Ok(answer)
    }
}

impl State {
    fn check(&self, incarnation: Incarnation) -> Result<(), Rejected> {
        if self.forgotten {
            return Err(Rejected::WorkerNotFound("w".into()));
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

    fn running(&self) -> Vec<JobId> {
        let runs = |job: &FakeJob| {
            matches!(job.status, JobStatus::Assigned | JobStatus::InProgress) && !job.elsewhere
        };
        self.jobs.iter().filter(|(_, job)| runs(job)).map(|(id, _)| *id).collect()
    }

    fn claimed(&self, id: JobId) -> Claimed {
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
        Some(self.claimed(id))
    }

    fn operate(&mut self, op: &AttemptOp) -> Result<OpAnswer, Rejected> {
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
            Op::Release { .. } | Op::Late(_) | Op::Reclaim { .. } => JobStatus::Pending,
        };
        match op {
            Op::Start => Ok(OpAnswer::Started),
            Op::Release { reason: LossReason::Unstarted, .. } => {
                self.queue.push_back(*id);
                settled(JobStatus::Pending)
            }
            _ => settled(job.status),
        }
    }

    fn exchange(&mut self, exchange: &Exchange) -> Result<(Exchanged, Call), Rejected> {
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

    fn renew(&mut self, renew: &Renew) -> Result<Renewed, Rejected> {
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
        let running = self.running().into_iter().filter_map(|id| self.held(id));
        answer.unknown_to_you = running.filter(|held| !listed(held)).collect();
        Ok(answer)
    }
}

#[async_trait]
impl Broker for FakeBroker {
    async fn register(&self, register: Register) -> Result<InEpoch<Vec<Claimed>>, BrokerError> {
        self.call(|state| {
            if state.superseded {
                return Err(Rejected::Superseded(register.incarnation));
            }
            (state.forgotten, state.registration_lost) = (false, false);
            let running = state.running().into_iter().map(|id| state.claimed(id)).collect();
            let epoch = state.epoch.clone();
            Ok((InEpoch { epoch, answer: running }, Call::Register(register)))
        })
    }

    async fn exchange(&self, exchange: Exchange, wait: Duration) -> Result<Exchanged, BrokerError> {
        let end = Instant::now() + wait;
        let cuts = self.with(|s| s.cuts);
        loop {
            let posted = self.posted.notified();
            if self.with(|s| s.cuts) != cuts {
                return Err(BrokerError::Unreachable("connection cut".into()));
            }
            let waits = exchange.ops.is_empty() && Instant::now() < end;
            let nothing = self.with(|s| {
                s.line != Line::Down
                    && !s.superseded
                    && s.queue.is_empty()
                    && !s.running().iter().any(|id| {
                        let token = s.jobs[id].token;
                        exchange.claim.iter().any(|c| c.tokens.iter().any(|t| Some(*t) == token))
                    })
            });
            if !(waits && nothing) {
                let answer = self.call(|state| state.exchange(&exchange))?;
                if !answer.claimed.is_empty() {
                    tokio::time::sleep(self.with(|s| s.claims_take)).await;
                }
                return Ok(answer);
            }
            tokio::select! {
                () = posted => {}
                () = tokio::time::sleep_until(end) => {}
            }
        }
    }

    async fn renew(
        &self,
        renew: Renew,
        progress: Vec<(JobId, Progress)>,
    ) -> Result<InEpoch<Renewed>, BrokerError> {
        if self.with(|s| s.renewals_hang) {
            return std::future::pending().await;
        }
        self.call(|state| {
            let answer = state.renew(&renew)?;
            let epoch = state.epoch.clone();
            Ok((InEpoch { epoch, answer }, Call::Renew { renew, progress }))
        })
    }

    async fn preview(&self, _held: Held, _n: u32, _preview: Preview) -> Result<(), BrokerError> {
        self.call(|_| Ok(((), Call::Preview)))
    }

    async fn put_artifact(
        &self,
        _held: Held,
        _artifact: NewArtifact,
        bytes: ByteStream,
    ) -> Result<StoredFile, BrokerError> {
        let chunks: Vec<Bytes> =
            bytes.try_collect().await.map_err(|e| BrokerError::Unreachable(e.to_string()))?;
        if let Some(why) = self.with(|s| s.no_files.clone()) {
            return Err(why);
        }
        if self.with(|s| s.files_hang) {
            return std::future::pending().await;
        }
        let bytes = Bytes::from(chunks.concat());
        let stored = StoredFile { size: bytes.len() as u64, sha256: "0".repeat(64) };
        self.call(|_| Ok((stored, Call::Artifact)))
    }

    async fn open_input(&self, _held: Held, from: &str) -> Result<Option<ByteStream>, BrokerError> {
        if self.with(|s| s.line) == Line::Down {
            return Err(BrokerError::Unreachable("line is down".into()));
        }
        if let Some(why) = self.with(|s| s.no_files.clone()) {
            return Err(why);
        }
        Ok((from == "sha256:00").then(|| one_chunk(Bytes::from_static(b"cat"))))
    }

    async fn leave(&self, _worker: WorkerId, incarnation: Incarnation) -> Result<(), BrokerError> {
        self.call(|state| {
            state.check(incarnation)?;
            Ok(((), Call::Leave))
        })
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
    Job {
        rev: 2,
        place: 1,
        queued_seq: 1,
        attempt: held.attempt,
        token: Some(held.token),
        ..Job::new(held.job, spec)
    }
}
