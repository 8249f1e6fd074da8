//! What is said of the truth of what is shown.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use pointsman_broker::{Frame, Liveness};
use pointsman_store::{Health, conformance::fleet::spec};
use tokio::time::Instant;

use crate::support::{World, frames, names, quiet, secs};

#[tokio::test(start_paused = true)]
async fn a_bookmark_every_five_seconds_when_no_group_comes() {
    let world = World::new(quiet()).await;
    // Pending jobs are not in the view: the position moves on all the same.
    world.fleet.submit(spec(50)).await;
    world.settle().await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    viewer.next().await.unwrap();
    world.fleet.submit(spec(50)).await;
    let seen = frames(&mut viewer, secs(11)).await;
    let bookmarks: Vec<_> = seen
        .iter()
        .filter_map(|frame| match frame {
            Frame::Bookmark(bookmark) => Some(bookmark.seq),
            _ => None,
        })
        .collect();
    assert_eq!(bookmarks, [2, 2]);
    assert_eq!(names(&seen).iter().filter(|name| **name == "pulse").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_cannot_read_the_log_says_so_instead_of_bookmark_and_pulse() {
    let world = World::new(quiet()).await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    viewer.next().await.unwrap();
    frames(&mut viewer, secs(6)).await;
    assert_eq!(world.broker.live(), Liveness::Live);

    let cut_off_at = world.broker.store().now();
    world.store.down.store(true, SeqCst);
    let seen = frames(&mut viewer, secs(20)).await;
    let late: Vec<_> = names(&seen).into_iter().skip_while(|name| *name != "not_live").collect();
    assert!(late.len() >= 2 && late.iter().all(|name| *name == "not_live"), "{seen:?}");
    let Liveness::NotLive(why) = world.broker.live() else { panic!("live") };
    assert!(why.reason.contains("cut off"), "{why:?}");
    assert_eq!(why.since, cut_off_at);
    // Whoever reads it aloud, or prints it, does so once.
    for frame in &seen {
        let Frame::NotLive(said) = frame else { continue };
        assert_eq!(said, &why);
    }

    world.store.down.store(false, SeqCst);
    let seen = names(&frames(&mut viewer, secs(11)).await);
    assert!(seen.contains(&"bookmark") && seen.contains(&"pulse"), "{seen:?}");
    assert_eq!(world.broker.live(), Liveness::Live);
}

#[tokio::test(start_paused = true)]
async fn what_the_feed_brings_to_the_end_is_live_though_the_log_is_not_read() {
    let world = World::new(quiet()).await;
    world.store.log_down.store(true, SeqCst);
    for _ in 0..10 {
        world.fleet.submit(spec(50)).await;
        world.settle().await;
        assert_eq!(world.broker.live(), Liveness::Live);
        tokio::time::sleep(secs(4)).await;
    }
    tokio::time::sleep(secs(2)).await;
    assert_ne!(world.broker.live(), Liveness::Live, "nothing more comes");
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_comes_while_the_store_is_away_is_told_at_once() {
    let world = World::new(quiet()).await;
    let mut early = world.broker.viewer(None, Duration::ZERO);
    early.next().await.unwrap();
    world.store.down.store(true, SeqCst);
    frames(&mut early, secs(8)).await;

    let began = Instant::now();
    let mut fresh = world.broker.viewer(None, Duration::ZERO);
    let first = [fresh.next().await.unwrap(), fresh.next().await.unwrap()];
    assert_eq!(names(&first), ["full_state_snapshot", "not_live"]);
    let Frame::NotLive(why) = &first[1] else { panic!("{first:?}") };
    assert!(why.reason.contains("cut off"), "{why:?}");
    let mut resumed = world.broker.viewer(early.position().cloned(), Duration::ZERO);
    assert_eq!(names(&[resumed.next().await.unwrap()]), ["not_live"]);
    assert_eq!(began.elapsed(), Duration::ZERO);

    world.store.down.store(false, SeqCst);
    for viewer in [&mut fresh, &mut resumed] {
        let seen = names(&frames(viewer, secs(6)).await);
        assert!(seen.contains(&"pulse") || seen.contains(&"bookmark"), "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_store_is_not_live_at_once_and_a_full_one_is() {
    let world = World::new(quiet()).await;
    world.store.set_health(Health::Full("no space".into()));
    assert_eq!(world.broker.live(), Liveness::Live);
    let refused = [
        (Health::Importing, "an import fills the store"),
        (Health::Newer("it is a newer version's".into()), "newer version"),
        (Health::Failed("the disk is gone".into()), "the disk is gone"),
    ];
    for (health, reason) in refused {
        world.store.set_health(health);
        let Liveness::NotLive(why) = world.broker.live() else { panic!("live: {reason}") };
        assert!(why.reason.contains(reason), "{why:?}");
    }
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    let seen = names(&frames(&mut viewer, secs(6)).await);
    assert!(seen.contains(&"not_live"), "{seen:?}");
    assert!(!seen.contains(&"pulse") && !seen.contains(&"bookmark"), "{seen:?}");
}

/// A viewer that reads slowly gets what is true now.
#[tokio::test(start_paused = true)]
async fn a_pulse_of_before_is_not_told_while_it_is_not_live() {
    let world = World::new(quiet()).await;
    let [mut slow, mut other] = [(), ()].map(|()| world.broker.viewer(None, Duration::ZERO));
    slow.next().await.unwrap();
    let seen = names(&frames(&mut other, secs(6)).await);
    assert!(seen.contains(&"pulse"), "{seen:?}");
    world.store.set_health(Health::Failed("the disk is gone".into()));
    let seen = names(&frames(&mut slow, secs(1)).await);
    assert_eq!(seen, ["not_live"]);
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_viewers() {
    let world = World::new(quiet()).await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    viewer.next().await.unwrap();
    assert_eq!(world.broker.stats().viewers, 1);
    let (last, ()) = tokio::join!(viewer.next(), world.tasks.stop());
    assert!(last.is_none());
    drop(viewer);
    assert_eq!(world.broker.stats().viewers, 0);
}
