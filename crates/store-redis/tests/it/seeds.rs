//! What a view starts from is whole, or there is none.

use std::{collections::BTreeSet, sync::Arc};

use pointsman_core::{
    Command, LossReason, Record, RecordKey, RecordKind,
    command::{Op, Raise},
    doctor::{FindingRule, MendOutcome},
    record::{AlertId, AlertRule, Severity},
};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::{
    LogPage, Store, StoreError,
    conformance::fleet::{Fleet, completed},
};
use pointsman_store_redis::Options;

use crate::{
    between,
    support::{block_on, by_hand, fleet_on, open_with, prefix, redis_url, run, unnumbered},
};

/// The alerts that a view starts from, and the alerts that there are by then. In the looks that are
/// named, three are raised while the records are read, and the log loses the entry of the second.
async fn look(loses: fn(u64) -> bool) -> (Result<BTreeSet<String>, StoreError>, BTreeSet<String>) {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let meta = format!("{prefix}meta");
    let (raised, subjects) = std::sync::mpsc::channel();
    let mut times = 0;
    let store = fleet.store.clone();
    // A look asks where the log ends before it reads the records, and after.
    let way = between::before(&redis_url(), &["HMGET", &meta, "seq", "ended_no"], move || {
        times += 1;
        if times % 2 != 0 || !loses(times / 2) {
            return;
        }
        let all = [1, 2, 3].map(|n| format!("look-{}-{n}", times / 2));
        let seqs = all.clone().map(|subject| block_on(raise(&store, subject)));
        by_hand(&prefix, &format!("XDEL log {}-0", seqs[1]));
        raised.send((seqs[1], all)).expect("it is heard");
    });
    let address = way.parse().expect("a valid address");
    let looking = open_with(pointsman_store_redis::Options { address, ..options.clone() });
    let seen = looking.seed().await.map(|seed| {
        let alerts = seed.records.into_iter().filter_map(|record| match record {
            Record::Alert(alert) => Some(alert.subject.clone()),
            _ => None,
        });
        alerts.collect()
    });
    let (mut lost, mut there) = (0, BTreeSet::new());
    for (seq, subjects) in subjects.try_iter() {
        lost = seq;
        there.extend(subjects);
    }
    if let Err(error) = &seen {
        let error = error.to_string();
        assert!(error.contains(&format!("entry {lost}-0 of the log")), "{error}");
    }
    (seen, there)
}

async fn raise(store: &Arc<dyn Store>, subject: String) -> u64 {
    let raise = Command::Raise(Raise {
        alert: AlertId { rule: AlertRule::Inconsistent, subject },
        severity: Severity::Warning,
        message: "a test's".to_owned(),
        action: "none".to_owned(),
    });
    let done = store.execute(vec![raise]).await.expect("the store works").pop();
    done.expect("one answer").expect("accepted").group.expect("it is new").seq
}

#[tokio::test]
async fn an_entry_that_is_missing_makes_a_view_look_again() {
    let (seen, there) = look(|look| look == 1).await;
    assert_eq!(there.len(), 3);
    assert_eq!(seen, Ok(there));
}

#[tokio::test]
async fn entries_that_are_missing_each_time_are_told() {
    let (seen, there) = look(|_| true).await;
    assert!(there.len() > 3, "it looked again: {there:?}");
    assert!(seen.is_err(), "{seen:?}");
}

/// An alert that was cleared, and a job that waits again.
#[tokio::test]
async fn what_goes_while_the_records_are_read_is_in_no_view() {
    let (fleet, options) = fleet_on();
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    raise(&fleet.store, "some".to_owned()).await;
    let alert = AlertId { rule: AlertRule::Inconsistent, subject: "some".to_owned() };
    let release = Op::Release { reason: LossReason::Drained, message: String::new() };
    let release = Fleet::exchange(&hand, vec![Fleet::op(held, release)], Vec::new());
    let commands = vec![Command::Clear { alert }, Command::Exchange(release)];
    let (mut times, store) = (0, fleet.store.clone());
    let meta = format!("{}meta", prefix(&options));
    let way = between::before(&redis_url(), &["HMGET", &meta, "seq", "ended_no"], move || {
        times += 1;
        if times == 2 {
            block_on(store.execute(commands.clone())).expect("the store works");
        }
    });
    let looking = open_with(Options { address: way.parse().expect("a valid address"), ..options });
    let seen = looking.seed().await.expect("the store works").records;
    assert_eq!(seen, fleet.store.seed().await.expect("the store works").records);
    let kinds: BTreeSet<RecordKind> = seen.iter().map(|record| record.key().kind()).collect();
    let fleet_alone = [RecordKind::Worker, RecordKind::Machine, RecordKind::Connector];
    assert_eq!(kinds, BTreeSet::from(fleet_alone));
}

/// What an index does not name is missing from views that begin then, until a repair tells all of them.
#[tokio::test]
async fn what_an_index_lost_is_in_every_view_after_a_repair() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 2, &[]).await;
    let held = fleet.running(&hand).await;
    let ended = fleet.running(&hand).await;
    fleet.act(&hand, ended, completed()).await.expect("it ends");
    raise(&fleet.store, "some".to_owned()).await;
    let whole = fleet.store.seed().await.expect("the store works").records;
    let mut names: BTreeSet<RecordKey> = whole.iter().map(Record::key).collect();
    for index in ["workers", "machines", "connectors", "alerts", "leases", "ended"] {
        by_hand(&prefix, &format!("DEL {index}"));
    }
    let began = open_with(options);
    let seed = began.seed().await.expect("the store works");
    let mut seen: BTreeSet<RecordKey> = seed.records.iter().map(Record::key).collect();
    assert_eq!(seen, BTreeSet::new(), "nothing names them");
    assert!(
        names.contains(&RecordKey::Job(held.job)) && names.contains(&RecordKey::Job(ended.job))
    );
    fleet.store.mend(None).await.expect("it is mended");
    let LogPage::Groups(told) = began.log(seed.position.seq, 100).await.expect("it is read") else {
        panic!("the log is whole")
    };
    seen.extend(told.iter().flat_map(|group| &group.events).map(|event| event.key.clone()));
    names.retain(|name| !seen.contains(name));
    assert_eq!(names, BTreeSet::new(), "these were not told of");
    let after = fleet.store.seed().await.expect("the store works").records;
    assert_eq!(unnumbered(&whole), unnumbered(&after));
    fleet.check().await.expect("nothing is wrong any more");
    let seq = fleet.seq().await;
    fleet.store.mend(None).await.expect("there is nothing to mend");
    assert_eq!(fleet.seq().await, seq, "and nothing to tell");
}

/// A server that starts shows what one shows that has run on.
#[tokio::test]
async fn a_record_that_somebody_broke_is_in_views_as_the_log_tells_it() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 2, &[]).await;
    let held = fleet.running(&hand).await;
    let whole = fleet.store.seed().await.expect("the store works");
    let (worker, machine) = (&hand.worker, &hand.machine);
    by_hand(&prefix, &format!("HSET worker:{worker} presence zzz"));
    by_hand(&prefix, &format!("HSET machine:{machine} status \"zz\""));
    by_hand(&prefix, &format!("HSET job:{} status zzz", held.job));
    by_hand(&prefix, &format!("DEL connector:{worker}:simulation"));
    by_hand(&prefix, &format!("SET connector:{worker}:simulation no-hash"));
    let began = open_with(options.clone());
    let seed = began.seed().await.expect("the store works");
    assert_eq!(seed.records, whole.records);
    fleet.store.mend(None).await.expect("it is mended");
    let mended = open_with(options).seed().await.expect("the store works");
    assert_eq!(unnumbered(&mended.records), unnumbered(&whole.records));
}

/// What the log does not reach back to nobody can show.
#[tokio::test]
async fn a_record_that_somebody_broke_and_the_log_does_not_tell_is_in_no_view() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 2, &[]).await;
    let whole = fleet.store.seed().await.expect("the store works");
    by_hand(&prefix, &format!("HSET worker:{} presence zzz", hand.worker));
    by_hand(&prefix, "XTRIM log MAXLEN 0");
    let seed = open_with(options).seed().await.expect("the store works");
    let mut names: Vec<RecordKey> = whole.records.iter().map(Record::key).collect();
    names.retain(|name| *name != RecordKey::Worker(hand.worker.clone()));
    assert_eq!(seed.records.iter().map(Record::key).collect::<Vec<_>>(), names);
}

/// What cannot be told now stays a finding, and is told with the next repair.
#[tokio::test]
async fn what_a_repair_cannot_tell_views_of_is_left_to_the_next_one() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    run(&server, "ACL SETUSER app on >secret ~* &* +@all").await;
    let address = format!("redis://app:secret@127.0.0.1:{}", server.port());
    let options = Options::new(address.parse().expect("a valid address"));
    let store = Arc::new(open_with(options.clone()));
    let fleet = Fleet::on(&store);
    let hand = fleet.worker("w", 2, &[]).await;
    let held = fleet.running(&hand).await;
    let lost = [RecordKey::Job(held.job), RecordKey::Worker(hand.worker.clone())];
    run(&server, "DEL {pointsman:default}:leases {pointsman:default}:workers").await;
    let began = open_with(options);
    let seed = began.seed().await.expect("the store works");
    assert!(seed.records.iter().all(|record| !lost.contains(&record.key())));
    run(&server, "ACL SETUSER app -hset").await;
    let mended = fleet.store.mend(None).await.expect("it says what it could not do");
    let left = mended.iter().filter(|mended| match &mended.outcome {
        MendOutcome::Left { why } => why.contains("deploy/users.acl"),
        _ => false,
    });
    let left: Vec<_> = left.map(|mended| mended.finding.rule).collect();
    assert_eq!(left, [FindingRule::RunningWithoutLease, FindingRule::RecordWithoutIndex]);
    run(&server, "ACL SETUSER app +hset").await;
    fleet.store.mend(None).await.expect("it is mended");
    let LogPage::Groups(told) = began.log(seed.position.seq, 100).await.expect("it is read") else {
        panic!("the log is whole")
    };
    let told: Vec<_> =
        told.iter().flat_map(|group| &group.events).map(|event| &event.key).collect();
    assert!(lost.iter().all(|lost| told.contains(&lost)), "{told:?}");
    fleet.check().await.expect("nothing is wrong any more");
}
