//! The rules of each lane.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use pointsman_broker::{Broker, Frame, PreviewError, Viewer};
use pointsman_core::{
    JobId, LossReason,
    command::{Finish, Held, Op, Outcome},
    record::{ConnectorStatus, Progress},
};
use pointsman_store::{
    Preview, Store,
    conformance::{
        fleet::{Fleet, Hand, completed, spec},
        logged::Log,
    },
};
use serde_json::Value;

use crate::support::{World, frames, millis, names, quiet, secs};

fn progress(attempt: u32, n: u64) -> Progress {
    Progress { attempt, n, percent: Some(n as f32), ..Progress::default() }
}

impl World {
    async fn tell(&self, hand: &Hand, held: &[Held], progress: Vec<(JobId, Progress)>) {
        let renewal = Fleet::renewal(hand, held.to_vec(), ConnectorStatus::Active);
        self.broker.renew(renewal, progress).await.expect("a valid renewal");
    }

    async fn listened_to(&self, held: Held) -> bool {
        self.broker.has_listened(&*self.fleet.job(held.job).await)
    }

    /// The progress in a snapshot.
    async fn shown(&self) -> BTreeMap<JobId, u64> {
        let lane = self.broker.snapshot().await.lanes.progress;
        lane.values.into_iter().map(|value| (value.job, value.progress.n)).collect()
    }
}

async fn watching(world: &World) -> Viewer {
    world.settle().await;
    let mut viewer = world.broker.viewer(None, Duration::ZERO);
    assert!(matches!(viewer.next().await, Some(Frame::Snapshot(_))));
    viewer
}

#[tokio::test(start_paused = true)]
async fn progress_is_taken_for_the_attempt_that_the_record_shows_and_only_if_newer() {
    let world = World::new(quiet()).await;
    let (a, b) = (world.fleet.worker("a", 1, &[]).await, world.fleet.worker("b", 1, &[]).await);
    let held = world.fleet.running(&a).await;
    let job = held.job;
    world.tell(&a, &[held], vec![(job, progress(1, 5))]).await;
    assert_eq!(world.shown().await[&job], 5);
    world.tell(&a, &[held], vec![(job, progress(1, 4))]).await;
    world.tell(&a, &[held], vec![(job, progress(2, 9))]).await;
    world.tell(&b, &[], vec![(job, progress(1, 9))]).await;
    assert_eq!(world.shown().await[&job], 5, "old news, another attempt, another worker");

    // The job is lost, and another worker has it: what the first one says is nothing now.
    let reason = pointsman_core::LossReason::ServiceLost;
    let release = Op::Release { reason, message: String::new() };
    world.fleet.act(&a, held, release).await.unwrap();
    world.settle().await;
    assert!(world.shown().await.is_empty(), "dropped with its attempt");
    let again = world.fleet.claim(&b).await.unwrap();
    world.tell(&a, &[held], vec![(job, progress(1, 6))]).await;
    assert!(world.shown().await.is_empty());
    // Taken although the hub may not have read the claim yet.
    world.tell(&b, &[again], vec![(job, progress(2, 1))]).await;
    assert_eq!(world.shown().await[&job], 1);
}

#[tokio::test(start_paused = true)]
async fn progress_without_a_time_is_of_when_it_came_as_news() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    // What the view does not know yet may be dropped as it learns of it.
    world.settle().await;
    let heard = async || {
        let lane = world.broker.snapshot().await.lanes.progress;
        lane.values[0].progress.last_event_at.expect("known")
    };
    world.tell(&hand, &[held], vec![(held.job, progress(1, 1))]).await;
    let first = world.store_now();
    assert_eq!(heard().await, first);
    world.pass(secs(5)).await;
    world.tell(&hand, &[held], vec![(held.job, progress(1, 1))]).await;
    assert_eq!(heard().await, first, "a repeat is no news");
    world.tell(&hand, &[held], vec![(held.job, progress(1, 2))]).await;
    assert_eq!(heard().await, first + secs(5));
    let given = Progress { last_event_at: Some(first + secs(1)), ..progress(1, 3) };
    world.tell(&hand, &[held], vec![(held.job, given)]).await;
    assert_eq!(heard().await, first + secs(1), "a worker that says it knows best");
}

/// Workers say the last of each job again every 15 s.
#[tokio::test(start_paused = true)]
async fn a_server_that_was_just_started_may_lack_what_was_said_before() {
    let mut world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 2, &[]).await;
    let before = world.fleet.running(&hand).await;
    world.pass(secs(1)).await;
    world.restart().await;
    let since = world.fleet.running(&hand).await;
    world.pass(millis(19_900)).await;
    assert!(!world.listened_to(before).await);
    assert!(world.listened_to(since).await, "it listened all the while");
    world.pass(millis(100)).await;
    assert!(world.listened_to(before).await);
    world.restart().await;
    let outcome = Outcome::Completed { artifacts: Vec::new(), cached: false, result: None };
    let finish = Finish { outcome, last_progress: None };
    assert!(!world.listened_to(since).await);
    world.fleet.act(&hand, since, Op::Finish(finish)).await.unwrap();
    assert!(world.listened_to(since).await, "it does not run: there is no progress of it");
}

#[tokio::test(start_paused = true)]
async fn progress_goes_when_the_job_ends_and_its_last_one_is_in_the_record() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.tell(&hand, &[held], vec![(held.job, progress(1, 70))]).await;
    let outcome = Outcome::Completed { artifacts: Vec::new(), cached: false, result: None };
    let finish = Finish { outcome, last_progress: Some(progress(1, 99)) };
    world.fleet.act(&hand, held, Op::Finish(finish)).await.unwrap();
    world.settle().await;
    assert!(world.shown().await.is_empty());
    let job = world.fleet.job(held.job).await;
    assert_eq!(job.ended().unwrap().last_progress, Some(progress(1, 99)));
    world.tell(&hand, &[held], vec![(held.job, progress(1, 100))]).await;
    assert!(world.shown().await.is_empty(), "nothing comes after the end");
}

#[tokio::test(start_paused = true)]
async fn a_viewer_gets_progress_with_or_after_the_record_that_it_belongs_to() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 2, &[]).await;
    let known = world.fleet.running(&hand).await;
    world.settle().await;
    let mut viewer = world.broker.viewer(None, secs(1));
    assert!(matches!(viewer.next().await, Some(Frame::Snapshot(_))));
    // Something is sent, and the window to the next is open.
    let first = world.fleet.running(&hand).await;
    world.settle().await;
    frames(&mut viewer, millis(10)).await;
    world.fleet.act(&hand, first, completed()).await.unwrap();
    let held = world.fleet.running(&hand).await;
    world.settle().await;
    let values = vec![(held.job, progress(1, 1)), (known.job, progress(1, 2))];
    world.tell(&hand, &[held, known], values).await;
    // As a page does: a value of a job whose record it has not is dropped.
    let (mut records, mut shown) = (Vec::new(), Vec::new());
    for frame in frames(&mut viewer, secs(3)).await {
        let lines = frame
            .lines()
            .into_iter()
            .map(|line| (line.event, serde_json::from_str::<Value>(&line.data).expect("JSON")));
        for (event, data) in lines {
            if event == "progress" {
                let values = data["values"].as_array().unwrap().iter();
                let jobs = values.map(|value| value["job"].as_str().unwrap().to_owned());
                shown.extend(
                    jobs.filter(|job| *job == known.job.to_string() || records.contains(job)),
                );
            } else if data["record"].is_object() {
                records.push(data["id"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(shown, [known.job.to_string(), held.job.to_string()], "each once");
}

#[tokio::test(start_paused = true)]
async fn progress_of_a_new_attempt_comes_with_or_after_its_record() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let first = world.fleet.running(&hand).await;
    let mut viewer = watching(&world).await;
    world.store.deaf.store(true, SeqCst);
    let release = Op::Release { reason: LossReason::Unstarted, message: String::new() };
    world.fleet.act(&hand, first, release).await.unwrap();
    let held = world.fleet.claim(&hand).await.expect("it waits again");
    world.fleet.act(&hand, held, Op::Start).await.unwrap();
    world.tell(&hand, &[held], vec![(held.job, progress(2, 1))]).await;
    let seen = names(&frames(&mut viewer, secs(2)).await);
    let at = |event: &str| seen.iter().position(|name| *name == event);
    assert!(at("job_started").is_some() && at("job_started") < at("progress"), "{seen:?}");
}

/// Nobody told that it ended: the view is built anew without it.
#[tokio::test(start_paused = true)]
async fn what_does_not_run_in_a_view_that_is_built_anew_has_no_progress() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.settle().await;
    world.tell(&hand, &[held], vec![(held.job, progress(1, 5))]).await;
    assert_eq!(world.shown().await.len(), 1);
    world.store.deaf.store(true, SeqCst);
    world.fleet.act(&hand, held, completed()).await.unwrap();
    world.store.cut.store(world.fleet.seq().await, SeqCst);
    world.settle().await;
    assert!(world.shown().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn at_most_four_values_a_second_of_one_job_and_the_newest_last() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    let mut viewer = watching(&world).await;
    let reader = tokio::spawn(async move { frames(&mut viewer, secs(3)).await });
    for n in 1..=100 {
        world.tell(&hand, &[held], vec![(held.job, progress(1, n))]).await;
        tokio::time::sleep(millis(20)).await;
    }
    let told: Vec<Value> = reader
        .await
        .unwrap()
        .iter()
        .flat_map(Frame::lines)
        .filter(|line| line.event == "progress")
        .map(|line| serde_json::from_str(&line.data).unwrap())
        .collect();
    assert!((7..=9).contains(&told.len()), "{} in two seconds", told.len());
    let last = told.last().unwrap();
    assert_eq!(last["values"].as_array().unwrap().len(), 1);
    assert_eq!(last["values"][0]["n"], 100);
    assert_eq!(last["values"][0]["job"], held.job.to_string());
    assert!(last["as_of"]["seq"].is_u64() && last["as_of"]["at"].is_string(), "{last}");
}

#[tokio::test(start_paused = true)]
async fn at_most_a_thousand_values_a_second_a_viewer_and_none_is_forgotten() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1_024, &[]).await;
    for _ in 0..600 {
        world.fleet.submit(spec(50)).await;
    }
    let tokens = (0..600).map(|_| world.fleet.token()).collect();
    let held = world.fleet.claim_with(&hand, tokens).await;
    assert_eq!(held.len(), 600);
    let mut viewer = watching(&world).await;
    let all = held.iter().map(|held| (held.job, progress(1, 1))).collect();
    world.tell(&hand, &held, all).await;
    let lanes = |frames: Vec<Frame>| {
        let values = frames.into_iter().filter_map(|frame| match frame {
            Frame::Progress(lane) => Some(lane.values.len()),
            _ => None,
        });
        values.collect::<Vec<_>>()
    };
    assert_eq!(lanes(frames(&mut viewer, secs(2)).await), [250, 250, 100]);
}

#[tokio::test(start_paused = true)]
async fn the_queues_are_made_when_something_changed_and_somebody_watches() {
    let world = World::new(quiet()).await;
    let made = || world.store.queues_made.load(SeqCst);
    world.fleet.submit(spec(50)).await;
    world.pass(secs(5)).await;
    assert_eq!(made(), 0, "nobody watches");
    let mut viewer = watching(&world).await;
    assert_eq!(made(), 1, "for the snapshot");
    frames(&mut viewer, secs(10)).await;
    assert_eq!(made(), 1, "nothing has changed");
    let reader = tokio::spawn(async move { frames(&mut viewer, secs(4)).await });
    for _ in 0..200 {
        world.fleet.submit(spec(50)).await;
        tokio::time::sleep(millis(10)).await;
    }
    let told = reader.await.unwrap();
    let lanes: Vec<_> = told
        .iter()
        .filter_map(|frame| match frame {
            Frame::Queues(lane) => Some(&**lane),
            _ => None,
        })
        .collect();
    assert!((3..=6).contains(&lanes.len()), "{} in two seconds", lanes.len());
    let last = lanes.last().unwrap();
    assert_eq!((last.queues.pending.len(), last.queues.counts.pending), (200, 201));
    assert_eq!(last.as_of.seq, 201);
    let json = serde_json::to_value(last).unwrap();
    for field in ["as_of", "pending", "classes", "counts"] {
        assert!(json.get(field).is_some(), "{field} in {json}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_pulse_tells_who_was_heard_and_what_confirmed_each_status() {
    let world = World::new(quiet()).await;
    world.fleet.worker("a", 1, &[]).await;
    let mut viewer = watching(&world).await;
    world.pass(secs(5)).await;
    let told = frames(&mut viewer, secs(11)).await;
    let pulses: Vec<_> = told.iter().filter(|frame| matches!(frame, Frame::Pulse(_))).collect();
    assert!((2..=3).contains(&pulses.len()), "{} in eleven seconds", pulses.len());
    let json: Value = serde_json::from_str(&pulses[0].lines()[0].data).unwrap();
    assert_eq!(json["workers"][0]["id"], "a");
    assert!(json["workers"][0]["heartbeat_at"].is_string());
    assert_eq!(json["connectors"][0]["source"], "report");
    assert_eq!(json["machines"][0]["id"], "m-a");
    drop(viewer);
    let made = world.store.pulses_made.load(SeqCst);
    world.pass(secs(30)).await;
    assert!(world.store.pulses_made.load(SeqCst) <= made + 1, "nobody watches");
}

/// The data of the pulses that a viewer has got five seconds later.
async fn pulses(world: &World, viewer: &mut Viewer) -> Vec<Value> {
    world.pass(secs(5)).await;
    let told = frames(viewer, millis(100)).await;
    let pulses = told.iter().filter(|frame| matches!(frame, Frame::Pulse(_)));
    pulses.map(|frame| serde_json::from_str(&frame.lines()[0].data).unwrap()).collect()
}

/// Who stands in a list of a pulse, with its time.
fn told<'a>(pulse: &'a Value, list: &str) -> Vec<(&'a str, Option<&'a str>)> {
    let time = |entry: &'a Value| entry.get("heartbeat_at").or_else(|| entry.get("confirmed_at"));
    let entries = pulse[list].as_array().unwrap().iter();
    entries.map(|entry| (entry["id"].as_str().unwrap(), time(entry).unwrap().as_str())).collect()
}

#[tokio::test(start_paused = true)]
async fn of_a_large_fleet_a_viewer_is_told_only_who_fell_silent_and_who_came_back() {
    let world = World::new(quiet()).await;
    let mut hands = Vec::new();
    for n in 0..200 {
        hands.push(world.fleet.worker(&format!("w-{n:03}"), 1, &[]).await);
    }
    let mut whole = watching(&world).await;
    let mut viewer = watching(&world).await.with_pulse_changes();
    let (quiet, well) = hands.split_first().unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        for hand in well {
            world.tell(hand, &[], Vec::new()).await;
        }
        seen.extend(pulses(&world, &mut viewer).await);
    }
    assert!(seen.iter().all(|pulse| pulse["changes"] == true), "it holds what the snapshot told");
    let silent: Vec<_> = seen.iter().flat_map(|pulse| told(pulse, "workers")).collect();
    let [(id, Some(at))] = silent[..] else { panic!("once, and it alone: {silent:?}") };
    assert_eq!(id, "w-000");
    let last = seen.last().unwrap();
    assert!(at < last["heard_since"].as_str().unwrap(), "{at} in {last}");

    world.tell(quiet, &[], Vec::new()).await;
    let seen = pulses(&world, &mut viewer).await;
    let back: Vec<_> = seen.iter().flat_map(|pulse| told(pulse, "workers")).collect();
    let [("w-000", Some(again))] = back[..] else { panic!("{back:?}") };
    assert!(again > at, "{again} after {at}");

    let all = pulses(&world, &mut whole).await;
    let complete = |pulse: &Value| pulse["changes"] == false && told(pulse, "workers").len() == 200;
    assert!(!all.is_empty() && all.iter().all(complete), "who did not ask gets everything");
}

#[tokio::test(start_paused = true)]
async fn of_a_small_fleet_the_pulse_is_whole_also_where_changes_would_do() {
    let world = World::new(quiet()).await;
    world.fleet.worker("a", 1, &[]).await;
    let mut viewer = watching(&world).await.with_pulse_changes();
    let seen = pulses(&world, &mut viewer).await;
    let whole = |pulse: &Value| pulse["changes"] == false && told(pulse, "workers").len() == 1;
    assert!(!seen.is_empty() && seen.iter().all(whole), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_fails_is_part_of_one_trouble_that_ends_also_when_nobody_watches_any_more() {
    let world = World::new(quiet()).await;
    let (log, _listening) = Log::listen();
    for time in ["first", "second"] {
        let viewer = watching(&world).await;
        world.pass(secs(1)).await;
        // The second one is to be told half a second after the first, and cannot be read then.
        for _ in 0..2 {
            world.fleet.submit(spec(50)).await;
            world.pass(millis(25)).await;
        }
        world.store.down.store(true, SeqCst);
        world.pass(secs(6)).await;
        drop(viewer);
        world.store.down.store(false, SeqCst);
        world.pass(secs(10)).await;
        let told = std::mem::take(&mut *log.0.lock());
        let [begin, end] = &told[..] else { panic!("{time}: {told:#?}") };
        assert!(begin.contains("cut off") && end.contains("does it again"), "{time}: {told:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_preview_belongs_to_the_running_attempt() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.settle().await;
    let set = |attempt, n| {
        world.broker.set_preview(held.job, attempt, n, vec![1, 2].into(), "image/jpeg".into())
    };
    assert_eq!(set(2, 1).await, Err(PreviewError::NotRunning));
    assert_eq!(set(1, 1).await, Ok(()));
    assert_eq!(set(1, 1).await, Err(PreviewError::OldNews));
    assert_eq!(world.broker.preview(held.job).await.unwrap().unwrap().n, 1);
    world.fleet.act(&hand, held, completed()).await.unwrap();
    world.settle().await;
    assert_eq!(world.broker.preview(held.job).await, Ok(None));
    assert_eq!(set(1, 2).await, Err(PreviewError::NotRunning));
}

/// Also on a server that has it from the store alone, which keeps it for a while.
#[tokio::test(start_paused = true)]
async fn a_preview_that_the_store_keeps_is_not_shown_for_another_attempt() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.settle().await;
    let set = world.broker.set_preview(held.job, 1, 1, vec![1].into(), "image/png".into());
    set.await.unwrap();
    let other = Arc::new(world.store.another());
    let (other, _tasks) = Broker::start(other, quiet()).await.unwrap();
    let shown = async || other.preview(held.job).await.unwrap().map(|preview| preview.n);
    assert_eq!(shown().await, Some(1));

    let reason = pointsman_core::LossReason::Unstarted;
    let release = Op::Release { reason, message: String::new() };
    world.fleet.act(&hand, held, release).await.unwrap();
    assert_eq!(shown().await, None, "it waits");
    let next = world.fleet.claim(&hand).await.unwrap();
    assert_eq!((next.job, next.attempt), (held.job, 2));
    assert_eq!(shown().await, None, "another attempt runs");
}

/// A worker hands its pictures in at whichever server it reaches.
#[tokio::test(start_paused = true)]
async fn the_newer_picture_is_shown_whoever_took_it_in() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.settle().await;
    let take = async |n| {
        world.broker.set_preview(held.job, 1, n, vec![1].into(), "image/png".into()).await.unwrap();
    };
    let elsewhere = async |n| {
        let (media_type, bytes) = ("image/png".into(), vec![2].into());
        let preview = Preview { attempt: 1, n, media_type, bytes };
        world.store.keep_preview(held.job, preview).await.unwrap();
    };
    let shown = async || world.broker.preview(held.job).await.unwrap().map(|preview| preview.n);
    take(1).await;
    elsewhere(2).await;
    assert_eq!(shown().await, Some(2), "the other server's");
    take(3).await;
    assert_eq!(shown().await, Some(3));
    elsewhere(2).await;
    assert_eq!(shown().await, Some(3), "its own");
    elsewhere(4).await;
    world.store.down.store(true, SeqCst);
    assert_eq!(shown().await, Some(3), "its own, while the store cannot be reached");
}
