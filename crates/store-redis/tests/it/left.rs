//! What is kept beside the records, and how long: nothing stays of what is removed.

use pointsman_core::{
    Command,
    command::{Reconcile, RegisterMachine},
    decide::limits,
    record::ConnectorStatus,
};
use pointsman_store::{
    Due, Preview, Retention,
    conformance::fleet::{Fleet, completed},
};

use crate::{
    keyspace::dump,
    support::{fleet_on, prefix},
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
