//! A worker that reaches a store on Redis directly.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pointsman_broker::{Exchanges, odd_answer};
use pointsman_connectors::{ByteStream, NewArtifact, Preview};
use pointsman_core::{
    Answer, Command, Incarnation, JobId, WorkerId,
    command::{Exchange, Held, Register, Renew, Renewed},
    record::Progress,
};
use pointsman_store::{Store, ToldProgress};
use pointsman_store_redis::RedisStore;
use pointsman_worker::{Arrival, BrokerError, Claimed, Clock, Exchanged, InEpoch, StoredFile};
use tokio_util::sync::CancellationToken;

use super::{
    ArtifactPlace,
    on_store::{broker_error, clock, exchanged, in_epoch, registered, store_error},
};

/// How often a waiting claim looks by itself: a thousand idle workers cost Redis next to nothing.
const SLOW_SCAN: Duration = Duration::from_secs(5);

/// Calls the store.
pub struct OverRedis {
    store: Arc<dyn Store>,
    exchanges: Exchanges,
    artifacts: ArtifactPlace,
}

impl OverRedis {
    pub fn new(store: RedisStore, artifacts: ArtifactPlace) -> Self {
        let store: Arc<dyn Store> = Arc::new(store);
        let exchanges = Exchanges::new(store.clone(), SLOW_SCAN, CancellationToken::new());
        Self { store, exchanges, artifacts }
    }

    /// The store's time.
    pub fn clock(&self) -> Clock {
        clock(self.store.clone())
    }

    async fn execute(&self, command: Command) -> Result<Answer, BrokerError> {
        let done = pointsman_broker::execute(&*self.store, command).await.map_err(broker_error)?;
        Ok(done.answer)
    }
}

#[async_trait]
impl pointsman_worker::Broker for OverRedis {
    async fn register(
        &self,
        register: Register,
        arrival: &Arrival,
    ) -> Result<InEpoch<Vec<Claimed>>, BrokerError> {
        let answer = self.execute(Command::Register(register)).await?;
        registered(&*self.store, answer, arrival).await
    }

    async fn exchange(
        &self,
        exchange: Exchange,
        wait: Duration,
        arrival: &Arrival,
    ) -> Result<Exchanged, BrokerError> {
        let wait = if exchange.ops.is_empty() { wait } else { Duration::ZERO };
        let done = self
            .exchanges
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
        let worker = renew.worker.clone();
        let renewed = match self.execute(Command::Renew(renew)).await? {
            Answer::Renewed(renewed) => renewed,
            other => return Err(store_error(odd_answer(&other))),
        };
        let told = progress.into_iter().map(|(job, progress)| ToldProgress {
            worker: worker.clone(),
            job,
            progress,
        });
        // Progress that nobody hears of is no reason to repeat the renewal.
        if let Err(error) = self.store.tell_progress(told.collect()).await {
            tracing::debug!(%error, "progress was not told");
        }
        Ok(in_epoch(&*self.store, renewed))
    }

    async fn preview(&self, held: Held, n: u32, preview: Preview) -> Result<(), BrokerError> {
        let Preview { media_type, bytes } = preview;
        let preview = pointsman_store::Preview { attempt: held.attempt, n, media_type, bytes };
        preview.check().map_err(|error| BrokerError::Refused(error.to_string()))?;
        self.store.keep_preview(held.job, preview).await.map_err(store_error)
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
        self.execute(Command::Leave { worker, incarnation }).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use pointsman_client::Client;
    use pointsman_core::Token;
    use pointsman_store::{MAX_PREVIEW, ManualClock, MemStore};
    use pointsman_worker::Broker as _;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_preview_that_is_too_large_is_refused() {
        let store: Arc<dyn Store> = Arc::new(MemStore::new(Arc::new(ManualClock::default())));
        let artifacts = ArtifactPlace::Server(Client::new("http://127.0.0.1:9", None).unwrap());
        let exchanges = Exchanges::new(store.clone(), SLOW_SCAN, CancellationToken::new());
        let broker = OverRedis { store, exchanges, artifacts };
        let id = Uuid::from_u128(1);
        let held = Held { job: JobId::from_uuid(id), attempt: 1, token: Token::from_uuid(id) };
        let show = async |size| {
            let bytes = vec![0; size].into();
            broker.preview(held, 1, Preview { media_type: "image/png".into(), bytes }).await
        };
        assert_eq!(show(MAX_PREVIEW).await, Ok(()));
        let Err(BrokerError::Refused(why)) = show(MAX_PREVIEW + 1).await else { panic!("kept") };
        assert!(why.contains("at most 4194304"), "{why}");
    }
}
