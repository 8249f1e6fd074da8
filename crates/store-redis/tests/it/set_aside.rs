//! What is set aside once more while an earlier copy still lies there.

use pointsman_core::{
    JobId,
    doctor::{Finding, Mend, MendOutcome},
};
use pointsman_store::{
    Depth, Store as _,
    conformance::fleet::{Fleet, spec},
};
use pointsman_store_redis::Options;

use crate::support::{by_hand, call_by_hand, fleet_on, open_with, prefix};

fn text(answer: redis::Value) -> String {
    redis::from_redis_value(answer).expect("a text")
}

/// The only finding.
async fn found(fleet: &Fleet) -> Finding {
    let found = fleet.store.examine(Depth::Everything).await.expect("it is examined");
    let [finding] = &found.findings[..] else { panic!("{found:?}") };
    assert_eq!(found.doubts_jobs().is_some(), finding.mend == Mend::None, "{finding:?}");
    finding.clone()
}

/// The log begins after everything that it has of this job.
async fn forget_in_log(fleet: &Fleet, prefix: &str) {
    let seq = fleet.store.seed().await.expect("the store works").position.seq;
    fleet.submit(spec(50)).await;
    by_hand(prefix, &format!("XTRIM log MINID {}", seq + 1));
}

/// A job that nobody has any more but as it was set aside, alone or beside what it replaced once.
async fn set_aside(fleet: &Fleet, options: &Options, job: JobId) {
    let prefix = &prefix(options);
    forget_in_log(fleet, prefix).await;
    by_hand(prefix, &format!("HSET job:{job} attempt nonsense"));
    let id = format!("unreadable_field:job/{job}");
    // Who has searched the log before remembers what was in it.
    let other = open_with(options.clone());
    let mended = other.mend(Some(vec![id])).await.expect("it is mended");
    assert_eq!(mended[0].outcome, MendOutcome::Quarantined, "{mended:?}");
    other.close().await.expect("it closes");
}

#[tokio::test]
async fn the_only_copy_of_a_record_is_kept_beside_an_older_one() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let job = fleet.submit(spec(50)).await;
    by_hand(&prefix, &format!("SET job:{job} x"));
    fleet.store.mend(None).await.expect("it is made anew");
    assert_eq!(found(&fleet).await.mend, Mend::Repair);
    set_aside(&fleet, &options, job).await;
    // Also where it was not noted.
    for not_noted in [false, true] {
        if not_noted {
            by_hand(&prefix, "DEL quarantined");
        }
        let finding = found(&fleet).await;
        assert_eq!((finding.id, finding.mend), (format!("quarantined:job/{job}"), Mend::None));
        let delete = format!("DEL {prefix}quarantine:job:{job} {prefix}quarantine:job:{job}:2");
        assert!(finding.cure.contains(&delete), "{}", finding.cure);
        let mended = fleet.store.mend(None).await.expect("it is no failure");
        assert!(matches!(mended[0].outcome, MendOutcome::Left { .. }), "{mended:?}");
    }
    by_hand(&prefix, &format!("HSET quarantined job:{job}:2 job:{job}"));
    assert_eq!(fleet.store.gone(vec![job]).await.expect("the store works"), []);
    // It is put back, and what was set aside before is deleted.
    let rename = format!("quarantine:job:{job}:2 {prefix}job:{job}");
    by_hand(&prefix, &format!("HSET quarantine:job:{job}:2 attempt 0"));
    by_hand(&prefix, &format!("RENAME {rename}"));
    fleet.store.mend(None).await.expect("it is mended");
    fleet.store.mend(None).await.expect("what was set aside goes");
    fleet.check().await.expect("nothing is wrong any more");
}

#[tokio::test]
async fn what_cannot_be_read_takes_no_records_place() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let job = fleet.submit(spec(50)).await;
    set_aside(&fleet, &options, job).await;
    by_hand(&prefix, &format!("SET job:{job} x"));
    let examine = async || {
        let found = fleet.store.examine(Depth::Everything).await.expect("it is examined");
        found.findings.into_iter().find(|f| f.id == format!("quarantined:job/{job}"))
    };
    assert_eq!(examine().await.map(|finding| finding.mend), Some(Mend::None));
    fleet.store.mend(None).await.expect("it is mended");
    fleet.store.mend(None).await.expect("it is mended");
    assert_eq!(examine().await.map(|finding| finding.mend), Some(Mend::None));
    assert_eq!(by_hand(&prefix, &format!("EXISTS quarantine:job:{job}")), redis::Value::Int(1));
}

/// Between a look and what a repair does about it, another server may have set the record aside once
/// more, under a name that had become free.
#[tokio::test]
async fn what_was_set_aside_since_the_look_is_neither_forgotten_nor_deleted() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let job = fleet.submit(spec(50)).await;
    let key = format!("job:{job}");
    set_aside(&fleet, &options, job).await;
    let deleted = || text(call_by_hand(&prefix, "delete_asides", &[&key, &key]));
    let is_noted = || by_hand(&prefix, &format!("HGET quarantined {key}"));
    call_by_hand(&prefix, "forget_asides", &[&key]);
    assert_eq!(text(is_noted()), key);
    assert_eq!(deleted(), "changed");
    assert_eq!(fleet.store.gone(vec![job]).await.expect("the store works"), []);
    by_hand(&prefix, &format!("DEL quarantine:{key}"));
    call_by_hand(&prefix, "forget_asides", &[&key]);
    assert_eq!(is_noted(), redis::Value::Nil);
}

#[tokio::test]
async fn what_somebody_has_deleted_is_noted_no_more() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    by_hand(&prefix, "SET leases x");
    fleet.store.mend(None).await.expect("it is mended");
    let noted = || by_hand(&prefix, "HLEN quarantined");
    assert_eq!(noted(), redis::Value::Int(1));
    by_hand(&prefix, "DEL quarantine:leases");
    assert_eq!(fleet.store.mend(None).await, Ok(Vec::new()));
    assert_eq!(noted(), redis::Value::Int(0));
}
