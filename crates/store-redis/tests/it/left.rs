//! What is kept beside the records, and how long: nothing stays of what is removed.

use std::time::Duration;

use pointsman_core::{
    Command,
    command::{Idempotency, Reconcile, RegisterMachine, Submit},
    decide::limits,
    record::ConnectorStatus,
};
use pointsman_store::{
    Due, Preview, Retention,
    conformance::fleet::{Fleet, completed, spec},
};
use redis::Value;

use crate::{
    keyspace::dump,
    support::{by_hand, fleet_on, prefix},
};

#[tokio::test]
async fn nothing_stays_of_what_is_removed() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &[]).await;
    let (machine, incarnation) = (hand.machine.clone(), hand.incarnation);
    let register = RegisterMachine { machine: machine.clone(), incarnation, gpus: Vec::new() };
    fleet.run(Command::RegisterMachine(register)).await.expect("accepted");
    let mut renewal = Fleet::renewal(&hand, Vec::new(), ConnectorStatus::Idle);
    renewal.connectors[0].service = "another".parse().expect("a valid name");
    fleet.run(Command::Renew(renewal)).await.expect("that alone is refused");
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, completed()).await.expect("it ends");
    let bytes = b"x"[..].into();
    let late = Preview { attempt: 1, n: 9, media_type: "image/png".into(), bytes };
    fleet.store.keep_preview(held.job, late).await.expect("it comes after the end");
    let none = Retention { ended_bytes: 0, ..Retention::default() };
    assert_eq!(fleet.reconcile(Due::Ended(none)).await, 1);
    fleet.advance(limits::SILENT_AFTER);
    assert_eq!(fleet.reconcile(Due::Workers).await, 1);
    assert_eq!(fleet.reconcile(Due::Machines).await, 1);
    let remove = Command::Reconcile(Reconcile::RemoveMachine { machine });
    fleet.run(remove).await.expect("it is away");
    let left: Vec<String> = dump(&prefix).into_keys().collect();
    let left: Vec<&str> = left.iter().filter_map(|key| key.strip_prefix(&prefix)).collect();
    // A class rests; the log and what is of all stay.
    let of_classes = ["base:", "class:", "classes", "resting", "services"];
    let of_all = |key: &&str| *key == "log" || *key == "meta";
    let is_other = |key: &&str| !of_classes.iter().any(|of| key.starts_with(of)) && !of_all(key);
    let others: Vec<&str> = left.into_iter().filter(is_other).collect();
    assert_eq!(others, [""; 0]);
}

/// Redis removes it by itself, and not before its time.
#[tokio::test]
async fn what_is_kept_of_an_idempotency_key_lives_as_long_as_it_counts() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let idempotency = Some(Idempotency { key: "k".into(), body: [7; 32] });
    let submit = Submit { idempotency, ..fleet.submission(spec(50)) };
    fleet.run(Command::Submit(submit)).await.expect("accepted");
    let all = dump(&prefix);
    let mut keys = all.keys().filter_map(|key| key.strip_prefix(&prefix));
    let kept = keys.find(|key| key.starts_with("idempotency:")).expect("it is kept");
    let Value::Int(left) = by_hand(&prefix, &format!("PTTL {kept}")) else { panic!("no time") };
    let left = Duration::from_millis(u64::try_from(left).expect("a time"));
    let most = limits::IDEMPOTENCY;
    assert!((most - Duration::from_secs(60)..=most).contains(&left), "{left:?}");
}
