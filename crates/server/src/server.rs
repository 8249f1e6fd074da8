//! Listening, serving, and ending well.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use pointsman_broker::Broker;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{Book, Gate, TokenError},
    app::App,
    files::Files,
    patient::Patient,
    router::router,
    said::Said,
};

/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// Bytes of the head of a request at most, which are held before it is known who sends them; and of
/// what a connection reads and writes at once.
const HEAD_BYTES: usize = 64 << 10;
/// A pause after the system refused a connection (too many open files, say).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Connections that wait to be taken, in the system.
const BACKLOG: u32 = 1_024;

/// What was said of connections that could not be taken.
static UNTAKEN: Said = Said::new();

/// Where a server listens and keeps its files.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Port 0 lets the system pick one.
    pub listen: SocketAddr,
    /// The data directory, with `tokens.json`.
    pub data: PathBuf,
    pub limits: Limits,
}

/// How much a server takes on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are open.
    pub connections: usize,
    /// Bytes of requests' bodies that are in memory.
    pub body_bytes: usize,
    /// Bytes of large answers that are in memory, on their way to clients.
    pub answer_bytes: usize,
    /// Jobs that wait; beyond them none is taken.
    pub waiting_jobs: u64,
}

impl Limits {
    /// Jobs that wait, unless it is said otherwise.
    pub const WAITING_JOBS: u64 = 1_000_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            body_bytes: 1 << 30,
            answer_bytes: 1 << 30,
            waiting_jobs: Self::WAITING_JOBS,
        }
    }
}

/// Why a server did not start or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(
        "{address} can be reached from other machines, and there is no token yet: make one with \
         `pointsman token add NAME --role ROLE --data {}`, or listen on 127.0.0.1",
        .data.display()
    )]
    NoTokens { address: SocketAddr, data: PathBuf },
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// What was under way when the deadline came was cut off.
    #[error("{connections} connections did not end within {deadline:?}")]
    Deadline { connections: usize, deadline: Duration },
}

/// The address of a server that is about to start: nobody else gets it, and nobody is let in yet. What
/// would refuse the server is known so before its store is opened, which may change that.
#[must_use = "it is given back when dropped"]
pub struct Reserved {
    socket: TcpSocket,
    gate: Gate,
    config: ServerConfig,
}

impl Reserved {
    /// Listens. `store_id` tells the store from all others; workers are told it.
    ///
    /// # Errors
    /// [`ServerError::Listen`]: another server took the address just now.
    pub fn listen(
        self,
        broker: Broker,
        store_id: String,
        files: Arc<Files>,
    ) -> Result<Server, ServerError> {
        let Self { socket, gate, config } = self;
        let cannot = |source| ServerError::Listen { address: config.listen, source };
        let listener = socket.listen(BACKLOG).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let app = App::new(broker, store_id, files, gate, config.limits);
        Ok(Server { listener, address, app, connections: config.limits.connections })
    }
}

/// A server that listens, and serves once it is run.
#[must_use = "it serves only while it is run"]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: App,
    connections: usize,
}

impl Server {
    /// Takes the address; nothing is made or changed.
    ///
    /// # Errors
    /// [`ServerError`]: the address is taken, or it can be reached from other machines and there
    /// is no token.
    pub fn reserve(config: ServerConfig) -> Result<Reserved, ServerError> {
        let loopback = config.listen.ip().is_loopback();
        let book = Book::open(&config.data)?;
        if !loopback && book.is_empty() {
            return Err(ServerError::NoTokens { address: config.listen, data: config.data });
        }
        let socket = bound(config.listen)
            .map_err(|source| ServerError::Listen { address: config.listen, source })?;
        Ok(Reserved { socket, gate: Gate { loopback, book }, config })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until `stop` is cancelled; then takes no more connections, ends streams and waiting
    /// claims, and lets what is under way end within `deadline`. Dropping it cuts everything off.
    pub async fn run(self, stop: CancellationToken, deadline: Duration) -> Result<(), ServerError> {
        let Self { listener, app, connections, .. } = self;
        let files = app.files.as_ref();
        let mut connections = Connections::new(router(app.clone()), connections);
        connections.tasks.spawn(files.clone().keep_swept(app.broker.clone(), stop.clone()));
        connections.tasks.spawn(files.clone().keep_watched(app.broker.clone(), stop.clone()));
        while let Some((stream, permit)) = accept(&listener, &connections.free, &stop).await {
            connections.serve(stream, permit);
        }
        drop(listener);
        app.stopping.cancel();
        connections.drain(deadline).await
    }
}

fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // What a server before it left behind at the address is not in its way; one that listens is.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// The next connection; none once the server is to stop.
async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let may_say = |what| UNTAKEN.may_say(what, std::time::Instant::now());
    loop {
        if free.available_permits() == 0
            && let Some(unsaid) = may_say("full")
        {
            tracing::warn!(unsaid, "all connections are taken; others wait until one ends");
        }
        let permit = stop.run_until_cancelled(free.clone().acquire_owned()).await?.ok()?;
        match stop.run_until_cancelled(listener.accept()).await? {
            Ok((stream, _)) => return Some((stream, permit)),
            Err(error) => {
                if let Some(unsaid) = may_say("refused") {
                    tracing::warn!(%error, unsaid, "a connection could not be taken");
                }
                stop.run_until_cancelled(tokio::time::sleep(ACCEPT_AGAIN)).await?;
            }
        }
    }
}

struct Connections {
    router: Router,
    http: http1::Builder,
    open: GracefulShutdown,
    free: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Connections {
    fn new(router: Router, most: usize) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(true);
        http.max_buf_size(HEAD_BYTES);
        Self {
            router,
            http,
            open: GracefulShutdown::new(),
            free: Arc::new(Semaphore::new(most)),
            tasks: JoinSet::new(),
        }
    }

    fn serve(&mut self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        // Small answers leave at once.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let service = TowerToHyperService::new(self.router.clone());
        let connection = self.http.serve_connection(TokioIo::new(Patient::new(stream)), service);
        let connection = self.open.watch(connection);
        self.tasks.spawn(async move {
            // A client that breaks off is its own affair.
            let _ = connection.await;
            drop(permit);
        });
        // Tasks that have ended are let go of.
        while self.tasks.try_join_next().is_some() {}
    }

    async fn drain(mut self, deadline: Duration) -> Result<(), ServerError> {
        let all_ended = async {
            self.open.shutdown().await;
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(deadline, all_ended).await.is_ok() {
            return Ok(());
        }
        while self.tasks.try_join_next().is_some() {}
        let connections = self.tasks.len();
        self.tasks.shutdown().await;
        Err(ServerError::Deadline { connections, deadline })
    }
}
