//! The worker protocol.

use std::time::Duration;

use bytes::Bytes;
use pointsman_api::{
    ArtifactStored, ExchangeRequest, Exchanged, LeaveRequest, RegisterRequest, Registered,
    RenewRequest, Renewed,
};
use pointsman_core::{command::Held, decide::limits};
use reqwest::{Body, Method, RequestBuilder, header};

use crate::{
    Client, ClientError, Source,
    connection::{CALL, written},
};

impl Client {
    /// # Errors
    /// [`ClientError`].
    pub async fn register(&self, request: &RegisterRequest) -> Result<Registered, ClientError> {
        self.post(&["worker", "register"], request).await
    }

    /// Hands in operations and claims jobs, in one step; waits as the request says, and the longer
    /// the more it carries.
    ///
    /// # Errors
    /// [`ClientError`] about the exchange as a whole.
    pub async fn exchange(&self, request: &ExchangeRequest) -> Result<Exchanged, ClientError> {
        let wait = Duration::try_from_secs_f64(request.wait_s).unwrap_or_default();
        let body = written(request)?;
        let limit = CALL + wait + limits::transfer(body.len());
        let post = self.api(Method::POST, &["worker", "exchange"]);
        let post = post.header(header::CONTENT_TYPE, "application/json").body(body);
        self.answer(post.timeout(limit)).await
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn renew(&self, request: &RenewRequest) -> Result<Renewed, ClientError> {
        self.post(&["worker", "renew"], request).await
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn leave(&self, request: &LeaveRequest) -> Result<(), ClientError> {
        let post = self.api(Method::POST, &["worker", "leave"]);
        self.send(post.json(request).timeout(CALL)).await.map(drop)
    }

    /// Stores a result file under the attempt's token, before its end is handed in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_artifact(
        &self,
        held: Held,
        name: &str,
        media_type: &str,
        bytes: Source,
    ) -> Result<ArtifactStored, ClientError> {
        let put = self.attempt(held, &["artifacts", name]);
        let put = put.header(header::CONTENT_TYPE, media_type);
        self.answer(put.body(Body::wrap_stream(bytes))).await
    }

    /// Passes on what a job looks like now; `n` counts the attempt's previews from 1.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_preview(
        &self,
        held: Held,
        n: u32,
        media_type: &str,
        picture: Bytes,
    ) -> Result<(), ClientError> {
        let put = self.attempt(held, &["preview"]).query(&[("n", n)]);
        let put = put.header(header::CONTENT_TYPE, media_type).body(picture);
        self.send(put.timeout(CALL)).await.map(drop)
    }

    fn attempt(&self, held: Held, rest: &[&str]) -> RequestBuilder {
        let token = held.token.to_string();
        let path = [&["worker", "attempts", token.as_str()], rest].concat();
        let query = [("job", held.job.to_string()), ("attempt", held.attempt.to_string())];
        self.api(Method::PUT, &path).query(&query)
    }
}
