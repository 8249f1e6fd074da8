//! Random commands on the store and on the specification: every answer, every record, every
//! event the same. After each step no record contradicts another.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pointsman_core::{
    Answer, Command, FailureKind, JobId, LossReason, Record, RecordKey, WorkflowId,
    command::{Held, Idempotency, Op, Renew, Submit},
    record::{ConnectorStatus, Job, JobSpec, Orders},
};
use proptest::{prelude::*, test_runner::TestRunner};

use super::{
    Open,
    fleet::{Fleet, Hand, completed, failed, late, needs, spec},
    races::one_ending_a_run,
};
use crate::{Due, JobFilter, MemStore, Store};

/// One thing that somebody does; numbers choose among what is there.
#[derive(Debug, Clone)]
pub enum Action {
    Submit { priority: u8, label: u8, group: u8, repeat: bool },
    Register { worker: u8, anew: bool },
    Report { worker: u8, status: u8, stopping: bool },
    Claim { worker: u8, count: u8, repeat: bool },
    Operate { worker: u8, held: u8, op: u8 },
    Reclaim { worker: u8, job: u8, ahead: u8, finish: bool },
    Cancel { job: u8 },
    Retry { job: u8 },
    Drain { worker: u8, machine: bool, drain: bool },
    Leave { worker: u8 },
    Advance { millis: u32 },
    Reconcile { what: u8 },
}

/// Any sequence of actions.
pub fn actions(most: usize) -> impl Strategy<Value = Vec<Action>> {
    let small = || 0u8..6;
    let action = prop_oneof![
        4 => (0u8..=100, 0u8..3, 0u8..3, prop::bool::weighted(0.1))
            .prop_map(|(priority, label, group, repeat)| Action::Submit { priority, label, group, repeat }),
        1 => (0u8..3, any::<bool>()).prop_map(|(worker, anew)| Action::Register { worker, anew }),
        2 => (0u8..3, 0u8..5, prop::bool::weighted(0.1))
            .prop_map(|(worker, status, stopping)| Action::Report { worker, status, stopping }),
        5 => (0u8..3, 1u8..3, prop::bool::weighted(0.1))
            .prop_map(|(worker, count, repeat)| Action::Claim { worker, count, repeat }),
        8 => (0u8..3, 0u8..8, 0u8..11).prop_map(|(worker, held, op)| Action::Operate { worker, held, op }),
        2 => (0u8..3, small(), 0u8..3, prop::bool::weighted(0.3))
            .prop_map(|(worker, job, ahead, finish)| Action::Reclaim { worker, job, ahead, finish }),
        1 => small().prop_map(|job| Action::Cancel { job }),
        1 => small().prop_map(|job| Action::Retry { job }),
        2 => (0u8..3, any::<bool>(), any::<bool>())
            .prop_map(|(worker, machine, drain)| Action::Drain { worker, machine, drain }),
        1 => (0u8..3).prop_map(|worker| Action::Leave { worker }),
        3 => (0u32..20_000).prop_map(|millis| Action::Advance { millis }),
        3 => (0u8..9).prop_map(|what| Action::Reconcile { what }),
    ];
    prop::collection::vec(action, 1..most)
}

/// A fleet and what the actors of a random script remember.
pub struct Script {
    pub fleet: Fleet,
    hands: Vec<Hand>,
    jobs: Vec<pointsman_core::JobId>,
    /// Every attempt that was ever claimed, with who claimed it: ghosts act too.
    held: Vec<(usize, Held)>,
    /// Each with an idempotency key of its own, where those of different customers are different.
    pub submissions: Vec<Submit>,
    last_claim: Vec<pointsman_core::Token>,
}

const LABELS: [&str; 3] = ["", "x", "y"];

impl Script {
    pub async fn new(open: &Open) -> Self {
        let fleet = Fleet::new(open);
        let mut hands = Vec::new();
        for (n, labels) in [&["x"][..], &["x", "y"], &[]].iter().enumerate() {
            hands.push(fleet.worker(&format!("w{n}"), 2, labels).await);
        }
        Self {
            fleet,
            hands,
            jobs: Vec::new(),
            held: Vec::new(),
            submissions: Vec::new(),
            last_claim: Vec::new(),
        }
    }

    /// Does one action; what it answered, as text.
    pub async fn act(&mut self, action: &Action) -> String {
        match action {
            Action::Submit { priority, label, group, repeat } => {
                self.submit(*priority, *label, *group, *repeat).await
            }
            Action::Register { worker, anew } => self.register(*worker, *anew).await,
            Action::Report { worker, status, stopping } => {
                let hand = &self.hands[usize::from(*worker)];
                let mine = self.held.iter().filter(|(of, _)| *of == usize::from(*worker));
                let held = mine.map(|(_, held)| *held).collect();
                let renewal = Fleet::renewal(hand, held, status_of(*status));
                self.run(Command::Renew(Renew { stopping: *stopping, ..renewal })).await
            }
            Action::Claim { worker, count, repeat } => self.claim(*worker, *count, *repeat).await,
            Action::Operate { worker, held, op } => self.operate(*worker, *held, *op).await,
            Action::Reclaim { worker, job, ahead, finish } => {
                self.reclaim(*worker, *job, *ahead, *finish).await
            }
            Action::Cancel { job } => match pick(&self.jobs, *job) {
                Some(&job) => self.run(Command::Cancel { job }).await,
                None => String::new(),
            },
            Action::Retry { job } => match pick(&self.jobs, *job) {
                Some(&job) => self.run(Command::Retry { job, run: None }).await,
                None => String::new(),
            },
            Action::Drain { worker, machine: of_machine, drain } => {
                let Hand { worker, machine, .. } = self.hands[usize::from(*worker)].clone();
                let orders = Orders { drain: *drain };
                self.run(match of_machine {
                    true => Command::SetMachineOrders { machine, orders },
                    false => Command::SetOrders { worker, orders },
                })
                .await
            }
            Action::Leave { worker } => {
                let Hand { worker, incarnation, .. } = self.hands[usize::from(*worker)].clone();
                self.run(Command::Leave { worker, incarnation }).await
            }
            Action::Advance { millis } => {
                self.fleet.advance(Duration::from_millis(u64::from(*millis)));
                String::new()
            }
            Action::Reconcile { what } => {
                format!("{}", self.fleet.reconcile(due_of(*what)).await)
            }
        }
    }

    async fn run(&self, command: Command) -> String {
        format!("{:?}", self.fleet.run(command).await.map(|(answer, _)| answer))
    }

    async fn submit(&mut self, priority: u8, label: u8, group: u8, repeat: bool) -> String {
        if let (true, Some(last)) = (repeat, self.submissions.last()) {
            return self.run(Command::Submit(last.clone())).await;
        }
        let mut asked = JobSpec { max_losses: 2, ..spec(priority) };
        if label > 0 {
            asked.requirements = needs(LABELS[usize::from(label)]);
        }
        if group > 0 {
            asked.workflow_id = WorkflowId::new(format!("flow-{group}")).ok();
            asked.workflow_priority = Some(50);
        }
        let mut submit = self.fleet.submission(asked);
        let n = self.submissions.len();
        // Every other one is a customer's, under the key of the one before it.
        submit.spec.customer_id = (n % 2 == 1).then(|| "acme".parse().expect("a valid name"));
        let key = format!("key-{}", n / 2);
        submit.idempotency = Some(Idempotency { key, body: [n as u8; 32] });
        self.jobs.push(submit.id);
        self.submissions.push(submit.clone());
        self.run(Command::Submit(submit)).await
    }

    async fn register(&mut self, worker: u8, anew: bool) -> String {
        let at = usize::from(worker);
        if anew {
            self.hands[at] = self.fleet.hand(self.hands[at].worker.clone().as_str());
        }
        let labels = [&["x"][..], &["x", "y"], &[]][at];
        let register = Fleet::registration(&self.hands[at], 2, labels);
        self.run(Command::Register(register)).await
    }

    async fn claim(&mut self, worker: u8, count: u8, repeat: bool) -> String {
        if !repeat || self.last_claim.is_empty() {
            self.last_claim = (0..count).map(|_| self.fleet.token()).collect();
        }
        let hand = &self.hands[usize::from(worker)];
        let exchange = Fleet::exchange(hand, Vec::new(), self.last_claim.clone());
        let answer = self.fleet.run(Command::Exchange(exchange)).await.map(|(answer, _)| answer);
        if let Ok(Answer::Exchanged { claimed, .. }) = &answer {
            self.held.extend(claimed.iter().map(|held| (usize::from(worker), *held)));
        }
        format!("{answer:?}")
    }

    async fn operate(&self, worker: u8, held: u8, op: u8) -> String {
        // Mostly the newest attempts, now and then an old one: a ghost's.
        let newest: Vec<_> = self.held.iter().rev().collect();
        let Some((_, held)) = pick(&newest, held) else { return String::new() };
        let hand = &self.hands[usize::from(worker)];
        format!("{:?}", self.fleet.act(hand, *held, op_of(op)).await)
    }

    /// As if the store had lost a claim: an attempt that it never gave out.
    async fn reclaim(&mut self, worker: u8, job: u8, ahead: u8, finish: bool) -> String {
        let Some(&job) = pick(&self.jobs, job) else { return String::new() };
        let known = self.fleet.store.records(vec![RecordKey::Job(job)]).await;
        let Some(Record::Job(known)) = known.expect("the store works").pop() else {
            return String::new();
        };
        let attempt = known.attempt + u32::from(ahead);
        let held = Held { job, attempt, token: self.fleet.token() };
        let mut ops = vec![Fleet::op(held, Op::Reclaim { started: ahead > 1 })];
        if finish {
            ops.push(Fleet::op(held, completed()));
        }
        let exchange = Fleet::exchange(&self.hands[usize::from(worker)], ops, Vec::new());
        self.held.push((usize::from(worker), held));
        self.run(Command::Exchange(exchange)).await
    }
}

fn pick<T>(from: &[T], n: u8) -> Option<&T> {
    from.get(usize::from(n) % from.len().max(1))
}

fn status_of(n: u8) -> ConnectorStatus {
    use ConnectorStatus as S;
    [S::Idle, S::Active, S::Error, S::Connecting, S::Idle][usize::from(n)]
}

fn due_of(n: u8) -> Due {
    let keep = crate::Retention { gone_for: Duration::from_secs(60), ..Default::default() };
    [
        Due::Leases,
        Due::Workers,
        Due::Connectors,
        Due::Machines,
        Due::Holds,
        Due::Exclusions,
        Due::Gone(keep),
        Due::Ended(keep),
        Due::Leftovers,
    ][usize::from(n)]
}

fn op_of(n: u8) -> Op {
    let release = |reason| Op::Release { reason, message: String::new() };
    match n {
        0 | 1 => Op::Start,
        2 | 3 => completed(),
        4 => failed(FailureKind::ServiceFault),
        5 => failed(FailureKind::WrongWorker),
        6 => release(LossReason::ServiceLost),
        7 => super::fleet::cancelled(),
        8 => Op::Reclaim { started: true },
        9 => Op::Reclaim { started: false },
        _ => late(),
    }
}

/// Everything that can be seen of a store, as text that two stores can be compared by.
pub async fn picture(store: &dyn Store) -> Vec<String> {
    let seed = store.seed().await.expect("the store works");
    let jobs = store.jobs(JobFilter::default(), None, 1_000).await.expect("the store works");
    let jobs = jobs.jobs.into_iter().map(Record::Job);
    let queues = store.queues(200).await.expect("the store works");
    let mut lines: Vec<String> = seed
        .records
        .iter()
        .cloned()
        .chain(jobs)
        .map(|record| serde_json::to_string(&record).expect("records are JSON"))
        .collect();
    lines.sort();
    lines.push(format!("seq {} ended {}", seed.position.seq, seed.last_ended_no));
    lines.push(serde_json::to_string(&queues).expect("queues are JSON"));
    lines.push(serde_json::to_string(&store.pulse().await.expect("works")).expect("JSON"));
    lines
}

/// What must be true of every job after every step, whatever happened.
#[derive(Default)]
struct Laws(BTreeMap<JobId, Arc<Job>>);

impl Laws {
    async fn check(&mut self, fleet: &Fleet) -> Result<(), String> {
        let page = fleet.store.jobs(JobFilter::default(), None, 1_000).await;
        for job in page.expect("the store works").jobs {
            if job.is_pending() && job.cancel_requested_at.is_some() {
                return Err(format!("{} is pending and being cancelled", job.id));
            }
            if let Some(before) = self.0.get(&job.id) {
                let same_run = before.run == job.run;
                if job.attempt < before.attempt || job.run < before.run {
                    return Err(format!("{}: an attempt or a run went back", job.id));
                }
                if same_run && before.is_ended() && job.status() != before.status() {
                    return Err(format!("{} ended twice in one run", job.id));
                }
            }
            self.0.insert(job.id, job);
        }
        Ok(())
    }

    /// As the log tells it, each run ended once at most.
    async fn check_stories(&self, fleet: &Fleet) -> Result<(), String> {
        for job in self.0.keys() {
            one_ending_a_run(&fleet.story(*job).await)?;
        }
        Ok(())
    }
}

/// Operations of a worker that was silent also say that it is back; any other refusal leaves the
/// log as it was.
fn must_change_nothing(action: &Action, answer: &str) -> bool {
    answer.starts_with("Err(") && !matches!(action, Action::Operate { .. })
}

/// Runs random scripts on the store under test and on the specification.
pub fn agrees(open: &Open) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() };
    let spec = |clock| -> (Arc<dyn Store>, Box<dyn std::any::Any>) {
        (Arc::new(MemStore::new(Arc::new(clock))), Box::new(()))
    };
    let outcome = TestRunner::new(config).run(&actions(60), |actions| {
        runtime.block_on(async {
            let mut model = Script::new(&spec).await;
            let mut under_test = Script::new(open).await;
            let mut laws = Laws::default();
            for action in &actions {
                let before = under_test.fleet.seq().await;
                let expected = model.act(action).await;
                let found = under_test.act(action).await;
                prop_assert_eq!(&found, &expected, "{:?}", action);
                if must_change_nothing(action, &found) {
                    prop_assert_eq!(under_test.fleet.seq().await, before, "{:?}", action);
                }
                prop_assert_eq!(laws.check(&under_test.fleet).await, Ok(()), "after {:?}", action);
                prop_assert_eq!(under_test.fleet.check().await, Ok(()), "after {:?}", action);
                let (found, expected) =
                    (picture(&*under_test.fleet.store).await, picture(&*model.fleet.store).await);
                prop_assert_eq!(found, expected, "after {:?}", action);
            }
            prop_assert_eq!(laws.check_stories(&under_test.fleet).await, Ok(()));
            for &job in laws.0.keys() {
                let found = under_test.fleet.store.explain(job).await.expect("the store works");
                let expected = model.fleet.store.explain(job).await.expect("the store works");
                prop_assert_eq!(found, expected, "why {} waits", job);
            }
            Ok(())
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
