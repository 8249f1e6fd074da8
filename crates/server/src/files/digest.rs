//! What SHA-256 each result has: of those that were stored or asked for lately it is remembered, as a
//! file is never overwritten.

use std::{collections::HashMap, io::Read as _, num::NonZeroUsize, sync::Arc};

use lru::LruCache;
use object_store::{ObjectStoreExt as _, path::Path};
use parking_lot::Mutex;
use pointsman_api::Sha256Hex;
use pointsman_core::{JobId, Token};
use sha2::{Digest as _, Sha256};

use super::{Files, FilesError, StoredFile, blocking, place};

/// Results remembered at most.
const REMEMBERED: usize = 20_000;
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(super) struct Digests {
    known: Arc<Mutex<LruCache<Path, StoredFile>>>,
    /// Locked for as long as a file is read, so that who asks for the same one waits for that.
    reading: Arc<Mutex<HashMap<Path, Arc<Mutex<()>>>>>,
}

impl Default for Digests {
    fn default() -> Self {
        let most = NonZeroUsize::new(REMEMBERED).unwrap_or(NonZeroUsize::MIN);
        Self { known: Arc::new(Mutex::new(LruCache::new(most))), reading: Arc::default() }
    }
}

impl Digests {
    pub fn remember(&self, place: Path, stored: StoredFile) {
        self.known.lock().put(place, stored);
    }

    /// Of a file that has so many bytes.
    fn of(&self, place: &Path, size: u64) -> Option<StoredFile> {
        self.known.lock().get(place).filter(|stored| stored.size == size).cloned()
    }

    /// Reads the file, unless somebody just did. Blocks.
    fn work_out(
        &self,
        place: &Path,
        path: &std::path::Path,
        size: u64,
    ) -> std::io::Result<StoredFile> {
        let one = self.reading.lock().entry(place.clone()).or_default().clone();
        let stored = {
            let _one = one.lock();
            self.of(place, size).map_or_else(|| read(path), Ok).inspect(|stored| {
                self.remember(place.clone(), stored.clone());
            })
        };
        let mut reading = self.reading.lock();
        // Ours and the map's.
        if Arc::strong_count(&one) == 2 {
            reading.remove(place);
        }
        stored
    }
}

fn read(path: &std::path::Path) -> std::io::Result<StoredFile> {
    let mut file = std::fs::File::open(path)?;
    let (mut piece, mut size, mut hash) = (vec![0; PIECE], 0, Sha256::new());
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(StoredFile { size, sha256: Sha256Hex::of(hash.finalize().into()) }),
            bytes => {
                hash.update(&piece[..bytes]);
                size += bytes as u64;
            }
        }
    }
}

impl Files {
    /// What an attempt stored under this name; none when it has no such file.
    pub async fn stored_artifact(
        &self,
        job: JobId,
        token: Token,
        name: &str,
    ) -> Result<Option<StoredFile>, FilesError> {
        self.stored_at(&place::artifact(job, token, name)).await
    }

    /// What stands in a result's place, by its content and not by anybody's word. A caller that does
    /// not wait for a large file finds it worked out the next time.
    pub(super) async fn stored_at(&self, place: &Path) -> Result<Option<StoredFile>, FilesError> {
        let size = match self.store.head(place).await {
            Ok(meta) => meta.size,
            Err(object_store::Error::NotFound { .. }) => return self.none().await,
            Err(error) => return Err(error.into()),
        };
        if let Some(known) = self.digests.of(place, size) {
            return Ok(Some(known));
        }
        let (digests, place) = (self.digests.clone(), place.clone());
        let path = self.root.join(place.as_ref());
        match blocking(move || digests.work_out(&place, &path, size)).await {
            Ok(stored) => Ok(Some(stored)),
            Err(FilesError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                self.none().await
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_while_a_file_is_read_waits_for_that() {
        let dir = tempfile::tempdir().unwrap();
        let (place, path) = (Path::from("a"), dir.path().join("a"));
        std::fs::write(&path, vec![7; 3 * PIECE + 1]).unwrap();
        let digests = Digests::default();
        let one = digests.reading.lock().entry(place.clone()).or_default().clone();
        let reads = one.lock();
        let size = 3 * PIECE as u64 + 1;
        std::thread::scope(|scope| {
            let asked = [(); 3].map(|()| scope.spawn(|| digests.work_out(&place, &path, size)));
            while Arc::strong_count(&one) < 5 {
                std::thread::yield_now();
            }
            // The one that reads is through.
            let stored = read(&path).unwrap();
            digests.remember(place.clone(), stored.clone());
            std::fs::remove_file(&path).unwrap();
            drop(reads);
            for asked in asked {
                assert_eq!(asked.join().unwrap().unwrap(), stored);
            }
        });
        drop(one);
        assert!(digests.work_out(&place, &path, 7).is_err(), "another file, and it is not there");
        assert!(digests.reading.lock().is_empty());
    }
}
