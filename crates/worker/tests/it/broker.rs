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
    Incarnation, JobId, Rejected, Token, WorkerId,
    command::{Exchange, Held, Register, Renew, Renewed},
    decide::limits::MAX_OPS,
    record::{JobStatus, Orders, Progress, Timeouts},
};
use pointsman_worker::{Arrival, Broker, BrokerError, Claimed, Exchanged, InEpoch, StoredFile};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

pub use crate::state::{Call, FakeJob, Line, Renewal};
use crate::state::{Replica, State};

pub struct FakeBroker {
    state: Mutex<State>,
    posted: Notify,
}

impl FakeBroker {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                renewals_hang: false,
                renewals_take: Duration::ZERO,
                registered_takes: Duration::ZERO,
                claims_hang: false,
                tries: Vec::new(),
                epoch: "first".into(),
                line: Line::Up,
                unconfirmed: false,
                taken_over: false,
                no_files: None,
                files_hang: false,
                calls: Vec::new(),
                jobs: BTreeMap::new(),
                queue: VecDeque::new(),
                orders: Orders::default(),
                cuts: 0,
                superseded: false,
                damaged: None,
                unfit: None,
                failures_unfit: false,
                importing: false,
                registration_lost: false,
                forgotten: false,
                unheard: |_| false,
                speed: None,
                claims_take: Duration::ZERO,
                payloads_take: Duration::ZERO,
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
        let job = FakeJob {
            payload,
            timeouts,
            attempt: 0,
            token: None,
            status,
            cancel: false,
            claimed_at: None,
            started_at: None,
            elsewhere: false,
            taken: Vec::new(),
        };
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

    /// A part of them every second.
    async fn payloads_arrive(&self, arrival: &Arrival, are_there: bool) {
        let whole = Instant::now() + self.with(|s| s.payloads_take);
        while are_there && Instant::now() < whole {
            arrival.moved();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
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
        if state.taken_over {
            return Err(BrokerError::Newer("it is a newer version's".into()));
        }
        let (answer, call) = apply(&mut state)?;
        state.calls.push((Instant::now(), call));
        state.dice = state.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if state.line == Line::LosesAnswers && (state.dice >> 33) % 2 == 1 {
            return Err(BrokerError::Unreachable("answer lost".into()));
        }
        Ok(answer)
    }

    /// Takes the time that it takes over the line.
    async fn carry(&self, body: &[u8]) {
        if let Some(speed) = self.with(|s| s.speed) {
            let takes = body.len() as f64 / speed as f64;
            tokio::time::sleep(Duration::from_secs_f64(takes)).await;
        }
    }
}

#[async_trait]
impl Broker for FakeBroker {
    async fn register(
        &self,
        register: Register,
        arrival: &Arrival,
    ) -> Result<InEpoch<Vec<Claimed>>, BrokerError> {
        self.carry(&serde_json::to_vec(&register.capabilities).unwrap()).await;
        self.payloads_arrive(arrival, self.with(|s| !s.running().is_empty())).await;
        let registered = self.call(|state| {
            if state.importing {
                return Err(Rejected::Importing);
            }
            if state.superseded {
                return Err(Rejected::Superseded(register.incarnation));
            }
            (state.forgotten, state.registration_lost) = (false, false);
            let running = state.running().into_iter().map(|id| state.claimed(id)).collect();
            let epoch = state.epoch.clone();
            Ok((InEpoch { epoch, answer: running }, Call::Register(register)))
        });
        tokio::time::sleep(self.with(|s| s.registered_takes)).await;
        registered
    }

    async fn exchange(
        &self,
        exchange: Exchange,
        wait: Duration,
        arrival: &Arrival,
    ) -> Result<Exchanged, BrokerError> {
        if exchange.ops.len() > MAX_OPS {
            return Err(BrokerError::Refused("too long".into()));
        }
        self.carry(&serde_json::to_vec(&exchange.ops).unwrap()).await;
        let unheard = self.with(|s| s.unheard);
        if exchange.ops.iter().any(|op| unheard(&op.op)) {
            return Err(BrokerError::Unreachable("it does not arrive".into()));
        }
        let end = Instant::now() + wait;
        let cuts = self.with(|s| s.cuts);
        loop {
            let posted = self.posted.notified();
            if exchange.ops.is_empty() && self.with(|s| s.claims_hang) {
                return std::future::pending().await;
            }
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
                    self.payloads_arrive(arrival, true).await;
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
        if renew.held.len().max(progress.len()) > MAX_OPS {
            return Err(BrokerError::Refused("too long".into()));
        }
        if self.with(|s| s.renewals_hang) {
            return std::future::pending().await;
        }
        tokio::time::sleep(self.with(|s| s.renewals_take)).await;
        self.call(|state| {
            let answer = state.renew(&renew)?;
            let epoch = state.epoch.clone();
            Ok((InEpoch { epoch, answer }, Call::Renew { renew, progress }))
        })
    }

    async fn preview(&self, _held: Held, n: u32, _preview: Preview) -> Result<(), BrokerError> {
        self.call(|_| Ok(((), Call::Preview(n))))
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
