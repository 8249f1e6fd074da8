//! What the writer does besides requests: the write-ahead log, room, and what nobody needs any
//! more.

use super::{MAX_FORGOTTEN, Writer, database::WriteError};
use crate::open::schema::calm_is_over;

/// Free pages in the database below which they are not given back (16 MiB).
const KEPT_FREE_PAGES: i64 = 4_096;
/// Free pages given back at once.
const VACUUM_PAGES: u32 = 1_024;

impl Writer {
    /// Copies the write-ahead log, after which it is written over from its beginning. On a full
    /// disk that is where the room for endings comes from; unless the copy itself would not fit.
    pub(crate) fn checkpoint(&self) {
        if self.room.full().is_some() && !self.room.fits(self.wal.bytes()) {
            return;
        }
        if let Err(error) = self.database.checkpoint("PASSIVE") {
            tracing::warn!(%error, "the write-ahead log could not be copied");
        }
    }

    /// What is due besides requests, once a second.
    pub(crate) fn tick(&mut self, idle: bool) {
        if self.room.full().is_some() {
            self.make_room();
        }
        if self.has_failed() {
            self.try_to_write();
        }
        if let Err(error) = self.tidy(idle) {
            tracing::warn!(%error, "the store could not be tidied");
        }
    }

    fn make_room(&self) {
        let db = &self.database;
        let made = db.vacuum(VACUUM_PAGES).and_then(|()| db.checkpoint("TRUNCATE"));
        if let Err(error) = made {
            tracing::debug!(%error, "no room could be made");
        }
        self.room.look_again(&db.connection);
    }

    /// A store that nobody writes to would never learn that its disk works again.
    fn try_to_write(&mut self) {
        match self.attempt(&[], true) {
            Ok(batch) => self.publish(batch, Vec::new()),
            Err(why) => tracing::debug!(%why, "the store still cannot write"),
        }
    }

    fn tidy(&mut self, idle: bool) -> Result<(), WriteError> {
        let now = self.clock.now();
        self.expired.extend(self.state.forget_idempotency(now, MAX_FORGOTTEN));
        if !self.expired.is_empty() || self.database.log_is_over(&self.head(now))? {
            let batch = self.attempt(&[], true)?;
            self.publish(batch, Vec::new());
        }
        if self.state.calm_ended(now) {
            calm_is_over(&self.database.connection)?;
        }
        if self.stale_capabilities {
            let state = &self.state;
            self.database.drop_capabilities(|digest| state.capabilities(digest).is_some())?;
            self.stale_capabilities = false;
        }
        if idle && self.database.free_pages()? > KEPT_FREE_PAGES {
            self.database.vacuum(VACUUM_PAGES)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pointsman_core::{Command, command::Idempotency, decide::limits};
    use pointsman_store::{
        ManualClock,
        conformance::fleet::{Fleet, spec},
    };

    use super::{KEPT_FREE_PAGES, VACUUM_PAGES, Writer};
    use crate::{Options, SqliteStore};

    #[tokio::test]
    async fn a_row_of_capabilities_that_is_none_keeps_nothing_from_being_tidied() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), Options::default()).unwrap();
        let tidied = store.turn(|writer| {
            let rows =
                "INSERT INTO capabilities (digest, json) VALUES (7, 'x'), (zeroblob(16), 'y')";
            writer.database.connection.execute(rows, []).unwrap();
            writer.stale_capabilities = true;
            writer.tidy(true).unwrap();
            let left = "SELECT group_concat(json) FROM capabilities";
            let left: String =
                writer.database.connection.query_row(left, [], |row| row.get(0)).unwrap();
            (writer.stale_capabilities, left)
        });
        assert_eq!(tidied.await.unwrap(), (false, "x".to_owned()));
    }

    #[tokio::test]
    async fn capabilities_that_no_worker_has_any_more_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path(), Options::default()).unwrap());
        let fleet = Fleet::on(&store);
        for labels in [&["slow"], &["fast"]] {
            fleet.worker("w", 1, labels).await;
            let left = store.turn(|writer| {
                writer.tidy(true).unwrap();
                let left = "SELECT count(*) FROM capabilities";
                writer.database.connection.query_row(left, [], |row| row.get(0))
            });
            assert_eq!(left.await.unwrap(), Ok(1));
        }
    }

    /// How many keys a store keeps of one whose time is over, after this turn of its writer.
    async fn kept(turn: fn(&mut Writer)) -> i64 {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::default();
        let options = Options { clock: Some(Arc::new(clock.clone())), ..Options::default() };
        let store = Arc::new(SqliteStore::open(dir.path(), options).unwrap());
        let fleet = Fleet::on(&store);
        let mut submit = fleet.submission(spec(50));
        submit.idempotency = Some(Idempotency { key: "order-7".into(), body: [0; 32] });
        fleet.run(Command::Submit(submit)).await.unwrap();
        clock.advance(limits::IDEMPOTENCY);
        let kept = store.turn(move |writer| {
            turn(writer);
            let kept = "SELECT count(*) FROM idempotency";
            writer.database.connection.query_row(kept, [], |row| row.get(0))
        });
        kept.await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn keys_whose_time_is_over_are_deleted_though_nobody_writes() {
        assert_eq!(kept(|writer| writer.tidy(true).unwrap()).await, 0);
        let asked_for_nothing = |writer: &mut Writer| drop(writer.attempt(&[], false).unwrap());
        assert_eq!(kept(asked_for_nothing).await, 0);
    }

    #[tokio::test]
    async fn of_many_free_pages_some_are_given_back_while_nobody_writes() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), Options::default()).unwrap();
        let (before, busy, idle, at_last) = store
            .turn(|writer| {
                let ballast = "CREATE TABLE ballast AS SELECT zeroblob(24000000) AS x;
                               DROP TABLE ballast";
                writer.database.connection.execute_batch(ballast).unwrap();
                let mut after = |idle: &[bool]| {
                    idle.iter().for_each(|idle| writer.tidy(*idle).unwrap());
                    writer.database.free_pages().unwrap()
                };
                (after(&[]), after(&[false]), after(&[true]), after(&[true; 9]))
            })
            .await
            .unwrap();
        assert_eq!((busy, idle), (before, before - i64::from(VACUUM_PAGES)));
        let kept = KEPT_FREE_PAGES - i64::from(VACUUM_PAGES)..=KEPT_FREE_PAGES;
        assert!(kept.contains(&at_last), "{at_last} of {before}");
    }
}
