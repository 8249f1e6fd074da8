//! Rejected means unchanged: a refused call leaves every key as it was, also on a store that
//! somebody has damaged.

mod damage;
mod scene;

use pointsman_core::{Answer, Command, Rejected, command::Reconcile};
use pointsman_store::{
    Depth, Done, Store, StoreError,
    conformance::fleet::{Fleet, Hand, completed, spec},
};

use self::{
    damage::{Damage, damage, damages},
    scene::{calls, scene},
};
use crate::{
    keyspace::{changed, copies, dump, is_pulse, put_back, put_back_from, restore},
    support::{by_hand, connection, fleet_on, prefix, try_open},
};

type Answered = Result<Vec<Result<Done, Rejected>>, StoreError>;

/// Why nothing of a call was done, if so: an exchange may be refused operation by operation.
fn refusal(answer: &Answered) -> Option<String> {
    let answer = match answer {
        Ok(answers) => answers.first().expect("an answer"),
        Err(error) => return Some(error.to_string()),
    };
    match answer.as_ref().map(|done| &done.answer) {
        Err(why) => Some(why.to_string()),
        Ok(Answer::Exchanged { ops, claimed, .. }) if claimed.is_empty() => {
            let refused = ops.iter().map(|op| op.as_ref().err().map(ToString::to_string));
            refused.collect::<Option<Vec<_>>>()?.pop()
        }
        Ok(_) => None,
    }
}

/// Each key of a living fleet is damaged in turn; whatever is then refused has changed nothing.
async fn refusals_change_nothing(is_meant: impl Fn(&Damage) -> bool, at_least: u32) {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let scene = scene(&fleet, &prefix).await;
    let (whole, backup) = (dump(&prefix), copies(&prefix));
    let mut redis = connection();
    let (mut refused, mut damaged) = (0, 0);
    for key in whole.keys() {
        let how = damages(&mut redis, &prefix, key);
        for how in how.iter().filter(|how| is_meant(how)) {
            damage(&mut redis, key, how);
            let (before, as_damaged) = (dump(&prefix), copies(&prefix));
            for command in calls(&fleet, &scene) {
                damaged += 1;
                // Another process each time: nothing is remembered from before.
                let store = match try_open(options.clone()) {
                    Ok(store) => store,
                    Err(why) => {
                        refused += 1;
                        assert_eq!(changed(&before, &dump(&prefix)), [""; 0], "{key}: {why}");
                        continue;
                    }
                };
                let answer = store.execute(vec![command.clone()]).await;
                store.close().await.expect("it closes");
                let after = dump(&prefix);
                if refusal(&answer).is_some() {
                    refused += 1;
                    let mut traces = changed(&before, &after);
                    // Who speaks is heard, also where each operation is refused.
                    if matches!(&answer, Ok(done) if done[0].is_ok()) {
                        traces.retain(|key| !is_pulse(key));
                    }
                    assert_eq!(traces, [""; 0], "{key} {how:?} {command:?}: {answer:?}");
                }
                put_back_from(&after, &before, &as_damaged);
            }
            put_back(&prefix, &whole, &backup);
        }
    }
    println!("{damaged} calls on a damaged store, {refused} refused, each without a trace");
    assert!(refused > at_least, "the damage is met: {refused} of {damaged}");
}

#[tokio::test]
async fn a_refusal_where_a_key_is_of_another_type_changes_nothing() {
    refusals_change_nothing(|how| matches!(how, Damage::AnotherType), 200).await;
}

#[tokio::test]
async fn a_refusal_where_a_key_holds_garbage_changes_nothing() {
    refusals_change_nothing(|how| matches!(how, Damage::Garbage | Damage::Deleted), 100).await;
}

#[tokio::test]
async fn a_refusal_where_numbers_are_none_to_redis_changes_nothing() {
    refusals_change_nothing(|how| matches!(how, Damage::NearlyNumbers(_)), 100).await;
}

/// What every call reads first: one wrong field is told, and Redis lives on.
#[tokio::test]
async fn one_wrong_field_of_meta_is_told_and_changes_nothing() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 2, &[]).await;
    // What the worker can serve is worked out, and noted, with its first claim.
    fleet.running(&hand).await;
    fleet.submit(spec(50)).await;
    let meta = format!("{prefix}meta");
    let sound = copies(&prefix)[&meta].clone();
    let submit = Command::Submit(fleet.submission(spec(50)));
    let claim = Command::Exchange(Fleet::exchange(&hand, Vec::new(), vec![fleet.token()]));
    let each = ["seq", "ended_no", "classes_rev", "contact_since", "losses", "calm_until"];
    let counts = [("pending", &submit), ("pending", &claim), ("assigned", &claim)];
    for (field, command) in each.map(|field| (field, &submit)).into_iter().chain(counts) {
        let mut damage = redis::cmd("HSET");
        damage.arg(&meta).arg(field).arg("oops").exec(&mut connection()).expect("it changes");
        let before = dump(&prefix);
        let why = refusal(&fleet.store.execute(vec![command.clone()]).await).expect(field);
        assert!(why.contains(&format!("meta {field} is not a whole number")), "{why}");
        assert_eq!(changed(&before, &dump(&prefix)), [""; 0], "{field}");
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
    let scene = scene(&fleet, &prefix).await;
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
    let scene = scene(&fleet, &prefix).await;
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
    fleet.store.mend(None).await.expect("what was set aside goes");
    fleet.check().await.expect("nothing is wrong any more");
}

/// Redis adds to digits alone; what reads as a number elsewhere is found before the first write.
#[tokio::test]
async fn a_number_that_redis_does_not_take_for_one_changes_nothing() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let scene = scene(&fleet, &prefix).await;
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
        // "01" is a number to others, and the doctor must not take it for one, either.
        fleet.store.mend(None).await.expect("it is mended");
        fleet.run(command.clone()).await.expect("it is sound again");
    }
}
