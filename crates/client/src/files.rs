//! Files up and down.

use bytes::{Bytes, BytesMut};
use futures::{
    Stream, StreamExt as _, TryStreamExt as _,
    stream::{BoxStream, try_unfold},
};
use pointsman_api::{InputSource, InputStored};
use pointsman_core::{JobId, record::Artifact};
use reqwest::{Body, Method, Response, StatusCode, header};

use crate::{Client, ClientError, connection::CALL};

/// What is sent: bytes as they come. An error ends the upload, and nothing is stored.
pub type Source = BoxStream<'static, std::io::Result<Bytes>>;

/// A file that is being read.
pub struct Download {
    /// Bytes, where the server said.
    pub size: Option<u64>,
    pub media_type: Option<String>,
    client: Client,
    response: Response,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Download {
    fn of(client: Client, response: Response) -> Self {
        let media_type = response.headers().get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { size: response.content_length(), media_type, client, response }
    }

    /// Everything at once, for small files.
    ///
    /// # Errors
    /// [`ClientError`] when the connection breaks or is silent for 20 s.
    pub async fn bytes(self) -> Result<Bytes, ClientError> {
        let pieces: BytesMut = self.stream().try_collect().await?;
        Ok(pieces.freeze())
    }

    /// The bytes as they come; an error when the connection breaks or is silent for 20 s.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, ClientError>> + Send + 'static {
        let Self { client, response, .. } = self;
        try_unfold((client, response), async |(client, mut response)| {
            let piece = client.piece(&mut response).await?;
            Ok(piece.map(|piece| (piece, (client, response))))
        })
    }
}

impl Client {
    /// Uploads a file for a job's `inputs`; the answer names it.
    pub async fn upload_input(&self, bytes: Source) -> Result<InputStored, ClientError> {
        let request = self.api(Method::POST, &["inputs"]);
        self.answer(request.body(Body::wrap_stream(bytes))).await
    }

    /// A result file of a job.
    pub async fn artifact(&self, id: JobId, name: &str) -> Result<Download, ClientError> {
        self.download(&["jobs", &id.to_string(), "artifacts", name]).await
    }

    /// The same from byte `from` on, of the very file that the job's record lists.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Unexpected`] when the job has another one by now.
    pub async fn artifact_from(
        &self,
        id: JobId,
        artifact: &Artifact,
        from: u64,
    ) -> Result<Download, ClientError> {
        let etag = format!("\"{}\"", artifact.sha256);
        let route = ["jobs", &id.to_string(), "artifacts", &artifact.name];
        let mut request = self.api(Method::GET, &route);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
            request = request.header(header::IF_RANGE, &etag);
        }
        let response = self.open(request, CALL).await?;
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        let found = response.headers().get(header::ETAG);
        if is_part != (from > 0) || found.is_none_or(|found| found != etag.as_str()) {
            let why = format!("job {id} has another {:?} by now", artifact.name);
            return Err(ClientError::Unexpected(why));
        }
        Ok(Download::of(self.clone(), response))
    }

    /// The newest preview picture of a running job.
    pub async fn preview(&self, id: JobId) -> Result<Download, ClientError> {
        self.download(&["jobs", &id.to_string(), "preview"]).await
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
            InputSource::Stored(sha256) => self.download(&["inputs", sha256.as_str()]).await?,
            InputSource::Artifact { job, name } => self.artifact(job, &name).await?,
        };
        Ok(download.stream().map(move |piece| piece.map_err(io)).boxed())
    }

    async fn download(&self, path: &[&str]) -> Result<Download, ClientError> {
        Ok(Download::of(self.clone(), self.open(self.api(Method::GET, path), CALL).await?))
    }
}
