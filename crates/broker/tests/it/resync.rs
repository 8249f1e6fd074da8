//! A viewer that cannot go on from where it stands is told so, and why; one that can is not.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use pointsman_broker::{BrokerConfig, Frame, frame::ResyncReason};
use pointsman_core::{
    Command, Event, EventName, LossReason, Record,
    command::Op,
    record::{ConnectorStatus, Progress},
};
use pointsman_store::{
    Epoch, MemStore, Position,
    conformance::fleet::{Fleet, spec},
};

use crate::{
    replica::Replica,
    support::{World, frames, millis, names, quiet, secs},
};

impl World {
    /// A change that shows in the view: an ending.
    async fn change(&self) {
        let job = self.fleet.submit(spec(50)).await;
        self.fleet.run(Command::Cancel { job }).await.expect("it waits");
    }

    async fn changes(&self, count: usize) {
        for _ in 0..count {
            self.change().await;
        }
        self.settle().await;
    }

    fn position(&self, seq: u64) -> Position {
        Position { epoch: self.broker.store().epoch(), seq }
    }

    /// The first two frames of a viewer that goes on after `position`.
    async fn resumes(&self, position: Position) -> ResyncReason {
        let mut viewer = self.broker.viewer(Some(position), Duration::ZERO);
        let first = viewer.next().await.expect("the broker runs");
        let Frame::Resync(resync) = first else { panic!("not a resync: {first:?}") };
        let second = viewer.next().await.expect("the broker runs");
        assert!(matches!(second, Frame::Snapshot(_)), "a snapshot follows");
        resync.reason
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_viewer_begins_with_a_snapshot_and_no_resync() {
    let world = World::new(quiet()).await;
    world.changes(3).await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    let frame = viewer.next().await.unwrap();
    let Frame::Snapshot(snapshot) = &frame else { panic!("{frame:?}") };
    assert_eq!((snapshot.seq, snapshot.jobs.len()), (6, 3));
    let line = &frame.lines()[0];
    assert_eq!(line.event, "full_state_snapshot");
    assert_eq!(line.id, Some(world.position(6)), "a resume may begin here");
}

/// However many begin at once, and however slowly they read: the text is there once.
#[tokio::test(start_paused = true)]
async fn viewers_that_begin_within_a_moment_share_one_snapshot() {
    let world = World::new(quiet()).await;
    world.changes(3).await;
    let start = async || {
        let mut viewer = world.broker.viewer(None, Duration::ZERO);
        (viewer.next().await.unwrap().lines().remove(0), viewer)
    };
    let (first, slow) = start().await;
    world.changes(1).await;
    let (second, mut viewer) = start().await;
    assert!(Arc::ptr_eq(&first.data, &second.data), "written once");
    assert_eq!(second.id, Some(world.position(6)));
    let seen = names(&frames(&mut viewer, millis(50)).await);
    assert_eq!(seen, ["job_cancelled"], "what came since follows");

    tokio::time::sleep(millis(500)).await;
    let (later, last) = start().await;
    assert_eq!(later.id, Some(world.position(8)), "it is given out for a moment only");
    let texts = [&first, &later].map(|line| Arc::downgrade(&line.data));
    drop((first, second, later));
    let kept = || texts.each_ref().map(|text| text.strong_count() > 0);
    assert_eq!(kept(), [false, true], "the newest is kept");
    drop((slow, viewer, last));
    assert_eq!(kept(), [false, false], "while anybody watches");
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_begins_with_a_shared_snapshot_sees_progress_that_came_since() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.settle().await;
    let mut first = world.broker.viewer(None, Duration::ZERO);
    let _shared = first.next().await.unwrap();
    let renewal = Fleet::renewal(&hand, vec![held], ConnectorStatus::Active);
    let progress = Progress { attempt: held.attempt, n: 1, ..Progress::default() };
    world.broker.renew(renewal, vec![(held.job, progress)]).await.unwrap();
    let mut second = world.broker.viewer(None, Duration::ZERO);
    let Frame::Snapshot(snapshot) = second.next().await.unwrap() else { panic!() };
    assert!(snapshot.lanes.progress.values.is_empty());
    let seen = names(&frames(&mut second, millis(400)).await);
    assert!(seen.contains(&"progress"), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kept_position_goes_on_without_a_snapshot() {
    let world = World::new(quiet()).await;
    world.changes(3).await;
    let mut viewer = world.broker.viewer(Some(world.position(2)), Duration::ZERO);
    let seen = frames(&mut viewer, millis(50)).await;
    assert_eq!(names(&seen), ["pulse", "queues", "job_cancelled", "job_cancelled"]);
    assert_eq!(viewer.position(), Some(&world.position(6)));
}

#[tokio::test(start_paused = true)]
async fn a_position_that_this_server_is_about_to_reach_is_waited_for() {
    let world = World::new(quiet()).await;
    world.changes(3).await;
    let mut viewer = world.broker.viewer(Some(world.position(7)), Duration::ZERO);
    let before = frames(&mut viewer, millis(50)).await;
    assert!(before.is_empty(), "{before:?}");
    world.changes(1).await;
    let seen = frames(&mut viewer, millis(50)).await;
    assert_eq!(names(&seen), ["pulse", "queues", "job_cancelled"]);
}

/// Also what left the view meanwhile, and what runs no more.
#[tokio::test(start_paused = true)]
async fn a_server_that_begins_has_what_the_log_kept() {
    let mut world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    world.changes(199).await;
    let held = world.fleet.running(&hand).await;
    world.settle().await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    let mut replica = Replica::default();
    replica.read(&viewer.next().await.expect("a snapshot"));
    drop(viewer);
    let release = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
    world.fleet.act(&hand, held, release).await.expect("given back");
    world.changes(5).await;
    world.restart().await;

    let mut viewer = world.broker.viewer(replica.last_id.clone(), Duration::ZERO);
    let seen = frames(&mut viewer, millis(50)).await;
    assert!(!names(&seen).contains(&"resync"), "{:?}", names(&seen));
    let groups = seen.iter().filter(|frame| matches!(frame, Frame::Events(_))).count();
    assert_eq!(groups, 1, "it is whole only at its end");
    for frame in &seen {
        replica.read(frame);
    }
    let mut fresh = world.broker.viewer(None, Duration::ZERO);
    let mut as_told = Replica::default();
    as_told.read(&fresh.next().await.expect("a snapshot"));
    assert_eq!(replica.records, as_told.records);
    assert_eq!(world.broker.stats().resyncs, 0);
}

/// A repair gives an ended job a new number: that is no ending, and counts like one.
#[tokio::test(start_paused = true)]
async fn a_server_that_begins_knows_what_a_repair_moved_out_of_the_view() {
    let mut world = World::new(quiet()).await;
    world.changes(200).await;
    let job = world.fleet.submit(spec(50)).await;
    world.fleet.run(Command::Cancel { job }).await.expect("it waits");
    world.settle().await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    let mut replica = Replica::default();
    replica.read(&viewer.next().await.expect("a snapshot"));
    drop(viewer);
    // Of what follows a server that begins reads all, and nothing from before: 2,000 groups.
    let mut renumbered = (*world.fleet.job(job).await).clone();
    renumbered.ended_mut().expect("it ended").ended_no = 0;
    let change = Event::put(EventName::JobUpdated, Record::Job(renumbered.into()));
    world.fleet.corrupt(vec![change]).await;
    world.changes(999).await;
    world.fleet.submit(spec(50)).await;
    world.settle().await;
    world.restart().await;

    let mut viewer = world.broker.viewer(replica.last_id.clone(), Duration::ZERO);
    for frame in &frames(&mut viewer, millis(50)).await {
        assert!(!matches!(frame, Frame::Resync(_)), "{frame:?}");
        replica.read(frame);
    }
    let mut fresh = world.broker.viewer(None, Duration::ZERO);
    let mut as_told = Replica::default();
    as_told.read(&fresh.next().await.expect("a snapshot"));
    let kept: Vec<_> = replica.records.keys().collect();
    assert_eq!(kept, as_told.records.keys().collect::<Vec<_>>());
}

/// A part that is cut off the log is no hole: from there on it goes on.
#[tokio::test(start_paused = true)]
async fn a_server_that_begins_says_what_the_log_no_longer_has() {
    let mut world = World::new(quiet()).await;
    world.changes(4).await;
    world.store.cut.store(4, SeqCst);
    world.restart().await;
    assert_eq!(world.resumes(world.position(3)).await, ResyncReason::NotKept);
    let mut viewer = world.broker.viewer(Some(world.position(4)), Duration::ZERO);
    let seen = names(&frames(&mut viewer, millis(50)).await);
    assert_eq!(seen, ["pulse", "queues", "job_cancelled", "job_cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn each_reason_is_told() {
    let world = World::new(BrokerConfig { ring_groups: 2, ..quiet() }).await;
    world.changes(4).await;
    let other = Position { epoch: Epoch::mint(), seq: 8 };
    assert_eq!(world.resumes(other).await, ResyncReason::OtherEpoch);
    assert_eq!(world.resumes(world.position(9)).await, ResyncReason::BeyondHead);
    assert_eq!(world.resumes(world.position(3)).await, ResyncReason::NotKept);
    assert_eq!(world.broker.stats().resyncs, 3);
    let mut at_the_floor = world.broker.viewer(Some(world.position(4)), Duration::ZERO);
    let seen = names(&frames(&mut at_the_floor, millis(50)).await);
    assert!(!seen.contains(&"resync"), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_viewer_costs_a_resync() {
    let world = World::new(BrokerConfig { ring_groups: 2, ..quiet() }).await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    viewer.next().await.unwrap();
    world.changes(5).await;
    let seen = frames(&mut viewer, millis(50)).await;
    let Frame::Resync(resync) = &seen[0] else { panic!("{seen:?}") };
    assert_eq!(resync.reason, ResyncReason::TooSlow);
    assert_eq!(&*seen[0].lines()[0].data, r#"{"reason":"too_slow"}"#);
    assert!(matches!(&seen[1], Frame::Snapshot(snapshot) if snapshot.seq == 10));
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_reaches_viewers_that_are_reading() {
    let world = World::new(quiet()).await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    viewer.next().await.unwrap();
    world.changes(2).await;
    world.store.begin_epoch();
    let seen = frames(&mut viewer, secs(2)).await;
    let names = names(&seen);
    let at = names.iter().position(|name| *name == "resync").expect("a resync");
    assert_eq!(names[at + 1], "full_state_snapshot");
    let Frame::Resync(resync) = &seen[at] else { panic!() };
    assert_eq!(resync.reason, ResyncReason::OtherEpoch);
    world.changes(1).await;
    assert_eq!(viewer.position().unwrap().epoch, world.broker.store().epoch());
}

#[tokio::test(start_paused = true)]
async fn what_happens_in_a_new_epoch_is_not_shown_as_of_the_one_before() {
    let world = World::new(quiet()).await;
    world.changes(1).await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    viewer.next().await.unwrap();
    world.store.begin_epoch();
    world.change().await;
    let seen = names(&frames(&mut viewer, secs(2)).await);
    let first = seen.iter().find(|name| ["resync", "job_cancelled"].contains(*name));
    assert_eq!(first, Some(&"resync"), "{seen:?}");
}

/// As when the store comes back from a backup while the view is built anew.
#[tokio::test(start_paused = true)]
async fn what_the_feed_tells_late_of_another_history_is_not_taken_in() {
    let world = World::new(quiet()).await;
    world.changes(2).await;
    let late = world.broker.log(world.position(3), 1).await.unwrap().remove(0);
    let before = Arc::new(MemStore::new(Arc::new(world.fleet.clock.clone())));
    let backup = Fleet::on(&before);
    let job = backup.submit(spec(50)).await;
    backup.run(Command::Cancel { job }).await.expect("it waits");
    backup.submit(spec(50)).await;
    *world.store.before_seed.lock() = Some(Box::new(|store| {
        store.tell(late);
        store.come_back_as(before);
    }));
    world.store.begin_epoch();
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    frames(&mut viewer, secs(2)).await;
    assert_eq!(world.broker.stats().seq, 3);
    assert_eq!(world.broker.snapshot().await.jobs.len(), 1);
    assert_eq!(viewer.position(), Some(&world.position(3)));
}

#[tokio::test(start_paused = true)]
async fn a_hole_that_the_log_cannot_fill_is_told() {
    let world = World::new(quiet()).await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    viewer.next().await.unwrap();
    world.store.deaf.store(true, SeqCst);
    world.change().await;
    world.store.cut.store(2, SeqCst);
    let seen = frames(&mut viewer, secs(2)).await;
    let Frame::Resync(resync) = &seen[0] else { panic!("{seen:?}") };
    assert_eq!(resync.reason, ResyncReason::Rebuilt);
    let mut replica = Replica::default();
    assert!(replica.read(&seen[1]));
    assert_eq!(replica.records.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn lost_hints_and_a_feed_that_lags_are_made_up_for_from_the_log() {
    let world = World::new(quiet()).await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    viewer.next().await.unwrap();
    world.store.deaf.store(true, SeqCst);
    world.change().await;
    world.store.deaf.store(false, SeqCst);
    // More than the feed holds, before the broker can look.
    for _ in 0..20 {
        world.change().await;
    }
    let seen = names(&frames(&mut viewer, secs(2)).await);
    assert_eq!(seen.iter().filter(|name| **name == "job_cancelled").count(), 21);
    assert!(!seen.contains(&"resync"));
}

#[tokio::test(start_paused = true)]
async fn a_window_is_one_group_with_the_newest_of_each_record() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    world.settle().await;
    let mut viewer = world.broker.viewer(None, millis(100));
    viewer.next().await.unwrap();
    // The first group after a quiet time goes out at once; the window begins with it.
    world.changes(1).await;
    let first = frames(&mut viewer, millis(5)).await;
    assert_eq!(names(&first), ["job_cancelled"]);
    let held = world.fleet.running(&hand).await;
    let completed = pointsman_store::conformance::fleet::completed();
    world.fleet.act(&hand, held, completed).await.unwrap().unwrap_settled();
    let seen = frames(&mut viewer, millis(300)).await;
    let groups: Vec<_> = seen.iter().filter(|f| matches!(f, Frame::Events(_))).collect();
    assert_eq!(groups.len(), 1, "{:?}", names(&seen));
    let (lines, keys) = Replica::keys(groups[0]);
    assert_eq!(lines, keys.len(), "each record stands there once");
    assert_eq!(keys.len(), 3, "the job, its worker and the connector: {keys:?}");
}

trait Settled {
    fn unwrap_settled(self);
}

impl Settled for pointsman_core::command::OpAnswer {
    fn unwrap_settled(self) {
        assert!(matches!(self, Self::Settled { .. }), "{self:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_raw_log_says_when_it_cannot_go_on() {
    use pointsman_broker::LogError;
    let world = World::new(quiet()).await;
    world.changes(3).await;
    let all = world.broker.log(world.position(0), 100).await.unwrap();
    assert_eq!(all.iter().map(|group| group.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(world.broker.log(world.position(4), 1).await.unwrap()[0].seq, 5);
    assert!(world.broker.log(world.position(6), 100).await.unwrap().is_empty());
    assert_eq!(world.broker.log(world.position(7), 1).await.unwrap_err(), LogError::BeyondHead);
    world.store.cut.store(2, SeqCst);
    let cut = world.broker.log(world.position(1), 1).await.unwrap_err();
    assert_eq!(cut, LogError::Cut { oldest: 3 });
    let other = Position { epoch: Epoch::mint(), seq: 1 };
    let current = world.broker.store().epoch();
    let refused = world.broker.log(other, 1).await.unwrap_err();
    assert_eq!(refused, LogError::OtherEpoch { current });
}
