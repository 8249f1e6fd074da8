//! Who was away, where others look too, and who has gone.

use std::time::Duration;

use pointsman_core::{Command, Incarnation, Rejected, record::ConnectorStatus};
use pointsman_store::{
    CONTACT_GAP, Due, Store as _, StoreError,
    conformance::fleet::{Fleet, Hand},
};
use pointsman_store_redis::Options;

use crate::support::{fleet_on, open_with};

#[tokio::test]
async fn who_was_away_alone_begins_nothing_anew() {
    let (fleet, options) = fleet_on();
    let options = Options { contact_gap: Some(CONTACT_GAP), ..options };
    let (here, away) = (open_with(options.clone()), open_with(options));
    here.due(Due::Leases).await.expect("the store works");
    fleet.advance(CONTACT_GAP / 2);
    assert!(!away.break_contact().await.expect("the store works"), "somebody looked");
    fleet.advance(CONTACT_GAP + Duration::from_millis(1));
    assert!(away.break_contact().await.expect("the store works"));
}

#[tokio::test]
async fn a_closed_store_takes_no_command() {
    let (fleet, _) = fleet_on();
    fleet.store.close().await.expect("it closes");
    assert_eq!(fleet.store.execute(Vec::new()).await.err(), Some(StoreError::Closed));
}

/// What a server remembers may be out of date: it looks before it refuses anybody, and before it says
/// that there is nothing.
#[tokio::test]
async fn a_process_that_came_to_another_server_is_known() {
    let (fleet, options) = fleet_on();
    let other = open_with(options);
    let mut successors = Vec::new();
    for (n, name) in ["one", "two"].into_iter().enumerate() {
        let hand = fleet.worker(name, 1, &[]).await;
        assert_eq!(fleet.claim(&hand).await, None);
        let incarnation = Incarnation::from_uuid(uuid::Uuid::from_u128(n as u128));
        let newer = Hand { incarnation, ..hand.clone() };
        let register = Command::Register(Fleet::registration(&newer, 1, &[]));
        let done = other.execute(vec![register]).await.expect("the store works").pop();
        done.expect("one answer").expect("accepted");
        successors.push((hand, newer));
    }
    let [(former, _), (_, newer)] = &successors[..] else { panic!("two workers") };
    let claim = Fleet::exchange(former, Vec::new(), vec![fleet.token()]);
    let refused = fleet.run(Command::Exchange(claim)).await.err();
    assert_eq!(refused, Some(Rejected::Superseded(former.incarnation)));
    fleet.renew(newer, Vec::new(), ConnectorStatus::Idle).await.expect("it is the newest");
}
