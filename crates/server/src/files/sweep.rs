//! Removing the files of jobs that are no longer kept.

use std::{collections::HashSet, time::Duration};

use futures::TryStreamExt as _;
use object_store::{ObjectStoreExt as _, path::Path};
use pointsman_broker::Broker;
use pointsman_core::{JobId, RecordKey};
use tokio_util::sync::CancellationToken;

use super::{Files, FilesError, place};

const EVERY: Duration = Duration::from_secs(15 * 60);
/// Jobs asked for at once.
const AT_ONCE: usize = 1_000;

impl Files {
    /// Sweeps now and then until told to stop.
    pub(crate) async fn keep_swept(self, broker: Broker, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            match self.sweep(&broker).await {
                Ok(0) => {}
                Ok(jobs) => tracing::info!(jobs, "removed the files of jobs that are gone"),
                Err(error) => tracing::warn!(%error, "the files could not be swept"),
            }
        }
    }

    /// Removes the files of jobs that are gone; answers of how many.
    pub(crate) async fn sweep(&self, broker: &Broker) -> Result<usize, FilesError> {
        let listed = self.store.list_with_delimiter(Some(&Path::from(place::ARTIFACTS))).await?;
        let id = |path: &Path| path.filename()?.parse::<JobId>().ok();
        let jobs: Vec<JobId> = listed.common_prefixes.iter().filter_map(id).collect();
        let mut gone = 0;
        for jobs in jobs.chunks(AT_ONCE) {
            let keys = jobs.iter().map(|id| RecordKey::Job(*id)).collect();
            let kept = broker.store().records(keys).await?;
            let kept: HashSet<RecordKey> = kept.iter().map(|record| record.key()).collect();
            for job in jobs.iter().filter(|id| !kept.contains(&RecordKey::Job(**id))) {
                self.remove_job(*job).await?;
                gone += 1;
            }
        }
        Ok(gone)
    }

    async fn remove_job(&self, job: JobId) -> Result<(), FilesError> {
        let files = self.store.list(Some(&place::job(job)));
        let files: Vec<Path> = files.map_ok(|meta| meta.location).try_collect().await?;
        for file in files {
            self.store.delete(&file).await?;
        }
        Ok(())
    }
}
