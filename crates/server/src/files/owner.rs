//! Whose files they are. A store that does not know a job only removes its files where they are its
//! own: a wrong fleet, or a store that came up empty, must not.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use pointsman_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::FilesError;

/// Beside the files.
const NAME: &str = "owner.json";
/// Somebody else may be just writing it.
const TRIES: usize = 5;
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The fleet whose files they are, and which of its stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub fleet: String,
    /// When the store was made; none of one that lies beside its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_made_at: Option<Timestamp>,
}

impl Owner {
    /// Makes the files the owner's where they are nobody's yet.
    ///
    /// # Errors
    /// [`FilesError::OtherFleet`] when they are another fleet's.
    pub(super) fn claim(&self, root: &Path) -> Result<(), FilesError> {
        let found = match self.write(root) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::of(root),
            written => return written.map_err(FilesError::Io),
        };
        match found {
            Ok(found) if found.fleet == self.fleet => Ok(()),
            Ok(found) => Err(FilesError::OtherFleet {
                file: root.join(NAME).display().to_string(),
                found: found.fleet,
                wanted: self.fleet.clone(),
            }),
            Err(error) => Err(FilesError::Io(error)),
        }
    }

    fn write(&self, root: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        let new = fs::OpenOptions::new().write(true).create_new(true).open(root.join(NAME));
        new?.write_all(&json)
    }

    /// Whose the files are.
    pub(super) fn of(root: &Path) -> io::Result<Self> {
        let path = root.join(NAME);
        let mut tries = 0;
        loop {
            tries += 1;
            match serde_json::from_slice(&fs::read(&path)?) {
                Ok(owner) => return Ok(owner),
                Err(_) if tries < TRIES => std::thread::sleep(AGAIN_AFTER),
                Err(error) => {
                    let path = path.display();
                    let why =
                        format!("{path} does not say whose files they are: {error}; delete it");
                    return Err(io::Error::other(why));
                }
            }
        }
    }
}
