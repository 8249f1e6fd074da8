use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;

use crate::client::{SMALL_ANSWER, next_chunk, read_body, refusal, send, status_error};
use crate::error::is_html;
use crate::{ComfyClient, OutputFile, RequestError, json};

/// A root folder of ComfyUI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Folder {
    /// What the user gave.
    Input,
    /// What is kept.
    Output,
    /// What previews leave; emptied when the service starts (ComfyUI source).
    Temp,
}

impl Folder {
    /// As it is written on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Temp => "temp",
        }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A folder that `/view` does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of input, output and temp")]
pub struct ParseFolderError(String);

impl FromStr for Folder {
    type Err = ParseFolderError;

    fn from_str(text: &str) -> Result<Self, ParseFolderError> {
        [Self::Input, Self::Output, Self::Temp]
            .into_iter()
            .find(|folder| folder.as_str() == text)
            .ok_or_else(|| ParseFolderError(text.to_owned()))
    }
}

/// Where an upload came to lie. The name differs from the one that was asked for when another file had it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UploadReply {
    /// File name without folder.
    pub name: String,
    /// Folder below `input`.
    #[serde(default)]
    pub subfolder: String,
}

impl UploadReply {
    /// What a `LoadImage` node takes: the name, with its folder before it.
    #[must_use]
    pub fn input_value(&self) -> String {
        if self.subfolder.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.subfolder, self.name)
        }
    }
}

/// The bytes of a file, as they come.
pub struct ViewStream {
    /// Size in bytes, if the service said so.
    pub length: Option<u64>,
    /// Media type, if the service said so.
    pub content_type: Option<String>,
    /// What changes when the file is written again, if the service said so: its `ETag`, else its `Last-Modified`.
    pub version: Option<String>,
    chunks: BoxStream<'static, Result<Bytes, RequestError>>,
}

impl fmt::Debug for ViewStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, content_type, version, chunks: _ } = self;
        f.debug_struct("ViewStream")
            .field("length", length)
            .field("content_type", content_type)
            .field("version", version)
            .finish_non_exhaustive()
    }
}

impl Stream for ViewStream {
    type Item = Result<Bytes, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.as_mut().poll_next(context)
    }
}

impl ComfyClient {
    /// Puts a file into the input folder. An equal file of that name is reused, a different one makes the service
    /// choose another name (ComfyUI source), so use the name of the reply.
    ///
    /// `bytes` may be anything that is a body: bytes in memory, or a stream (`reqwest::Body::wrap_stream`). A stream
    /// has no time limit of its own.
    ///
    /// # Errors
    /// [`RequestError`]; 413 above 100 MB unless the service is configured otherwise.
    pub async fn upload_image(
        &self,
        subfolder: &str,
        name: &str,
        bytes: impl Into<reqwest::Body>,
    ) -> Result<UploadReply, RequestError> {
        let part = Part::stream(bytes).file_name(name.to_owned());
        let form = Form::new()
            .part("image", part)
            .text("type", "input")
            .text("subfolder", subfolder.to_owned());
        let limit = self.timeouts().transfer_idle;
        let sent = self.request(Method::POST, "upload/image").multipart(form).send().await;
        let response = sent.map_err(|error| RequestError::from_transport(&error))?;
        let response = Self::expect_success(response, limit).await?;
        let status = response.status();
        let body = read_body(response, limit, SMALL_ANSWER).await?;
        if is_html(&body) {
            return Err(status_error(status.as_u16(), &body));
        }
        json::read(&body).map_err(RequestError::malformed)
    }

    /// Fetches a file.
    ///
    /// # Errors
    /// [`RequestError`], with 404 when it is gone; the stream yields one when the rest did not come. Compare what came
    /// with [`ViewStream::length`].
    pub async fn view(
        &self,
        filename: &str,
        subfolder: &str,
        folder: Folder,
    ) -> Result<ViewStream, RequestError> {
        self.view_named(filename, subfolder, folder.as_str()).await
    }

    /// Fetches an output file, whatever folder it names.
    ///
    /// # Errors
    /// As [`ComfyClient::view`].
    pub async fn view_output(&self, file: &OutputFile) -> Result<ViewStream, RequestError> {
        self.view_named(&file.filename, &file.subfolder, &file.folder).await
    }

    async fn view_named(
        &self,
        filename: &str,
        subfolder: &str,
        folder: &str,
    ) -> Result<ViewStream, RequestError> {
        let mut url = self.url("view");
        url.query_pairs_mut()
            .append_pair("filename", filename)
            .append_pair("subfolder", subfolder)
            .append_pair("type", folder);
        let limit = self.timeouts().transfer_idle;
        let response = send(self.http().get(url), limit).await?;
        let response = Self::expect_success(response, limit).await?;
        let header = |name| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        // With a file its name comes always, in every version since 2023 (ComfyUI source).
        if !response.headers().contains_key("content-disposition") {
            return Err(match refusal(response, limit).await {
                RequestError::Status { body, .. } if !is_html(body.as_bytes()) => {
                    RequestError::malformed(format_args!(
                        "no file of ComfyUI, as it has no content-disposition: {body:?}"
                    ))
                }
                page => page,
            });
        }
        Ok(ViewStream {
            length: response.content_length(),
            content_type: header("content-type"),
            version: header("etag").or_else(|| header("last-modified")),
            chunks: chunks(response, limit),
        })
    }
}

/// The body of a response, each chunk within `limit`.
fn chunks(
    response: reqwest::Response,
    limit: Duration,
) -> BoxStream<'static, Result<Bytes, RequestError>> {
    let next = move |response: Option<reqwest::Response>| async move {
        let mut response = response?;
        match next_chunk(&mut response, limit).await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(response))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    };
    // Whoever asks again after its end gets none, as at the end of a file of no bytes.
    futures::stream::unfold(Some(response), next).fuse().boxed()
}
