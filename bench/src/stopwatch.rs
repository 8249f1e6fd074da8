//! The no-op whose beginnings are measured.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use pointsman_connectors::{
    Completion, Connector, Health, NotClear, RunContext, RunEnd, Task, Unavailable,
};
use pointsman_core::{ServiceName, command::Held, matching::ServiceCapabilities};
use tokio::sync::mpsc;

use crate::fleet::simulation;

/// A service that does nothing but say when it got a job.
pub struct Stopwatch {
    service: ServiceName,
    begins: mpsc::UnboundedSender<Instant>,
}

impl Stopwatch {
    pub fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Instant>) {
        let (begins, begun) = mpsc::unbounded_channel();
        (Arc::new(Self { service: simulation(), begins }), begun)
    }
}

#[async_trait]
impl Connector for Stopwatch {
    fn service(&self) -> &ServiceName {
        &self.service
    }

    async fn probe(&self) -> Health {
        Health::idle()
    }

    async fn capabilities(&self) -> Result<ServiceCapabilities, Unavailable> {
        Ok(ServiceCapabilities::default())
    }

    async fn run(&self, _: Task, context: RunContext) -> Result<Completion, RunEnd> {
        // Nobody measuring any more is no error.
        let _ = self.begins.send(Instant::now());
        context.started();
        Ok(Completion::default())
    }

    async fn clear_ghosts(&self, _: &[Held]) -> Result<Vec<Held>, NotClear> {
        Ok(Vec::new())
    }
}
