//! Removing the files of jobs that are no longer kept, inputs that no job names any more, and what
//! transfers left behind. Several servers may sweep one shared directory at the same time.

use std::{
    collections::HashSet,
    fs::DirEntry,
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use futures::TryStreamExt as _;
use object_store::path::Path;
use pointsman_broker::Broker;
use pointsman_core::{JobId, RecordKey, Timestamp, decide::Key};
use pointsman_store::JobFilter;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Files, FilesError, Owner, blocking, owner::other_store, place};

const EVERY: Duration = Duration::from_secs(15 * 60);
/// An input stays this long after its last upload or submission, whether a job names it or not.
const INPUT_STAYS: Duration = Duration::from_secs(7 * 24 * 3600);
/// A file that is not whole has had no more bytes for so long: whoever transferred it is gone.
const TRANSFER_STAYS: Duration = Duration::from_secs(24 * 3600);
/// Jobs asked for at once.
const AT_ONCE: usize = 1_000;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Swept {
    /// Jobs that were gone.
    pub jobs: usize,
    pub inputs: usize,
    pub transfers: usize,
}

impl Files {
    /// Sweeps now and then until told to stop.
    pub(crate) async fn keep_swept(self, broker: Broker, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            let store = broker.store();
            let swept = self.sweep(&broker, store.made_at(), store.now()).await;
            match swept {
                Ok(Swept { jobs: 0, inputs: 0, transfers: 0 }) => {}
                Ok(Swept { jobs, inputs, transfers }) => {
                    tracing::info!(jobs, inputs, transfers, "files removed");
                }
                Err(error) => tracing::warn!(%error, "the files could not be swept"),
            }
        }
    }

    /// `made_at`: when the store was made, of one that does not lie beside the files.
    pub(super) async fn sweep(
        &self,
        broker: &Broker,
        made_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Swept, FilesError> {
        self.check_there().await?;
        if let Some(made_at) = made_at {
            let root = self.root.clone();
            blocking(move || Ok(Owner::of_store(&root, made_at))).await??;
        }
        let store = broker.store().made_at();
        let jobs = self.sweep_jobs(broker, store).await?;
        let transfers = self.sweep_transfers(now).await?;
        let inputs = self.sweep_inputs(broker, store, now).await?;
        Ok(Swept { jobs, inputs, transfers })
    }

    /// Removes the files of jobs that are gone for good; answers of how many.
    async fn sweep_jobs(
        &self,
        broker: &Broker,
        made_at: Option<Timestamp>,
    ) -> Result<usize, FilesError> {
        let listed = self.store.list_with_delimiter(Some(&Path::from(place::ARTIFACTS))).await?;
        let id = |path: &Path| path.filename()?.parse::<JobId>().ok();
        let jobs: Vec<JobId> = listed.common_prefixes.iter().filter_map(id).collect();
        let mut gone = 0;
        for jobs in jobs.chunks(AT_ONCE) {
            let of_store = broker.store().gone(jobs.to_vec()).await?;
            self.is_still_there(broker, made_at).await?;
            for job in of_store {
                self.remove_job(job).await?;
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// Removes old inputs that no job names; answers how many.
    async fn sweep_inputs(
        &self,
        broker: &Broker,
        made_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<usize, FilesError> {
        let before = (now - INPUT_STAYS).as_millis();
        let since = u64::try_from(before).unwrap_or_default();
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(since);
        let listed = self.store.list(Some(&Path::from(place::INPUTS)));
        let old = listed
            .try_filter(|meta| std::future::ready(meta.last_modified.timestamp_millis() < before));
        let mut old: Vec<Path> = old.map_ok(|meta| meta.location).try_collect().await?;
        if old.is_empty() || may_miss_jobs(broker).await? {
            return Ok(0);
        }
        let named = named_inputs(broker).await?;
        self.is_still_there(broker, made_at).await?;
        old.retain(|place| place.filename().is_none_or(|name| !named.contains(name)));
        // Once more: what is damaged since was not seen before, and what was repaired since is not now.
        if old.is_empty() || may_miss_jobs(broker).await? {
            return Ok(0);
        }
        let mut removed = 0;
        for place in old {
            let paths = [place, place::staged()].map(|place| self.root.join(place.as_ref()));
            removed += usize::from(blocking(move || remove_unless_renewed(&paths, since)).await?);
        }
        Ok(removed)
    }

    /// Whether what the store just said was said by the one that was there before: one that was
    /// emptied meanwhile knows nothing of any job.
    async fn is_still_there(
        &self,
        broker: &Broker,
        made_at: Option<Timestamp>,
    ) -> Result<(), FilesError> {
        // It notices now if it was.
        let any = Key::Record(RecordKey::Job(JobId::from_uuid(Uuid::nil())));
        broker.store().load(vec![any]).await?;
        match broker.store().made_at() == made_at {
            true => Ok(()),
            false => Err(other_store(&self.root)),
        }
    }

    /// Removes what broken transfers left behind; answers how many. It looks itself, for `store`
    /// lists no file that is still being written. What lies among a job's artifacts goes with them.
    async fn sweep_transfers(&self, now: Timestamp) -> Result<usize, FilesError> {
        let (staging, inputs) = (self.root.join(place::STAGING), self.root.join(place::INPUTS));
        let than = u64::try_from((now - TRANSFER_STAYS).as_millis()).unwrap_or_default();
        let than = SystemTime::UNIX_EPOCH + Duration::from_millis(than);
        blocking(move || {
            let mut removed = remove_older(&staging, than, |_| true)?;
            for shard in listed(&inputs)? {
                let shard = shard?;
                if shard.file_type()?.is_dir() {
                    removed += remove_older(&shard.path(), than, place::is_unfinished)?;
                }
            }
            Ok(removed)
        })
        .await
    }

    /// The whole directory, with what `store` does not list.
    async fn remove_job(&self, job: JobId) -> Result<(), FilesError> {
        let directory = self.root.join(place::job(job).as_ref());
        blocking(move || unless_gone(std::fs::remove_dir_all(directory))).await
    }
}

/// What is gone already was removed by another server, or has become whole.
fn unless_gone<T: Default>(done: io::Result<T>) -> io::Result<T> {
    done.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(T::default()),
        _ => Err(error),
    })
}

/// Removes an input, unless its age began anew since it was listed. It is taken out of its place before
/// its age is looked at, so whoever renews it either is seen here, or finds it gone.
pub(super) fn remove_unless_renewed(
    [place, aside]: &[PathBuf; 2],
    since: SystemTime,
) -> io::Result<bool> {
    if let Some(directory) = aside.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let taken = std::fs::rename(place, aside).map(|()| true);
    if !unless_gone(taken)? {
        return Ok(false);
    }
    // Another server may sweep what lies aside.
    let seen = std::fs::metadata(aside).and_then(|found| found.modified()).map(Some);
    match unless_gone(seen)? {
        Some(at) if at >= since => std::fs::rename(aside, place).map(|()| false),
        _ => unless_gone(std::fs::remove_file(aside).map(|()| true)),
    }
}

/// What is in a directory; nothing if there is none.
fn listed(
    directory: &std::path::Path,
) -> io::Result<impl Iterator<Item = io::Result<DirEntry>> + use<>> {
    Ok(unless_gone(std::fs::read_dir(directory).map(Some))?.into_iter().flatten())
}

/// Removes the files in a directory that have such a name and were last written before then;
/// answers how many.
fn remove_older(
    directory: &std::path::Path,
    than: SystemTime,
    is_meant: impl Fn(&str) -> bool,
) -> io::Result<usize> {
    let mut removed = 0;
    for entry in listed(directory)? {
        let entry = entry?;
        let remove = || {
            let is_old = entry.metadata()?.modified()? < than;
            if is_old { std::fs::remove_file(entry.path()).map(|()| 1) } else { Ok(0) }
        };
        if is_meant(&entry.file_name().to_string_lossy()) {
            removed += unless_gone(remove())?;
        }
    }
    Ok(removed)
}

/// Whether jobs may be missing where they are listed. A repair brings them back; nothing brings back
/// the inputs that they name.
async fn may_miss_jobs(broker: &Broker) -> Result<bool, FilesError> {
    let found = broker.examine().await?;
    let finding = found.doubts_jobs();
    if let Some(finding) = finding {
        tracing::warn!(finding, "old inputs stay, as jobs may be missing that name them");
    }
    Ok(finding.is_some())
}

/// The SHA-256s of all inputs that a job which is still kept names: it may be retried.
async fn named_inputs(broker: &Broker) -> Result<HashSet<String>, FilesError> {
    let mut named = HashSet::new();
    let mut before = None;
    loop {
        let page = broker.store().jobs(JobFilter::default(), before, AT_ONCE).await?;
        let inputs = page.jobs.iter().flat_map(|job| &job.spec.inputs);
        let sha256s = inputs.filter_map(|input| input.from.strip_prefix("sha256:"));
        named.extend(sha256s.map(str::to_owned));
        before = page.next;
        if before.is_none() {
            return Ok(named);
        }
    }
}
