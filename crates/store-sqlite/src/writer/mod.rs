//! The writer: the one thread that changes anything.

mod batch;
pub(crate) mod database;
pub(crate) mod janitor;
pub(crate) mod request;
pub(crate) mod room;
pub(crate) mod tables;
mod upkeep;
pub(crate) mod waiting;
pub(crate) mod writes;

use std::{sync::Arc, thread};

use parking_lot::Mutex;
use pointsman_core::{LogGroup, Timestamp, command::IdempotencyKey};
use pointsman_store::{Clock, Health, State, StoreError};
use tokio::sync::{broadcast, mpsc};

use crate::open::{lock::DirLock, schema::note_identity};
use batch::Batch;
use database::{Database, Head, WriteError};
use janitor::{Janitor, WalPages};
use request::{Look, Reply, Request, Work};
use room::{Room, SharedHealth};
use waiting::WaitingRoom;

/// Requests taken from the queue at once.
const MAX_TAKEN: usize = 1_024;
/// About the bytes of one transaction; a single request may be larger.
const MAX_BATCH_BYTES: usize = 16 << 20;
/// Idempotency keys forgotten with one batch.
pub(crate) const MAX_FORGOTTEN: usize = 1_000;

pub(crate) struct Writer {
    pub state: State,
    pub database: Database,
    pub room: Room,
    pub clock: Arc<dyn Clock>,
    pub events: broadcast::Sender<Arc<LogGroup>>,
    pub waiting: Arc<WaitingRoom>,
    pub health: SharedHealth,
    pub wal: WalPages,
    pub janitor: Janitor,
    pub lock: DirLock,
    /// Forgotten in memory, and not deleted yet.
    pub expired: Vec<IdempotencyKey>,
    /// Results that an import put in so far.
    pub imported_results: i64,
    /// Capabilities came in, or were left over, since unused ones were last deleted.
    pub stale_capabilities: bool,
}

impl Writer {
    /// Serves until it is asked to close, or nobody can ask any more.
    pub fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let _told = TellPanic(self.health.clone());
        let mut taken = Vec::with_capacity(MAX_TAKEN);
        let mut closing = None;
        while closing.is_none() && requests.blocking_recv_many(&mut taken, MAX_TAKEN) > 0 {
            closing = self.serve(taken.drain(..));
        }
        requests.close();
        self.close();
        if let Some(reply) = closing {
            let _ = reply.send(Ok(()));
        }
        while let Ok(request) = requests.try_recv() {
            refuse(request);
        }
    }

    /// Where the log ends.
    pub(crate) fn head(&self, now: Timestamp) -> Head {
        Head { seq: self.state.seq(), last_ended_no: self.state.last_ended_no(), now }
    }

    /// Gathers requests into batches; looks stand where they came, between batches.
    fn serve(&mut self, requests: impl Iterator<Item = Request>) -> Option<Reply<()>> {
        let (mut works, mut looks, mut weight) = (Vec::new(), Vec::new(), 0);
        let (mut closing, mut tick, mut checkpoint) = (None, false, false);
        for request in requests {
            match request {
                other if closing.is_some() => refuse(other),
                Request::Look(look) if works.is_empty() => look(&mut self.state, self.clock.now()),
                Request::Look(look) => looks.push(look),
                Request::Work(work) => {
                    weight += work.weight();
                    works.push(work);
                    if weight >= MAX_BATCH_BYTES {
                        self.settle_and_look(&mut works, &mut looks);
                        weight = 0;
                    }
                }
                Request::Turn(turn) => {
                    self.settle_and_look(&mut works, &mut looks);
                    weight = 0;
                    turn(self);
                }
                Request::Tick => tick = true,
                Request::Checkpoint => checkpoint = true,
                Request::Close(reply) => closing = Some(reply),
            }
        }
        let idle = works.is_empty();
        self.settle_and_look(&mut works, &mut looks);
        if (checkpoint && self.wal.is_long())
            || self.wal.is_too_long()
            || self.room.full().is_some()
        {
            self.checkpoint();
        }
        if tick {
            self.tick(idle);
        }
        closing
    }

    fn settle_and_look(&mut self, works: &mut Vec<Work>, looks: &mut Vec<Look>) {
        if !works.is_empty() {
            self.settle(std::mem::take(works));
        }
        for look in looks.drain(..) {
            look(&mut self.state, self.clock.now());
        }
    }

    /// Carries out one batch, and answers everybody in it.
    fn settle(&mut self, works: Vec<Work>) {
        let works = self.refuse_new_work_when_full(works);
        match self.attempt(&works, false) {
            Ok(batch) => self.publish(batch, works),
            Err(WriteError::Full(why)) if self.room.full().is_none() => {
                self.room.give_up(&self.database.connection, &why.to_string());
                self.checkpoint();
                self.settle(works);
            }
            Err(WriteError::Full(_) | WriteError::Failed(_) | WriteError::Json(_))
                if works.len() > 1 =>
            {
                // One that cannot be written must not take its neighbours with it.
                for work in works {
                    self.settle(vec![work]);
                }
            }
            Err(why) => self.fail(works, why),
        }
    }

    fn refuse_new_work_when_full(&self, works: Vec<Work>) -> Vec<Work> {
        let Some(why) = self.room.full() else { return works };
        let (refused, rest): (Vec<_>, Vec<_>) = works.into_iter().partition(Work::is_new_work);
        for work in refused {
            work.refuse(StoreError::Full(why.clone()));
        }
        rest
    }

    /// Applies a batch and makes it durable, or takes it back.
    pub(crate) fn attempt(
        &mut self,
        works: &[Work],
        even_if_empty: bool,
    ) -> Result<Batch, WriteError> {
        let now = self.clock.now();
        self.waiting.admit(&mut self.state);
        self.expired.extend(self.state.forget_idempotency(now, MAX_FORGOTTEN));
        let mut batch = Batch::apply(&mut self.state, works, now);
        batch.writes.expired = std::mem::take(&mut self.expired);
        let written = match batch.write_groups() {
            Ok(()) if batch.writes.is_empty() && !even_if_empty => return Ok(batch),
            Ok(()) => self.database.write(&batch.writes, self.head(now)),
            Err(error) => Err(error.into()),
        };
        match written {
            Ok(()) => {
                self.works_again();
                self.stale_capabilities |= !batch.writes.capabilities.is_empty();
                Ok(batch)
            }
            Err(why) => {
                self.expired = batch.take_back(&mut self.state);
                Err(why)
            }
        }
    }

    /// The batch is durable: events first, so that whoever is answered finds them.
    pub(crate) fn publish(&mut self, batch: Batch, works: Vec<Work>) {
        for group in batch.groups() {
            // Nobody listening is no error.
            let _ = self.events.send(group.clone());
        }
        self.state.wake();
        batch.answer(works);
        self.janitor.committed();
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(&*self.health.read(), Health::Failed(_))
    }

    /// Something was written.
    fn works_again(&self) {
        if self.has_failed() {
            tracing::info!("the store works again");
            *self.health.write() = Health::Ready;
        }
    }

    fn fail(&self, works: Vec<Work>, why: WriteError) {
        tracing::error!(error = %why, requests = works.len(), "a batch could not be written");
        let why = StoreError::from(why);
        if self.room.full().is_none() {
            *self.health.write() = Health::Failed(why.to_string());
        }
        for work in works {
            work.refuse(why.clone());
        }
    }

    /// How the files are left is noted last, so that they are known again.
    fn note_end(&self) {
        let noted = self.lock.name_nobody().and_then(|()| self.lock.identity());
        let noted = noted.map_err(|error| error.to_string()).and_then(|identity| {
            let noted = note_identity(&self.database.connection, &identity);
            noted.map_err(|error| error.to_string())
        });
        if let Err(error) = noted {
            tracing::warn!(error, "the store does not know its files again: another epoch begins");
        }
    }

    fn close(self) {
        self.note_end();
        let Self { state, database, waiting, janitor, lock, .. } = self;
        waiting.close();
        drop(state);
        drop(janitor);
        // The last connection copies the write-ahead log and deletes it.
        if let Err((_, error)) = database.connection.close() {
            tracing::warn!(%error, "the write-ahead log is left to the next start");
        }
        drop(lock);
    }
}

fn refuse(request: Request) {
    match request {
        Request::Work(work) => work.refuse(StoreError::Closed),
        Request::Close(reply) => drop(reply.send(Ok(()))),
        // Dropping a look or a turn tells who waits for it.
        Request::Look(_) | Request::Turn(_) | Request::Tick | Request::Checkpoint => {}
    }
}

/// A writer that broke is told by the store's health.
struct TellPanic(SharedHealth);

impl Drop for TellPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            *self.0.write() = Health::Failed("the store's writer broke: restart".to_owned());
        }
    }
}

/// The thread that runs the writer; whoever drops it waits until the store is closed.
#[derive(Default)]
pub(crate) struct WriterThread(Mutex<Option<thread::JoinHandle<()>>>);

impl WriterThread {
    pub fn new(thread: thread::JoinHandle<()>) -> Self {
        Self(Mutex::new(Some(thread)))
    }

    pub fn join(&self) {
        let thread = self.0.lock().take();
        if let Some(thread) = thread {
            // A panic was told by the health already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use pointsman_core::{Command, command::Submit};
    use pointsman_store::{
        Store as _,
        conformance::fleet::{Fleet, spec},
    };

    use super::*;
    use crate::{Options, SqliteStore};

    /// However much waits, one transaction writes about so much.
    #[tokio::test]
    async fn what_waits_is_written_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path(), Options::default()).unwrap());
        let fleet = Fleet::on(&store);
        let payload: Arc<[u8]> = vec![b' '; MAX_BATCH_BYTES / 2].into();
        let submit = |_| {
            let submit = Submit { payload: payload.clone(), ..fleet.submission(spec(50)) };
            store.execute(vec![Command::Submit(submit)])
        };
        // They gather while the writer is held up.
        let (go, gone) = std::sync::mpsc::channel();
        let held_up = store.turn(move |_| gone.recv());
        let begin = async { go.send(()).unwrap() };
        let (_, all, ()) = tokio::join!(held_up, join_all((0..4).map(submit)), begin);
        assert!(all.iter().all(Result::is_ok));
        let batches = store.turn(|writer| {
            let rows = "SELECT count(*) FROM log";
            writer.database.connection.query_row(rows, [], |row| row.get(0))
        });
        assert_eq!(batches.await.unwrap(), Ok(2));
    }
}
