//! Any viewer equals the store: random commands, and viewers that join, leave, resume, lag and
//! conflate at random points. At the end of every group that a viewer reads, its records are
//! exactly those that the store's own state says the view holds at that seq.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use pointsman_broker::{BrokerConfig, Frame, Viewer};
use pointsman_core::{
    Answer, Command, FailureKind, JobId, LossReason,
    command::{Held, Op, Reconcile},
    record::{ConnectorStatus, Orders},
};
use pointsman_store::{
    Due, Position, Retention,
    conformance::fleet::{Fleet, Hand, cancelled, completed, failed, late, needs, spec},
};
use proptest::prelude::*;

use crate::{
    replica::{Replica, Truth},
    support::{World, frames, millis, quiet},
};

#[derive(Debug, Clone)]
enum Step {
    Submit {
        priority: u8,
        picky: bool,
    },
    Register {
        worker: usize,
        slots: u32,
    },
    Report {
        worker: usize,
        status: usize,
    },
    /// Operations on some attempts, and a claim, in one exchange.
    Exchange {
        worker: usize,
        ops: Vec<(usize, usize)>,
        tokens: usize,
    },
    Cancel(usize),
    Retry(usize),
    Drain {
        worker: usize,
        drain: bool,
    },
    Leave(usize),
    /// Time passes, and the reconcilers look.
    Silence(u64),
    Remove(usize),
    Forget,
    /// Viewers.
    Join {
        conflate: u64,
    },
    Part(usize),
    Resume {
        conflate: u64,
    },
    Read {
        viewer: usize,
        ms: u64,
    },
    ReadOne(usize),
    /// Another server takes this one's place.
    Restart,
    /// The hub.
    Deaf(bool),
    Epoch,
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    let conflate = prop_oneof![Just(0), Just(0), Just(100), Just(1_000)];
    prop_oneof![
        6 => (0..3u8, any::<bool>()).prop_map(|(p, picky)| Step::Submit { priority: 40 + p * 10, picky }),
        2 => (0..3usize, 1..3u32).prop_map(|(worker, slots)| Step::Register { worker, slots }),
        2 => (0..3usize, 0..3usize).prop_map(|(worker, status)| Step::Report { worker, status }),
        10 => (0..3usize, prop::collection::vec((0..8usize, 0..7usize), 0..3), 0..3usize)
            .prop_map(|(worker, ops, tokens)| Step::Exchange { worker, ops, tokens }),
        2 => (0..16usize).prop_map(Step::Cancel),
        2 => (0..220usize).prop_map(Step::Retry),
        1 => (0..3usize, any::<bool>()).prop_map(|(worker, drain)| Step::Drain { worker, drain }),
        1 => (0..3usize).prop_map(Step::Leave),
        2 => prop_oneof![Just(1u64), Just(12), Just(20), Just(70)].prop_map(Step::Silence),
        1 => (0..3usize).prop_map(Step::Remove),
        1 => Just(Step::Forget),
        3 => conflate.clone().prop_map(|conflate| Step::Join { conflate }),
        1 => (0..4usize).prop_map(Step::Part),
        3 => conflate.prop_map(|conflate| Step::Resume { conflate }),
        6 => (0..4usize, prop_oneof![Just(5u64), Just(150), Just(1_500)])
            .prop_map(|(viewer, ms)| Step::Read { viewer, ms }),
        6 => (0..4usize).prop_map(Step::ReadOne),
        1 => Just(Step::Restart),
        1 => any::<bool>().prop_map(Step::Deaf),
        1 => Just(Step::Epoch),
        1 => Just(Step::Cut),
    ]
}

struct Watching {
    viewer: Viewer,
    replica: Replica,
}

struct Run {
    world: World,
    hands: Vec<Hand>,
    held: Vec<Held>,
    jobs: Vec<JobId>,
    /// What the view holds after every change.
    truth: Truth,
    watching: Vec<Watching>,
    /// Positions that viewers stood at, with what they knew there.
    left: Vec<Replica>,
    checked: usize,
    resyncs: usize,
}

const WORKERS: [&str; 3] = ["a", "b", "c"];

impl Run {
    async fn new(before: usize, ring_groups: usize) -> Self {
        let config = BrokerConfig { ring_groups, ..quiet() };
        let world = World::new(config).await;
        let hands = WORKERS.map(|name| world.fleet.hand(name)).to_vec();
        let mut run = Self {
            world,
            hands,
            held: Vec::new(),
            jobs: Vec::new(),
            truth: Truth::default(),
            watching: Vec::new(),
            left: Vec::new(),
            checked: 0,
            resyncs: 0,
        };
        // Nearly as many ended jobs as the view shows.
        for _ in 0..before {
            let job = run.world.fleet.submit(spec(50)).await;
            run.jobs.push(job);
            run.world.fleet.run(Command::Cancel { job }).await.expect("it waits");
        }
        run.world.settle().await;
        run.note().await;
        run
    }

    async fn note(&mut self) {
        self.truth.note(self.world.fleet.store.seed().await.expect("the store works"));
    }

    async fn command(&mut self, command: Command) -> Option<Answer> {
        let answer = self.world.fleet.run(command).await.ok().map(|(answer, _)| answer);
        self.note().await;
        answer
    }

    async fn submit(&mut self, priority: u8, picky: bool) {
        let mut spec = spec(priority);
        if picky {
            spec.requirements = needs("special");
        }
        let submit = self.world.fleet.submission(spec);
        self.jobs.push(submit.id);
        self.command(Command::Submit(submit)).await;
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Submit { priority, picky } => self.submit(priority, picky).await,
            Step::Register { worker, slots } => {
                // A new process of the same worker, or its first.
                let hand = self.world.fleet.hand(WORKERS[worker]);
                let labels: &[&str] = if worker == 0 { &["special"] } else { &[] };
                let register = Fleet::registration(&hand, slots, labels);
                self.hands[worker] = hand;
                self.command(Command::Register(register)).await;
                self.report(worker, ConnectorStatus::Idle).await;
            }
            Step::Report { worker, status } => {
                let statuses =
                    [ConnectorStatus::Idle, ConnectorStatus::Active, ConnectorStatus::Error];
                self.report(worker, statuses[status]).await;
            }
            Step::Exchange { worker, ops, tokens } => self.exchange(worker, ops, tokens).await,
            Step::Cancel(n) => {
                if let Some(&job) = self.jobs.iter().rev().nth(n) {
                    self.command(Command::Cancel { job }).await;
                }
            }
            Step::Retry(n) => {
                if let Some(&job) = self.jobs.iter().rev().nth(n) {
                    self.command(Command::Retry { job, run: None }).await;
                }
            }
            Step::Drain { worker, drain } => {
                let worker = self.hands[worker].worker.clone();
                self.command(Command::SetOrders { worker, orders: Orders { drain } }).await;
            }
            Step::Leave(worker) => {
                let Hand { worker, incarnation, .. } = self.hands[worker].clone();
                self.command(Command::Leave { worker, incarnation }).await;
            }
            Step::Silence(secs) => self.silence(Duration::from_secs(secs)).await,
            Step::Remove(worker) => {
                let machine = self.hands[worker].machine.clone();
                self.command(Command::Reconcile(Reconcile::RemoveMachine { machine })).await;
            }
            Step::Forget => {
                let keep = Retention { ended_jobs: 200, ..Retention::default() };
                self.reconcile(Due::Ended(keep)).await;
            }
            other => self.watch(other).await,
        }
    }

    async fn report(&mut self, worker: usize, status: ConnectorStatus) {
        let mine: Vec<Held> = self.held.clone();
        let renewal = Fleet::renewal(&self.hands[worker], mine, status);
        self.command(Command::Renew(renewal)).await;
    }

    async fn exchange(&mut self, worker: usize, ops: Vec<(usize, usize)>, tokens: usize) {
        let op = |(held, op): (usize, usize)| {
            let held = *self.held.iter().rev().nth(held)?;
            let release = Op::Release { reason: LossReason::ServiceLost, message: "a test".into() };
            let op = match op {
                0 | 1 => Op::Start,
                2 | 3 => completed(),
                4 => failed(FailureKind::ServiceFault),
                5 => [release, cancelled()][held.attempt as usize % 2].clone(),
                _ => late(),
            };
            Some(Fleet::op(held, op))
        };
        let ops = ops.into_iter().filter_map(op).collect();
        let tokens = (0..tokens).map(|_| self.world.fleet.token()).collect();
        let exchange = Fleet::exchange(&self.hands[worker], ops, tokens);
        let answer = self.command(Command::Exchange(exchange)).await;
        if let Some(Answer::Exchanged { claimed, .. }) = answer {
            self.held.extend(claimed);
        }
    }

    async fn silence(&mut self, time: Duration) {
        self.world.fleet.advance(time);
        for due in [Due::Leases, Due::Workers, Due::Connectors, Due::Machines, Due::Holds] {
            self.reconcile(due).await;
        }
        self.reconcile(Due::Exclusions).await;
    }

    async fn reconcile(&mut self, what: Due) {
        for command in self.world.fleet.store.due(what).await.expect("the store works") {
            self.command(Command::Reconcile(command)).await;
        }
    }

    async fn watch(&mut self, step: Step) {
        match step {
            Step::Join { conflate } => self.join(Replica::default(), None, conflate),
            Step::Resume { conflate } => {
                if let Some(replica) = self.left.pop() {
                    let after = replica.last_id.clone();
                    self.join(replica, after, conflate);
                }
            }
            Step::Part(n) if n < self.watching.len() => {
                let parted = self.watching.remove(n).replica;
                self.left.extend(Some(parted).filter(|replica| replica.last_id.is_some()));
            }
            Step::Read { viewer, ms } => self.read(viewer, millis(ms)).await,
            Step::ReadOne(n) => {
                let Some(watching) = self.watching.get_mut(n) else { return };
                if let Ok(frame) = tokio::time::timeout(millis(1), watching.viewer.next()).await {
                    self.check(n, &frame.expect("the broker runs"));
                }
            }
            Step::Restart => {
                while !self.watching.is_empty() {
                    Box::pin(self.watch(Step::Part(0))).await;
                }
                self.world.restart().await;
            }
            Step::Deaf(deaf) => self.world.store.deaf.store(deaf, SeqCst),
            Step::Epoch => self.world.store.begin_epoch(),
            Step::Cut => {
                let seq = self.world.fleet.seq().await;
                self.world.store.cut.store(seq, SeqCst);
            }
            _ => {}
        }
    }

    fn join(&mut self, replica: Replica, after: Option<Position>, conflate: u64) {
        if self.watching.len() < 4 {
            let viewer = self.world.broker.viewer(after, millis(conflate));
            self.watching.push(Watching { viewer, replica });
        }
    }

    async fn read(&mut self, n: usize, within: Duration) {
        let Some(watching) = self.watching.get_mut(n) else { return };
        for frame in frames(&mut watching.viewer, within).await {
            self.check(n, &frame);
        }
    }

    fn check(&mut self, n: usize, frame: &Frame) {
        self.resyncs += usize::from(matches!(frame, Frame::Resync(_)));
        let replica = &mut self.watching[n].replica;
        if !replica.read(frame) {
            return;
        }
        let seq = replica.last_id.as_ref().expect("a group's end").seq;
        self.truth.check(replica, seq);
        self.checked += 1;
    }

    /// Everybody reads to the end: then all are equal, and equal to the store now.
    async fn finish(mut self) -> (usize, usize) {
        self.world.store.deaf.store(false, SeqCst);
        for n in 0..self.watching.len() {
            self.read(n, millis(6_000)).await;
        }
        let seq = self.world.fleet.seq().await;
        for watching in &self.watching {
            self.truth.check(&watching.replica, seq);
        }
        let counts = (self.checked, self.resyncs);
        drop(self.watching);
        self.world.tasks.stop().await;
        counts
    }
}

fn run(steps: Vec<Step>, before: usize, ring: usize) -> (usize, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut run = Run::new(before, ring).await;
        for worker in 0..WORKERS.len() {
            run.step(Step::Register { worker, slots: 2 }).await;
        }
        for step in steps {
            run.step(step).await;
        }
        run.finish().await
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_viewer_equals_the_store(
        steps in prop::collection::vec(step(), 20..150),
        before in prop_oneof![Just(0usize), 190..205usize],
        ring in prop_oneof![Just(3usize), Just(20), Just(10_000)],
    ) {
        run(steps, before, ring);
    }
}

/// A run in which everything of interest happens for sure, so that the property is not empty.
#[test]
fn a_viewer_follows_lags_resumes_and_starts_anew() {
    use Step::{
        Cancel, Cut, Deaf, Epoch, Exchange, Join, Part, Read, Restart, Resume, Retry, Submit,
    };
    let mut steps = vec![Join { conflate: 0 }, Join { conflate: 100 }, Read { viewer: 0, ms: 5 }];
    for n in 0..30 {
        steps.push(Submit { priority: 50, picky: n % 2 == 0 });
        steps.push(Exchange { worker: 0, ops: vec![(0, 0), (0, 2)], tokens: 1 });
        steps.extend([Read { viewer: 0, ms: 5 }, Read { viewer: 1, ms: 5 }]);
        match n {
            5 => steps.push(Part(0)),
            8 => steps.push(Resume { conflate: 0 }),
            9 => steps.push(Deaf(true)),
            12 => steps.push(Deaf(false)),
            15 => steps.push(Epoch),
            18 => {
                steps.extend([Deaf(true), Submit { priority: 50, picky: false }, Cut, Deaf(false)])
            }
            20 => steps.extend([Cancel(0), Retry(3), Read { viewer: 1, ms: 1_500 }]),
            22 => steps.extend([Part(0), Cancel(1), Retry(190), Restart, Resume { conflate: 0 }]),
            _ => {}
        }
    }
    let (checked, resyncs) = run(steps, 190, 20);
    assert!(checked > 40, "groups compared: {checked}");
    assert!(resyncs >= 2, "resyncs: {resyncs}");
}
