//! One worker, its broker and its service, wired together.

use std::{sync::Arc, time::Duration};

use pointsman_connectors::Limits;
use pointsman_core::{Timestamp, matching::Capabilities};
use pointsman_worker::{ServiceConfig, Shutdown, Timings, Worker, WorkerConfig, WorkerError};
use tokio::{task::JoinHandle, time::Instant};

use crate::{broker::FakeBroker, service::FakeService};

/// The store's time as the worker starts.
pub const NOW: Timestamp = Timestamp::from_millis(7_000_000);

pub struct Setup {
    pub broker: Arc<FakeBroker>,
    pub service: Arc<FakeService>,
    pub shutdown: Shutdown,
    worker: JoinHandle<Result<(), WorkerError>>,
}

impl Setup {
    /// A worker with this many slots, as it is soon after its start.
    pub async fn new(slots: u32) -> Self {
        Self::with(slots, FakeBroker::new(), FakeService::new("fake")).await
    }

    pub async fn with(slots: u32, broker: Arc<FakeBroker>, service: FakeService) -> Self {
        let service = Arc::new(service);
        let config = config(slots, service.clone());
        let worker = Worker::new(config, broker.clone()).unwrap();
        let shutdown = Shutdown::default();
        let worker = tokio::spawn(worker.run(shutdown.clone()));
        let setup = Self { broker, service, shutdown, worker };
        setup.pass(0.1).await;
        setup
    }

    /// Lets seconds pass.
    pub async fn pass(&self, seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }

    pub fn has_ended(&self) -> bool {
        self.worker.is_finished()
    }

    /// How the worker ended.
    pub async fn ended(self) -> Result<(), WorkerError> {
        self.worker.await.unwrap()
    }
}

pub fn config(slots: u32, service: Arc<FakeService>) -> WorkerConfig {
    let began = Instant::now();
    WorkerConfig {
        worker: "w".parse().unwrap(),
        machine: "m".parse().unwrap(),
        services: vec![ServiceConfig { connector: service, slots }],
        capabilities: Capabilities::default(),
        summary: String::new(),
        limits: Limits::default(),
        timings: Timings::default(),
        clock: Arc::new(move || NOW + began.elapsed()),
    }
}
