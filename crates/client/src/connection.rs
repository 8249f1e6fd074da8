//! The connection to a server, and what all requests share.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pointsman_api::Problem;
use pointsman_core::Timestamp;
use reqwest::{Method, Request, RequestBuilder, Response, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::{
    ClientError,
    addresses::{Addresses, Asked},
    clock::ServerClock,
    pool::{CONNECT, Pool},
};

/// How long an ordinary request may take; a waiting claim gets its wait on top.
pub(crate) const CALL: Duration = Duration::from_secs(30);
/// How long a look at every record may take, and a repair, which looks several times.
pub(crate) const LOOK: Duration = Duration::from_secs(600);
/// How long what is being read may be silent; a stream of events says something every 5 s.
const SILENCE: Duration = Duration::from_secs(20);
/// Bytes of a refusal that are read at most.
const MAX_PROBLEM: usize = 1 << 20;

/// A client of a fleet's server, or of several that stand beside each other. Cheap to clone; clones
/// share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool,
    addresses: Addresses,
    clock: ServerClock,
}

impl Client {
    /// A client of the server at `address`, such as `http://127.0.0.1:7780`, with a token where the
    /// server asks for one. Several addresses stand with commas between them: one server is talked to
    /// until it fails or keeps a caller waiting who gives up after 4 s or more, then the next; one
    /// that serves nobody, or says nothing for 2 s, at first is passed over. Does not connect yet.
    ///
    /// # Errors
    /// [`ClientError::Address`] when an address cannot be used, [`ClientError::Request`] when the
    /// token cannot.
    pub fn new(address: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let addresses = Addresses::parse(address)?;
        let mut headers = header::HeaderMap::new();
        if let Some(token) = token {
            let value = header::HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| {
                let why = "the token has characters that no token has: copy it as it was printed";
                ClientError::Request(why.into())
            })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(Self { pool: Pool::new(headers)?, addresses, clock: ServerClock::default() })
    }

    /// The same client with connections of its own: what it asks waits for none that others use.
    pub fn apart(&self) -> Result<Self, ClientError> {
        Ok(Self { pool: self.pool.another()?, ..self.clone() })
    }

    /// The server's time, as its answers tell it; none before the first.
    pub fn server_time(&self) -> Option<Timestamp> {
        self.clock.at(Instant::now())
    }

    /// Whether the server takes work; otherwise the problem says why not.
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::GET, &["readyz"]).timeout(CALL)).await.map(drop)
    }

    /// A request to a path given by its segments, which are escaped.
    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.addresses.current().clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.pool.http().request(method, url)
    }

    /// A request to a route of the API.
    pub(crate) fn api(&self, method: Method, route: &[&str]) -> RequestBuilder {
        self.request(method, &[&["api", "v1"], route].concat())
    }

    /// Sends, and turns every refusal into an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let request = request.build()?;
        let limit = request.timeout().copied().unwrap_or(CALL);
        self.begun(request, limit).await
    }

    /// `limit`: how long the caller waits for the answer's beginning.
    async fn begun(&self, request: Request, limit: Duration) -> Result<Response, ClientError> {
        let response = self.answered(request, limit).await?;
        self.clock.saw(response.headers(), Instant::now());
        if response.status().is_success() {
            return Ok(response);
        }
        if response.status().is_server_error() {
            self.addresses.leave(response.url());
        }
        Err(refusal(response).await)
    }

    /// Sends where the answer is as long as it gets, and only its beginning is due within a limit.
    pub(crate) async fn open(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        let opened = timeout(limit, self.begun(request.build()?, limit)).await;
        opened.unwrap_or_else(|_| Err(silent_for(limit)))
    }

    /// The next piece of an answer. May be cancelled without loss.
    pub(crate) async fn piece(&self, of: &mut Response) -> Result<Option<Bytes>, ClientError> {
        let piece = match timeout(SILENCE, of.chunk()).await {
            Ok(piece) => piece.map_err(ClientError::from),
            Err(_) => Err(silent_for(SILENCE)),
        };
        piece.inspect_err(|_| self.addresses.leave(of.url()))
    }

    /// Who cannot be connected to got nothing of the request: it goes to the next server. So it does
    /// where a server that was not heard yet says nothing, or serves nobody: it may be given to one
    /// server only.
    async fn answered(
        &self,
        mut request: Request,
        limit: Duration,
    ) -> Result<Response, reqwest::Error> {
        for _ in 1..self.addresses.count() {
            self.addresses.turn(request.url_mut());
            if self.addresses.is_heard() || self.is_there().await {
                let again = request.try_clone();
                request = match (self.ask(request, limit).await, again) {
                    (Err(error), Some(again)) if error.is_connect() => again,
                    (answered, _) => return answered,
                };
            }
        }
        self.addresses.turn(request.url_mut());
        self.ask(request, limit).await
    }

    /// Whether the server that is talked to says that it serves; it is left where it does not.
    async fn is_there(&self) -> bool {
        let url = self.addresses.current().clone();
        let asked = Asked::new(&self.addresses, url, Duration::ZERO);
        let look = self.request(Method::GET, &["readyz"]).timeout(CONNECT).send().await;
        let serves = look.and_then(|response| match response.status().is_server_error() {
            true => response.error_for_status(),
            false => Ok(response),
        });
        asked.answered(serves).is_ok()
    }

    /// Asks the server that the request names, and leaves it where it gives no answer.
    async fn ask(&self, request: Request, limit: Duration) -> Result<Response, reqwest::Error> {
        // What it may take beyond an ordinary call it may wait for.
        let wait = limit.saturating_sub(CALL);
        let asked = Asked::new(&self.addresses, request.url().clone(), wait);
        let answered = self.pool.execute(request).await;
        asked.answered(answered)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, route: &[&str]) -> Result<T, ClientError> {
        self.answer(self.api(Method::GET, route).timeout(CALL)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        route: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.answer(self.api(Method::POST, route).json(body).timeout(CALL)).await
    }

    /// Sends and reads the answer's JSON.
    pub(crate) async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let body = self.send(request).await?.bytes().await?;
        read(&body)
    }

    /// Sends, and reads the answer's JSON as it comes: the more it is, the longer it takes. Its
    /// beginning is due within a limit, and `moved` is told of each part.
    pub(crate) async fn long_answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        limit: Duration,
        moved: &(dyn Fn() + Sync),
    ) -> Result<T, ClientError> {
        let mut response = self.open(request, limit).await?;
        moved();
        let mut body = BytesMut::new();
        while let Some(piece) = self.piece(&mut response).await? {
            moved();
            body.extend_from_slice(&piece);
        }
        read(&body)
    }
}

fn silent_for(limit: Duration) -> ClientError {
    ClientError::Unreachable(format!("silent for {} s", limit.as_secs()))
}

/// A body as JSON text.
pub(crate) fn written(body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(body).map_err(|error| ClientError::Request(error.to_string()))
}

pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| {
        let head: String = String::from_utf8_lossy(body).chars().take(200).collect();
        ClientError::Unexpected(format!("{error}: {head}"))
    })
}

async fn refusal(mut response: Response) -> ClientError {
    let status = response.status();
    if let Some(to) = response.headers().get(header::LOCATION).filter(|_| status.is_redirection()) {
        let to = String::from_utf8_lossy(to.as_bytes()).chars().take(200).collect();
        return ClientError::Redirected { status: status.as_u16(), to };
    }
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
            ClientError::Unexpected(match head.trim() {
                "" => status.to_string(),
                _ => format!("{status}: {head}"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        response::{IntoResponse, Redirect},
        routing::any,
    };
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives every request this answer.
    async fn answering(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(any(move || async move { answer }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    /// Whoever answers could else give orders to servers that only this machine reaches.
    #[tokio::test]
    async fn where_it_is_sent_elsewhere_nobody_goes() {
        let to = answering(StatusCode::OK).await + "/api/v1/intake/close";
        for redirect in [Redirect::temporary(&to), Redirect::permanent(&to), Redirect::to(&to)] {
            let client = Client::new(&answering(redirect).await, None).unwrap();
            let why = client.remove_worker(&"w".parse().unwrap()).await.unwrap_err();
            assert!(
                matches!(&why, ClientError::Redirected { to: there, .. } if *there == to),
                "{why:?}"
            );
            assert!(why.to_string().contains("not followed") && !why.is_transient(), "{why}");
        }
    }

    #[tokio::test]
    async fn a_server_that_serves_nobody_is_passed_over() {
        let (away, well) =
            (answering(StatusCode::SERVICE_UNAVAILABLE).await, answering(StatusCode::OK).await);
        let client = Client::new(&format!("{away},{well}"), None).unwrap();
        client.ready().await.unwrap();
        client.remove_worker(&"w".parse().unwrap()).await.unwrap();
        // Where nobody serves, the last one says why.
        let client = Client::new(&format!("{away},{away}"), None).unwrap();
        let why = client.ready().await.unwrap_err();
        let said = "503 Service Unavailable";
        assert!(matches!(&why, ClientError::Unexpected(why) if why == said), "{why}");
    }
}
