//! Where jobs come in and their ends go out.

mod exchanges;

use std::{future::pending, sync::Arc, time::Duration};

use exchanges::{HandedIn, Waited};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use pointsman_connectors::{Completion, RunEnd, StopReason};
use pointsman_core::{FailureKind, LossReason, Token, command::Op};
use tokio::time::Instant;

use crate::{
    WorkerError,
    attempt::{Attempt, Phase},
    backoff::Backoff,
    broker::Claimed,
    draw,
    put_off::PutOff,
    service::Service,
    settle::{self, Settled, Wedge},
    shared::Shared,
};

/// The longest pause between claims while no job that comes is started. Such a job is given back for
/// nothing, and this worker may be the first to get it again.
const UNSTARTED_MOST: Duration = Duration::from_secs(30);

type Done = (Arc<Attempt>, Result<Completion, RunEnd>);

/// The slots of one service, and the exchanges in which finished work goes out and jobs come in.
///
/// There are two kinds of exchange, at most one of each at a time. One carries operations, all
/// that are ready, together with a claim for the free slots, is answered at once, and is repeated
/// exactly until it is. The other only claims, waits for jobs, and is out while slots are free.
/// Every free slot has a token, which is in one of them, or in [`Lane::tokens`].
pub(crate) struct Lane {
    shared: Arc<Shared>,
    service: Arc<Service>,
    /// One for each free slot that no exchange is claiming for. A token is used until a job came
    /// under it, so that a claim whose answer was lost is repeated with it.
    tokens: Vec<Token>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    stuck: Vec<Stuck>,
    /// Adopted attempts beyond the slots there are; the next ones that end free no slot.
    surplus: usize,
    ops: Vec<(Arc<Attempt>, Op)>,
    put_off: PutOff,
    handing_in: Option<BoxFuture<'static, Result<HandedIn, WorkerError>>>,
    claiming: Option<BoxFuture<'static, Result<Waited, WorkerError>>>,
    claiming_for: Vec<Token>,
    claim_not_before: Instant,
    backoff: Backoff,
    /// No claim before, since the last jobs were not started.
    rests_until: Instant,
    unstarted: Backoff,
}

/// An attempt that the service could not be made to stop.
struct Stuck {
    attempt: Arc<Attempt>,
    wedge: Wedge,
    /// It is given back then.
    until: Instant,
}

impl Stuck {
    /// It was given back, or somebody else has it: only what the service makes of it is waited for.
    fn is_lost(&self) -> bool {
        self.attempt.signal().reason() == Some(StopReason::Lost)
    }

    /// Whether a result that the service made of it all the same is collected.
    fn is_wanted(&self) -> bool {
        let is_cancelled = self.attempt.signal().reason() == Some(StopReason::Cancel);
        !is_cancelled && self.wedge.failure.is_none()
    }
}

impl Lane {
    pub(crate) fn new(shared: Arc<Shared>, service: Arc<Service>) -> Self {
        Self {
            tokens: (0..service.slots).map(|_| draw::token()).collect(),
            running: FuturesUnordered::new(),
            stuck: Vec::new(),
            surplus: 0,
            ops: Vec::new(),
            put_off: PutOff::default(),
            handing_in: None,
            claiming: None,
            claiming_for: Vec::new(),
            claim_not_before: Instant::now(),
            backoff: Backoff::new(&shared.config.timings),
            rests_until: Instant::now(),
            unstarted: Backoff::up_to(&shared.config.timings, UNSTARTED_MOST),
            shared,
            service,
        }
    }

    /// Runs until the worker stops and nothing is left, or it must end.
    pub(crate) async fn run(mut self) -> Result<(), WorkerError> {
        loop {
            self.take_adopted();
            self.settle_stuck();
            self.hand_in();
            self.claim();
            if self.is_over() {
                return Ok(());
            }
            let kept = self.stuck.iter().filter(|stuck| !stuck.is_lost()).map(|stuck| stuck.until);
            let pause = kept.chain(self.claims_again_at()).chain(self.put_off.again_at()).min();
            tokio::select! {
                biased;
                Some(done) = self.running.next() => self.ended_all(done),
                answered = settled(&mut self.handing_in) => self.handed_in(answered?),
                waited = settled(&mut self.claiming) => self.waited(waited?),
                () = self.service.lane.notified() => {}
                () = sleep_until(pause) => {}
            }
        }
    }

    /// Only what was claimed by now is still seen to its end.
    fn is_over(&self) -> bool {
        let busy = !self.running.is_empty() || !self.stuck.iter().all(Stuck::is_lost);
        let to_say =
            !self.ops.is_empty() || self.put_off.again_at().is_some() || self.handing_in.is_some();
        self.shared.is_stopping() && !busy && !to_say
    }

    fn may_claim(&self) -> bool {
        self.shared.takes_jobs() && self.service.is_able() && !self.rests()
    }

    fn rests(&self) -> bool {
        Instant::now() < self.rests_until
    }

    /// An attempt is over: where none is started, the lane rests. Those that end meanwhile began
    /// before.
    fn note_start(&mut self, settled: &Settled) {
        match settled {
            Settled::Tell(Op::Release { reason: LossReason::Unstarted, .. }) => {
                if !self.rests() {
                    self.rests_until = Instant::now() + self.unstarted.pause();
                }
            }
            _ => self.unstarted.reset(),
        }
    }

    fn start(&mut self, claimed: Claimed, adopted: bool) {
        let attempt = Attempt::new(&self.shared, &self.service, claimed, adopted);
        // Kept before the look at the service: whoever proves it clear sees the attempt, or the
        // attempt sees the doubt.
        self.shared.keep(&attempt);
        if !adopted && (self.shared.is_stopping() || !self.service.is_clear()) {
            let message = match self.shared.is_stopping() {
                true => "the worker was told to stop",
                false => "the service was not ready any more",
            };
            let message = message.to_owned();
            let reason = LossReason::Unstarted;
            attempt.set_phase(Phase::Over);
            self.ops.push((attempt, Op::Release { reason, message }));
            return self.free_slot();
        }
        self.running.push(attempt.execute(adopted).boxed());
    }

    /// Attempts from before a restart that the service still has.
    fn take_adopted(&mut self) {
        for claimed in self.shared.ours.adopted(&self.service.name) {
            match self.tokens.pop() {
                Some(token) => self.shared.ours.asked(&[token]),
                None => self.surplus += 1,
            }
            self.start(claimed, true);
        }
    }

    /// Takes the end of every attempt that has ended by now, so that they go out together.
    fn ended_all(&mut self, first: Done) {
        self.ended(first);
        while let Some(Some(done)) = self.running.next().now_or_never() {
            self.ended(done);
        }
    }

    fn ended(&mut self, (attempt, end): Done) {
        if is_doubtful(&end) {
            self.service.doubt();
        }
        if matches!(&end, Err(RunEnd::Failed(failure)) if failure.kind == FailureKind::WrongWorker)
        {
            self.service.misjudge();
        }
        match settle::settle(end, attempt.standing()) {
            Settled::Keep(wedge) => {
                attempt.set_phase(Phase::Stuck);
                self.service.doubt();
                let message = &wedge.message;
                tracing::warn!(job = %attempt.held().job, message, "the service does not stop");
                attempt.remark().say(message.clone());
                let until = Instant::now() + self.shared.config.timings.stuck;
                self.stuck.push(Stuck { attempt, wedge, until });
            }
            settled => self.over(attempt, settled),
        }
    }

    fn over(&mut self, attempt: Arc<Attempt>, settled: Settled) {
        attempt.set_phase(Phase::Over);
        self.note_start(&settled);
        match settled {
            Settled::Tell(op) => self.tell(attempt, op),
            Settled::Nothing | Settled::Keep(_) => self.shared.ours.forget(attempt.held().token),
        }
        self.free_slot();
    }

    /// What was said of it before goes out before this.
    fn tell(&mut self, attempt: Arc<Attempt>, op: Op) {
        self.ops.extend(self.service.take_outbox());
        self.ops.push((attempt, op));
    }

    /// Ends what the service was proven clear of, and what it did not stop in time. A result that it
    /// made all the same is collected, unless it was cancelled, or has failed already.
    fn settle_stuck(&mut self) {
        let now = Instant::now();
        for stuck in std::mem::take(&mut self.stuck) {
            match stuck.attempt.phase() {
                Phase::Known if stuck.is_wanted() => self.running.push(collect(stuck).boxed()),
                Phase::Known | Phase::Gone => {
                    let Stuck { attempt, wedge, .. } = stuck;
                    let settled = settle::settle_kept(wedge, attempt.standing());
                    self.over(attempt, settled);
                }
                _ if now >= stuck.until && !stuck.is_lost() => self.give_up(stuck),
                _ => self.stuck.push(stuck),
            }
        }
    }

    /// Ends what the service still does not stop, so that another worker gets the job. Where its result
    /// is wanted, the lane keeps it, as it keeps what somebody else has: what comes of it is late.
    fn give_up(&mut self, stuck: Stuck) {
        let Stuck { attempt, wedge, .. } = &stuck;
        let job = attempt.held().job;
        tracing::warn!(%job, message = wedge.message, "given up; the service may still run it");
        let settled = settle::give_up(wedge.clone(), attempt.standing());
        match settled {
            Settled::Tell(op) if stuck.is_wanted() => {
                self.tell(attempt.clone(), op);
                attempt.signal().raise(StopReason::Lost);
                self.stuck.push(stuck);
            }
            settled => self.over(stuck.attempt, settled),
        }
    }

    fn free_slot(&mut self) {
        match self.surplus.checked_sub(1) {
            Some(less) => self.surplus = less,
            None => self.tokens.push(draw::token()),
        }
    }
}

/// Runs to its end what the service still knows of an attempt that was stuck. One without a result
/// ends as it would have, were it gone.
async fn collect(stuck: Stuck) -> Done {
    let Stuck { attempt, wedge: Wedge { reason, message, .. }, .. } = stuck;
    attempt.remark().say("it ended all the same: what it made is collected".to_owned());
    let (attempt, end) = attempt.execute(true).await;
    let end = match end {
        Err(RunEnd::GaveBack { .. } | RunEnd::Cancelled) => match attempt.signal().reason() {
            None | Some(StopReason::Drain) => Err(RunEnd::GaveBack { reason, message }),
            Some(_) => Err(RunEnd::Cancelled),
        },
        end => end,
    };
    (attempt, end)
}

/// Ends after which the service is looked at before it gets another job.
fn is_doubtful(end: &Result<Completion, RunEnd>) -> bool {
    match end {
        Err(RunEnd::Failed(failure)) => failure.kind == FailureKind::ServiceFault,
        Err(RunEnd::GaveBack { .. }) => true,
        Ok(_) | Err(RunEnd::Cancelled | RunEnd::Wedged { .. }) => false,
    }
}

/// Waits for the call that is out, if one is, and takes it out.
async fn settled<T>(call: &mut Option<BoxFuture<'static, T>>) -> T {
    let answer = match call {
        Some(call) => call.await,
        None => pending().await,
    };
    *call = None;
    answer
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parking_lot::Mutex;
    use pointsman_connectors::{Limits, simulation::SimulationConnector};
    use pointsman_core::{
        JobId, Timestamp,
        command::Held,
        matching::Capabilities,
        record::{Job, JobSpec},
    };
    use uuid::Uuid;

    use super::*;
    use crate::{ServiceConfig, Timings, WorkerConfig, broker::Nobody};

    fn lane(slots: u32) -> Lane {
        let connector = Arc::new(SimulationConnector::new("simulation".parse().unwrap()));
        let config = WorkerConfig {
            worker: "w".parse().unwrap(),
            machine: "m".parse().unwrap(),
            services: vec![ServiceConfig { connector, slots }],
            capabilities: Capabilities::default(),
            summary: String::new(),
            limits: Limits::default(),
            timings: Timings::default(),
            clock: Arc::new(|| Timestamp::from_millis(7)),
        };
        let shared = Shared::new(config, Arc::new(Nobody));
        let service = shared.services[0].clone();
        service.prove(service.doubts());
        Lane::new(shared, service)
    }

    fn claimed(token: Token, payload: Bytes) -> Claimed {
        let job = JobId::from_uuid(Uuid::now_v7());
        let spec = JobSpec::new("simulation".parse().unwrap(), Timestamp::default());
        let held = Held { job, attempt: 1, token };
        Claimed { held, job: Arc::new(Job::new(job, spec)), payload }
    }

    /// A payload: the lane drops it, and in that moment the store says that an attempt runs here.
    struct Told {
        shared: Arc<Shared>,
        held: Held,
        given_back: Arc<Mutex<Vec<Held>>>,
    }

    impl AsRef<[u8]> for Told {
        fn as_ref(&self) -> &[u8] {
            b""
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            if self.shared.ours.give_back(self.held, LossReason::Unstarted, "unknown") {
                self.given_back.lock().push(self.held);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_this_workers_also_while_its_lane_takes_it() {
        let mut lane = lane(2);
        let shared = lane.shared.clone();
        let tokens = lane.claim_of_tokens().tokens;
        let ours = tokens.iter().map(|token| claimed(*token, Bytes::new())).collect::<Vec<_>>();
        // Jobs under no token of the claim are dropped: before, between and after the others.
        let (mut jobs, given_back) = (Vec::new(), Arc::default());
        for at in 0..=ours.len() {
            for Claimed { held, .. } in &ours {
                let given_back = Arc::clone(&given_back);
                let told = Told { shared: shared.clone(), held: *held, given_back };
                jobs.push(claimed(draw::token(), Bytes::from_owner(told)));
            }
            jobs.extend(ours.get(at).cloned());
        }
        lane.claimed(tokens, Some(jobs));
        assert_eq!(lane.running.len(), 2);
        assert_eq!(*given_back.lock(), []);
    }
}
