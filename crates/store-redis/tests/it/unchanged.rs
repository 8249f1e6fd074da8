//! Rejected means unchanged: a refused call leaves every key as it was, also on a store that
//! somebody has damaged.

use std::collections::BTreeMap;

use pointsman_core::{
    Answer, Command, JobId, Rejected,
    command::{Claim, Exchange, Held, Op, Reconcile},
    record::ConnectorStatus,
};
use pointsman_store::{
    Depth, Done, Store, StoreError,
    conformance::fleet::{Fleet, Hand, completed, spec},
};
use redis::Value;

use crate::support::{by_hand, connection, fleet_on, prefix, try_open};

type Keys = BTreeMap<String, Vec<u8>>;

fn keys_of(redis: &mut redis::Connection, prefix: &str) -> Vec<String> {
    redis::cmd("KEYS").arg(format!("{prefix}*")).query(redis).expect("KEYS works")
}

/// Every key of a fleet with all that is in it. (What `DUMP` gives differs where a hash or a set
/// has moved its entries about, which a mere look at it may do.)
pub fn dump(prefix: &str) -> Keys {
    let mut redis = connection();
    let keys = keys_of(&mut redis, prefix);
    let mut kinds = redis::pipe();
    for key in &keys {
        kinds.cmd("TYPE").arg(key);
    }
    let kinds: Vec<String> =
        if keys.is_empty() { Vec::new() } else { kinds.query(&mut redis).expect("TYPE works") };
    let mut reads = redis::pipe();
    for (key, kind) in keys.iter().zip(&kinds) {
        match kind.as_str() {
            "hash" => reads.cmd("HGETALL").arg(key),
            "set" => reads.cmd("SMEMBERS").arg(key),
            "zset" => reads.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES"),
            "list" => reads.cmd("LRANGE").arg(key).arg(0).arg(-1),
            "stream" => reads.cmd("XRANGE").arg(key).arg("-").arg("+"),
            _ => reads.cmd("GET").arg(key),
        };
    }
    let values: Vec<Value> =
        if keys.is_empty() { Vec::new() } else { reads.query(&mut redis).expect("it is read") };
    let texts = values.into_iter().zip(&kinds).map(|(value, kind)| {
        let mut parts: Vec<String> = match (kind.as_str(), value) {
            ("hash", Value::Array(parts)) => {
                parts.chunks(2).map(|pair| format!("{pair:?}")).collect()
            }
            ("set", Value::Array(parts)) => parts.iter().map(|p| format!("{p:?}")).collect(),
            (_, other) => vec![format!("{other:?}")],
        };
        parts.sort();
        format!("{kind} {parts:?}").into_bytes()
    });
    keys.into_iter().zip(texts).collect()
}

/// Every key as Redis serializes it, to be restored.
fn copies(prefix: &str) -> Keys {
    let mut redis = connection();
    let keys = keys_of(&mut redis, prefix);
    let mut dump = redis::pipe();
    for key in &keys {
        dump.cmd("DUMP").arg(key);
    }
    let values: Vec<Vec<u8>> = dump.query(&mut redis).expect("DUMP works");
    keys.into_iter().zip(values).collect()
}

fn restore(key: &str, value: &[u8]) {
    let mut redis = connection();
    let restored: Value = redis::cmd("RESTORE")
        .arg(key)
        .arg(0)
        .arg(value)
        .arg("REPLACE")
        .query(&mut redis)
        .expect("RESTORE works");
    drop(restored);
}

/// What may be damaged, and how.
#[derive(Debug, Clone, Copy)]
enum Damage {
    AnotherType,
    /// Every value of it is garbage.
    Garbage,
}

fn damage(key: &str, how: Damage) -> bool {
    let mut redis = connection();
    let kind: String = redis::cmd("TYPE").arg(key).query(&mut redis).expect("TYPE works");
    if let Damage::AnotherType = how {
        let other = if kind == "list" { "SADD" } else { "RPUSH" };
        let mut change = redis::pipe();
        change.cmd("DEL").arg(key).cmd(other).arg(key).arg("garbage");
        let _: Vec<Value> = change.query(&mut redis).expect("it changes");
        return true;
    }
    match kind.as_str() {
        "hash" => {
            let fields: Vec<String> =
                redis::cmd("HKEYS").arg(key).query(&mut redis).expect("HKEYS works");
            for field in fields.iter().filter(|field| *field != "epoch") {
                let _: Value = redis::cmd("HSET")
                    .arg(key)
                    .arg(field)
                    .arg("\"gar}bage")
                    .query(&mut redis)
                    .expect("HSET works");
            }
            true
        }
        "string" => {
            let _: Value =
                redis::cmd("SET").arg(key).arg("garbage").query(&mut redis).expect("SET works");
            true
        }
        _ => false,
    }
}

/// A fleet in the middle of its life: a worker with a running and an assigned job, and jobs that
/// wait, are held back, and have ended.
struct Scene {
    hand: Hand,
    running: Held,
    assigned: Held,
    ended: JobId,
    waiting: JobId,
}

async fn scene(fleet: &Fleet) -> Scene {
    let hand = fleet.worker("w", 4, &["x"]).await;
    let ended = fleet.running(&hand).await;
    fleet.act(&hand, ended, completed()).await.expect("it ends");
    let held = fleet.running(&hand).await;
    fleet
        .act(
            &hand,
            held,
            pointsman_store::conformance::fleet::failed(pointsman_core::FailureKind::ServiceFault),
        )
        .await
        .expect("it fails");
    let running = fleet.running(&hand).await;
    fleet.submit(spec(50)).await;
    let assigned = fleet.claim(&hand).await.expect("a job");
    let waiting = fleet.submit(spec(50)).await;
    Scene { hand, running, assigned, ended: ended.job, waiting }
}

/// One of each kind of call.
fn calls(fleet: &Fleet, scene: &Scene) -> Vec<Command> {
    let Scene { hand, running, assigned, ended, waiting } = scene;
    let claim = Some(Claim { tokens: vec![fleet.token()], services: Vec::new() });
    let finish_and_claim = Exchange {
        worker: hand.worker.clone(),
        incarnation: hand.incarnation,
        ops: vec![Fleet::op(*running, completed())],
        claim,
    };
    let start = Fleet::exchange(hand, vec![Fleet::op(*assigned, Op::Start)], Vec::new());
    let bare_claim = Fleet::exchange(hand, Vec::new(), vec![fleet.token()]);
    let held = vec![*running, *assigned];
    let leave = Command::Leave { worker: hand.worker.clone(), incarnation: hand.incarnation };
    vec![
        Command::Submit(fleet.submission(spec(70))),
        Command::Exchange(finish_and_claim),
        Command::Exchange(start),
        Command::Exchange(bare_claim),
        Command::Renew(Fleet::renewal(hand, held, ConnectorStatus::Idle)),
        Command::Register(Fleet::registration(&fleet.hand("other"), 1, &[])),
        Command::Cancel { job: *waiting },
        Command::Retry { job: *ended, run: None },
        leave,
    ]
}

/// Why nothing of a call was done, if so: an exchange may be refused operation by operation.
fn refusal(answer: &Result<Vec<Result<Done, Rejected>>, StoreError>) -> Option<String> {
    let answer = match answer {
        Ok(answers) => answers.first().expect("an answer"),
        Err(error) => return Some(error.to_string()),
    };
    match answer.as_ref().map(|done| &done.answer) {
        Err(why) => Some(why.to_string()),
        Ok(Answer::Exchanged { ops, claimed }) if claimed.is_empty() => {
            let refused = ops.iter().map(|op| op.as_ref().err().map(ToString::to_string));
            refused.collect::<Option<Vec<_>>>()?.pop()
        }
        Ok(_) => None,
    }
}

/// Each key of a living fleet is damaged in turn; whatever is then refused has changed nothing.
#[tokio::test]
async fn a_refusal_on_a_damaged_store_changes_nothing() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let scene = scene(&fleet).await;
    let (whole, backup) = (dump(&prefix), copies(&prefix));
    let (mut refused, mut damaged) = (0, 0);
    for key in whole.keys() {
        for how in [Damage::AnotherType, Damage::Garbage] {
            for call in 0..calls(&fleet, &scene).len() {
                if !damage(key, how) {
                    continue;
                }
                damaged += 1;
                // Another process each time: nothing is remembered from before.
                let before = dump(&prefix);
                let store = match try_open(options.clone()) {
                    Ok(store) => store,
                    Err(why) => {
                        refused += 1;
                        assert_eq!(changed(&before, &dump(&prefix)), [""; 0], "{key}: {why}");
                        put_back(&prefix, &whole, &backup);
                        continue;
                    }
                };
                let command = calls(&fleet, &scene).swap_remove(call);
                let answer = store.execute(vec![command]).await;
                if refusal(&answer).is_some() {
                    refused += 1;
                    let after = dump(&prefix);
                    assert_eq!(
                        changed(&before, &after),
                        [""; 0],
                        "{key} {how:?} {call}: {answer:?}"
                    );
                }
                store.close().await.expect("it closes");
                put_back(&prefix, &whole, &backup);
            }
        }
    }
    println!("{damaged} calls on a damaged store, {refused} refused, each without a trace");
    assert!(refused > 100, "the damage is met: {refused} of {damaged}");
}

fn changed<'a>(before: &'a Keys, after: &'a Keys) -> Vec<&'a str> {
    let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
    keys.filter(|key| before.get(*key) != after.get(*key)).map(String::as_str).collect()
}

fn put_back(prefix: &str, whole: &Keys, backup: &Keys) {
    let now = dump(prefix);
    for key in now.keys().filter(|key| !whole.contains_key(*key)) {
        let mut redis = connection();
        let _: Value = redis::cmd("DEL").arg(key).query(&mut redis).expect("DEL works");
    }
    for (key, _) in whole.iter().filter(|(key, value)| now.get(*key) != Some(*value)) {
        restore(key, &backup[key]);
    }
}

/// What every call reads first: one wrong field is told, and Redis lives on.
#[tokio::test]
async fn one_wrong_field_of_meta_is_told_and_changes_nothing() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    fleet.submit(spec(50)).await;
    let meta = format!("{prefix}meta");
    let sound = copies(&prefix)[&meta].clone();
    for field in
        ["seq", "ended_no", "classes_rev", "contact_since", "losses", "calm_until", "pending"]
    {
        let mut damage = redis::cmd("HSET");
        damage.arg(&meta).arg(field).arg("oops").exec(&mut connection()).expect("it changes");
        let before = dump(&prefix);
        let submit = Command::Submit(fleet.submission(spec(50)));
        let why = refusal(&fleet.store.execute(vec![submit]).await).expect(field);
        assert!(why.contains(&format!("meta {field} is not a whole number")), "{why}");
        assert!(dump(&prefix) == before, "{field}");
        restore(&meta, &sound);
    }
    fleet.submit(spec(50)).await;
}

/// Who leaves a job behind looks whether its like waits: that is a hint, and no reason to fail.
#[tokio::test]
async fn what_a_look_behind_stumbles_over_does_not_undo_a_claim() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let mut jobs = Vec::new();
    for label in ["a", "b", "c"] {
        let requirements = pointsman_store::conformance::fleet::needs(label);
        jobs.push(fleet.submit(pointsman_core::record::JobSpec { requirements, ..spec(50) }).await);
    }
    let hand = fleet.worker("w", 1, &["a", "b", "c"]).await;
    let mut classes = redis::cmd("ZRANGE");
    let classes: Vec<String> = classes
        .arg(format!("{prefix}classes"))
        .arg(0)
        .arg(-1)
        .query(&mut connection())
        .expect("the classes");
    let mut damage = redis::pipe();
    damage.cmd("HSET").arg(format!("{prefix}class:{}", classes[2])).arg("running").arg("oops");
    damage.cmd("ZADD").arg(format!("{prefix}waiting:simulation"));
    damage.arg(9_000_000_000_000_000_u64).arg(format!("{:032x}", 7));
    damage.exec(&mut connection()).expect("it changes");
    assert_eq!(fleet.claim(&hand).await.map(|held| held.job), Some(jobs[0]));
    fleet.store.mend(None).await.expect("it is mended");
    fleet.check().await.expect("nothing is wrong any more");
}

/// The log is written first: where it does not take the next entry, nothing else is written.
#[tokio::test]
async fn a_seq_that_was_given_out_already_refuses_everything() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let scene = scene(&fleet).await;
    by_hand(&prefix, "HSET meta seq 3");
    let before = dump(&prefix);
    let ends = vec![Fleet::op(scene.running, completed())];
    let tokens = vec![fleet.token()];
    let commands = [
        Command::Submit(fleet.submission(spec(50))),
        Command::Cancel { job: scene.waiting },
        Command::Exchange(Fleet::exchange(&scene.hand, ends, tokens)),
    ];
    for command in commands {
        let refused = fleet.store.execute(vec![command.clone()]).await;
        let why = refusal(&refused).expect("it is refused");
        assert!(why.contains("meta seq is 3, and the log has an entry 4-0"), "{command:?}: {why}");
        assert!(before == dump(&prefix), "{command:?}");
    }
}

/// Redis refuses an entry of the log by the last id that the log ever had: an entry that somebody put
/// there and took away again is none that anybody can see.
#[tokio::test]
async fn an_entry_that_was_taken_out_of_the_log_again_keeps_nobody_from_anything() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let scene = scene(&fleet).await;
    let (whole, backup) = (dump(&prefix), copies(&prefix));
    let add_and_delete = |n: usize| {
        by_hand(&prefix, &format!("XADD log {}-0 a b", 999_900 + n));
        by_hand(&prefix, &format!("XDEL log {}-0", 999_900 + n));
    };
    for call in 0..calls(&fleet, &scene).len() {
        add_and_delete(call);
        let store = try_open(options.clone()).expect("it opens");
        let command = calls(&fleet, &scene).swap_remove(call);
        let answer = store.execute(vec![command]).await;
        assert_eq!(refusal(&answer), None, "{call}");
        let found = store.examine(Depth::Everything).await.expect("it is examined");
        assert!(found.is_sound(), "{call}: {found:?}");
        store.close().await.expect("it closes");
        put_back(&prefix, &whole, &backup);
    }
    add_and_delete(99);
    by_hand(&prefix, &format!("SET job:{} x", scene.waiting));
    fleet.store.mend(None).await.expect("it is mended");
    fleet.check().await.expect("nothing is wrong any more");
}

/// Redis adds to digits alone; what reads as a number elsewhere is found before the first write.
#[tokio::test]
async fn a_number_that_redis_does_not_take_for_one_changes_nothing() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let scene = scene(&fleet).await;
    let present = format!("{prefix}present");
    let digests: Vec<String> =
        redis::cmd("HKEYS").arg(&present).query(&mut connection()).expect("the profiles");
    let digest = &digests[0];
    let Hand { worker, incarnation, .. } = scene.hand;
    let leave = Command::Leave { worker: worker.clone(), incarnation };
    let remove = Command::Reconcile(Reconcile::RemoveWorker { worker });
    let numbers =
        [("present", digest.as_str(), &leave), (&format!("profile:{digest}"), "users", &remove)];
    for (key, field, command) in numbers {
        for odd in ["1.0", " 1", "0x1", "1e0", "01"] {
            let mut damage = redis::cmd("HSET");
            damage.arg(format!("{prefix}{key}")).arg(field).arg(odd);
            damage.exec(&mut connection()).expect("it changes");
            let before = dump(&prefix);
            let why = refusal(&fleet.store.execute(vec![command.clone()]).await).expect(key);
            assert!(why.contains("is not a whole number"), "{key} {odd:?}: {why}");
            assert_eq!(changed(&before, &dump(&prefix)), [""; 0], "{key} {odd:?}");
        }
        by_hand(&prefix, &format!("HSET {key} {field} 1"));
        fleet.run(command.clone()).await.expect("it is sound again");
    }
}
