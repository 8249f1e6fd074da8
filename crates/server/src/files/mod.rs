//! Files on disk, behind `object_store`: inputs by their content, artifacts under the token of the
//! attempt that made them.
//!
//! Architecture invariant: a file is never overwritten, and it is whole or not there. An attempt
//! stores what it likes; only the job's ending binds a file to the job, so what a fenced attempt
//! stored is never served.

mod digest;
mod keep;
mod owner;
mod place;
mod read;
mod receive;
mod sweep;
mod there;
mod watch;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, local::LocalFileSystem};
use pointsman_api::{ErrorCode, InputSource, Problem, Sha256Hex, check_file_name};
use pointsman_core::{
    Token,
    command::Held,
    record::{Artifact, Job, PastAttempt},
};
use pointsman_store::Store;

pub use owner::Owner;
pub use read::FileReader;
pub(crate) use receive::RECEIVING;
use receive::{Body, Received, receive};

/// The bytes of a file, as they come.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Bytes of a file at most.
const MAX_FILE: u64 = 4 << 30;

/// The files of one server.
#[derive(Debug, Clone)]
pub struct Files {
    store: Arc<dyn ObjectStore>,
    /// Where `store` keeps its files.
    root: Arc<Path>,
    /// There as long as `root` is the directory that was opened.
    marker: Arc<Path>,
    looks: there::Looks,
    digests: digest::Digests,
}

/// A file that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Bytes.
    pub size: u64,
    pub sha256: Sha256Hex,
}

/// Why a file was not stored, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("the transfer broke off: {0}")]
    BrokenOff(#[source] io::Error),
    #[error("the file has more than {MAX_FILE} bytes")]
    TooLarge,
    #[error("the content has the SHA-256 {found}")]
    OtherDigest { found: Sha256Hex },
    #[error("the attempt has a file {name:?} with other content")]
    Exists { name: String },
    /// The name or the source is not valid.
    #[error(transparent)]
    Invalid(Problem),
    #[error("the disk refused: {0}")]
    Disk(#[from] object_store::Error),
    #[error("the disk refused: {0}")]
    Io(#[source] io::Error),
    #[error("{path} is not there: mount it, or make the directory")]
    Missing { path: String },
    #[error("{path} is no directory")]
    NoDirectory { path: String },
    #[error(
        "these are the files of fleet {found:?}, not of {wanted:?}: check --fleet, or give another \
         directory; if they are to be this fleet's, delete {file}"
    )]
    OtherFleet { file: String, found: String, wanted: String },
    #[error(
        "these are the files of another store; if they are this one's now (after a move, or a loss), \
         delete {file} and start the server again"
    )]
    OtherStore { file: String },
    #[error("no server keeps files here ({file} is not there): is the directory mounted?")]
    Nobodys { file: String },
    #[error("the directory of files is out of reach: {marker}: {why}: is it mounted?")]
    Away { marker: String, why: io::Error },
    #[error("the job cannot be read: {0}")]
    Store(#[from] pointsman_store::StoreError),
}

impl Files {
    /// The files in a data directory, under `files/`, which become the owner's; other servers of the
    /// fleet may use them too. No owner is named where the store lies beside them, which lets nobody
    /// else in: then what an interrupted transfer left behind is removed. Blocks for as long as that
    /// takes.
    ///
    /// # Errors
    /// When the directory cannot be made, or the files are another fleet's.
    pub fn open(data: &Path, owner: Option<&Owner>) -> Result<Self, FilesError> {
        let files = Self::at(data.join("files"), owner)?;
        if owner.is_none() {
            let staging = files.root.join(place::STAGING);
            std::fs::remove_dir_all(&staging).map_err(FilesError::Io)?;
            std::fs::create_dir(&staging).map_err(FilesError::Io)?;
        }
        Ok(files)
    }

    /// Whether [`open`](Self::open) would find somebody else's files there: those of another fleet, or,
    /// where no fleet is named, of any. Nothing is made.
    ///
    /// # Errors
    /// When it would.
    pub fn check_owner(data: &Path, fleet: Option<&str>) -> Result<(), FilesError> {
        let root = data.join("files");
        let Some(fleet) = fleet else { return Owner::none(&root) };
        match Owner::check_fleet(&root, fleet) {
            // They become this one's.
            Err(FilesError::Nobodys { .. }) => Ok(()),
            checked => checked,
        }
    }

    /// Whether [`open_shared`](Self::open_shared) would refuse the directory, but for writing there.
    /// Nothing is made.
    ///
    /// # Errors
    /// When it would.
    pub fn check_shared(data: &Path, fleet: &str) -> Result<(), FilesError> {
        check_directory(data)?;
        Self::check_owner(data, Some(fleet))
    }

    /// The files in a directory that several processes share, such as a network file system, which
    /// become the owner's. What others are just transferring is left alone.
    ///
    /// # Errors
    /// When the directory is not there (not mounted, say), or cannot be written, or the files are
    /// another fleet's.
    pub fn open_shared(data: &Path, owner: &Owner) -> Result<Self, FilesError> {
        check_directory(data)?;
        Self::at(data.join("files"), Some(owner))
    }

    /// The same of files that a server has made the owner's: for those who only use them. In a
    /// directory that is not mounted they would make files that nobody finds.
    ///
    /// # Errors
    /// As above, and [`FilesError::Nobodys`].
    pub fn join_shared(data: &Path, owner: &Owner) -> Result<Self, FilesError> {
        check_directory(data)?;
        let root = data.join("files");
        owner.check(&root)?;
        Self::under(root, true)
    }

    fn at(root: PathBuf, owner: Option<&Owner>) -> Result<Self, FilesError> {
        std::fs::create_dir_all(&root).map_err(FilesError::Io)?;
        match owner {
            Some(owner) => owner.claim(&root)?,
            None => Owner::none(&root)?,
        }
        Self::under(root, owner.is_some())
    }

    fn under(root: PathBuf, is_owned: bool) -> Result<Self, FilesError> {
        std::fs::create_dir_all(root.join(place::STAGING)).map_err(FilesError::Io)?;
        let disk = LocalFileSystem::new_with_prefix(&root)?.with_automatic_cleanup(true);
        let marker = if is_owned { root.join(owner::NAME) } else { root.clone() };
        let (looks, digests) = (there::Looks::default(), digest::Digests::default());
        let (root, marker) = (root.into(), marker.into());
        Ok(Self { store: Arc::new(disk), root, marker, looks, digests })
    }

    /// Stores a file that jobs may name. The same content again is the same file.
    ///
    /// # Errors
    /// [`FilesError`]; nothing is stored then.
    pub async fn put_input(&self, bytes: ByteStream) -> Result<StoredFile, FilesError> {
        let received = receive(self, bytes).await?;
        let stored = received.stored();
        if stored.size == 0 {
            let problem =
                Problem::new(ErrorCode::InvalidInput, "the body is empty: there is no file");
            let cure = ErrorCode::WrongMediaType.cure();
            return Err(FilesError::Invalid(problem.at("").cure(cure)));
        }
        // Replaced by itself, so that its age begins anew.
        self.publish(received, &place::input(&stored.sha256), Publish::Replace).await?;
        Ok(stored)
    }

    /// Stores a result file under the attempt's token. An exact repeat is answered the same;
    /// other content under a name that is taken is refused.
    ///
    /// # Errors
    /// [`FilesError`]; nothing is stored then.
    pub async fn put_artifact(
        &self,
        held: Held,
        name: &str,
        bytes: ByteStream,
        expected: Option<&Sha256Hex>,
    ) -> Result<StoredFile, FilesError> {
        check_file_name(name).map_err(FilesError::Invalid)?;
        let received = receive(self, bytes).await?;
        let stored = received.stored();
        if expected.is_some_and(|expected| *expected != stored.sha256) {
            self.discard(received).await;
            return Err(FilesError::OtherDigest { found: stored.sha256 });
        }
        let place = place::artifact(held.job, held.token, name);
        let is_new = self.publish(received, &place, Publish::Create).await?;
        if is_new {
            self.digests.remember(place, stored.clone());
            return Ok(stored);
        }
        if self.stored_at(&place).await?.as_ref() == Some(&stored) {
            return Ok(stored);
        }
        Err(FilesError::Exists { name: name.to_owned() })
    }

    /// A file that the job's ending bound to it, or that this attempt handed in late; none when there
    /// is no such artifact.
    pub fn artifact(
        &self,
        job: &Job,
        attempt: Option<u32>,
        name: &str,
    ) -> Option<(Artifact, FileReader)> {
        let (token, artifacts) = match attempt {
            None => (bound_token(job)?, &job.ended()?.artifacts),
            Some(attempt) => {
                let late = late(job, attempt)?;
                (late.token, &late.late_artifacts)
            }
        };
        let artifact = artifacts.iter().find(|artifact| artifact.name == name)?;
        let place = place::artifact(job.id, token, name);
        Some((artifact.clone(), FileReader::new(self.clone(), place, artifact.size)))
    }

    /// An uploaded input; none when there is no such file.
    pub async fn input(&self, sha256: &Sha256Hex) -> Result<Option<FileReader>, FilesError> {
        let place = place::input(sha256);
        match self.store.head(&place).await {
            Ok(meta) => Ok(Some(FileReader::new(self.clone(), place, meta.size))),
            Err(object_store::Error::NotFound { .. }) => self.none().await,
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file that a job brings, as its `from` names it; none when there is no such file.
    pub async fn open_input(
        &self,
        store: &dyn Store,
        from: &str,
    ) -> Result<Option<ByteStream>, FilesError> {
        let reader = match from.parse().map_err(FilesError::Invalid)? {
            InputSource::Inline { bytes } => {
                return Ok(Some(futures::stream::iter([Ok(bytes)]).boxed()));
            }
            InputSource::Stored(sha256) => self.input(&sha256).await?,
            InputSource::Artifact { job, name } => {
                let job = pointsman_store::job(store, job).await?;
                job.and_then(|job| self.artifact(&job, None, &name)).map(|(_, reader)| reader)
            }
        };
        match reader {
            Some(reader) => reader.read(None).await,
            None => Ok(None),
        }
    }

    /// Puts what was received in its place. `false`: something was there before, and stays.
    async fn publish(
        &self,
        received: Received,
        place: &object_store::path::Path,
        publish: Publish,
    ) -> Result<bool, FilesError> {
        self.check_there().await?;
        let published = match received.body {
            Body::Memory(payload) => {
                let mode = match publish {
                    Publish::Create => PutMode::Create,
                    Publish::Replace => PutMode::Overwrite,
                };
                self.store.put_opts(place, payload, mode.into()).await.map(drop)
            }
            Body::Staged(staged) => {
                let renamed = match publish {
                    Publish::Create => self.store.rename_if_not_exists(&staged, place).await,
                    Publish::Replace => self.store.rename(&staged, place).await,
                };
                if renamed.is_err() {
                    // Nothing depends on it; a sweep removes what stays behind.
                    let _ = self.store.delete(&staged).await;
                }
                renamed
            }
        };
        let is_new = match published {
            Ok(()) => true,
            Err(object_store::Error::AlreadyExists { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        self.make_durable(place).await?;
        Ok(is_new)
    }

    /// What is answered is durable, here as in the store. One flush of the file is enough: the file
    /// systems that this runs on write a new file's names no later than the file. (The flushes of
    /// `object_store` itself would add one for each directory, each as slow as this one.)
    async fn make_durable(&self, place: &object_store::path::Path) -> Result<(), FilesError> {
        let path = self.root.join(place.as_ref());
        blocking(move || std::fs::File::open(path)?.sync_all()).await
    }

    async fn discard(&self, received: Received) {
        if let Body::Staged(staged) = received.body {
            // As above.
            let _ = self.store.delete(&staged).await;
        }
    }
}

fn check_directory(path: &Path) -> Result<(), FilesError> {
    let shown = || path.display().to_string();
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(FilesError::NoDirectory { path: shown() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(FilesError::Missing { path: shown() })
        }
        Err(error) => Err(FilesError::Io(error)),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, FilesError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.flatten().map_err(FilesError::Io)
}

/// What happens to a file that is in the place already.
#[derive(Debug, Clone, Copy)]
enum Publish {
    /// It stays.
    Create,
    /// It has the same content, and is replaced.
    Replace,
}

/// The token of the attempt whose files the job's ending bound: the last one's, or that of the
/// late result that won.
pub(crate) fn bound_token(job: &Job) -> Option<Token> {
    let late = job.past.iter().rev().find(|past| past.late_won && past.run == job.run);
    late.map(|past| past.token).or(job.token)
}

/// The attempt of this number, if it handed in a result late.
pub(crate) fn late(job: &Job, attempt: u32) -> Option<&PastAttempt> {
    job.past.iter().find(|past| past.attempt == attempt && past.late)
}

#[cfg(test)]
mod tests;
