//! A fleet with a broker, and time that both share.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use pointsman_broker::{Broker, BrokerConfig, BrokerTasks, Frame, Viewer};
use pointsman_store::{
    ManualClock, MemStore, Store,
    conformance::{Open, fleet::Fleet},
};

use crate::faulty::FaultyStore;

pub struct World {
    pub fleet: Fleet,
    pub store: Arc<FaultyStore>,
    pub broker: Broker,
    pub tasks: BrokerTasks,
    config: BrokerConfig,
}

/// No reconcilers: what happens is what the test does.
pub fn quiet() -> BrokerConfig {
    BrokerConfig { reconcile: false, ..BrokerConfig::default() }
}

/// A fleet over a store that can be broken.
pub fn fleet() -> (Fleet, Arc<FaultyStore>) {
    let made: Arc<Mutex<Option<Arc<FaultyStore>>>> = Arc::default();
    let keep = made.clone();
    let open: &Open = &move |clock: ManualClock| {
        let store = Arc::new(FaultyStore::new(MemStore::new(Arc::new(clock))));
        *keep.lock() = Some(store.clone());
        (store as Arc<dyn Store>, Box::new(()))
    };
    let fleet = Fleet::new(open);
    let store = made.lock().take().expect("opened");
    (fleet, store)
}

impl World {
    pub async fn new(config: BrokerConfig) -> Self {
        let (fleet, store) = fleet();
        let begun = Broker::start(store.clone(), config.clone()).await;
        let (broker, tasks) = begun.expect("the store works");
        Self { fleet, store, broker, tasks, config }
    }

    /// Another server on the same store takes this one's place.
    pub async fn restart(&mut self) {
        let begun = Broker::start(self.store.clone(), self.config.clone()).await;
        let (broker, tasks) = begun.expect("the store works");
        self.broker = broker;
        std::mem::replace(&mut self.tasks, tasks).stop().await;
    }

    /// Lets both clocks run.
    pub async fn pass(&self, time: Duration) {
        const STEP: Duration = Duration::from_millis(25);
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(STEP);
            self.fleet.advance(step);
            tokio::time::sleep(step).await;
            left -= step;
        }
    }

    pub fn store_now(&self) -> pointsman_core::Timestamp {
        self.fleet.store.now()
    }

    /// Waits until the hub has read everything that has happened.
    pub async fn settle(&self) {
        let seq = self.fleet.seq().await;
        while self.broker.stats().seq < seq {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The frames that come within a time in which nothing happens.
pub async fn frames(viewer: &mut Viewer, within: Duration) -> Vec<Frame> {
    let mut frames = Vec::new();
    let end = tokio::time::sleep(within);
    tokio::pin!(end);
    loop {
        tokio::select! {
            biased;
            frame = viewer.next() => frames.push(frame.expect("the broker runs")),
            () = &mut end => return frames,
        }
    }
}

pub fn names(frames: &[Frame]) -> Vec<&'static str> {
    frames.iter().flat_map(Frame::lines).map(|line| line.event).collect()
}

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
