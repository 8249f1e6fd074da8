//! The file side of a worker's way to the store: where its jobs' files lie.

use std::{io::ErrorKind, path::Path, sync::Arc};

use anyhow::{Context as _, anyhow, bail};
use pointsman_api::ErrorCode;
use pointsman_client::{Client, ClientError};
use pointsman_connectors::{ByteStream, NewArtifact};
use pointsman_core::{Rejected, command::Held};
use pointsman_server::{Files, FilesError, Owner};
use pointsman_store::Store;
use pointsman_worker::{BrokerError, StoredFile};

use super::over_http::client_error;
use crate::services::ArtifactsArg;

/// The files in a directory that servers and workers share. It is not made: where a network file
/// system is not mounted, files would go to another place than everybody else's.
///
/// # Errors
/// When the directory is not there or cannot be written, or the files are another fleet's.
pub fn shared_files(path: &Path, owner: &Owner) -> anyhow::Result<Files> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => bail!("--artifacts {shown} is no directory"),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("--artifacts {shown} is not there: mount it, or make the directory")
        }
        Err(error) => return Err(error).with_context(|| format!("--artifacts {shown}")),
    }
    // Its errors say in one what went wrong and why.
    Files::open_shared(path, owner).map_err(|error| match error {
        FilesError::OtherFleet { .. } => anyhow!("--artifacts {shown}: {error}"),
        error => anyhow!(
            "--artifacts {shown} cannot be used: {error}: this process must be able to write there"
        ),
    })
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
    /// The place that the command line names; the token is the server's. Does not connect yet.
    ///
    /// # Errors
    /// When the directory is not there or cannot be written, or the address cannot be used.
    pub fn open(
        arg: &ArtifactsArg,
        token: Option<&str>,
        fleet: &str,
        store: Arc<dyn Store>,
    ) -> anyhow::Result<Self> {
        match arg {
            ArtifactsArg::Directory(path) => {
                let owner = Owner { fleet: fleet.to_owned(), store_made_at: store.made_at() };
                Ok(Self::Directory { files: Arc::new(shared_files(path, &owner)?), store })
            }
            ArtifactsArg::Server(url) => {
                Ok(Self::Server(Client::new(url, token).context("--artifacts")?))
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
    ///
    /// # Errors
    /// [`BrokerError`].
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

/// A disk that refuses may be given room; what is wrong with the file itself stays wrong.
fn files_error(error: FilesError) -> BrokerError {
    match error {
        FilesError::Disk(_)
        | FilesError::Io(_)
        | FilesError::BrokenOff(_)
        | FilesError::Store(_) => BrokerError::Unreachable(error.to_string()),
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

    fn open(dir: &Path) -> anyhow::Result<ArtifactPlace> {
        let store = Arc::new(MemStore::new(Arc::new(ManualClock::default())));
        ArtifactPlace::open(&ArtifactsArg::Directory(dir.to_owned()), None, "default", store)
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

    #[tokio::test]
    async fn files_in_a_shared_directory_are_everybodys() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (open(dir.path()).unwrap(), open(dir.path()).unwrap());
        let job = JobId::from_uuid(uuid::Uuid::from_u128(1));
        let held = Held { job, attempt: 1, token: Token::from_uuid(uuid::Uuid::from_u128(2)) };
        let put = |place: ArtifactPlace, bytes: &'static [u8]| async move {
            place.put_artifact(held, artifact(), one_chunk(Bytes::from_static(bytes))).await
        };
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
}
