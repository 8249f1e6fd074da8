//! Whose files they are. A store that does not know a job only removes its files where they are its
//! own: a wrong fleet, or a store that came up empty, must not.

use std::{fs, io, path::Path};

use pointsman_core::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::FilesError;

/// Beside the files.
pub(super) const NAME: &str = "owner.json";

/// The fleet whose files they are, and which of its stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub fleet: String,
    /// When the store was made.
    pub store_made_at: Option<Timestamp>,
}

impl Owner {
    /// Makes the files the owner's where they are nobody's yet.
    ///
    /// # Errors
    /// [`FilesError::OtherFleet`] when they are another fleet's.
    pub(super) fn claim(&self, root: &Path) -> Result<(), FilesError> {
        match self.write(root) {
            Ok(()) => {
                let (fleet, root) = (&self.fleet, root.display());
                tracing::info!(fleet, "the fleet's files are kept in {root} from now on");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.check(root),
            Err(error) => Err(FilesError::Io(error)),
        }
    }

    /// # Errors
    /// [`FilesError::OtherFleet`] when the files are another fleet's, [`FilesError::Nobodys`] when
    /// no server has made them anybody's.
    pub(super) fn check(&self, root: &Path) -> Result<(), FilesError> {
        Self::check_fleet(root, &self.fleet)
    }

    /// The same for whoever knows the fleet, and not yet its store.
    pub(super) fn check_fleet(root: &Path, fleet: &str) -> Result<(), FilesError> {
        let file = || root.join(NAME).display().to_string();
        match Self::of(root) {
            Ok(found) if found.fleet == fleet => Ok(()),
            Ok(found) => Err(FilesError::OtherFleet {
                file: file(),
                found: found.fleet,
                wanted: fleet.to_owned(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(FilesError::Nobodys { file: file() })
            }
            Err(error) => Err(FilesError::Io(error)),
        }
    }

    /// # Errors
    /// [`FilesError::OtherStore`] when the files are somebody's.
    pub(super) fn none(root: &Path) -> Result<(), FilesError> {
        match root.join(NAME).exists() {
            true => Err(other_store(root)),
            false => Ok(()),
        }
    }

    /// # Errors
    /// [`FilesError::OtherStore`] when the files are not those of the store that was made then.
    pub(super) fn of_store(root: &Path, made_at: Timestamp) -> Result<(), FilesError> {
        match Self::of(root) {
            Ok(owner) if owner.store_made_at == Some(made_at) => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FilesError::Io(error)),
            _ => Err(other_store(root)),
        }
    }

    /// Whole or not at all: somebody else may be just reading it.
    fn write(&self, root: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        let (new, path) = (root.join(format!("{NAME}.{}", Uuid::new_v4())), root.join(NAME));
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::write(&new, json)?;
        match fs::hard_link(&new, &path) {
            // The file system has no links.
            Err(error) if is_not_possible(&error) => fs::rename(&new, &path),
            linked => fs::remove_file(&new).and(linked),
        }
    }

    /// Whose the files are.
    fn of(root: &Path) -> io::Result<Self> {
        let path = root.join(NAME);
        serde_json::from_slice(&fs::read(&path)?).map_err(|error| {
            let path = path.display();
            io::Error::other(format!(
                "{path} does not say whose files they are: {error}; delete it"
            ))
        })
    }
}

fn is_not_possible(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

pub(super) fn other_store(root: &Path) -> FilesError {
    FilesError::OtherStore { file: root.join(NAME).display().to_string() }
}
