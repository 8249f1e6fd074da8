//! Whether the directory is still the one that was opened. Where a mount went away another one is in
//! its place, and what is put there nobody finds; one that hangs never answers.

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::{Files, FilesError};

/// A look takes no time where the directory is there.
const WITHIN: Duration = Duration::from_secs(5);

/// Looks at a file system that may never answer. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Looks {
    /// The look that was given up last. It holds a thread until it is answered, so until then there is
    /// no other.
    hangs: Arc<Mutex<Option<AbortHandle>>>,
}

impl Looks {
    /// # Errors
    /// What the look says; `TimedOut` where it says nothing.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let hangs = self.hangs.lock().as_ref().is_some_and(|look| !look.is_finished());
        if hangs {
            return Err(no_answer());
        }
        let mut looking = tokio::task::spawn_blocking(look);
        match tokio::time::timeout(WITHIN, &mut looking).await {
            Ok(seen) => seen.map_err(io::Error::other).flatten(),
            Err(_) => {
                *self.hangs.lock() = Some(looking.abort_handle());
                Err(no_answer())
            }
        }
    }
}

fn no_answer() -> io::Error {
    let why = format!("its file system does not answer within {} s", WITHIN.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl Files {
    /// One look, before anything is stored, and before a file is said not to be there.
    pub(super) async fn check_there(&self) -> Result<(), FilesError> {
        let marker = self.marker.clone();
        let seen = self.looks.look(move || std::fs::metadata(marker)).await;
        seen.map(drop).map_err(|why| self.away(why))
    }

    pub(super) fn away(&self, why: io::Error) -> FilesError {
        FilesError::Away { marker: self.marker.display().to_string(), why }
    }

    /// What to answer of a file that was not found.
    pub(super) async fn none<T>(&self) -> Result<Option<T>, FilesError> {
        self.check_there().await.map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_hangs_is_given_up_and_holds_one_thread() {
        let looks = Looks::default();
        let (answer, hang) = std::sync::mpsc::channel::<()>();
        let hung = looks.look(move || hang.recv().map_err(io::Error::other));
        let (seen, ()) = tokio::join!(hung, tokio::time::advance(WITHIN));
        assert_eq!(seen.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let again = looks.look(|| -> io::Result<()> { panic!("one hangs") }).await;
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::TimedOut);
        answer.send(()).unwrap();
        while looks.look(|| Ok(())).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
