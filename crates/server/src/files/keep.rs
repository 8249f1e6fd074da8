//! Keeping a result as an input: it stays as long as a job names it, whatever becomes of the job that
//! made it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use object_store::ObjectStoreExt as _;
use pointsman_api::Sha256Hex;
use pointsman_core::{Timestamp, record::Artifact};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

use super::{FileReader, Files, FilesError, StoredFile, blocking, place};

/// The age of an input that no sweep removes for days yet.
const FRESH: Duration = Duration::from_secs(24 * 3600);

impl Files {
    /// Makes an artifact's file an input, too, and answers which; none when the file is gone. The same
    /// content again is the same file, and its age begins anew.
    pub async fn keep_as_input(
        &self,
        artifact: &Artifact,
        reader: &FileReader,
    ) -> Result<Option<Sha256Hex>, FilesError> {
        // An ending is taken only with the digests of what was stored, so the record's is true.
        let named = artifact.sha256.parse().map_err(FilesError::Invalid)?;
        if self.renew_input(&named).await? {
            return Ok(Some(named));
        }
        // An input's name is a promise all the same: the record may be of a version that did not look.
        let Some(StoredFile { sha256, .. }) = self.stored_at(reader.place()).await? else {
            return Ok(None);
        };
        self.check_there().await?;
        let path = |place: &object_store::path::Path| self.root.join(place.as_ref());
        let to = place::input(&sha256);
        let paths = [path(reader.place()), path(&place::staged()), path(&to)];
        match blocking(move || link_or_copy(&paths)).await {
            Ok(()) => self.make_durable(&to).await.map(|()| Some(sha256)),
            Err(FilesError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.none().await
            }
            Err(error) => Err(error),
        }
    }

    /// Whether there is such an input. One that a sweep may soon remove begins its age anew: whoever is
    /// told that it is there names it from now on.
    pub async fn hold_input(&self, sha256: &Sha256Hex, now: Timestamp) -> Result<bool, FilesError> {
        let place = place::input(sha256);
        let there = async || match self.store.head(&place).await {
            Ok(meta) => Ok(Some(Timestamp::from_millis(meta.last_modified.timestamp_millis()))),
            Err(object_store::Error::NotFound { .. }) => self.none().await,
            Err(error) => Err(FilesError::from(error)),
        };
        match there().await? {
            None => Ok(false),
            Some(since) if now.since(since) < FRESH => Ok(true),
            // Another user's is there all the same, and keeps its age.
            Some(_) => Ok(self.renew_input(sha256).await? || there().await?.is_some()),
        }
    }

    /// Begins the age of an input anew, durably; `false`: there is none, or it is another user's.
    async fn renew_input(&self, sha256: &Sha256Hex) -> Result<bool, FilesError> {
        let place = place::input(sha256);
        let path = self.root.join(place.as_ref());
        match blocking(move || renew(&path)).await {
            Ok(()) => self.make_durable(&place).await.map(|()| true),
            Err(FilesError::Io(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Its age begins now.
fn renew(path: &Path) -> io::Result<()> {
    let file = fs::File::options().write(true).open(path)?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    futimens(&file, &Timestamps { last_access: now, last_modification: now })?;
    // A sweep that took it away before that may not have seen it.
    fs::metadata(path).map(drop)
}

/// One file under two names costs nothing; where that is not possible, or it is another user's, it is
/// copied. It is whole and new before it is in its place.
fn link_or_copy([from, staged, to]: &[PathBuf; 3]) -> io::Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    let linked = fs::hard_link(from, staged).and_then(|()| renew(staged));
    let made = linked.or_else(|_| {
        // Through a link that is left the copy would be written into the result itself.
        match fs::remove_file(staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::copy(from, staged)?;
        renew(staged)
    });
    let placed = made.and_then(|()| fs::rename(staged, to));
    // What did not get there; and a rename to another name of the same file leaves both.
    let _ = fs::remove_file(staged);
    placed
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn where_there_can_be_no_link_it_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["result", "staged", "inputs/00"].map(|name| dir.path().join(name));
        let [from, staged, to] = &paths;
        fs::write(from, "picture").unwrap();
        // No link can have a name that is taken.
        fs::write(staged, "").unwrap();
        link_or_copy(&paths).unwrap();
        assert_eq!(fs::read_to_string(from).unwrap(), "picture");
        assert_eq!(fs::read_to_string(to).unwrap(), "picture");
        assert_eq!(fs::metadata(from).unwrap().nlink(), 1);
        assert!(!staged.exists());
        fs::remove_file(from).unwrap();
        assert_eq!(link_or_copy(&paths).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
