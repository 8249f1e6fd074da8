//! One job's stream.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use pointsman_broker::{JobFrame, JobStream};
use pointsman_core::{
    Command, JobId,
    command::{Held, Op},
    record::{ConnectorStatus, Progress},
};
use pointsman_store::{
    MemStore,
    conformance::fleet::{Fleet, Hand, completed, spec},
};
use serde_json::Value;

use crate::support::{World, quiet, secs};

async fn rest(stream: &mut JobStream) -> Vec<&'static str> {
    let mut names = Vec::new();
    while let Some(frame) = stream.next().await {
        names.push(frame.line().event);
    }
    names
}

#[tokio::test(start_paused = true)]
async fn a_job_is_followed_from_pending_to_its_end() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let job = world.fleet.submit(spec(50)).await;
    let mut stream = world.broker.job_stream(job).await.unwrap().expect("it exists");
    let first = stream.next().await.unwrap().line();
    assert_eq!((first.event, first.id), ("job_now", None));
    let now: Value = serde_json::from_str(&first.data).unwrap();
    assert_eq!((&now["kind"], &now["record"]["status"]), (&"job".into(), &"pending".into()));
    assert_eq!(now["id"], job.to_string());

    let held = world.fleet.claim(&hand).await.unwrap();
    world.fleet.act(&hand, held, Op::Start).await.unwrap();
    assert_eq!(stream.next().await.unwrap().line().event, "job_assigned");
    assert_eq!(stream.next().await.unwrap().line().event, "job_started");

    renew(&world, &hand, held, 1).await;
    let frame = stream.next().await.unwrap();
    let JobFrame::Progress(lane) = &frame else { panic!("{frame:?}") };
    assert_eq!(lane.values[0].progress.percent, Some(50.0));

    world.fleet.act(&hand, held, completed()).await.unwrap();
    assert_eq!(rest(&mut stream).await, ["job_completed"]);
    assert!(stream.next().await.is_none(), "and stays at its end");
}

#[tokio::test(start_paused = true)]
async fn an_ended_job_is_one_frame_and_an_unknown_one_none() {
    let world = World::new(quiet()).await;
    let job = world.fleet.submit(spec(50)).await;
    world.fleet.run(Command::Cancel { job }).await.unwrap();
    let mut stream = world.broker.job_stream(job).await.unwrap().expect("it exists");
    assert_eq!(rest(&mut stream).await, ["job_now"]);
    let nobody = JobId::from_uuid(uuid::Uuid::from_u128(7));
    assert!(world.broker.job_stream(nobody).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_lags_reads_the_record_anew() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let job = world.fleet.submit(spec(50)).await;
    let mut stream = world.broker.job_stream(job).await.unwrap().expect("it exists");
    stream.next().await.unwrap();
    for _ in 0..20 {
        let held = world.fleet.claim(&hand).await.unwrap();
        let reason = pointsman_core::LossReason::Unstarted;
        let op = Op::Release { reason, message: String::new() };
        world.fleet.act(&hand, held, op).await.unwrap();
        world.settle().await;
    }
    let frame = stream.next().await.unwrap();
    let JobFrame::Now(now) = frame else { panic!("{frame:?}") };
    assert_eq!(now.record.unwrap().attempt, 20);
    world.fleet.run(Command::Cancel { job }).await.unwrap();
    assert_eq!(rest(&mut stream).await, ["job_cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn a_hole_in_what_the_hub_read_is_not_a_hole_in_the_stream() {
    let world = World::new(quiet()).await;
    let job = world.fleet.submit(spec(50)).await;
    world.settle().await;
    let mut stream = world.broker.job_stream(job).await.unwrap().expect("it exists");
    stream.next().await.unwrap();
    world.store.deaf.store(true, SeqCst);
    world.fleet.run(Command::Cancel { job }).await.unwrap();
    world.store.cut.store(2, SeqCst);
    assert_eq!(rest(&mut stream).await, ["job_now"], "the record, which has ended");
}

/// What came after the job's last backup is lost: the job is pending again, at a rev and in an
/// attempt before those that the stream has told.
#[tokio::test(start_paused = true)]
async fn a_store_that_came_back_from_before_is_followed_on() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let job = world.fleet.submit(spec(50)).await;
    let mut stream = world.broker.job_stream(job).await.unwrap().expect("it exists");
    for _ in 0..5 {
        let held = world.fleet.claim(&hand).await.unwrap();
        let reason = pointsman_core::LossReason::Unstarted;
        let op = Op::Release { reason, message: String::new() };
        world.fleet.act(&hand, held, op).await.unwrap();
    }
    let held = world.fleet.claim(&hand).await.unwrap();
    world.fleet.act(&hand, held, Op::Start).await.unwrap();
    world.settle().await;
    renew(&world, &hand, held, 7).await;
    let (rev, mut told, mut has_progress) = (world.fleet.job(job).await.rev, 0, false);
    while told < rev || !has_progress {
        match soon(&mut stream).await {
            JobFrame::Event { seq, .. } => told = seq,
            JobFrame::Progress(_) => has_progress = true,
            JobFrame::Now(_) => {}
        }
    }

    // The ids are drawn in the same order: it is the same worker and the same job.
    let before = Arc::new(MemStore::new(Arc::new(world.fleet.clock.clone())));
    let backup = Fleet::on(&before);
    backup.worker("a", 1, &[]).await;
    assert_eq!(backup.submit(spec(50)).await, job);
    world.store.come_back_as(before);
    let JobFrame::Now(now) = soon(&mut stream).await else { panic!("not its record") };
    let rev = backup.job(job).await.rev;
    assert_eq!((now.seq, now.record.unwrap().attempt), (rev, 0));

    let held = world.fleet.claim(&hand).await.unwrap();
    world.fleet.act(&hand, held, Op::Start).await.unwrap();
    assert_eq!(soon(&mut stream).await.line().event, "job_assigned");
    assert_eq!(soon(&mut stream).await.line().event, "job_started");
    renew(&world, &hand, held, 1).await;
    let frame = soon(&mut stream).await;
    let JobFrame::Progress(lane) = &frame else { panic!("{frame:?}") };
    assert_eq!((lane.values[0].progress.attempt, lane.values[0].progress.n), (1, 1));
    world.fleet.act(&hand, held, completed()).await.unwrap();
    assert_eq!(rest(&mut stream).await, ["job_completed"]);
}

/// The next frame, which must come.
async fn soon(stream: &mut JobStream) -> JobFrame {
    let next = tokio::time::timeout(secs(60), stream.next()).await;
    next.expect("the stream stands still").expect("it goes on")
}

/// The worker says that it holds the job, and how far it is.
async fn renew(world: &World, hand: &Hand, held: Held, n: u32) {
    let renewal = Fleet::renewal(hand, vec![held], ConnectorStatus::Active);
    let progress =
        Progress { attempt: held.attempt, n: n.into(), percent: Some(50.0), ..Progress::default() };
    world.broker.renew(renewal, vec![(held.job, progress)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_streams() {
    let world = World::new(quiet()).await;
    let job = world.fleet.submit(spec(50)).await;
    let mut stream = world.broker.job_stream(job).await.unwrap().expect("it exists");
    stream.next().await.unwrap();
    world.tasks.stop().await;
    assert!(stream.next().await.is_none());
}
