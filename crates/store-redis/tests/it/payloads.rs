//! Payloads of every size.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use pointsman_core::{Command, JobId};
use pointsman_store::{
    ManualClock, Store as _,
    conformance::fleet::{Fleet, spec},
};
use uuid::Uuid;

use crate::support::{by_hand, open_with, options, prefix};

/// What is asked for in one go.
const PIECES: usize = 256 << 10;

#[tokio::test]
async fn a_payload_comes_whole_however_many_pieces_it_takes() {
    let options = options(&ManualClock::default());
    let prefix = prefix(&options);
    let store = open_with(options);
    let sizes = [0, 1, PIECES - 1, PIECES, PIECES + 1, 2 * PIECES - 1, 5 * PIECES];
    let payload = |size: usize| -> String {
        (0..size).map(|n| char::from(b'a' + u8::try_from(n % 23).unwrap())).collect()
    };
    let mut jobs = Vec::new();
    for (n, size) in sizes.into_iter().enumerate() {
        let job = JobId::from_uuid(Uuid::from_u128(n as u128));
        if size > 0 {
            by_hand(&prefix, &format!("SET payload:{job} {}", payload(size)));
        }
        jobs.push(job);
    }
    let expected = |size: usize| (size > 0).then(|| payload(size).into_bytes().into());
    let all = store.payloads(jobs.clone()).await.unwrap();
    assert!(all == sizes.map(expected), "together");
    for (job, size) in jobs.into_iter().zip(sizes) {
        let moves = AtomicUsize::new(0);
        let moved = || {
            moves.fetch_add(1, Ordering::Relaxed);
        };
        let one = store.arriving_payloads(vec![job], &moved).await.unwrap();
        assert!(one == [expected(size)], "alone: {size} bytes");
        assert!(moves.into_inner() > size / PIECES, "told of each piece of {size} bytes");
    }
}

#[tokio::test]
async fn a_small_payload_comes_with_its_claim_and_a_large_one_is_asked_for() {
    let options = options(&ManualClock::default());
    let prefix = prefix(&options);
    let store = Arc::new(open_with(options));
    let fleet = Fleet::on(&store);
    let hand = fleet.worker("w", 2, &[]).await;
    let payloads: [Arc<[u8]>; 2] = [64 << 10, (64 << 10) + 1].map(|size| vec![b'1'; size].into());
    for payload in payloads.clone() {
        let mut submit = fleet.submission(spec(0));
        submit.payload = payload;
        fleet.run(Command::Submit(submit)).await.unwrap();
    }
    let tokens = vec![fleet.token(), fleet.token()];
    let claimed = fleet.claim_with(&hand, tokens).await;
    for held in &claimed {
        by_hand(&prefix, &format!("DEL payload:{}", held.job));
    }
    let found = store.payloads(claimed.iter().map(|held| held.job).collect()).await.unwrap();
    assert!(
        found == [Some(payloads[0].clone()), None],
        "the small one was told, the large one not"
    );
}
