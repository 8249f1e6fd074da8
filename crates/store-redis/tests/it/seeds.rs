//! What a view starts from is whole, or there is none.

use std::{collections::BTreeSet, sync::Arc};

use pointsman_core::{
    Command, Record,
    command::Raise,
    record::{AlertId, AlertRule, Severity},
};
use pointsman_store::{Store, StoreError};

use crate::{
    between,
    support::{block_on, by_hand, fleet_on, open_with, prefix, redis_url},
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
