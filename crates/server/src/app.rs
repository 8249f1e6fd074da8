//! What all handlers share.

use std::{ops::Deref, sync::Arc};

use pointsman_broker::Broker;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{access::Gate, body::Room, files::Files, metrics::Metrics, services::Services};

/// Event streams that may be open at once.
const MAX_STREAMS: usize = 2_000;

pub(crate) struct Shared {
    pub broker: Broker,
    pub files: Arc<Files>,
    pub gate: Gate,
    pub services: Services,
    pub metrics: Metrics,
    pub streams: Arc<Semaphore>,
    pub bodies: Room,
    /// Streams and waiting claims end when it is cancelled.
    pub stopping: CancellationToken,
}

/// A cheap handle on what all handlers share.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

impl App {
    pub fn new(broker: Broker, files: Arc<Files>, gate: Gate, bodies: Room) -> Self {
        Self(Arc::new(Shared {
            broker,
            files,
            gate,
            services: Services::default(),
            metrics: Metrics::new(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            bodies,
            stopping: CancellationToken::new(),
        }))
    }
}

impl Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}
