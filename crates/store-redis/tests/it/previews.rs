//! Preview pictures, which servers keep for each other.

use std::sync::Arc;

use pointsman_core::{JobId, LossReason, command::Op, record::ConnectorStatus};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::{
    ManualClock, Preview, Store,
    conformance::{fleet::completed, logged::Log},
};
use pointsman_store_redis::{Address, Options, RedisStore};

use crate::support::{block_on, by_hand, fleet_on, open_with, options, prefix, run};

const HOUR_MS: i64 = 3_600_000;

fn preview(attempt: u32, n: u32) -> Preview {
    // Line ends and nulls are bytes like others.
    let bytes = vec![0, b'\n', 0xff, b' '].into();
    Preview { attempt, n, media_type: "image/png".into(), bytes }
}

async fn keep(store: &RedisStore, job: JobId, attempt: u32, n: u32) -> Preview {
    store.keep_preview(job, preview(attempt, n)).await.expect("it is kept, or another one is");
    store.preview(job).await.expect("the store works").expect("one is kept")
}

#[test]
fn an_older_picture_never_takes_the_place_of_a_newer_one() {
    let options = options(&ManualClock::default());
    let prefix = prefix(&options);
    let [one, other] = [options.clone(), options].map(open_with);
    let job = JobId::from_uuid(uuid::Uuid::from_u128(7));
    block_on(async {
        assert_eq!(keep(&one, job, 1, 7).await, preview(1, 7));
        assert_eq!(keep(&other, job, 1, 3).await, preview(1, 7));
        assert_eq!(keep(&other, job, 1, 10).await, preview(1, 10), "numbers are no texts");
        assert_eq!(keep(&one, job, 2, 1).await, preview(2, 1), "another attempt");
        assert_eq!(keep(&other, job, 1, 11).await, preview(2, 1));
    });
    let key = format!("preview:{job}");
    let redis::Value::Int(left) = by_hand(&prefix, &format!("PTTL {key}")) else { panic!() };
    assert!((HOUR_MS..=6 * HOUR_MS).contains(&left), "a step of a video takes long: {left}");

    // What is no picture is written over.
    for rubbish in ["SADD", "SET"] {
        by_hand(&prefix, &format!("DEL {key}"));
        by_hand(&prefix, &format!("{rubbish} {key} nonsense"));
        assert_eq!(block_on(keep(&one, job, 1, 1)), preview(1, 1), "{rubbish}");
    }
}

#[tokio::test]
async fn a_picture_goes_with_its_attempt() {
    let (fleet, _) = fleet_on();
    let hand = fleet.worker("w", 1, &[]).await;
    let release = Op::Release { reason: LossReason::Drained, message: String::new() };
    for end in [release, completed()] {
        let held = match fleet.claim(&hand).await {
            Some(held) => held,
            None => fleet.running(&hand).await,
        };
        fleet.store.keep_preview(held.job, preview(held.attempt, 1)).await.expect("it is kept");
        let kept = async || fleet.store.preview(held.job).await.expect("the store works");
        fleet.renew(&hand, vec![held], ConnectorStatus::Active).await.expect("it is heard");
        assert_eq!(kept().await, Some(preview(held.attempt, 1)));
        fleet.act(&hand, held, end).await.expect("accepted");
        assert_eq!(kept().await, None);
    }
}

/// They are many and large: what must not be refused for them is work.
#[tokio::test]
async fn pictures_leave_the_last_of_the_memory_to_jobs() {
    let options = RedisOptions { maxmemory: Some(64 << 20), ..Default::default() };
    let server = RedisServer::start(options).await.expect("it starts");
    let address = server.url().parse::<Address>().expect("a valid address");
    let store = Arc::new(RedisStore::open(Options::new(address)).await.expect("it opens"));
    let (log, _logging) = Log::listen();
    let job = |n| JobId::from_uuid(uuid::Uuid::from_u128(n));
    let large = |n| Preview { bytes: vec![0; 2 << 20].into(), ..preview(1, n) };
    for n in 0..30 {
        store.keep_preview(job(n), large(1)).await.expect("it is kept, or none is");
    }
    let used = server.info("used_memory").await.expect("it says").expect("a number");
    assert!(used < 64 * (1 << 20) * 3 / 4, "new work is taken: {used}");
    let kept = async |n| store.preview(job(n)).await.expect("the store works").map(|kept| kept.n);
    assert_eq!((kept(0).await, kept(29).await), (Some(1), None));
    // What is older is not shown in the place of what is newer.
    run(&server, "SETRANGE filling 6000000 x").await;
    store.keep_preview(job(0), large(2)).await.expect("none is kept");
    assert_eq!(kept(0).await, None);
    run(&server, "DEL filling").await;
    run(&server, "CONFIG SET maxmemory 0").await;
    store.keep_preview(job(0), large(3)).await.expect("it is kept");
    assert_eq!(kept(0).await, Some(3));
    // That is told once, however many are not kept.
    let lines = log.0.lock().clone();
    let told: Vec<&String> = lines.iter().filter(|line| line.contains("preview")).collect();
    let [told] = &told[..] else { panic!("{told:?}") };
    assert!(told.starts_with("WARN") && told.contains("70 % of `maxmemory`"), "{told}");
}
