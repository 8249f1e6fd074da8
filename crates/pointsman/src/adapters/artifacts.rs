//! The file side of a worker's way to the store: where its jobs' files lie.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use pointsman_api::ErrorCode;
use pointsman_client::{Client, ClientError};
use pointsman_connectors::{ByteStream, NewArtifact};
use pointsman_core::{Rejected, command::Held};
use pointsman_server::{Files, FilesError, Owner};
use pointsman_store::Store;
use pointsman_worker::{BrokerError, StoredFile};
use tokio_util::sync::CancellationToken;

use super::{on_store::store_error, over_http::client_error};

/// How often a worker looks whether a server keeps files in its directory by now.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A server's files in a directory that servers and workers share. It is not made: where a network
/// file system is not mounted, files would go to another place than everybody else's.
///
/// # Errors
/// When the directory is not there or cannot be written, or the files are another fleet's.
pub fn shared_files(path: &Path, owner: &Owner) -> anyhow::Result<Files> {
    Files::open_shared(path, owner).map_err(|error| cannot_use(path, &error))
}

/// Refuses a directory that [`shared_files`] would refuse, before anything is made.
///
/// # Errors
/// When the directory is not there, or the files are another fleet's.
pub fn check_shared_files(path: &Path, fleet: &str) -> anyhow::Result<()> {
    Files::check_shared(path, fleet).map_err(|error| cannot_use(path, &error))
}

/// The same as [`shared_files`] for a worker, once a server keeps files there; none when it was told
/// to stop before.
async fn joined_files(
    path: &Path,
    owner: &Owner,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Files>> {
    let mut told = false;
    loop {
        match Files::join_shared(path, owner) {
            Ok(files) => return Ok(Some(files)),
            Err(why @ FilesError::Nobodys { .. }) if !told => {
                tracing::warn!(
                    "--artifacts {}: {why} Or start a server of this fleet on it; waiting for that",
                    path.display()
                );
                told = true;
            }
            Err(FilesError::Nobodys { .. }) => {}
            Err(error) => return Err(cannot_use(path, &error)),
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_none() {
            return Ok(None);
        }
    }
}

/// The error says in one what went wrong and why.
fn cannot_use(path: &Path, error: &FilesError) -> anyhow::Error {
    let shown = path.display();
    match error {
        FilesError::Missing { .. } | FilesError::NoDirectory { .. } => {
            anyhow!("--artifacts {error}")
        }
        FilesError::OtherFleet { .. } => anyhow!("--artifacts {shown}: {error}"),
        error => anyhow!(
            "--artifacts {shown} cannot be used: {error}: this process must be able to write there"
        ),
    }
}

/// [`ArtifactPlace`] as the command line names it, for a worker that does not reach the store through a
/// server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactsArg {
    /// A directory that servers and workers share.
    Directory(PathBuf),
    /// The address of a server.
    Server(String),
}

impl FromStr for ArtifactsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("http" | "https", server)) if !server.is_empty() => {
                Ok(Self::Server(text.to_owned()))
            }
            None if !text.is_empty() => Ok(Self::Directory(text.into())),
            _ => Err(format!("{text:?} is no place for files: use DIR or http://SERVER")),
        }
    }
}

/// Where the files of jobs lie.
#[derive(Clone)]
pub enum ArtifactPlace {
    /// A directory that servers and workers share. The store says which attempt's files are a
    /// job's.
    Directory { files: Arc<Files>, store: Arc<dyn Store> },
    /// A server's files, over HTTP.
    Server(Client),
}

impl ArtifactPlace {
    /// The place that a worker's command line names; the token is the server's. It waits for a
    /// directory in which a server keeps files, and does not connect yet to a server. None when it
    /// was told to stop before.
    ///
    /// # Errors
    /// When the directory is not there or cannot be written, or the address cannot be used.
    pub async fn join(
        arg: &ArtifactsArg,
        token: Option<&str>,
        fleet: &str,
        store: Arc<dyn Store>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Self>> {
        match arg {
            ArtifactsArg::Directory(path) => {
                let owner = Owner { fleet: fleet.to_owned(), store_made_at: store.made_at() };
                let files = joined_files(path, &owner, stop).await?;
                Ok(files.map(|files| Self::Directory { files: Arc::new(files), store }))
            }
            ArtifactsArg::Server(url) => {
                Ok(Some(Self::Server(Client::new(url, token).context("--artifacts")?)))
            }
        }
    }

    /// Stores a result file under the attempt's token.
    ///
    /// # Errors
    /// [`BrokerError`]; nothing is stored then.
    pub async fn put_artifact(
        &self,
        held: Held,
        artifact: NewArtifact,
        bytes: ByteStream,
    ) -> Result<StoredFile, BrokerError> {
        let NewArtifact { name, media_type, .. } = artifact;
        match self {
            Self::Directory { files, .. } => {
                let stored = files.put_artifact(held, &name, bytes, None).await;
                let stored = stored.map_err(files_error)?;
                Ok(StoredFile { size: stored.size, sha256: stored.sha256.to_string() })
            }
            Self::Server(client) => {
                let stored = client.put_artifact(held, &name, &media_type, bytes).await;
                let stored = stored.map_err(server_error)?;
                Ok(StoredFile { size: stored.size, sha256: stored.sha256 })
            }
        }
    }

    /// Opens a file that a job brings; none when there is no such file.
    pub async fn open_input(&self, from: &str) -> Result<Option<ByteStream>, BrokerError> {
        match self {
            Self::Directory { files, store } => {
                files.open_input(store.as_ref(), from).await.map_err(files_error)
            }
            Self::Server(client) => match client.open_input(from).await {
                Ok(source) => Ok(Some(source)),
                Err(error)
                    if error.is(ErrorCode::InputNotFound)
                        || error.is(ErrorCode::ArtifactNotFound)
                        || error.is(ErrorCode::ArtifactGone) =>
                {
                    Ok(None)
                }
                Err(error) => Err(server_error(error)),
            },
        }
    }
}

/// A token may be mended on the other side; what is wrong with the file itself stays wrong.
fn server_error(error: ClientError) -> BrokerError {
    let is_token = matches!(error, ClientError::Refused(_));
    match client_error(error) {
        BrokerError::Refused(why) if !is_token => BrokerError::Rejected(Rejected::Invalid(why)),
        error => error,
    }
}

/// A disk that refuses may be given room, and one that is away be mounted; what is wrong with the
/// file itself stays wrong.
fn files_error(error: FilesError) -> BrokerError {
    match error {
        FilesError::Store(error) => store_error(error),
        FilesError::Disk(_)
        | FilesError::Io(_)
        | FilesError::BrokenOff(_)
        | FilesError::Away { .. } => BrokerError::Unreachable(error.to_string()),
        error => BrokerError::Rejected(Rejected::Invalid(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pointsman_api::Problem;
    use pointsman_connectors::one_chunk;
    use pointsman_core::{JobId, Token, record::ArtifactType};
    use pointsman_store::{ManualClock, MemStore};

    use super::*;

    fn store() -> Arc<MemStore> {
        Arc::new(MemStore::new(Arc::new(ManualClock::default())))
    }

    /// As a server opens it.
    fn open(dir: &Path) -> anyhow::Result<Files> {
        let owner = Owner { fleet: "default".into(), store_made_at: store().made_at() };
        shared_files(dir, &owner)
    }

    async fn join(dir: &Path) -> ArtifactPlace {
        let (arg, stop) = (ArtifactsArg::Directory(dir.to_owned()), CancellationToken::new());
        ArtifactPlace::join(&arg, None, "default", store(), &stop).await.unwrap().unwrap()
    }

    fn artifact() -> NewArtifact {
        NewArtifact {
            name: "9-0-a.png".into(),
            media_type: "image/png".into(),
            node: None,
            kind: ArtifactType::Output,
            size: None,
        }
    }

    async fn put(place: ArtifactPlace, bytes: &'static [u8]) -> Result<StoredFile, BrokerError> {
        let job = JobId::from_uuid(uuid::Uuid::from_u128(1));
        let held = Held { job, attempt: 1, token: Token::from_uuid(uuid::Uuid::from_u128(2)) };
        place.put_artifact(held, artifact(), one_chunk(Bytes::from_static(bytes))).await
    }

    /// As one on which nothing is mounted any more: what is stored there nobody finds.
    #[tokio::test]
    async fn a_worker_stores_nothing_in_a_directory_that_went_away() {
        let dir = tempfile::tempdir().unwrap();
        let (mounted, away) = (dir.path().join("mounted"), dir.path().join("away"));
        std::fs::create_dir(&mounted).unwrap();
        open(&mounted).unwrap();
        let place = join(&mounted).await;
        std::fs::rename(&mounted, &away).unwrap();
        std::fs::create_dir(&mounted).unwrap();
        let waits = |answer: &BrokerError| {
            let is_told = answer.to_string().contains("is it mounted?");
            matches!(answer, BrokerError::Unreachable(_)) && is_told
        };
        let large: &'static [u8] = &[1; 2 << 20];
        for bytes in [b"picture", large] {
            let refused = put(place.clone(), bytes).await.unwrap_err();
            assert!(waits(&refused), "{refused:?}");
        }
        let input = format!("sha256:{}", "0".repeat(64));
        let refused = place.open_input(&input).await.err().unwrap();
        assert!(waits(&refused), "{refused:?}");
        assert_eq!(std::fs::read_dir(&mounted).unwrap().count(), 0, "nothing is left there");
        std::fs::remove_dir(&mounted).unwrap();
        std::fs::rename(&away, &mounted).unwrap();
        assert_eq!(put(place, b"picture").await.unwrap().size, 7, "it is mounted again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_waits_until_a_server_keeps_files_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let joins = tokio::spawn(async move { join(&path).await });
        tokio::time::sleep(LOOK_AGAIN * 5).await;
        assert!(!joins.is_finished());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it makes none itself");
        open(dir.path()).unwrap();
        joins.await.unwrap();
    }

    #[tokio::test]
    async fn files_in_a_shared_directory_are_everybodys() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap();
        let (one, other) = (join(dir.path()).await, join(dir.path()).await);
        let stored = put(one, b"picture").await.unwrap();
        assert_eq!(stored.size, 7);
        assert_eq!(put(other.clone(), b"picture").await, Ok(stored), "an exact repeat");
        let refused = put(other.clone(), b"another").await;
        let is_final = matches!(refused, Err(BrokerError::Rejected(Rejected::Invalid(_))));
        assert!(is_final, "{refused:?}");
        assert!(other.open_input("data:,cat").await.is_err(), "not a base64 source");
        let missing = format!("sha256:{}", "0".repeat(64));
        assert!(other.open_input(&missing).await.unwrap().is_none());
    }

    #[test]
    fn only_what_a_server_says_of_the_token_may_be_mended() {
        let said = |code| server_error_of(Problem::new(code, "said"));
        for code in [ErrorCode::Unauthorized, ErrorCode::Forbidden] {
            assert!(matches!(said(code), BrokerError::Refused(_)));
        }
        assert!(matches!(said(ErrorCode::TooLong), BrokerError::Rejected(Rejected::Invalid(_))));
        assert!(matches!(said(ErrorCode::StoreFull), BrokerError::Unreachable(_)));
    }

    fn server_error_of(problem: Problem) -> BrokerError {
        server_error(match problem.status {
            401 | 403 => ClientError::Refused(problem),
            _ => ClientError::Problem(problem),
        })
    }

    #[test]
    fn a_directory_that_is_not_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("not-mounted");
        let refused = format!("{:#}", open(&missing).err().unwrap());
        let cure = format!("--artifacts {} is not there: mount it", missing.display());
        assert!(refused.starts_with(&cure), "{refused}");
        assert!(!missing.exists());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refused = format!("{:#}", open(&file).err().unwrap());
        assert!(refused.ends_with("is no directory"), "{refused}");
        // What is in the way of the directory's own is said once.
        std::fs::write(dir.path().join("files"), "").unwrap();
        let refused = format!("{:#}", open(dir.path()).err().unwrap());
        assert_eq!(refused.matches("os error").count(), 1, "{refused}");
    }

    #[test]
    fn files_go_to_a_directory_or_a_server() {
        let parsed = |text: &str| text.parse::<ArtifactsArg>();
        for dir in ["/mnt/files", "files", "./http"] {
            assert_eq!(parsed(dir), Ok(ArtifactsArg::Directory(dir.into())));
        }
        for server in ["http://10.0.0.1:7780", "https://pointsman.example"] {
            assert_eq!(parsed(server), Ok(ArtifactsArg::Server(server.to_owned())));
        }
        for wrong in ["", "http://", "s3://bucket", "redis://x", "://x"] {
            let refused = parsed(wrong).unwrap_err();
            assert!(refused.contains("DIR or http://SERVER"), "{refused}");
        }
    }
}
