//! Whether the directory is still the one that was opened. Where a mount went away another one is in
//! its place, and what is put there nobody finds.

use super::{Files, FilesError, blocking};

impl Files {
    /// One look, before anything is stored, and before a file is said not to be there.
    ///
    /// # Errors
    /// [`FilesError::Away`].
    pub(super) async fn check_there(&self) -> Result<(), FilesError> {
        let marker = self.marker.clone();
        let seen = blocking(move || Ok(std::fs::metadata(marker))).await?;
        let away = |why| FilesError::Away { marker: self.marker.display().to_string(), why };
        seen.map(drop).map_err(away)
    }

    /// What to answer of a file that was not found.
    pub(super) async fn none<T>(&self) -> Result<Option<T>, FilesError> {
        self.check_there().await.map(|()| None)
    }
}
