//! A worker and a machine agent in the same process as the broker.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pointsman_broker::Broker;
use pointsman_connectors::{ByteStream, NewArtifact, Preview};
use pointsman_core::{
    Command, Incarnation, JobId, WorkerId,
    command::{Exchange, Held, Register, RegisterMachine, Renew, Renewed, SetMachine},
    record::Progress,
};
use pointsman_machine::Host;
use pointsman_server::Files;
use pointsman_worker::{Arrival, BrokerError, Claimed, Clock, Exchanged, InEpoch, StoredFile};

use super::{
    ArtifactPlace,
    on_store::{broker_error, clock, exchanged, in_epoch, registered},
};

/// Calls the broker directly.
#[derive(Clone)]
pub struct InProcess {
    broker: Broker,
    artifacts: ArtifactPlace,
}

impl InProcess {
    pub fn new(broker: Broker, files: Arc<Files>) -> Self {
        let artifacts = ArtifactPlace::Directory { files, store: broker.store().clone() };
        Self { broker, artifacts }
    }

    /// The store's time.
    pub fn clock(&self) -> Clock {
        clock(self.broker.store().clone())
    }
}

#[async_trait]
impl pointsman_worker::Broker for InProcess {
    async fn register(
        &self,
        register: Register,
        arrival: &Arrival,
    ) -> Result<InEpoch<Vec<Claimed>>, BrokerError> {
        let done = self.broker.execute(Command::Register(register)).await.map_err(broker_error)?;
        registered(&**self.broker.store(), done.answer, arrival).await
    }

    async fn exchange(
        &self,
        exchange: Exchange,
        wait: Duration,
        arrival: &Arrival,
    ) -> Result<Exchanged, BrokerError> {
        let wait = if exchange.ops.is_empty() { wait } else { Duration::ZERO };
        let done = self
            .broker
            .exchange(exchange, wait, &|| arrival.moved())
            .await
            .map_err(broker_error)?;
        Ok(exchanged(done))
    }

    async fn renew(
        &self,
        renew: Renew,
        progress: Vec<(JobId, Progress)>,
    ) -> Result<InEpoch<Renewed>, BrokerError> {
        let renewed = self.broker.renew(renew, progress).await.map_err(broker_error)?;
        Ok(in_epoch(&**self.broker.store(), renewed))
    }

    async fn preview(&self, held: Held, n: u32, preview: Preview) -> Result<(), BrokerError> {
        let Preview { media_type, bytes } = preview;
        let kept = self.broker.set_preview(held.job, held.attempt, n, bytes, media_type).await;
        kept.map_err(|error| BrokerError::Refused(error.to_string()))
    }

    async fn put_artifact(
        &self,
        held: Held,
        artifact: NewArtifact,
        bytes: ByteStream,
    ) -> Result<StoredFile, BrokerError> {
        self.artifacts.put_artifact(held, artifact, bytes).await
    }

    async fn open_input(&self, _: Held, from: &str) -> Result<Option<ByteStream>, BrokerError> {
        self.artifacts.open_input(from).await
    }

    async fn leave(&self, worker: WorkerId, incarnation: Incarnation) -> Result<(), BrokerError> {
        let leave = Command::Leave { worker, incarnation };
        self.broker.execute(leave).await.map(drop).map_err(broker_error)
    }
}

#[async_trait]
impl Host for InProcess {
    async fn register_machine(&self, register: RegisterMachine) -> Result<(), BrokerError> {
        let register = Command::RegisterMachine(register);
        self.broker.execute(register).await.map(drop).map_err(broker_error)
    }

    async fn set_machine(&self, set: SetMachine) -> Result<(), BrokerError> {
        self.broker.execute(Command::SetMachine(set)).await.map(drop).map_err(broker_error)
    }
}
