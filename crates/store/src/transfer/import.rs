//! Filling an empty store from a stream.

use pointsman_core::{
    Command, Record, RecordKey, Rejected, Timestamp, command::Reconcile, decide::Side,
};
use tokio::io::AsyncBufRead;

use super::{Counts, Header, Item, Stream, Transfer, TransferError};
use crate::{Epoch, Intake, StoreError};

/// Items put in at once, and about their bytes.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 8 << 20;

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub header: Header,
    pub counts: Counts,
    /// Of the new store's log.
    pub epoch: Epoch,
    /// Jobs that ran, and are pending again.
    pub given_back: u64,
}

/// Reads a stream into a store that never had a record. `told` hears after each batch how much
/// was put in.
///
/// # Errors
/// When the stream is none, is newer, was cut off or altered; when the store is not empty, or
/// fails. The store is empty again then; only when that fails too, or the process ends, it stays
/// marked as half imported: the next import begins anew.
/// [`Unconfirmed`](TransferError::Unconfirmed) alone says that everything is imported.
pub async fn import<R: AsyncBufRead + Unpin + Send>(
    store: &dyn Transfer,
    from: R,
    told: &mut (dyn FnMut(&Counts) + Send),
) -> Result<Imported, TransferError> {
    import_stream(store, Stream::open(from).await?, told).await
}

/// The same of a stream whose header was read before there was a store.
///
/// # Errors
/// As [`import`].
pub async fn import_stream<R: AsyncBufRead + Unpin + Send>(
    store: &dyn Transfer,
    mut stream: Stream<R>,
    told: &mut (dyn FnMut(&Counts) + Send),
) -> Result<Imported, TransferError> {
    let header = stream.header().clone();
    store.begin_import(&header).await?;
    match fill(store, &mut stream, told).await {
        Ok(given_back) => {
            let epoch = match store.finish_import(&header).await {
                Ok(epoch) => epoch,
                Err(why) => return Err(unfinished(store, why).await),
            };
            Ok(Imported { header, counts: stream.counts(), epoch, given_back })
        }
        Err(why) => {
            if let Err(error) = store.clear_import().await {
                tracing::warn!(%error, "what was imported could not be taken back");
            }
            Err(why)
        }
    }
}

/// An import whose end was not confirmed has ended if the store is open: that is its last step.
async fn unfinished(store: &dyn Transfer, why: TransferError) -> TransferError {
    match (why, store.intake().await) {
        (TransferError::Store(StoreError::Unknown(why)), Ok(Intake::Open)) => {
            TransferError::Unconfirmed(why)
        }
        (why, _) => why,
    }
}

async fn fill<R: AsyncBufRead + Unpin + Send>(
    store: &dyn Transfer,
    stream: &mut Stream<R>,
    told: &mut (dyn FnMut(&Counts) + Send),
) -> Result<u64, TransferError> {
    let at = stream.header().at;
    let mut there = There::default();
    let (mut batch, mut weight) = (Vec::new(), 0);
    while let Some(mut item) = stream.next().await? {
        shift(&mut item, at, store.now());
        there.note(&item);
        weight += item.weight();
        batch.push(item);
        if batch.len() >= BATCH || weight >= BATCH_BYTES {
            store.import(std::mem::take(&mut batch)).await?;
            weight = 0;
            told(&stream.counts());
        }
    }
    store.import(batch).await?;
    told(&stream.counts());
    there.settle(store).await
}

/// Idempotency keys keep the time that remained when the store was exported: while it was closed
/// nobody could use them.
fn shift(item: &mut Item, at: Timestamp, now: Timestamp) {
    if let Item::Side(Side::Idempotency { kept, .. }) = item {
        kept.until = now + kept.until.since(at);
    }
}

/// What the stream says is there, and is there no more.
#[derive(Default)]
struct There {
    jobs: Vec<RecordKey>,
    workers: Vec<RecordKey>,
    machines: Vec<RecordKey>,
}

impl There {
    fn note(&mut self, item: &Item) {
        match item {
            Item::Record(Record::Job(job)) if job.is_running() => {
                self.jobs.push(RecordKey::Job(job.id));
            }
            Item::Record(Record::Worker(worker)) if !worker.is_offline() => {
                self.workers.push(RecordKey::Worker(worker.id.clone()));
            }
            Item::Record(Record::Machine(machine)) if !machine.status.is_gone() => {
                self.machines.push(RecordKey::Machine(machine.id.clone()));
            }
            _ => {}
        }
    }

    /// Gives jobs back first: their workers still list them.
    async fn settle(self, store: &dyn Transfer) -> Result<u64, TransferError> {
        let given_back = self.jobs.len() as u64;
        for keys in [self.jobs, self.workers, self.machines] {
            for keys in keys.chunks(BATCH) {
                let moved = |record: &RecordKey| {
                    Command::Reconcile(Reconcile::Moved { record: record.clone() })
                };
                let done = store.execute(keys.iter().map(moved).collect()).await?;
                for outcome in done {
                    match outcome {
                        Ok(_) | Err(Rejected::NotDue) => {}
                        Err(why) => return Err(TransferError::Unsettled(why)),
                    }
                }
            }
        }
        Ok(given_back)
    }
}
