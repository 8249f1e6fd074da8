//! The connection to one server, and what all requests share.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_api::Problem;
use pointsman_core::Timestamp;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde::{Serialize, de::DeserializeOwned};

use crate::{ClientError, clock::ServerClock};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an ordinary request may take; a waiting claim gets its wait on top.
pub(crate) const CALL: Duration = Duration::from_secs(30);
/// How long a look at every record may take, and a repair, which looks several times.
pub(crate) const LOOK: Duration = Duration::from_secs(600);
/// Bytes of a refusal that are read at most.
const MAX_PROBLEM: usize = 1 << 20;

/// What a client of an `https://` server is told.
const HTTPS: &str = "this build speaks plain HTTP: give the http:// address of a tunnel or a local \
                     proxy that speaks TLS to the server";

/// A client of one server. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    clock: ServerClock,
}

/// The address as it may be shown: what stands before the last `@` may be a password, escaped or not.
fn without_password(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://***@{host}")
        }
        None => url.to_owned(),
    }
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:7780`, with a token where the
    /// server asks for one. Does not connect yet.
    ///
    /// # Errors
    /// [`ClientError::Address`] when the address or the token cannot be used.
    pub fn new(base: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let invalid = |why: String| ClientError::Address { url: without_password(base), why };
        let url = Url::parse(base).map_err(|error| invalid(error.to_string()))?;
        if url.scheme() == "https" {
            return Err(invalid(HTTPS.into()));
        }
        if url.scheme() != "http" {
            return Err(invalid("use http://HOST:PORT".into()));
        }
        let mut headers = header::HeaderMap::new();
        if let Some(token) = token {
            let value = header::HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| invalid("the token has odd characters".into()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .no_proxy()
            .build()?;
        Ok(Self { http, base: url, clock: ServerClock::default() })
    }

    /// The server's address, as given.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The server's time, as its answers tell it; none before the first.
    pub fn server_time(&self) -> Option<Timestamp> {
        self.clock.at(Instant::now())
    }

    /// Whether the server takes work; otherwise the problem says why not.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::GET, &["readyz"]).timeout(CALL)).await.map(drop)
    }

    /// A request to a path given by its segments, which are escaped.
    pub(crate) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.http.request(method, url)
    }

    /// Sends, and turns every refusal into an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await?;
        self.clock.saw(response.headers(), Instant::now());
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response).await)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        self.answer(self.request(Method::GET, path).timeout(CALL)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.answer(self.request(Method::POST, path).json(body).timeout(CALL)).await
    }

    /// Sends and reads the answer's JSON.
    pub(crate) async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let body = self.send(request).await?.bytes().await?;
        read(&body)
    }
}

pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| {
        let head: String = String::from_utf8_lossy(body).chars().take(200).collect();
        ClientError::Unexpected(format!("{error}: {head}"))
    })
}

async fn refusal(mut response: Response) -> ClientError {
    let status = response.status();
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_PROBLEM => body.extend(chunk),
            Ok(None) => break,
            Ok(Some(_)) => return ClientError::Unexpected(format!("{status} with a large body")),
            Err(error) => return error.into(),
        }
    }
    problem_of(status, &body.into())
}

fn problem_of(status: StatusCode, body: &Bytes) -> ClientError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if matches!(status.as_u16(), 401 | 403) => ClientError::Refused(problem),
        Ok(problem) => ClientError::Problem(problem),
        Err(_) => {
            let head: String = String::from_utf8_lossy(body).chars().take(200).collect();
            ClientError::Unexpected(format!("{status}: {head}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_refused_shows_no_password() {
        for address in ["https://me:secret@host:1", "ftp://me:sec/ret@host", "me:secret@host"] {
            let why = Client::new(address, None).map(drop).unwrap_err().to_string();
            assert!(!why.contains("ret") && why.contains("***@host"), "{why}");
        }
        let why = Client::new("ftp://host", None).map(drop).unwrap_err().to_string();
        assert!(why.contains("\"ftp://host\""), "{why}");
    }
}
