use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{Broker, ConfigError, WorkerConfig, WorkerError};

/// How a worker is told to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Finish what can be finished within the drain's time, give the rest back, leave.
    pub drain: CancellationToken,
    /// Leave now.
    pub abort: CancellationToken,
}

/// One worker.
pub struct Worker {
    config: WorkerConfig,
    broker: Arc<dyn Broker>,
}

impl Worker {
    /// A worker that has not registered yet.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: WorkerConfig, broker: Arc<dyn Broker>) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self { config, broker })
    }
}
