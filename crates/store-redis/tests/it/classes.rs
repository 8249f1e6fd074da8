//! Classes whose last job has gone rest: who can serve them stays worked out.

use std::time::Duration;

use pointsman_core::{
    Command, FailureKind, Rejected,
    command::OpAnswer,
    doctor::{FindingRule, MendOutcome},
    record::{ConnectorStatus, JobSpec, JobStatus},
};
use pointsman_store::{
    Depth,
    conformance::fleet::{Fleet, Hand, completed, failed, needs, spec},
};
use redis::Value;

use crate::support::{by_hand, call_by_hand, connection, fleet_on, prefix};

fn labelled() -> JobSpec {
    JobSpec { requirements: needs("x"), ..spec(50) }
}

/// A fleet whose worker has run the only job there was.
async fn scene() -> (Fleet, String, Hand) {
    let (fleet, options) = fleet_on();
    let hand = fleet.worker("w", 1, &["x"]).await;
    run_one(&fleet, &hand, labelled()).await;
    (fleet, prefix(&options), hand)
}

async fn run_one(fleet: &Fleet, hand: &Hand, spec: JobSpec) {
    fleet.submit(spec).await;
    let held = fleet.claim(hand).await.expect("a job to claim");
    fleet.act(hand, held, completed()).await.expect("it ends");
}

fn count(prefix: &str, command: &str) -> i64 {
    match by_hand(prefix, command) {
        Value::Int(n) => n,
        other => panic!("{command} answers {other:?}"),
    }
}

fn members(prefix: &str, key: &str) -> Vec<String> {
    let mut range = redis::cmd("ZRANGE");
    range.arg(format!("{prefix}{key}")).arg(0).arg(-1);
    range.query(&mut connection()).expect("members")
}

#[tokio::test]
async fn the_next_job_of_the_like_finds_its_class_worked_out() {
    let (fleet, prefix, hand) = scene().await;
    let rev = by_hand(&prefix, "HGET meta classes_rev");
    assert_eq!(members(&prefix, "resting").len(), 1);
    assert_eq!(fleet.store.queues(10).await.expect("it is there").counts.classes, 0);
    fleet.submit(labelled()).await;
    assert_eq!(members(&prefix, "resting").len(), 0);
    assert_eq!(fleet.store.queues(10).await.expect("it is there").counts.classes, 1);
    let held = fleet.claim(&hand).await.expect("a job to claim");
    assert_eq!(by_hand(&prefix, "HGET meta classes_rev"), rev, "no class was made");
    fleet.check().await.expect("nothing is wrong");
    fleet.act(&hand, held, completed()).await.expect("it ends");
    fleet.check().await.expect("nothing is wrong");
}

#[tokio::test]
async fn a_class_that_rested_long_goes_when_another_comes() {
    let (fleet, prefix, hand) = scene().await;
    fleet.advance(Duration::from_secs(599));
    fleet.submit(spec(50)).await;
    assert_eq!(count(&prefix, "ZCARD classes"), 2);
    let held = fleet.claim(&hand).await.expect("a job to claim");
    fleet.act(&hand, held, completed()).await.expect("it ends");
    fleet.advance(Duration::from_secs(2));
    let other = JobSpec { requirements: needs("y"), ..spec(50) };
    fleet.submit(other).await;
    assert_eq!(count(&prefix, "ZCARD classes"), 2, "the one that ended just now is kept");
    assert_eq!(members(&prefix, "resting").len(), 1);
    fleet.check().await.expect("nothing is wrong");
    run_one(&fleet, &hand, labelled()).await;
    fleet.check().await.expect("nothing is wrong");
}

/// Later than every clock.
const JUST_NOW: u64 = 9_000_000_000_000_000;

/// The limit is on classes with live jobs: those that rest give way.
#[tokio::test]
async fn classes_that_rest_take_nobodys_place() {
    let (fleet, prefix, hand) = scene().await;
    let mut others = redis::pipe();
    for n in 0..9_999_u32 {
        for (index, score) in [("classes", 1_u64), ("resting", JUST_NOW)] {
            others.cmd("ZADD").arg(format!("{prefix}{index}")).arg(score).arg(format!("{n:032x}"));
        }
    }
    others.exec(&mut connection()).expect("Redis does as it is told");
    fleet.submit(spec(50)).await;
    assert_eq!(count(&prefix, "ZCARD classes"), 10_000);
    assert_eq!(count(&prefix, "ZCARD resting"), 9_999);
    by_hand(&prefix, "DEL resting");
    let one_more = fleet.submission(JobSpec { requirements: needs("y"), ..spec(50) });
    let refused = fleet.run(Command::Submit(one_more)).await;
    assert_eq!(refused.map(drop), Err(Rejected::TooManyClasses(10_000)));
    fleet.claim(&hand).await.expect("the job that was taken");
}

/// What goes on needs no place of its own, though its class changes; a new run does.
#[tokio::test]
async fn at_the_limit_what_runs_goes_on_and_nothing_runs_anew() {
    let (fleet, prefix, hand) = scene().await;
    let ended = fleet.submit(JobSpec { requirements: needs("y"), ..spec(50) }).await;
    fleet.run(Command::Cancel { job: ended }).await.expect("it waits");
    let held = fleet.running(&hand).await;
    for class in members(&prefix, "resting") {
        by_hand(&prefix, &format!("DEL class:{class}"));
    }
    by_hand(&prefix, "DEL classes");
    by_hand(&prefix, "DEL resting");
    let mut others = redis::pipe();
    for n in 0..10_000_u32 {
        others.cmd("ZADD").arg(format!("{prefix}classes")).arg(1).arg(format!("{n:032x}"));
    }
    others.exec(&mut connection()).expect("Redis does as it is told");
    let wrong = failed(FailureKind::WrongWorker);
    let answer = fleet.act(&hand, held, wrong).await.expect("accepted");
    assert_eq!(answer, OpAnswer::Settled { status: JobStatus::Pending });
    assert_eq!(Fleet::excluded(&*fleet.job(held.job).await).len(), 1);
    let retry = fleet.run(Command::Retry { job: ended, run: None }).await;
    assert_eq!(retry.map(drop), Err(Rejected::TooManyClasses(10_000)));
}

/// What the same call has made counts, too.
#[tokio::test]
async fn of_two_classes_in_one_call_the_last_place_is_the_firsts() {
    let (fleet, prefix, _) = scene().await;
    let mut others = redis::pipe();
    for n in 0..9_999_u32 {
        others.cmd("ZADD").arg(format!("{prefix}classes")).arg(1).arg(format!("{n:032x}"));
    }
    others.exec(&mut connection()).expect("Redis does as it is told");
    let submit = |label| {
        Command::Submit(fleet.submission(JobSpec { requirements: needs(label), ..spec(50) }))
    };
    let done = fleet.store.execute(vec![submit("y"), submit("z")]).await;
    let [first, second] = &done.expect("the store works")[..] else { panic!("two answers") };
    assert!(first.is_ok(), "{first:?}");
    assert_eq!(second.as_ref().err(), Some(&Rejected::TooManyClasses(10_000)));
    assert_eq!(count(&prefix, "ZCARD classes") - count(&prefix, "ZCARD resting"), 10_000);
}

#[tokio::test]
async fn the_doctor_knows_what_rests() {
    use FindingRule as R;
    let (fleet, prefix, hand) = scene().await;
    let class = members(&prefix, "resting").pop().expect("one rests");
    fleet.submit(spec(50)).await;
    let live = members(&prefix, "classes").pop().expect("the younger one lives");
    let cases = [
        (format!("HSET class:{class} live 2"), R::WrongCount),
        (format!("ZADD resting 1 {live}"), R::IndexWithoutRecord),
        (format!("ZADD resting 1 {:032x}", 7), R::IndexWithoutRecord),
        (format!("ZREM classes {class}"), R::RecordWithoutIndex),
        (format!("ZREM resting {class}"), R::IndexWithoutRecord),
    ];
    for (damage, rule) in cases {
        by_hand(&prefix, &damage);
        let found = fleet.store.examine(Depth::Everything).await.expect("it is examined");
        assert!(found.findings.iter().any(|f| f.rule == rule), "{damage}: {found:?}");
        let mended = fleet.store.mend(None).await.expect("it is mended");
        let left = mended.iter().find(|m| matches!(m.outcome, MendOutcome::Left { .. }));
        assert!(left.is_none(), "{damage}: {left:?}");
        let after = fleet.store.examine(Depth::Everything).await.expect("it is examined");
        assert!(after.is_sound(), "{damage}: {after:?}");
    }
    by_hand(&prefix, "SET resting x");
    fleet.store.mend(None).await.expect("it is mended");
    by_hand(&prefix, "DEL quarantine:resting");
    let held = fleet.claim(&hand).await.expect("a job to claim");
    fleet.act(&hand, held, completed()).await.expect("it ends");
    run_one(&fleet, &hand, labelled()).await;
    fleet.check().await.expect("nothing is wrong");
}

#[tokio::test]
async fn a_class_whose_head_is_damaged_keeps_no_other_waiting() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let mut jobs = Vec::new();
    for n in 0..20 {
        let requirements = needs(&format!("label-{n}"));
        jobs.push(fleet.submit(JobSpec { requirements, ..spec(50) }).await);
    }
    let hand = fleet.worker("w", 2, &["label-18", "label-19"]).await;
    let damaged = &members(&prefix, "classes")[18];
    by_hand(&prefix, &format!("HSET class:{damaged} head_score garbage"));
    let claim = async || fleet.claim(&hand).await.map(|held| held.job);
    assert_eq!(claim().await, Some(jobs[19]));
    assert_eq!(claim().await, None);
    fleet.store.mend(None).await.expect("it is mended");
    assert_eq!(claim().await, Some(jobs[18]));
    fleet.check().await.expect("nothing is wrong any more");
}

/// Somebody began to work out anew what a profile can serve while another was still about the
/// newest classes: what lies before them must not count as looked at.
#[tokio::test]
async fn what_is_worked_out_anew_is_worked_out_whole() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &["x"]).await;
    run_one(&fleet, &hand, labelled()).await;
    let job = fleet.submit(labelled()).await;
    let profile = fleet.worker_record(&hand).await.capabilities_digest.to_string();
    by_hand(&prefix, &format!("DEL serves:{profile}:simulation"));
    by_hand(&prefix, &format!("HSET profile:{profile} classes_rev 0"));
    call_by_hand(&prefix, "serve", &[&fleet.store.epoch().to_string(), &profile, "1", "1"]);
    assert_eq!(fleet.claim(&hand).await.map(|held| held.job), Some(job));
}

/// A fail-over may forget a class that was worked out; its number is another one's then.
#[tokio::test]
async fn what_was_worked_out_in_another_history_counts_for_nothing() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &["x"]).await;
    run_one(&fleet, &hand, labelled()).await;
    let profile = fleet.worker_record(&hand).await.capabilities_digest.to_string();
    let worked_out = format!("HGET profile:{profile} classes_rev");
    let one = Value::BulkString(b"1".to_vec());
    assert_eq!(by_hand(&prefix, &worked_out), one);
    call_by_hand(&prefix, "serve", &["another", &profile, "0", "1"]);
    call_by_hand(&prefix, "serve", &[&fleet.store.epoch().to_string(), &profile, "1", "2"]);
    assert_eq!(by_hand(&prefix, &worked_out), one, "there is no second class");
    // As it stands where that was not looked at.
    by_hand(&prefix, &format!("HSET profile:{profile} classes_rev 2"));
    for _ in 0..2 {
        run_one(&fleet, &hand, labelled()).await;
    }
    run_one(&fleet, &hand, spec(50)).await;
    fleet.check().await.expect("nothing is wrong");
}

/// Machines come and go, each with other capabilities: what they could serve must not stay.
#[tokio::test]
async fn what_a_profile_serves_goes_with_its_last_worker() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let (one, other) = (fleet.worker("one", 1, &["x"]).await, fleet.worker("two", 1, &["x"]).await);
    run_one(&fleet, &one, labelled()).await;
    let job = fleet.submit(labelled()).await;
    let profile = fleet.worker_record(&one).await.capabilities_digest;
    let served = || count(&prefix, &format!("SCARD serves:{profile}:simulation"));
    let leave = async |hand: &Hand| {
        let (worker, incarnation) = (hand.worker.clone(), hand.incarnation);
        fleet.run(Command::Leave { worker, incarnation }).await.expect("a valid goodbye");
    };
    assert_eq!(served(), 1);
    leave(&other).await;
    assert_eq!(served(), 1, "one of them is there");
    leave(&one).await;
    assert_eq!(served(), 0);
    assert_eq!(count(&prefix, "HLEN present"), 0);
    fleet.check().await.expect("nothing is wrong");
    fleet.report(&one, ConnectorStatus::Idle).await;
    assert_eq!(fleet.claim(&one).await.map(|held| held.job), Some(job));
    assert_eq!(served(), 1);
    fleet.check().await.expect("nothing is wrong");
}

#[tokio::test]
async fn losses_of_classes_that_nobody_needs_are_forgotten() {
    let (fleet, prefix, hand) = scene().await;
    let mut others = redis::cmd("HSET");
    others.arg(format!("{prefix}losses"));
    for n in 0..2_099_u32 {
        others.arg(format!("{n:032x}")).arg(format!("1 {n}"));
    }
    others.exec(&mut connection()).expect("they were lost");
    let held = fleet.running(&hand).await;
    fleet.advance(Duration::from_secs(11));
    fleet.run(Fleet::expire(held)).await.expect("its lease is over");
    assert_eq!(count(&prefix, "HLEN losses"), 1_001, "the latest, and the one that lives");
    assert_eq!(count(&prefix, &format!("HEXISTS losses {:032x}", 2_098)), 1);
    assert_eq!(by_hand(&prefix, "HGET meta losses"), Value::BulkString(b"1001".to_vec()));
}
