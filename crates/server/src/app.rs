//! What all handlers share.

use std::{ops::Deref, sync::Arc};

use pointsman_broker::Broker;
use pointsman_core::doctor::Examination;
use pointsman_store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::{
    access::Gate, body::Room, files::Files, metrics::Metrics, one_at_a_time::OneAtATime,
    server::Limits, services::Services, streams::Streams,
};

pub(crate) struct Shared {
    pub broker: Broker,
    pub store_id: String,
    pub files: Arc<Files>,
    pub gate: Gate,
    pub services: Services,
    pub metrics: Metrics,
    pub streams: Streams,
    /// Each looks at all that is stored.
    pub examinations: OneAtATime<Result<Arc<Examination>, StoreError>>,
    pub bodies: Room,
    /// Payloads and results on their way to clients.
    pub answers: Room,
    /// Streams and waiting claims end when it is cancelled.
    pub stopping: CancellationToken,
}

/// A cheap handle on what all handlers share.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

impl App {
    pub fn new(
        broker: Broker,
        store_id: String,
        files: Arc<Files>,
        gate: Gate,
        limits: Limits,
    ) -> Self {
        Self(Arc::new(Shared {
            metrics: Metrics::new(&broker),
            broker,
            store_id,
            files,
            gate,
            services: Services::default(),
            streams: Streams::default(),
            examinations: OneAtATime::default(),
            bodies: Room::for_bodies(limits.body_bytes),
            answers: Room::for_answers(limits.answer_bytes),
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
