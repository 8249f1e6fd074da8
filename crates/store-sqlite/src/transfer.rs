//! Moving the store: its intake, what an export reads, and what an import writes.

use async_trait::async_trait;
use pointsman_core::{
    JobId,
    command::IdempotencyKey,
    decide::{KeptIdempotency, KeptResult},
};
use pointsman_store::{
    Epoch, Intake, State, StoreError, Transfer, TransferError,
    transfer::{Header, Item},
};

use rusqlite::Connection;

use crate::{
    SqliteStore, blobs,
    open::schema::{begin_epoch, shut_out_older, write_intake},
    writer::{
        Writer,
        database::{WriteError, is_full},
        writes::Writes,
    },
};

#[async_trait]
impl Transfer for SqliteStore {
    async fn intake(&self) -> Result<Intake, StoreError> {
        self.look(|state, _| state.intake()).await
    }

    async fn set_intake(&self, open: bool) -> Result<(), TransferError> {
        self.turn(move |writer| writer.set_intake(open)).await?
    }

    async fn results(&self, job: JobId) -> Result<Vec<KeptResult>, StoreError> {
        let Some(n) = self.rows.of(&job) else { return Ok(Vec::new()) };
        self.readers.read(move |db| blobs::results(db, n)).await
    }

    async fn idempotency(
        &self,
        after: Option<(IdempotencyKey, KeptIdempotency)>,
        limit: usize,
    ) -> Result<Vec<(IdempotencyKey, KeptIdempotency)>, StoreError> {
        self.look(move |state, _| state.idempotency_page(after.as_ref(), limit)).await
    }

    async fn begin_import(&self, header: &Header) -> Result<(), TransferError> {
        let (seq, last_ended_no) = (header.seq, header.last_ended_no);
        self.turn(move |writer| writer.begin_import(seq, last_ended_no)).await?
    }

    async fn import(&self, items: Vec<Item>) -> Result<(), TransferError> {
        self.turn(move |writer| writer.import(items)).await?
    }

    async fn finish_import(&self, header: &Header) -> Result<Epoch, TransferError> {
        let header = header.clone();
        let epoch = self.turn(move |writer| writer.finish_import(&header)).await??;
        *self.epoch.write() = epoch.clone();
        Ok(epoch)
    }

    async fn clear_import(&self) -> Result<(), TransferError> {
        self.turn(Writer::clear_import).await?
    }
}

fn failed(error: rusqlite::Error) -> TransferError {
    StoreError::from(WriteError::from(error)).into()
}

impl Writer {
    fn set_intake(&mut self, open: bool) -> Result<(), TransferError> {
        let before = self.state.intake();
        self.state.set_intake(open)?;
        self.write_intake(self.state.intake()).inspect_err(|_| self.state.restore_intake(before))
    }

    fn write_intake(&mut self, intake: Intake) -> Result<(), TransferError> {
        self.in_one_step(|db| write_intake(db, intake))
    }

    /// Writes a mark. On a full disk it is made with what is in reserve: a store can be moved off it.
    fn in_one_step(
        &mut self,
        write: impl Fn(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), TransferError> {
        let mut written = self.try_step(&write);
        if let Err(why) = &written
            && is_full(why)
            && self.room.full().is_none()
        {
            self.room.give_up(&self.database.connection, &why.to_string());
            self.checkpoint();
            written = self.try_step(&write);
        }
        written.map_err(|why| match is_full(&why) {
            true => StoreError::Full(format!("{why}; free some space on it, and try again")).into(),
            false => failed(why),
        })
    }

    fn try_step(
        &mut self,
        write: impl Fn(&Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let step = self.database.connection.transaction()?;
        write(&step)?;
        step.commit()
    }

    /// The mark first: whatever comes after it is never taken for a whole store.
    fn begin_import(&mut self, seq: u64, last_ended_no: u64) -> Result<(), TransferError> {
        self.state.check_empty()?;
        self.in_one_step(|db| {
            shut_out_older(db)?;
            write_intake(db, Intake::Importing)
        })?;
        self.state.begin_import(seq, last_ended_no);
        self.imported_results = 0;
        self.write_import(&Writes::default())
    }

    fn import(&mut self, items: Vec<Item>) -> Result<(), TransferError> {
        self.state.check_importing()?;
        let first_result = Some(i64::MIN + self.imported_results);
        let mut writes = Writes { first_result, ..Writes::default() };
        for item in &items {
            writes.item(item)?;
        }
        self.write_import(&writes)?;
        self.imported_results += i64::try_from(writes.results.len()).unwrap_or(0);
        for item in items {
            self.state.import(item);
        }
        self.janitor.committed();
        Ok(())
    }

    fn write_import(&mut self, writes: &Writes) -> Result<(), TransferError> {
        let head = self.head(self.clock.now());
        Ok(self.database.write(writes, head).map_err(StoreError::from)?)
    }

    fn finish_import(&mut self, header: &Header) -> Result<Epoch, TransferError> {
        self.state.check_importing()?;
        let epoch = Epoch::mint();
        self.in_one_step(|db| {
            begin_epoch(db, &epoch, header.at)?;
            write_intake(db, Intake::Open)
        })?;
        self.state.finish_import(epoch.clone());
        Ok(epoch)
    }

    fn clear_import(&mut self) -> Result<(), TransferError> {
        self.state.check_importing()?;
        self.database.clear().map_err(failed)?;
        self.state = State::new(self.state.epoch.clone(), self.clock.now());
        self.expired.clear();
        Ok(())
    }
}
