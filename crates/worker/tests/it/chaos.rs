//! Everything at once, in many orders.

use pointsman_core::{
    command::{Op, Outcome},
    record::JobStatus,
};

use crate::{
    broker::{FakeBroker, FakeJob, Line},
    service::FakeService,
    setup::Setup,
};

/// A small generator of numbers (an LCG with a good multiplier), so that each seed is one order.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % sides
    }
}

const BEHAVIOURS: [&str; 6] = ["done", "done", "slow", "file", "fault", "lost"];
const LINES: [Line; 4] = [Line::Up, Line::Up, Line::Down, Line::LosesAnswers];

#[tokio::test(start_paused = true)]
async fn every_job_ends_once_and_no_slot_is_lost_whatever_the_line_does() {
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let broker = FakeBroker::new();
        let setup = Setup::with(4, broker.clone(), FakeService::new("fake")).await;
        let mut jobs = Vec::new();
        for _ in 0..60 {
            let line = LINES[dice.roll(4) as usize];
            broker.with(|s| s.line = line);
            let behaviour = BEHAVIOURS[dice.roll(6) as usize];
            jobs.push(broker.post(behaviour));
            setup.pass(dice.roll(3000) as f64 / 1000.0).await;
        }
        broker.with(|s| s.line = Line::Up);
        setup.pass(200.0).await;
        for job in &jobs {
            let job = broker.job(*job);
            let ends = job.taken.iter().filter(|op| is_end(op)).count();
            assert_eq!(ends, 1, "seed {seed}: {job:?}");
            assert_eq!(job.status, expected(&job), "seed {seed}: {job:?}");
        }
        let slots: Vec<_> = (0..4).map(|_| broker.post("slow")).collect();
        setup.pass(0.5).await;
        for job in slots {
            assert_eq!(broker.status(job), JobStatus::InProgress, "seed {seed}: a slot was lost");
        }
        setup.shutdown.abort.cancel();
        assert_eq!(setup.ended().await, Ok(()));
    }
}

/// An end; being given back unstarted is none.
fn is_end(op: &Op) -> bool {
    match op {
        Op::Finish(_) => true,
        Op::Release { reason, .. } => reason.counts(),
        Op::Start | Op::Late(_) | Op::Reclaim { .. } => false,
    }
}

fn expected(job: &FakeJob) -> JobStatus {
    match job.taken.last() {
        Some(Op::Finish(finish)) => match finish.outcome {
            Outcome::Completed { .. } => JobStatus::Completed,
            Outcome::Failed { .. } => JobStatus::Failed,
            Outcome::Cancelled => JobStatus::Cancelled,
        },
        _ => JobStatus::Pending,
    }
}
