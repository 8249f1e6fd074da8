//! How long a change takes to reach a hundred viewers. Needs a quiet machine, so it runs only when
//! it is asked for: `cargo test -p pointsman-broker --release -- --ignored --nocapture`.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use pointsman_broker::{Broker, Frame};
use pointsman_core::{Answer, Command, Seq, command::Held};
use pointsman_store::{
    MemStore, MonotonicClock,
    conformance::fleet::{Fleet, completed, spec},
};

use crate::support::quiet;

const VIEWERS: usize = 100;
const CONFLATE: Duration = Duration::from_millis(100);
const EVENTS_A_SECOND: u64 = 2_000;
const FOR: Duration = Duration::from_secs(10);

type Commits = Arc<RwLock<HashMap<Seq, Instant>>>;

/// Reads until the broker stops; the time from each event's commit to its line.
async fn view(broker: Broker, commits: Commits) -> Vec<Duration> {
    let mut viewer = broker.viewer(None, CONFLATE);
    let mut latencies = Vec::new();
    let mut bytes = 0;
    while let Some(frame) = viewer.next().await {
        bytes += frame.lines().iter().map(|line| line.data.len()).sum::<usize>();
        let Frame::Events(group) = &frame else { continue };
        let now = Instant::now();
        let commits = commits.read();
        let at = group.events.iter().filter_map(|event| commits.get(&event.seq()));
        latencies.extend(at.map(|at| now - *at));
    }
    assert!(bytes > 0);
    latencies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark"]
async fn a_hundred_viewers_see_two_thousand_events_a_second() {
    let open = |_| {
        let clock = MonotonicClock::starting(pointsman_core::Timestamp::default());
        let store: Arc<dyn pointsman_store::Store> = Arc::new(MemStore::new(Arc::new(clock)));
        (store, Box::new(()) as Box<dyn std::any::Any>)
    };
    let fleet = Fleet::new(&open);
    let (broker, tasks) = Broker::start(fleet.store.clone(), quiet()).await.unwrap();
    let hand = fleet.worker("a", 20, &[]).await;
    let commits = Commits::default();
    let viewers: Vec<_> =
        (0..VIEWERS).map(|_| tokio::spawn(view(broker.clone(), commits.clone()))).collect();

    let begun = Instant::now();
    let mut events = 0;
    let mut held: Option<Held> = None;
    while begun.elapsed() < FOR {
        let due = u64::try_from(begun.elapsed().as_millis()).unwrap() * EVENTS_A_SECOND / 1_000;
        while events < due {
            fleet.submit(spec(50)).await;
            let ops = held.map(|held| Fleet::op(held, completed())).into_iter().collect();
            let exchange = Fleet::exchange(&hand, ops, vec![fleet.token()]);
            let now = Instant::now();
            let (answer, group) = fleet.run(Command::Exchange(exchange)).await.unwrap();
            let group = group.expect("a claim");
            commits.write().insert(group.seq, now);
            events += group.events.len() as u64;
            let Answer::Exchanged { claimed, .. } = answer else { panic!("{answer:?}") };
            held = claimed.first().copied();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stats = broker.stats();
    tasks.stop().await;
    let mut latencies = Vec::new();
    for viewer in viewers {
        latencies.extend(viewer.await.unwrap());
    }
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{VIEWERS} viewers, {events} events in {FOR:?}, {} lines read: p50 {:?}, p99 {:?}, max {:?}; {stats:?}",
        latencies.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    assert_eq!(stats.resyncs, 0);
    assert!(at(0.99) <= Duration::from_millis(200));
}
