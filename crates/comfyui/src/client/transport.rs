use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::LOCATION;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{excerpt, is_html};
use crate::{ComfyClient, RequestError, json};

/// Bytes of the answers that list what is there, or what was made, at most: queue, history, node classes, and what
/// validation refuses.
pub(super) const LARGE_ANSWER: usize = 64 << 20;
/// Bytes of every other answer at most.
pub(crate) const SMALL_ANSWER: usize = 1 << 20;
/// Bytes of a refusal that are read; its beginning says why.
const REFUSAL: usize = 4 << 10;

/// What is right where an address only redirects.
const REDIRECTED: &str = "if ComfyUI is there, give that address instead";

/// How requests travel.
impl ComfyClient {
    pub(crate) fn url(&self, path: &str) -> Url {
        // The base is an http URL with a path, and every path here is relative and plain: joining cannot fail.
        self.base.join(path).unwrap_or_else(|_| self.base.clone())
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(super) async fn get(&self, path: &str, most: usize) -> Result<Bytes, RequestError> {
        self.execute(self.request(Method::GET, path), self.timeouts.request, most).await
    }

    pub(super) async fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<T, RequestError> {
        json::read(&self.get(path, SMALL_ANSWER).await?).map_err(RequestError::malformed)
    }

    pub(super) async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Bytes, RequestError> {
        let request = self.request(Method::POST, path).json(body);
        self.execute(request, self.timeouts.request, SMALL_ANSWER).await
    }

    /// Sends a request and reads the whole answer, of `most` bytes at most. It must begin within `limit`, and after
    /// each part the next must come within it: a large one may take long on a slow line.
    pub(super) async fn execute(
        &self,
        request: RequestBuilder,
        limit: Duration,
        most: usize,
    ) -> Result<Bytes, RequestError> {
        self.execute_seen(request, limit, most, |_| {}).await
    }

    /// The same, and each time that more of the answer came `seen` is told how many bytes are here.
    pub(super) async fn execute_seen(
        &self,
        request: RequestBuilder,
        limit: Duration,
        most: usize,
        seen: impl FnMut(usize),
    ) -> Result<Bytes, RequestError> {
        let response = Self::expect_success(send(request, limit).await?, limit).await?;
        let status = response.status();
        let body = read_body_seen(response, limit, most, seen).await?;
        match is_html(&body) {
            true => Err(status_error(status.as_u16(), &body)),
            false => Ok(body),
        }
    }

    /// Turns an answer that means "no" into an error, after reading its body within `limit`.
    pub(crate) async fn expect_success(
        response: Response,
        limit: Duration,
    ) -> Result<Response, RequestError> {
        match response.status().is_success() {
            true => Ok(response),
            false => Err(refusal(response, limit).await),
        }
    }
}

/// Turns an answer with any other status into an error.
pub(crate) async fn expect_status(
    response: Response,
    expected: StatusCode,
    limit: Duration,
) -> Result<Response, RequestError> {
    match response.status() == expected {
        true => Ok(response),
        false => Err(refusal(response, limit).await),
    }
}

/// Sends a request; its answer begins within `limit`.
pub(crate) async fn send(
    request: RequestBuilder,
    limit: Duration,
) -> Result<Response, RequestError> {
    let sent = tokio::time::timeout(limit, request.send()).await;
    let sent = sent.map_err(|_| RequestError::TimedOut { after: limit })?;
    sent.map_err(|error| RequestError::from_transport(&error))
}

/// The next part of a body, which comes within `limit`; None at its end.
pub(crate) async fn next_chunk(
    response: &mut Response,
    limit: Duration,
) -> Result<Option<Bytes>, RequestError> {
    let chunk = tokio::time::timeout(limit, response.chunk()).await;
    let chunk = chunk.map_err(|_| RequestError::TimedOut { after: limit })?;
    chunk.map_err(|error| RequestError::from_transport(&error))
}

/// The whole body, if it has `most` bytes at most, each part within `limit`.
pub(crate) async fn read_body(
    response: Response,
    limit: Duration,
    most: usize,
) -> Result<Bytes, RequestError> {
    read_body_seen(response, limit, most, |_| {}).await
}

/// The same, and each time that more of it came `seen` is told how many bytes are here.
async fn read_body_seen(
    mut response: Response,
    limit: Duration,
    most: usize,
    mut seen: impl FnMut(usize),
) -> Result<Bytes, RequestError> {
    let path = response.url().path().to_owned();
    let too_large = || RequestError::TooLarge { path: path.clone(), most };
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = next_chunk(&mut response, limit).await? {
        if body.len() + chunk.len() > most {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
        seen(body.len());
    }
    Ok(body.freeze())
}

/// The error for an answer that means "no", after reading its body within `limit`; of a redirect, where it leads to.
pub(crate) async fn refusal(response: Response, limit: Duration) -> RequestError {
    let status = response.status();
    if let Some(to) = response.headers().get(LOCATION).filter(|_| status.is_redirection()) {
        let to = excerpt(to.as_bytes());
        let body = format!("it redirects to {to}, which is not followed: {REDIRECTED}");
        return RequestError::Status { status, body };
    }
    status_error(status.as_u16(), &read_beginning(response, limit).await)
}

/// What came of the beginning of a body within `limit`.
async fn read_beginning(mut response: Response, limit: Duration) -> Vec<u8> {
    let mut beginning = Vec::new();
    let read = async {
        while beginning.len() < REFUSAL
            && let Ok(Some(chunk)) = response.chunk().await
        {
            beginning.extend_from_slice(&chunk);
        }
    };
    // Cut off, it still says more than nothing.
    drop(tokio::time::timeout(limit, read).await);
    beginning
}

/// An error for a status that means "no".
pub(crate) fn status_error(status: u16, body: &[u8]) -> RequestError {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    RequestError::Status { status, body: excerpt(body) }
}
