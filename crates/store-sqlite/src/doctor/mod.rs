//! What is wrong with what is stored, and making it right: the state in itself, rows that are not
//! what the process holds, payloads that are gone, and what was set aside at opening.

mod memory;
pub(crate) mod quarantine;

use std::collections::BTreeSet;

use pointsman_core::{
    JobId, Record, RecordKey, Rejected, Timestamp,
    decide::Side,
    doctor::{Examination, Finding, FindingRule, Mended},
};
use pointsman_store::{
    Depth, Done, JobFilter, State, Store as _, StoreError, Treatment, transfer::Item,
};
use rusqlite::Connection;

use crate::{
    SqliteStore, blobs,
    writer::{Writer, database::WriteError},
};
use memory::{Damaged, fleet_items, suspects};
use quarantine::{Quarantined, take_away};

/// Rows compared at once.
const CHUNK: usize = 250;

impl SqliteStore {
    pub(crate) async fn look_over(&self, depth: Depth) -> Result<Examination, StoreError> {
        let (lost, damaged) = match depth {
            Depth::Fleet => (Vec::new(), Vec::new()),
            Depth::Everything => (self.lost_payloads().await?, self.damaged_rows().await?),
        };
        let quarantined = self.quarantined.lock().clone();
        let look = move |state: &mut State, _| examine(state, &quarantined, lost, depth);
        let mut found = self.look(look).await?;
        damaged.into_iter().for_each(|row| found.add(row.finding));
        if depth == Depth::Everything {
            self.stray().await?.into_iter().for_each(|n| found.add(stray(n)));
        }
        Ok(found)
    }

    pub(crate) async fn make_right(
        &self,
        ids: Option<Vec<String>>,
    ) -> Result<Vec<Mended>, StoreError> {
        let rows = self.rewrite(ids.as_deref()).await?;
        let own_ids = ids.clone();
        let lost = self.lost_payloads().await?;
        let quarantined = self.quarantined.lock().clone();
        let begin = move |state: &mut State, now: Timestamp| {
            let found = examine(state, &quarantined, lost, Depth::Everything);
            let treatment = state.treat(found, ids.as_deref(), now);
            state.wake();
            let over = quarantined.iter();
            let over = over.filter_map(|row| row.row_to_take_away(treatment.findings(), state));
            (over.collect::<Vec<_>>(), treatment)
        };
        let (over, treatment) = self.look(begin).await?;
        if !over.is_empty() {
            self.take_away(over).await?;
        }
        // What was kept beside what has just been taken away is stray now.
        let deleted = self.delete_stray(own_ids.as_deref()).await?;
        let commands = treatment.commands();
        let answers = match commands.is_empty() {
            true => Vec::new(),
            false => self.execute(commands).await?,
        };
        let after = self.look_over(Depth::Everything).await?;
        let mut mended = rows.report::<Done, Rejected>(&[], &after);
        mended.extend(deleted.report::<Done, Rejected>(&[], &after));
        mended.extend(treatment.report(&answers, &after));
        Ok(mended)
    }

    /// Writes damaged rows anew: those of the findings with these ids, or all.
    async fn rewrite(&self, ids: Option<&[String]>) -> Result<Treatment, StoreError> {
        let mut found = Examination::default();
        let mut items = Vec::new();
        for row in self.damaged_rows().await? {
            if ids.is_none_or(|ids| ids.contains(&row.finding.id)) {
                found.add(row.finding);
                items.push(row.item);
            }
        }
        if !items.is_empty() {
            self.turn(move |writer| writer.rewrite(&items)).await??;
        }
        Ok(Treatment::of(found, None, |_| None))
    }

    /// Takes away rows that were set aside.
    async fn take_away(&self, numbers: Vec<i64>) -> Result<(), StoreError> {
        let own = numbers.clone();
        let taken = self.turn(move |writer| take_away(&writer.database.connection, &own));
        taken.await?.map_err(WriteError::from)?;
        self.quarantined.lock().retain(|row| !row.is_row(&numbers));
        Ok(())
    }

    /// Row numbers under which something is kept beside a job that is not there.
    async fn stray(&self) -> Result<Vec<i64>, StoreError> {
        let gaps = self.rows.gaps();
        let look = move |db: &mut Connection| blobs::stray(db, &gaps, Examination::MAX);
        if self.readers.read(look).await?.is_empty() {
            return Ok(Vec::new());
        }
        // It may be a job's that came since: the writer looks again, between two batches.
        let rows = self.rows.clone();
        let look = move |writer: &mut Writer| {
            blobs::stray(&writer.database.connection, &rows.gaps(), Examination::MAX)
        };
        Ok(self.turn(look).await?.map_err(WriteError::from)?)
    }

    /// Deletes what is stray: of the findings with these ids, or all.
    async fn delete_stray(&self, ids: Option<&[String]>) -> Result<Treatment, StoreError> {
        let mut found = Examination::default();
        let mut numbers = self.stray().await?;
        numbers.retain(|n| ids.is_none_or(|ids| ids.contains(&stray(*n).id)));
        numbers.iter().for_each(|n| found.add(stray(*n)));
        if !numbers.is_empty() {
            let delete =
                move |writer: &mut Writer| blobs::delete(&writer.database.connection, &numbers);
            self.turn(delete).await?.map_err(WriteError::from)?;
        }
        Ok(Treatment::of(found, None, |_| None))
    }

    /// Jobs that have not ended and whose payload is gone.
    async fn lost_payloads(&self) -> Result<Vec<Finding>, StoreError> {
        let live: Vec<JobId> = self.look(|state, _| state.live_jobs().collect()).await?;
        let rows = self.rows.of_each(&live);
        let there = self.readers.read(move |db| blobs::have_payloads(db, &rows)).await?;
        let lost = live.into_iter().zip(there).filter(|(_, is_there)| !is_there);
        let mut lost: BTreeSet<JobId> = lost.map(|(id, _)| id).take(Examination::MAX).collect();
        if !lost.is_empty() {
            // One that ended meanwhile may have been removed with all that is kept of it.
            let is_lost = move |id: &JobId| lost.contains(id);
            lost = self.look(|state, _| state.live_jobs().filter(is_lost).collect()).await?;
        }
        let finding = |id: JobId| {
            let problem = "its row in the table `payloads` is gone";
            Finding::about(FindingRule::LostPayload, &RecordKey::Job(id), problem)
        };
        Ok(lost.into_iter().map(finding).collect())
    }

    /// Rows that are not what is in memory; of very many, the first.
    async fn damaged_rows(&self) -> Result<Vec<Damaged>, StoreError> {
        let mut damaged = Vec::new();
        for items in self.look(|state, _| fleet_items(state)).await?.chunks(CHUNK) {
            self.compare(items.to_vec(), &mut damaged).await?;
        }
        let (mut before, mut is_more) = (None, true);
        while is_more && damaged.len() <= Examination::MAX {
            let page =
                move |state: &mut State, _| state.jobs_page(&JobFilter::default(), before, CHUNK);
            let page = self.look(page).await?;
            (before, is_more) = (page.next, page.next.is_some());
            let jobs = page.jobs.into_iter().map(|job| Item::Record(Record::Job(job)));
            self.compare(jobs.collect(), &mut damaged).await?;
        }
        let mut after = None;
        while damaged.len() <= Examination::MAX {
            let page = move |state: &mut State, _| state.idempotency_page(after.as_ref(), CHUNK);
            let page = self.look(page).await?;
            after = page.last().cloned();
            if after.is_none() {
                break;
            }
            let sides = page.into_iter().map(|(key, kept)| Side::Idempotency { key, kept });
            self.compare(sides.map(Item::Side).collect(), &mut damaged).await?;
        }
        Ok(damaged)
    }

    /// What differs may only have changed since it was read: the writer looks again, between two
    /// batches.
    async fn compare(
        &self,
        items: Vec<Item>,
        damaged: &mut Vec<Damaged>,
    ) -> Result<(), StoreError> {
        let rows = self.rows.clone();
        let suspects = self.readers.read(move |db| suspects(db, &rows, items)).await?;
        if suspects.is_empty() {
            return Ok(());
        }
        let rows = self.rows.clone();
        let confirmed = self.turn(move |writer| writer.damaged(&rows, &suspects));
        damaged.extend(confirmed.await?.map_err(WriteError::from)?);
        Ok(())
    }
}

fn stray(n: i64) -> Finding {
    let problem = format!(
        "a payload or results are kept under row number {n}, and no job has it, nor is one set aside"
    );
    let subject = format!("index/payload:{n}");
    Finding {
        consequence: "nothing removes it; it takes up room on the disk".to_owned(),
        cure: format!(
            "submit the job again with what `SELECT payload FROM payloads WHERE n = {n}` gives in \
             the store's database, if it is still wanted; then repair it: both are deleted"
        ),
        ..Finding::new(FindingRule::IndexWithoutRecord, subject, problem)
    }
}

/// What is wrong with the state, what was set aside, and what is lost.
fn examine(
    state: &State,
    quarantined: &[Quarantined],
    lost: Vec<Finding>,
    depth: Depth,
) -> Examination {
    let mut found = state.examine(depth);
    let aside = quarantined.iter().map(|row| row.finding(state));
    aside.chain(lost).for_each(|finding| found.add(finding));
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pointsman_core::Command;
    use pointsman_store::conformance::fleet::{Fleet, completed, spec};

    use super::*;
    use crate::Options;

    /// What was read before a change does not fit what is in memory after it, and is no damage.
    #[tokio::test]
    async fn what_changed_meanwhile_is_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path(), Options::default()).unwrap());
        let fleet = Fleet::on(&store);
        let hand = fleet.worker("w", 1, &[]).await;
        let job = fleet.submit(spec(50)).await;
        let read = store.look(move |state, _| state.record(&RecordKey::Job(job))).await.unwrap();
        let read = vec![Item::Record(read.unwrap())];

        let is_suspect = async || {
            let (rows, items) = (store.rows.clone(), read.clone());
            let found = store.readers.read(move |db| suspects(db, &rows, items)).await.unwrap();
            !found.is_empty()
        };
        let is_damaged = async || {
            let mut damaged = Vec::new();
            store.compare(read.clone(), &mut damaged).await.unwrap();
            !damaged.is_empty()
        };
        assert!(!is_suspect().await);
        let held = fleet.claim(&hand).await.unwrap();
        assert!(is_suspect().await && !is_damaged().await, "it was claimed");
        fleet.act(&hand, held, completed()).await.unwrap();
        let remove = pointsman_core::command::Reconcile::RemoveJob { job };
        fleet.run(Command::Reconcile(remove)).await.unwrap();
        assert!(is_suspect().await && !is_damaged().await, "it was removed");
    }
}
