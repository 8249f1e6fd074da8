//! Files up and down.

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use pointsman_api::{InputSource, InputStored};
use pointsman_core::JobId;
use reqwest::{Body, Method, Response, header};

use crate::{Client, ClientError};

/// What is sent: bytes as they come. An error ends the upload, and nothing is stored.
pub type Source = BoxStream<'static, std::io::Result<Bytes>>;

/// A file that is being read.
pub struct Download {
    /// Bytes, where the server said.
    pub size: Option<u64>,
    pub media_type: Option<String>,
    response: Response,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Download {
    fn of(response: Response) -> Self {
        let media_type = response.headers().get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { size: response.content_length(), media_type, response }
    }

    /// Everything at once, for small files.
    ///
    /// # Errors
    /// [`ClientError`] when the connection breaks.
    pub async fn bytes(self) -> Result<Bytes, ClientError> {
        Ok(self.response.bytes().await?)
    }

    /// The bytes as they come.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, ClientError>> + Send + 'static {
        self.response.bytes_stream().map(|piece| piece.map_err(ClientError::from))
    }
}

impl Client {
    /// Uploads a file for a job's `inputs`; the answer names it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload_input(&self, bytes: Source) -> Result<InputStored, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", "inputs"]);
        self.answer(request.body(Body::wrap_stream(bytes))).await
    }

    /// A result file of a job.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn artifact(&self, id: JobId, name: &str) -> Result<Download, ClientError> {
        self.download(&["api", "v1", "jobs", &id.to_string(), "artifacts", name]).await
    }

    /// The newest preview picture of a running job.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn preview(&self, id: JobId) -> Result<Download, ClientError> {
        self.download(&["api", "v1", "jobs", &id.to_string(), "preview"]).await
    }

    /// Opens a file that a job brings, as its `from` names it.
    ///
    /// # Errors
    /// [`ClientError`]; `input_not_found` or `artifact_not_found` when it is not there.
    pub async fn open_input(&self, from: &str) -> Result<Source, ClientError> {
        let io = |error: ClientError| std::io::Error::other(error);
        let download = match from.parse::<InputSource>().map_err(ClientError::Problem)? {
            InputSource::Inline { bytes } => {
                return Ok(futures::stream::iter([Ok(bytes)]).boxed());
            }
            InputSource::Stored(sha256) => {
                self.download(&["api", "v1", "inputs", sha256.as_str()]).await?
            }
            InputSource::Artifact { job, name } => self.artifact(job, &name).await?,
        };
        Ok(download.stream().map(move |piece| piece.map_err(io)).boxed())
    }

    async fn download(&self, path: &[&str]) -> Result<Download, ClientError> {
        Ok(Download::of(self.send(self.request(Method::GET, path)).await?))
    }
}
