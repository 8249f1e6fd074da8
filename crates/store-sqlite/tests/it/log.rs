//! The log: paged, dense, cut at its old end, and the same as what subscribers heard.

use std::time::Duration;

use pointsman_store::{
    LogPage,
    conformance::fleet::{Fleet, spec},
};

use crate::support::{count, database, fleet_with, submit_and_finish};

async fn page(fleet: &Fleet, after: u64, limit: usize) -> LogPage {
    fleet.store.log(after, limit).await.unwrap()
}

#[tokio::test]
async fn pages_are_what_subscribers_heard() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = crate::support::fleet(dir.path());
    let mut events = fleet.store.subscribe();
    let hand = fleet.worker("w", 1, &[]).await;
    for _ in 0..20 {
        submit_and_finish(&fleet, &hand).await;
    }
    let (mut after, mut read) = (0, Vec::new());
    loop {
        let LogPage::Groups(groups) = page(&fleet, after, 7).await else { panic!("cut") };
        let Some(last) = groups.last() else { break };
        assert!(groups.len() <= 7);
        after = last.seq;
        read.extend(groups);
    }
    assert_eq!(after, fleet.seq().await);
    for group in read {
        assert_eq!(events.try_recv().unwrap(), group);
    }
    assert!(events.try_recv().is_err());
}

/// Bounds a few groups wide: the log is cut, says so, and stays within them.
#[tokio::test]
async fn the_old_end_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet_with(dir.path(), |options| options.log.groups = 10);
    for _ in 0..50 {
        fleet.submit(spec(50)).await;
    }
    let LogPage::Cut { oldest } = page(&fleet, 0, 100).await else { panic!("not cut") };
    assert_eq!(oldest, 41);
    assert!(matches!(page(&fleet, 39, 100).await, LogPage::Cut { oldest: 41 }));
    let LogPage::Groups(groups) = page(&fleet, 40, 100).await else { panic!("cut") };
    assert_eq!(groups.len(), 10);
}

#[tokio::test]
async fn the_log_is_bounded_by_bytes_and_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet_with(dir.path(), |options| {
        options.log.bytes = 20_000;
        options.log.age = Duration::from_secs(60);
    });
    for _ in 0..100 {
        fleet.submit(spec(50)).await;
    }
    let LogPage::Cut { oldest } = page(&fleet, 0, 100).await else { panic!("not cut") };
    assert!((60..100).contains(&oldest), "{oldest}");
    fleet.advance(Duration::from_secs(61));
    fleet.submit(spec(50)).await;
    assert!(matches!(page(&fleet, 0, 100).await, LogPage::Cut { oldest: 101 }));
    fleet.store.close().await.unwrap();
    let db = database(dir.path());
    assert_eq!(count(&db, "log"), 1);
    let said: i64 = db.query_row("SELECT log_bytes FROM position", [], |r| r.get(0)).unwrap();
    let is: i64 =
        db.query_row("SELECT sum(octet_length(lines)) FROM log", [], |r| r.get(0)).unwrap();
    assert_eq!(said, is);
}

/// An old log goes also when nothing is written; and the seq never goes back for it.
#[tokio::test]
async fn an_idle_store_cuts_its_log_too() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3_600);
    let fleet = fleet_with(dir.path(), move |options| options.log.age = hour);
    fleet.submit(spec(50)).await;
    fleet.advance(2 * hour);
    let mut cut = false;
    for _ in 0..600 {
        cut = matches!(page(&fleet, 0, 1).await, LogPage::Cut { oldest: 2 });
        if cut {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(cut, "the log is never cut");
    fleet.store.close().await.unwrap();
    let again = crate::support::fleet(dir.path());
    assert_eq!(again.seq().await, 1);
}

/// What the log lacks, or cannot be read in it, is told, and never passed over.
#[tokio::test]
async fn a_hole_in_the_log_is_never_passed_over() {
    let broken = r#"UPDATE log SET lines = '{x' || lines WHERE last_seq = 5"#;
    for wound in [
        "DELETE FROM log WHERE last_seq = 5",
        broken,
        "UPDATE log SET lines = 7 WHERE last_seq = 5",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let fleet = crate::support::fleet(dir.path());
        for _ in 0..9 {
            fleet.submit(spec(50)).await;
        }
        assert_eq!(database(dir.path()).execute(wound, []).unwrap(), 1, "{wound}");
        let seqs = |page| match page {
            LogPage::Groups(groups) => groups.iter().map(|group| group.seq).collect::<Vec<_>>(),
            LogPage::Cut { oldest } => panic!("{wound}: cut to {oldest}"),
        };
        assert_eq!(seqs(page(&fleet, 0, 100).await), [1, 2, 3, 4], "{wound}");
        let there = page(&fleet, 4, 100).await;
        assert!(matches!(there, LogPage::Cut { oldest: 6 }), "{wound}: {there:?}");
        assert_eq!(seqs(page(&fleet, 5, 100).await), [6, 7, 8, 9], "{wound}");
    }
}
