mod control;
mod read;
mod transport;

use std::time::Duration;

use reqwest::{ClientBuilder, Url, redirect};

pub use control::Cancelled;
pub use read::Truth;
pub(crate) use transport::{
    SMALL_ANSWER, expect_status, next_chunk, read_body, refusal, send, status_error,
};

use crate::{ConnectError, Events, InvalidUrl};

/// A connection on which nothing moves is probed after this long, and each so often again. The other end's kernel
/// answers, whatever its process does; where the host is gone nobody does, and the connection breaks.
const PROBED_AFTER: Duration = Duration::from_secs(10);
const PROBED_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// How long a client waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TCP connection, and for the websocket's handshake.
    pub connect: Duration,
    /// For the answer to a request to begin, and for each further part of it.
    pub request: Duration,
    /// The same for a submission: validation runs inside it, and custom nodes may take seconds.
    pub submit: Duration,
    /// The same for `GET /object_info`, which runs code of every installed node.
    pub object_info: Duration,
    /// For the next bytes of a file on its way.
    pub transfer_idle: Duration,
    /// For the other end of a websocket to confirm what was sent or probed for, where the system can tell (Linux).
    pub unconfirmed: Duration,
}

impl Default for Timeouts {
    /// 2 s to connect, 10 s for a request, 120 s for a submission, 25 s without a confirmation, 60 s for the rest.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            request: Duration::from_secs(10),
            submit: Duration::from_secs(120),
            object_info: Duration::from_secs(60),
            transfer_idle: Duration::from_secs(60),
            unconfirmed: Duration::from_secs(25),
        }
    }
}

/// A ComfyUI server, by its address. Cheap to clone; clones share connections.
///
/// It sends no `Origin` header, because ComfyUI refuses foreign ones with 403 (ComfyUI source), and goes through no
/// proxy, because the service sits beside the worker. It follows no redirect.
#[derive(Debug, Clone)]
pub struct ComfyClient {
    http: reqwest::Client,
    /// Opens the websockets. Only there is what nobody confirms a sign: a process that reads nothing for minutes, as
    /// a node may hold it up, leaves the rest of an upload unconfirmed too.
    sockets: reqwest::Client,
    base: Url,
    timeouts: Timeouts,
}

impl ComfyClient {
    /// A client for `http://host:port`, with the default timeouts. Opens no connection.
    ///
    /// # Errors
    /// [`InvalidUrl`] when it is not an `http` URL.
    pub fn new(base_url: &str) -> Result<Self, InvalidUrl> {
        Self::with_timeouts(base_url, Timeouts::default())
    }

    /// A client with timeouts of the caller's choice.
    ///
    /// # Errors
    /// As [`ComfyClient::new`].
    pub fn with_timeouts(base_url: &str, timeouts: Timeouts) -> Result<Self, InvalidUrl> {
        let invalid = |reason: String| InvalidUrl { reason };
        let mut base = Url::parse(base_url).map_err(|error| invalid(error.to_string()))?;
        if base.scheme() != "http" || !base.has_host() {
            return Err(invalid("expected http://host:port".to_owned()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let built = |client: ClientBuilder| client.build().map_err(|e| invalid(e.to_string()));
        let (http, sockets) = (builder(&timeouts), builder(&timeouts));
        // Said of both: reqwest's own is 30 s.
        #[cfg(target_os = "linux")]
        let (http, sockets) =
            (http.tcp_user_timeout(None), sockets.tcp_user_timeout(timeouts.unconfirmed));
        let (http, sockets) = (built(http)?, built(sockets)?);
        Ok(Self { http, sockets, base, timeouts })
    }

    /// The address, with a slash at its end and the password that was given with it.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.base.as_str()
    }

    /// The timeouts in use.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Opens a websocket for the messages of this client's prompts.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn events(&self, client_id: &str) -> Result<Events, ConnectError> {
        let mut url = self.url("ws");
        url.query_pairs_mut().append_pair("clientId", client_id);
        Events::open(self.sockets.get(url), self.timeouts.connect).await
    }
}

fn builder(timeouts: &Timeouts) -> ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        // Whoever answers could have addresses read, and orders given, that only this machine reaches.
        .redirect(redirect::Policy::none())
        .connect_timeout(timeouts.connect)
        // Shorter than any server keeps an idle connection, so that a request never meets a closing one.
        .pool_idle_timeout(Duration::from_secs(15))
        .tcp_keepalive(PROBED_AFTER)
        .tcp_keepalive_interval(PROBED_EVERY)
        .tcp_keepalive_retries(PROBES)
}
