//! One record, or one entry of the log, that somebody broke: it is nobody else's trouble.

use std::time::Duration;

use pointsman_core::{
    Answer, Command, Event, EventName, Record, Rejected,
    command::{Held, Idempotency, Op, Submit},
    decide::limits,
    doctor::{Examination, FindingRule},
    record::{ConnectorStatus, JobSpec, JobStatus, Orders, Worker},
};
use pointsman_store::{
    Depth, Due, LogPage, Store,
    conformance::fleet::{Fleet, Hand, completed, needs, spec},
};

use crate::support::{by_hand, connection, fleet_on, open_with, prefix};

async fn log(fleet: &Fleet, after: u64) -> LogPage {
    fleet.store.log(after, 1_000).await.expect("the log is read")
}

/// What is broken is found; the rest is told, and the position behind it can be begun from.
async fn reads_up_to(fleet: &Fleet, broken: u64) {
    let LogPage::Groups(before) = log(fleet, 0).await else {
        panic!("it was cut at its beginning")
    };
    let before: Vec<u64> = before.iter().map(|group| group.seq).collect();
    assert_eq!(before, (1..broken).collect::<Vec<_>>());
    let behind = log(fleet, broken - 1).await;
    assert!(matches!(behind, LogPage::Cut { oldest } if oldest == broken + 1), "{behind:?}");
    let LogPage::Groups(after) = log(fleet, broken).await else { panic!("what follows is whole") };
    assert_eq!(after.len() as u64, fleet.seq().await - broken);
    let seed = fleet.store.seed().await.expect("a view begins anew");
    assert_eq!(seed.position.seq, fleet.seq().await);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_keeps_its_worker_from_no_other() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 3, &[]).await;
    let (broken, good) = (fleet.submit(spec(90)).await, fleet.submit(spec(50)).await);
    by_hand(&prefix, &format!("HSET job:{broken} created_at x"));
    let mut feed = fleet.store.subscribe();
    let claimed = fleet.claim_with(&hand, vec![fleet.token(), fleet.token()]).await;
    let taken = fleet.seq().await;
    assert_eq!(claimed.iter().map(|held| held.job).collect::<Vec<_>>(), [good]);
    // Whoever follows gets what comes next, and what is missing from the store.
    fleet.report(&hand, ConnectorStatus::Active).await;
    let next = fleet.submit(spec(50)).await;
    let next_at = fleet.seq().await;
    while feed.recv().await.expect("the feed goes on").seq < next_at {}
    reads_up_to(&fleet, taken).await;
    // The lease of the other one is renewed, and it ends; one more is taken.
    fleet.advance(limits::LEASE - Duration::from_secs(1));
    let held = claimed[0];
    let renewed =
        fleet.renew(&hand, vec![held], ConnectorStatus::Active).await.expect("it is heard");
    assert!(renewed.lost.is_empty() && renewed.cancel.is_empty(), "{renewed:?}");
    fleet.advance(Duration::from_secs(5));
    assert_eq!(fleet.reconcile(Due::Leases).await, 0);
    fleet.act(&hand, held, completed()).await.expect("it ends");
    assert_eq!(fleet.claim(&hand).await.map(|held| held.job), Some(next));
    let found = fleet.store.examine(Depth::Everything).await.expect("it is examined");
    assert!(found.findings.iter().any(|f| f.subject == format!("job/{broken}")), "{found:?}");
    fleet.store.mend(None).await.expect("it is mended");
    let worker = fleet.worker_record(&hand).await;
    assert_eq!(worker.current_job_ids.iter().copied().collect::<Vec<_>>(), [next]);
    let free = vec![fleet.token(), fleet.token(), fleet.token()];
    for _ in 0..3 {
        fleet.submit(spec(50)).await;
    }
    assert_eq!(fleet.claim_with(&hand, free).await.len(), 2, "its slot is free again");
}

#[tokio::test]
async fn a_worker_goes_on_while_a_job_that_it_runs_cannot_be_read() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 2, &[]).await;
    let (broken, other) = (fleet.running(&hand).await, fleet.running(&hand).await);
    by_hand(&prefix, &format!("HSET job:{} created_at x rev 1", broken.job));
    for _ in 0..3 {
        fleet.advance(limits::LEASE / 2);
        let renewed = fleet
            .renew(&hand, vec![broken, other], ConnectorStatus::Active)
            .await
            .expect("it is heard");
        assert!(renewed.lost.is_empty(), "{renewed:?}");
    }
    assert_eq!(fleet.reconcile(Due::Leases).await, 0);
    fleet.act(&hand, other, completed()).await.expect("it ends");
    assert_eq!(fleet.job(other.job).await.status(), JobStatus::Completed);
}

#[tokio::test]
async fn a_machine_is_drained_while_one_of_its_workers_cannot_be_read() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let [broken, lost, sound] = ["broken", "lost", "sound"].map(|name| fleet.hand(name));
    let machine = sound.machine.clone();
    for hand in [&broken, &lost, &sound] {
        let hand = Hand { machine: machine.clone(), ..hand.clone() };
        let register = Command::Register(Fleet::registration(&hand, 1, &[]));
        fleet.run(register).await.expect("accepted");
    }
    by_hand(&prefix, "HSET worker:broken connected_at x rev 99");
    by_hand(&prefix, "DEL worker:lost");
    // What another server remembers of them is not what stands there.
    let store = open_with(options);
    let orders = Orders { drain: true };
    let drain = Command::SetMachineOrders { machine, orders };
    let done = store.execute(vec![drain]).await.expect("the store works");
    assert!(matches!(&done[..], [Ok(_)]), "{done:?}");
    assert!(fleet.worker_record(&sound).await.orders.drain);
    assert!(fleet.machine_record(&sound).await.orders.drain);
}

#[tokio::test]
async fn a_hole_in_the_log_is_never_passed_over() {
    let (fleet, options) = fleet_on();
    for _ in 0..10 {
        fleet.submit(spec(50)).await;
    }
    by_hand(&prefix(&options), "XDEL log 5-0");
    let LogPage::Groups(before) = log(&fleet, 0).await else { panic!("it begins whole") };
    assert_eq!(before.len(), 4);
    assert!(matches!(log(&fleet, 4).await, LogPage::Cut { oldest: 6 }));
    let LogPage::Groups(after) = log(&fleet, 5).await else { panic!("it ends whole") };
    assert_eq!(after.len(), 5);
}

#[tokio::test]
async fn what_others_put_between_the_entries_of_the_log_is_passed_over() {
    let (fleet, options) = fleet_on();
    fleet.submit(spec(50)).await;
    let mut feed = fleet.store.subscribe();
    by_hand(&prefix(&options), "XADD log 1-1 foo bar");
    fleet.submit(spec(50)).await;
    let LogPage::Groups(groups) = log(&fleet, 0).await else { panic!("it is whole") };
    assert_eq!(groups.iter().map(|group| group.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(feed.recv().await.expect("the feed goes on").seq, 2);
    fleet.check().await.expect("nothing is wrong");
}

/// Jobs of classes of their own, which a worker runs; the first one's class is broken.
async fn running_one_broken(fleet: &Fleet, prefix: &str) -> (Hand, Vec<Held>) {
    let hand = fleet.worker("w", 4, &["a", "b", "c"]).await;
    for label in ["a", "b", "c"] {
        fleet.submit(JobSpec { requirements: needs(label), ..spec(50) }).await;
    }
    let held = fleet.claim_with(&hand, vec![fleet.token(), fleet.token(), fleet.token()]).await;
    let starts = held.iter().map(|held| Fleet::op(*held, Op::Start)).collect();
    let exchange = Command::Exchange(Fleet::exchange(&hand, starts, Vec::new()));
    fleet.run(exchange).await.expect("they start");
    let mut classes = redis::cmd("ZRANGE");
    classes.arg(format!("{prefix}classes")).arg(0).arg(-1);
    let classes: Vec<String> = classes.query(&mut connection()).expect("classes");
    by_hand(prefix, &format!("HSET class:{} running abc", classes[0]));
    (hand, held)
}

#[tokio::test]
async fn an_end_that_meets_damage_keeps_back_neither_other_ends_nor_the_claim() {
    let (fleet, options) = fleet_on();
    let (hand, held) = running_one_broken(&fleet, &prefix(&options)).await;
    let next = fleet.submit(spec(50)).await;
    let ends = held.iter().map(|held| Fleet::op(*held, completed())).collect();
    let exchange = Command::Exchange(Fleet::exchange(&hand, ends, vec![fleet.token()]));
    let (answer, _) = fleet.run(exchange.clone()).await.expect("it is answered");
    let Answer::Exchanged { ops, claimed, .. } = answer else { panic!("{answer:?}") };
    let [Err(Rejected::Damaged(why)), Ok(_), Ok(_)] = &ops[..] else { panic!("{ops:?}") };
    assert!(why.contains("running"), "{why}");
    assert_eq!(claimed.iter().map(|held| held.job).collect::<Vec<_>>(), [next]);
    fleet.store.mend(None).await.expect("it is mended");
    let (again, _) = fleet.run(exchange).await.expect("it is answered");
    let Answer::Exchanged { ops, .. } = again else { panic!("{again:?}") };
    assert!(ops.iter().all(Result::is_ok), "{ops:?}");
}

#[tokio::test]
async fn what_is_due_of_one_that_is_broken_keeps_back_no_other() {
    let (fleet, options) = fleet_on();
    let (_, held) = running_one_broken(&fleet, &prefix(&options)).await;
    fleet.advance(limits::LEASE + Duration::from_secs(1));
    // All at once, as a reconciler does it.
    let due = fleet.store.due(Due::Leases).await.expect("the store works");
    let due: Vec<_> = due.into_iter().map(Command::Reconcile).collect();
    let done = fleet.store.execute(due).await.expect("the store works");
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 2 + 1, "and their worker");
    for held in &held[1..] {
        assert_eq!(fleet.job(held.job).await.status(), JobStatus::Pending);
    }
    // A class that is broken is nobody's, and the others are served.
    let other = fleet.worker("other", 3, &["a", "b", "c"]).await;
    let tokens = vec![fleet.token(), fleet.token(), fleet.token()];
    assert_eq!(fleet.claim_with(&other, tokens).await.len(), 2);
    fleet.store.mend(None).await.expect("it is mended");
    assert_eq!(fleet.reconcile(Due::Leases).await, 2, "the job and its worker");
}

/// Both stay, and are told until somebody deletes them.
#[tokio::test]
async fn what_was_set_aside_before_is_not_overwritten() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    for foreign in ["x", "y"] {
        by_hand(&prefix, &format!("SET leases {foreign}"));
        let damage = vec!["wrong_type:index/leases".to_owned()];
        fleet.store.mend(Some(damage)).await.expect("it is mended");
    }
    let told = |found: Examination| {
        let aside = found.findings.into_iter().filter(|f| f.rule == FindingRule::Quarantined);
        aside.map(|finding| finding.problem).collect::<Vec<_>>()
    };
    // Also at the look at what a server holds, without a look at every key.
    let at_once = fleet.store.examine(Depth::Fleet).await.expect("it is examined");
    let other = open_with(options.clone());
    let anew = other.examine(Depth::Everything).await.expect("it is examined");
    for found in [at_once, anew] {
        let problems = told(found);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[1].ends_with("quarantine:leases:2"), "{problems:?}");
    }
    by_hand(&prefix, "DEL quarantine:leases");
    by_hand(&prefix, "DEL quarantine:leases:2");
    assert_eq!(
        told(fleet.store.examine(Depth::Everything).await.expect("it is examined")),
        [""; 0]
    );
}

/// A view that began while the record could not be read lacks it until then.
#[tokio::test]
async fn what_is_written_anew_is_told() {
    let (fleet, options) = fleet_on();
    let hand = fleet.worker("w", 1, &[]).await;
    let before = fleet.worker_record(&hand).await;
    by_hand(&prefix(&options), "HSET worker:w presence x");
    let server = open_with(options);
    let seed = server.seed().await.expect("a view begins");
    assert!(seed.records.contains(&Record::Worker(before.clone())), "as the log tells: {seed:?}");
    server.mend(None).await.expect("it is mended");
    let LogPage::Groups(told) = log(&fleet, seed.position.seq).await else { panic!("a hole") };
    let events: Vec<_> = told.iter().flat_map(|group| &group.events).collect();
    let [Event { name: EventName::WorkerStateRepaired, record: Some(Record::Worker(told)), .. }] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(*told, fleet.worker_record(&hand).await);
    assert_eq!(Worker { rev: before.rev, ..(**told).clone() }, *before);
    fleet.submit(spec(50)).await;
    assert!(fleet.claim(&hand).await.is_some(), "the worker works on");
}

/// Somebody's keys of a wrong type are met by whoever uses them.
#[tokio::test]
async fn submissions_of_the_same_time_do_not_share_a_failure() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let keyed = |key: &str| {
        let idempotency = Some(Idempotency { key: key.into(), body: [0; 32] });
        Submit { idempotency, ..fleet.submission(spec(50)) }
    };
    fleet.run(Command::Submit(keyed("broken"))).await.expect("it is taken");
    let kept = redis::cmd("KEYS")
        .arg(format!("{prefix}idempotency:*"))
        .query::<Vec<String>>(&mut connection())
        .expect("keys");
    let [kept] = &kept[..] else { panic!("one key is kept: {kept:?}") };
    let kept = kept.strip_prefix(&prefix).expect("it is the fleet's");
    by_hand(&prefix, &format!("DEL {kept}"));
    by_hand(&prefix, &format!("HSET {kept} a b"));
    let submit = |n: usize| {
        let key = if n % 10 == 5 { "broken".to_owned() } else { format!("key-{n}") };
        let (submit, store) = (keyed(&key), fleet.store.clone());
        tokio::spawn(async move { store.execute(vec![Command::Submit(submit)]).await })
    };
    let callers: Vec<_> = (0..100).map(submit).collect();
    for (n, caller) in callers.into_iter().enumerate() {
        let answer = caller.await.expect("no panic");
        let done = answer.expect("the store works").pop().expect("an answer");
        match done.map(|done| done.answer) {
            Ok(Answer::Submitted { .. }) if n % 10 != 5 => {}
            Err(Rejected::Damaged(_)) if n % 10 == 5 => {}
            other => panic!("caller {n}: {other:?}"),
        }
    }
}
