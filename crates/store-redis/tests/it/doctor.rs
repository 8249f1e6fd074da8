//! What somebody's hand did to the keys is found, told, and mended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use pointsman_core::{
    Event, RecordKey,
    decide::limits,
    doctor::{FindingRule, Mend, MendOutcome},
    record::JobSpec,
};
use pointsman_store::{
    Depth, Due, JobFilter, LogPage, Retention, Store as _,
    conformance::fleet::{Fleet, Hand, completed, needs, spec},
};

use crate::{
    keyspace::dump,
    support::{by_hand, connection, content, fleet_on, open_with, prefix},
};

/// A fleet with a job that runs, one that waits and one that has ended.
async fn scene() -> (Fleet, String, Hand, pointsman_core::command::Held) {
    let (fleet, options) = fleet_on();
    let hand = fleet.worker("w", 2, &["x"]).await;
    let ended = fleet.running(&hand).await;
    fleet.act(&hand, ended, completed()).await.expect("it ends");
    let running = fleet.running(&hand).await;
    fleet.submit(spec(50)).await;
    (fleet, prefix(&options), hand, running)
}

#[tokio::test]
async fn a_sound_store_is_left_as_it_is() {
    let (fleet, prefix, ..) = scene().await;
    let before = dump(&prefix);
    for depth in [Depth::Fleet, Depth::Everything] {
        let found = fleet.store.examine(depth).await.expect("it is examined");
        assert!(found.is_sound(), "{found:?}");
    }
    assert_eq!(fleet.store.mend(None).await, Ok(Vec::new()));
    assert!(before == dump(&prefix), "a repair of nothing changes nothing");
}

/// The corruption that the post-mortem tells of: a worker that lost its machine.
#[tokio::test]
async fn a_worker_whose_machine_became_unknown_works_on_and_is_mended() {
    let (fleet, prefix, hand, running) = scene().await;
    by_hand(&prefix, "HSET worker:w machine_id unknown");
    let found = fleet.store.examine(Depth::Fleet).await.expect("it is examined");
    let ids: Vec<&str> = found.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!(ids, ["unknown_machine:worker/w"], "the cheap look finds it");
    assert!(found.findings[0].problem.contains("m-w"), "{:?}", found.findings[0]);
    fleet.act(&hand, running, completed()).await.expect("the worker works on");
    assert!(fleet.claim(&hand).await.is_some());
    let mended = fleet.store.mend(None).await.expect("it is mended");
    assert_eq!(mended.len(), 1, "{mended:?}");
    assert_eq!(mended[0].outcome, MendOutcome::Repaired);
    assert_eq!(fleet.worker_record(&hand).await.machine_id, hand.machine);
    fleet.check().await.expect("nothing is wrong any more");
}

/// Who named one finding has decided about no other.
#[tokio::test]
async fn of_several_indexes_the_one_that_is_named_is_mended() {
    let (fleet, prefix, _, running) = scene().await;
    by_hand(&prefix, "SREM workers w");
    by_hand(&prefix, &format!("ZREM jobs {}", running.job));
    let ids = fleet.findings().await;
    assert_eq!(ids.len(), 2, "{ids:?}");
    let mended = fleet.store.mend(Some(ids[..1].to_vec())).await.expect("it is mended");
    assert_eq!(mended.len(), 1, "{mended:?}");
    assert_eq!(fleet.findings().await, ids[1..]);
}

/// Each damage is found under its rule, told with consequence and cure, and mended; afterwards
/// everything is as it was.
#[tokio::test]
async fn every_damage_is_found_and_mended() {
    use FindingRule as R;
    let (fleet, prefix, hand, running) = scene().await;
    let job = running.job;
    let class = {
        let queues = fleet.store.queues(10).await.expect("the store works");
        queues.classes[0].class
    };
    let waiting = fleet.store.queues(10).await.expect("the store works").pending[0].id;
    let cases: Vec<(String, R)> = vec![
        ("HSET worker:w status gar}bage".into(), R::UnreadableField),
        ("HSET worker:w jobs_completed 77".into(), R::Contradiction),
        ("HSET worker:w retry_count 3".into(), R::ForeignField),
        ("HDEL connector:w:simulation worker_id".into(), R::UnreadableField),
        ("HSET machine:m-w status gone".into(), R::UnreadableField),
        (format!("HSET job:{job} status completed"), R::UnreadableField),
        (format!("HSET job:{job} attempt 9"), R::Contradiction),
        (format!("ZREM leases {job}"), R::RunningWithoutLease),
        (format!("ZADD leases 1 {waiting}"), R::LeaseWithoutJob),
        (format!("ZADD holds 1 {waiting}"), R::IndexWithoutRecord),
        (format!("ZREM jobs {waiting}"), R::RecordWithoutIndex),
        (format!("DEL queue:{class}"), R::RecordWithoutIndex),
        (format!("ZADD queue:{class} 1 000000000001:{job}"), R::IndexWithoutRecord),
        ("DEL heads:simulation".into(), R::RecordWithoutIndex),
        (format!("HSET class:{class} live 5"), R::WrongCount),
        (format!("HDEL class:{class} head"), R::Contradiction),
        ("HSET meta pending 12".into(), R::WrongCount),
        ("SREM workers w".into(), R::RecordWithoutIndex),
        ("SADD workers ghost".into(), R::IndexWithoutRecord),
        ("SREM machine:m-w:workers w".into(), R::RecordWithoutIndex),
        ("SET leases x".into(), R::WrongType),
    ];
    let whole = content(&*fleet.store).await;
    for (damage, rule) in cases {
        by_hand(&prefix, &damage);
        let found = fleet.store.examine(Depth::Everything).await.expect("it is examined");
        let finding = found.findings.iter().find(|finding| finding.rule == rule);
        let finding = finding.unwrap_or_else(|| panic!("{damage}: {found:?}"));
        assert!(!finding.consequence.is_empty() && !finding.cure.is_empty());
        let mended = fleet.store.mend(None).await.expect("it is mended");
        let left = mended.iter().find(|m| matches!(m.outcome, MendOutcome::Left { .. }));
        assert!(left.is_none(), "{damage}: {left:?}");
        // What was set aside and made anew is kept for a look at it, until it is repaired in turn.
        let aside = fleet.store.mend(None).await.expect("it is mended");
        assert!(aside.iter().all(|m| m.finding.rule == R::Quarantined), "{damage}: {aside:?}");
        let after = fleet.store.examine(Depth::Everything).await.expect("it is examined");
        assert!(after.is_sound(), "{damage}: {after:?}");
        assert_eq!(content(&*fleet.store).await, whole, "after {damage}");
    }
    fleet.act(&hand, running, completed()).await.expect("the worker works on");
}

/// What no log entry tells any more is set aside, and missed until something stands in its place.
#[tokio::test]
async fn what_cannot_be_read_and_is_not_in_the_log_is_set_aside() {
    let (fleet, prefix, hand, _) = scene().await;
    by_hand(&prefix, "DEL log");
    by_hand(&prefix, "HSET worker:w presence nowhere");
    let found = fleet.store.examine(Depth::Fleet).await.expect("it is examined");
    assert_eq!(found.findings[0].id, "unreadable_field:worker/w");
    fleet.store.mend(None).await.expect("it is mended");
    let found = fleet.store.examine(Depth::Fleet).await.expect("it is examined");
    let ids: Vec<&str> = found.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert!(ids.contains(&"quarantined:worker/w"), "{found:?}");
    let register = Fleet::registration(&hand, 2, &["x"]);
    fleet.run(pointsman_core::Command::Register(register)).await.expect("it registers anew");
    let found = fleet.store.examine(Depth::Fleet).await.expect("it is examined");
    let aside = found.findings.iter().find(|finding| finding.id == "quarantined:worker/w");
    assert_eq!(aside.map(|finding| finding.mend), Some(Mend::Repair), "{found:?}");
    fleet.store.mend(None).await.expect("it is mended");
    let found = fleet.store.examine(Depth::Everything).await.expect("it is examined");
    assert!(!found.has("quarantined:worker/w"), "{found:?}");
}

/// A job that was made anew and ended long ago is not missing.
#[tokio::test]
async fn what_was_made_anew_is_not_missed_when_it_goes() {
    let (fleet, prefix, hand, running) = scene().await;
    let job = running.job;
    by_hand(&prefix, &format!("SET job:{job} x"));
    let mended = fleet.store.mend(None).await.expect("it is mended");
    assert_eq!(mended[0].outcome, MendOutcome::Repaired);
    fleet.act(&hand, running, completed()).await.expect("it ends");
    fleet.advance(Duration::from_secs(31 * 24 * 3_600));
    while fleet.reconcile(Due::Ended(Retention::default())).await > 0 {}
    let jobs = fleet.store.jobs(JobFilter::default(), None, 10).await.expect("the store works");
    assert!(jobs.jobs.iter().all(|left| left.id != job), "it is removed");
    let gone = async || fleet.store.gone(vec![job]).await.expect("the store works");
    assert_eq!(gone().await, [], "it can still be looked at");
    for depth in [Depth::Fleet, Depth::Everything] {
        let found = fleet.store.examine(depth).await.expect("it is examined");
        let [aside] = &found.findings[..] else { panic!("{found:?}") };
        assert_eq!((&*aside.id, aside.mend), (&*format!("quarantined:job/{job}"), Mend::Repair));
        assert!(aside.consequence.starts_with("none any more"), "{aside:?}");
    }
    fleet.store.mend(None).await.expect("it is mended");
    fleet.check().await.expect("nothing is wrong any more");
    assert_eq!(gone().await, [job]);
}

/// An index without entries is no key at all.
#[tokio::test]
async fn what_is_told_of_an_index_that_was_set_aside_does_not_come_and_go() {
    let (fleet, prefix, hand, running) = scene().await;
    by_hand(&prefix, "SET leases x");
    fleet.store.mend(None).await.expect("it is mended");
    let examine = async || fleet.store.examine(Depth::Fleet).await.expect("it is examined");
    let found = examine().await;
    assert_eq!(
        found.findings.iter().map(|f| &*f.id).collect::<Vec<_>>(),
        ["quarantined:index/leases"]
    );
    fleet.act(&hand, running, completed()).await.expect("it ends");
    assert_eq!(examine().await, found);
    fleet.store.mend(None).await.expect("it is mended");
    fleet.check().await.expect("nothing is wrong any more");
}

/// What belongs to a job that may come back is kept.
#[tokio::test]
async fn a_job_is_not_gone_as_long_as_anything_names_it() {
    let (fleet, prefix, _, running) = scene().await;
    let job = running.job;
    let gone = async || fleet.store.gone(vec![job]).await.expect("the store works");
    by_hand(&prefix, &format!("DEL job:{job}"));
    assert_eq!(gone().await, [], "the index of jobs names it");
    by_hand(&prefix, "DEL jobs");
    assert_eq!(gone().await, [job]);
    by_hand(&prefix, "SET jobs nonsense");
    assert_eq!(gone().await, [], "nobody knows what it named");
    by_hand(&prefix, "DEL jobs");
    by_hand(&prefix, &format!("HSET quarantined job:{job}:2 job:{job}"));
    assert_eq!(gone().await, [job], "somebody deleted what was set aside");
    for (named, taken_away) in [
        (format!("ZADD ended 1 {job}"), "DEL ended".to_owned()),
        (format!("SET job:{job} nonsense"), format!("DEL job:{job}")),
        (format!("HSET job:{job} rev nonsense"), format!("DEL job:{job}")),
        (format!("SET quarantine:job:{job} x"), format!("DEL quarantine:job:{job}")),
        (format!("SET quarantine:job:{job}:2 x"), format!("DEL quarantine:job:{job}:2")),
        ("SET quarantined nonsense".to_owned(), "DEL quarantined".to_owned()),
    ] {
        by_hand(&prefix, &named);
        assert_eq!(gone().await, [], "{named}");
        by_hand(&prefix, &taken_away);
        assert_eq!(gone().await, [job], "{taken_away}");
    }
}

/// Nor is what only such a job names.
#[tokio::test]
async fn a_job_that_is_not_listed_is_in_doubt() {
    let (fleet, prefix, ..) = scene().await;
    let waiting = fleet.store.queues(10).await.expect("the store works").pending[0].id;
    let examine = async || fleet.store.examine(Depth::Everything).await.expect("it is examined");
    for damage in [
        "DEL jobs".to_owned(),
        "SET jobs x".into(),
        format!("ZREM jobs {waiting}"),
        format!("DEL job:{waiting}"),
        format!("SET job:{waiting} x"),
        format!("HSET job:{waiting} attempt x"),
    ] {
        assert_eq!(examine().await.doubts_jobs(), None);
        if damage.starts_with("SET jobs") {
            by_hand(&prefix, "DEL jobs");
        }
        by_hand(&prefix, &damage);
        assert!(examine().await.doubts_jobs().is_some(), "{damage}");
        fleet.store.mend(None).await.expect("it is mended");
    }
}

/// The log holds records whole, so one whose hash is gone, or was set back, becomes again what it was.
#[tokio::test]
async fn a_record_that_the_log_holds_is_written_anew() {
    let (fleet, prefix, hand, running) = scene().await;
    let ended = fleet.store.jobs(Default::default(), None, 10).await.expect("the store works").jobs;
    let ended = ended.iter().find(|job| job.is_ended()).expect("one has ended").id;
    let waiting = fleet.store.queues(10).await.expect("the store works").pending[0].id;
    let job = running.job;
    let cases = [
        (format!("DEL job:{waiting}"), format!("lost_record:job/{waiting}")),
        (format!("DEL job:{job}"), format!("lost_record:job/{job}")),
        (format!("DEL job:{ended}"), format!("lost_record:job/{ended}")),
        ("DEL worker:w".into(), "lost_record:worker/w".into()),
        ("DEL connector:w:simulation".into(), "lost_record:connector/w:simulation".into()),
        (format!("HSET job:{job} rev garbage"), format!("unreadable_field:job/{job}")),
        (format!("HSET job:{ended} rev 3"), format!("contradiction:job/{ended}")),
        (format!("HSET job:{ended} rev 99999"), format!("contradiction:job/{ended}")),
        ("HSET worker:w rev 99999".into(), "contradiction:worker/w".into()),
        ("HSET machine:m-w rev 99999".into(), "contradiction:machine/m-w".into()),
    ];
    let whole = content(&*fleet.store).await;
    for (damage, id) in cases {
        by_hand(&prefix, &damage);
        let found = fleet.store.examine(Depth::Everything).await.expect("it is examined");
        assert!(found.has(&id), "{damage}: {found:?}");
        let mended = fleet.store.mend(None).await.expect("it is mended");
        let left = mended.iter().find(|m| m.outcome != MendOutcome::Repaired);
        assert!(left.is_none(), "{damage}: {left:?}");
        let after = fleet.store.examine(Depth::Everything).await.expect("it is examined");
        assert!(after.is_sound(), "{damage}: {after:?}");
        assert_eq!(content(&*fleet.store).await, whole, "after {damage}");
    }
    fleet.act(&hand, running, completed()).await.expect("the worker works on");
}

/// What the log does not hold any more is told as lost, and views drop it.
#[tokio::test]
async fn a_record_that_is_lost_is_told_and_forgotten() {
    let (fleet, prefix, ..) = scene().await;
    let waiting = fleet.store.queues(10).await.expect("the store works").pending[0].id;
    fleet.submit(spec(50)).await;
    let seq = fleet.store.seed().await.expect("the store works").position.seq;
    by_hand(&prefix, &format!("XTRIM log MINID {seq}"));
    by_hand(&prefix, &format!("DEL job:{waiting}"));
    let found = fleet.store.examine(Depth::Everything).await.expect("it is examined");
    let finding = found.findings.iter().find(|f| f.id == format!("lost_record:job/{waiting}"));
    let finding = finding.unwrap_or_else(|| panic!("{found:?}"));
    assert!(finding.cure.contains("submit it again"), "{finding:?}");
    fleet.store.mend(None).await.expect("it is mended");
    let found = fleet.store.examine(Depth::Everything).await.expect("it is examined");
    let left: Vec<&str> = found.findings.iter().map(|finding| &*finding.id).collect();
    assert_eq!(
        left,
        [format!("index_without_record:index/payload:{waiting}")],
        "to submit it again"
    );
    fleet.store.mend(None).await.expect("it is deleted");
    let found = fleet.store.examine(Depth::Everything).await.expect("it is examined");
    assert!(found.is_sound(), "{found:?}");
    let LogPage::Groups(told) = fleet.store.log(seq, 10).await.expect("the store works") else {
        panic!("the log is there");
    };
    let is_removal = |event: &Event| event.key == RecordKey::Job(waiting) && event.record.is_none();
    assert!(told.iter().flat_map(|group| &group.events).any(is_removal), "{told:?}");
}

/// While a worker goes through jobs, what is sound is told as sound, and what is wrong with a job that
/// waits apart is found and mended all the same.
#[tokio::test]
async fn a_busy_fleet_is_looked_at_as_it_was_at_one_moment() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 2, &["x"]).await;
    let apart = fleet.submit(JobSpec { requirements: needs("y"), ..spec(50) }).await;
    let class = fleet.store.queues(10).await.expect("the store works").classes[0].class;
    let is_over = std::cell::Cell::new(false);
    let work = async {
        let mut done = 0;
        while !is_over.get() {
            let held = fleet.running(&hand).await;
            fleet.act(&hand, held, completed()).await.expect("it ends");
            done += 1;
        }
        done
    };
    let examine = async || fleet.store.examine(Depth::Everything).await.expect("it is examined");
    let look = async {
        for _ in 0..3 {
            let found = examine().await;
            assert!(found.is_sound(), "{found:?}");
        }
        by_hand(&prefix, &format!("DEL queue:{class}"));
        let id = format!("record_without_index:job/{apart}");
        for _ in 0..2 {
            let found = examine().await;
            assert!(found.has(&id), "{found:?}");
        }
        fleet.store.mend(Some(vec![id.clone()])).await.expect("it is mended");
        let found = examine().await;
        assert!(found.is_sound() && !found.undecided.contains(&id), "{found:?}");
        is_over.set(true);
    };
    let (done, ()) = tokio::join!(work, look);
    assert!(done > 20, "{done} jobs were done meanwhile");
    assert_eq!(examine().await, Default::default());
}

/// A look that cannot tell what happened meanwhile says so: a sound store, or a repair, would be a lie.
#[tokio::test]
async fn a_look_that_has_no_moment_is_no_look() {
    const UNREADABLE: &str = "local seq = redis.call('HGET', KEYS[1], 'seq') + 1
        redis.call('XADD', KEYS[2], seq .. '-0', 'garbage', 'x')
        redis.call('HSET', KEYS[1], 'seq', seq)";
    let (fleet, prefix, ..) = scene().await;
    let class = fleet.store.queues(10).await.expect("the store works").classes[0].class;
    by_hand(&prefix, &format!("DEL queue:{class}"));
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (is_over, prefix) = (is_over.clone(), prefix.clone());
        move || {
            let mut redis = connection();
            while !is_over.load(Relaxed) {
                let mut call = redis::cmd("EVAL");
                call.arg(UNREADABLE)
                    .arg(2)
                    .arg(format!("{prefix}meta"))
                    .arg(format!("{prefix}log"));
                call.exec(&mut redis).expect("Redis does as it is told");
            }
        }
    });
    // One may come between two writes.
    let mut looked = fleet.store.examine(Depth::Everything).await;
    while looked.is_ok() {
        looked = fleet.store.examine(Depth::Everything).await;
    }
    let mut mended = fleet.store.mend(None).await;
    while mended.is_ok() {
        by_hand(&prefix, &format!("DEL queue:{class}"));
        mended = fleet.store.mend(None).await;
    }
    is_over.store(true, Relaxed);
    writer.join().expect("it wrote");
    for why in [looked.expect_err("a look"), mended.expect_err("a repair")] {
        assert!(why.to_string().contains("look again"), "{why}");
    }
    let found = fleet.store.examine(Depth::Everything).await.expect("nothing changes any more");
    assert!(!found.is_sound(), "{found:?}");
}

/// One record that cannot be read keeps reconcilers and lists from no other.
#[tokio::test]
async fn a_record_that_cannot_be_read_stands_in_nobodys_way() {
    let (fleet, options) = fleet_on();
    let (w, other) = (fleet.worker("w", 2, &[]).await, fleet.worker("other", 1, &[]).await);
    let (broken, sound) = (fleet.running(&w).await.job, fleet.running(&w).await.job);
    let prefix = prefix(&options);
    by_hand(&prefix, &format!("HSET job:{broken} attempt x"));
    by_hand(&prefix, "HSET worker:other status x");
    let store = open_with(options);
    fleet.advance(limits::LEASE + Duration::from_secs(1));
    let due = store.due(Due::Leases).await.expect("the other one is seen");
    let due: Vec<_> = due.iter().map(|due| format!("{due:?}")).collect();
    assert!(due.len() == 2 && due[0].contains(&sound.to_string()), "and their worker: {due:?}");
    fleet.advance(limits::SILENT_AFTER);
    assert_eq!(store.due(Due::Workers).await.expect("the other one is seen").len(), 1);
    assert_eq!(store.due(Due::Machines).await.expect("both are seen").len(), 2);
    let page = store.jobs(JobFilter::default(), None, 10).await.expect("the other one is listed");
    assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [sound]);
    drop(other);
}
