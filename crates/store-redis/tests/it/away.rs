//! Who was away, where others look too, and who has gone.

use std::time::Duration;

use pointsman_store::{CONTACT_GAP, Due, Store as _, StoreError};
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
