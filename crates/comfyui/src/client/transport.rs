use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::excerpt;
use crate::{ComfyClient, RequestError, json};

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

    pub(super) async fn get(&self, path: &str) -> Result<Bytes, RequestError> {
        self.execute(self.request(Method::GET, path), self.timeouts.request).await
    }

    pub(super) async fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<T, RequestError> {
        json::read(&self.get(path).await?).map_err(RequestError::malformed)
    }

    pub(super) async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Bytes, RequestError> {
        self.execute(self.request(Method::POST, path).json(body), self.timeouts.request).await
    }

    /// Sends a request and reads the whole answer, both within `limit`.
    pub(super) async fn execute(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Bytes, RequestError> {
        let transport = |error: reqwest::Error| RequestError::from_transport(&error, limit);
        let response = request.timeout(limit).send().await.map_err(transport)?;
        let status = response.status();
        let body = response.bytes().await.map_err(transport)?;
        if status.is_success() { Ok(body) } else { Err(status_error(status.as_u16(), &body)) }
    }

    /// Turns an answer that means "no" into an error, after reading its body within `limit`.
    pub(crate) async fn expect_success(
        response: Response,
        limit: Duration,
    ) -> Result<Response, RequestError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = tokio::time::timeout(limit, response.bytes()).await;
        Err(status_error(status.as_u16(), &body.ok().and_then(Result::ok).unwrap_or_default()))
    }
}

/// An error for a status that means "no".
pub(crate) fn status_error(status: u16, body: &[u8]) -> RequestError {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    RequestError::Status { status, body: excerpt(body) }
}
