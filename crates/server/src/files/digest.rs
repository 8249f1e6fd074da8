//! What SHA-256 each result has: of those that were stored or asked for lately it is remembered, as a
//! file is never overwritten.

use std::{num::NonZeroUsize, sync::Arc};

use lru::LruCache;
use object_store::{ObjectStoreExt as _, path::Path};
use parking_lot::Mutex;
use pointsman_core::{JobId, Token};

use super::{Files, FilesError, StoredFile, place};

/// Results remembered at most.
const REMEMBERED: usize = 20_000;

#[derive(Debug, Clone)]
pub(super) struct Digests(Arc<Mutex<LruCache<Path, StoredFile>>>);

impl Default for Digests {
    fn default() -> Self {
        let most = NonZeroUsize::new(REMEMBERED).unwrap_or(NonZeroUsize::MIN);
        Self(Arc::new(Mutex::new(LruCache::new(most))))
    }
}

impl Digests {
    pub fn remember(&self, place: Path, stored: StoredFile) {
        self.0.lock().put(place, stored);
    }

    /// Of a file that has so many bytes.
    fn of(&self, place: &Path, size: u64) -> Option<StoredFile> {
        self.0.lock().get(place).filter(|stored| stored.size == size).cloned()
    }
}

impl Files {
    /// What an attempt stored under this name; none when it has no such file.
    ///
    /// # Errors
    /// [`FilesError::Disk`], [`FilesError::Away`].
    pub async fn stored_artifact(
        &self,
        job: JobId,
        token: Token,
        name: &str,
    ) -> Result<Option<StoredFile>, FilesError> {
        self.stored_at(&place::artifact(job, token, name)).await
    }

    /// What stands in a result's place, by its content and not by anybody's word.
    pub(super) async fn stored_at(&self, place: &Path) -> Result<Option<StoredFile>, FilesError> {
        let size = match self.store.head(place).await {
            Ok(meta) => meta.size,
            Err(object_store::Error::NotFound { .. }) => return self.none().await,
            Err(error) => return Err(error.into()),
        };
        if let Some(known) = self.digests.of(place, size) {
            return Ok(Some(known));
        }
        let stored = StoredFile { size, sha256: self.sha256(place).await? };
        self.digests.remember(place.clone(), stored.clone());
        Ok(Some(stored))
    }
}
