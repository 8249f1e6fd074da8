//! A redis-server of a test's own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use redis::{AsyncConnectionConfig, Client, RedisResult, aio::MultiplexedConnection, cmd};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Aof, HarnessError, RedisOptions,
    process::{Kept, Ports, Process, TRIES, log_tail},
    tls,
};

const PATIENCE: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(5);

/// A running redis-server; its process and its directory are gone when it is dropped.
#[derive(Debug)]
pub struct RedisServer {
    // Before the directory: the process ends first.
    process: Process,
    directory: TempDir,
    ports: Ports,
    _kept: Kept,
    options: RedisOptions,
    /// The port of its primary, as long as nobody promoted it.
    primary: Option<u16>,
    promoted: AtomicBool,
}

impl RedisServer {
    /// Starts one on a free port, and answers when it serves.
    pub async fn start(options: RedisOptions) -> Result<Self, HarnessError> {
        let server = Self::launch(options, None).await?;
        if server.options.cluster {
            server.takes_every_slot().await?;
        }
        Ok(server)
    }

    /// For callers outside of a runtime, and for those within one that cannot await.
    pub fn start_blocking(options: RedisOptions) -> Result<Self, HarnessError> {
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(Self::start(options))
        };
        // A thread of its own, for a runtime must not be entered within another.
        std::thread::scope(|scope| scope.spawn(start).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A replica, in step when this answers: what is written from now on it is sent at once. Both sides
    /// need the same password.
    pub async fn replica_of(
        primary: &RedisServer,
        options: RedisOptions,
    ) -> Result<Self, HarnessError> {
        let replica = Self::launch(options, Some(primary)).await?;
        if replica.options.cluster {
            replica.joins(primary).await?;
        }
        replica.in_sync().await?;
        replica.in_step(primary).await?;
        Ok(replica)
    }

    pub(crate) async fn launch(
        options: RedisOptions,
        primary: Option<&RedisServer>,
    ) -> Result<Self, HarnessError> {
        for _ in 0..TRIES {
            let Some(mut server) = Self::spawn(options.clone(), primary)? else { continue };
            match server.serves().await {
                Err(error) if error.is_taken_port() => {}
                answer => return answer.map(|()| server),
            }
        }
        Err(HarnessError::NoPort)
    }

    /// None where the ports that were free do not suit.
    fn spawn(
        options: RedisOptions,
        primary: Option<&RedisServer>,
    ) -> Result<Option<Self>, HarnessError> {
        let directory = tempfile::tempdir()?;
        match primary {
            Some(primary) if options.tls => tls::copy(primary.directory.path(), directory.path())?,
            _ if options.tls => tls::make(directory.path())?,
            _ => {}
        }
        let (ports, kept) = Ports::free(options.tls)?;
        if options.cluster && !ports.suit_a_cluster() {
            return Ok(None);
        }
        // Nodes of a cluster know by themselves whom they follow.
        let primary = primary.filter(|_| !options.cluster);
        let primary = primary.map(|primary| primary.tls_port().unwrap_or(primary.port()));
        let directives = directives(&options, directory.path(), ports, primary);
        let process = Process::with_directives(directory.path(), &directives)?;
        let promoted = AtomicBool::new(false);
        Ok(Some(Self { process, directory, ports, _kept: kept, options, primary, promoted }))
    }

    /// `redis://[USER:PASSWORD@]127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", self.user(), self.ports.plain)
    }

    /// `rediss://[USER:PASSWORD@]127.0.0.1:PORT?ca=FILE`, of a server with TLS.
    pub fn tls_url(&self) -> Option<String> {
        let ca = tls::ca(self.directory.path());
        let port = self.ports.tls?;
        Some(format!("rediss://{}127.0.0.1:{port}?ca={}", self.user(), ca.display()))
    }

    /// The certificate and the key of a client, of a server with TLS.
    pub fn client_files(&self) -> Option<(PathBuf, PathBuf)> {
        let directory = self.directory.path();
        self.ports.tls.map(|_| (tls::client_certificate(directory), tls::client_key(directory)))
    }

    /// The certificate of the CA that signed this server's, of a server with TLS.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.ports.tls.map(|_| tls::ca(self.directory.path()))
    }

    /// `USER:PASSWORD@`, or nothing without a password.
    pub(crate) fn user(&self) -> String {
        let name = self.options.user.unwrap_or("default");
        let password = self.options.password.as_ref();
        password.map(|password| format!("{name}:{password}@")).unwrap_or_default()
    }

    pub fn port(&self) -> u16 {
        self.ports.plain
    }

    /// Of a server with TLS.
    pub fn tls_port(&self) -> Option<u16> {
        self.ports.tls
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.options
    }

    /// A connection that waits for answers as long as it takes.
    pub async fn connect(&self) -> Result<MultiplexedConnection, HarnessError> {
        Ok(connect(&self.url()).await?)
    }

    /// SIGKILL; answers when the process is gone. Its directory stays.
    pub async fn kill(&mut self) -> Result<(), HarnessError> {
        self.process.kill()
    }

    /// The same directory, ports and options. One that was promoted stays a primary.
    pub async fn start_again(&mut self) -> Result<(), HarnessError> {
        self.process.kill()?;
        let primary = self.primary.filter(|_| !self.promoted.load(Ordering::Relaxed));
        let directory = self.directory.path();
        let directives = directives(&self.options, directory, self.ports, primary);
        self.process = Process::with_directives(directory, &directives)?;
        self.serves().await?;
        if self.options.cluster {
            self.serves_its_slots().await?;
        }
        Ok(())
    }

    /// SIGSTOP: it is there, and does not answer. Returns when it stands still.
    pub fn freeze(&self) -> Result<(), HarnessError> {
        self.process.freeze()
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<(), HarnessError> {
        self.process.signal(Signal::CONT)
    }

    /// `REPLICAOF NO ONE`, as a fail-over does it.
    pub async fn promote(&self) -> Result<(), HarnessError> {
        let mut connection = self.connect().await?;
        cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut connection).await?;
        self.promoted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes out every key and function, and everything from the append-only file.
    pub async fn empty(&self) -> Result<(), HarnessError> {
        let mut connection = self.connect().await?;
        redis::pipe()
            .cmd("FLUSHALL")
            .arg("SYNC")
            .ignore()
            .cmd("FUNCTION")
            .arg("FLUSH")
            .ignore()
            .exec_async(&mut connection)
            .await?;
        if self.options.aof == Aof::Off {
            return Ok(());
        }
        cmd("BGREWRITEAOF").exec_async(&mut connection).await?;
        let begun = Instant::now();
        while !aof_is_written(&info(&mut connection).await?) {
            self.again(begun, "its append-only file").await?;
        }
        Ok(())
    }

    /// Everything in database 0: each key with its type, when it expires, and what it holds; and the
    /// functions, as the entry `FUNCTION DUMP`. Equal before and after means untouched.
    pub async fn dump(&self) -> Result<BTreeMap<String, Vec<u8>>, HarnessError> {
        let mut connection = self.connect().await?;
        let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query_async(&mut connection).await?;
        let mut all = BTreeMap::new();
        for key in keys {
            let (kind, expires, payload): (String, i64, Vec<u8>) = redis::pipe()
                .atomic()
                .cmd("TYPE")
                .arg(&key)
                .cmd("PEXPIRETIME")
                .arg(&key)
                .cmd("DUMP")
                .arg(&key)
                .query_async(&mut connection)
                .await?;
            let mut value = format!("{kind} {expires} ").into_bytes();
            value.extend(match kind.as_str() {
                "hash" => parts(&mut connection, "HGETALL", &key, 2).await?,
                "set" => parts(&mut connection, "SMEMBERS", &key, 1).await?,
                _ => payload,
            });
            all.insert(String::from_utf8_lossy(&key).into_owned(), value);
        }
        let functions = cmd("FUNCTION").arg("DUMP").query_async(&mut connection).await?;
        all.insert("FUNCTION DUMP".into(), functions);
        Ok(all)
    }

    /// One number of `INFO`.
    pub async fn info(&self, field: &str) -> Result<Option<u64>, HarnessError> {
        let info = info(&mut self.connect().await?).await?;
        Ok(field_of(&info, field).and_then(|value| value.parse().ok()))
    }

    /// Resident memory of its process, MB.
    pub fn resident_mb(&self) -> Result<f64, HarnessError> {
        self.process.resident_mb()
    }

    /// User and system time of its process since it started.
    pub fn cpu_seconds(&self) -> Result<f64, HarnessError> {
        self.process.cpu_seconds()
    }

    /// Waits until this very process answers and has loaded what it had stored.
    async fn serves(&mut self) -> Result<(), HarnessError> {
        let begun = Instant::now();
        loop {
            if self.process.ended()? {
                return Err(HarnessError::Ended(log_tail(self.directory.path())));
            }
            let info = try_info(&self.url()).await.unwrap_or_default();
            // Another server may have taken the port.
            let ours = field_of(&info, "process_id") == Some(&self.process.id().to_string());
            if ours && field_of(&info, "loading") == Some("0") {
                return Ok(());
            }
            self.again(begun, "PING").await?;
        }
    }

    /// It follows its primary, and its own append-only file has what it was sent.
    async fn in_sync(&self) -> Result<(), HarnessError> {
        let begun = Instant::now();
        loop {
            let info = info(&mut self.connect().await?).await?;
            let linked = field_of(&info, "master_link_status") == Some("up");
            if linked && aof_is_written(&info) {
                return Ok(());
            }
            self.again(begun, "its primary").await?;
        }
    }

    /// It is sent what its primary goes on with. That begins when it has acknowledged what it began
    /// with, and where its primary was not ready for that yet, with the next time, a second later.
    async fn in_step(&self, primary: &RedisServer) -> Result<(), HarnessError> {
        let mut connection = primary.connect().await?;
        // Asked of more replicas than there are, it sends all of them something that is no write.
        cmd("WAIT").arg(1_000).arg(1).exec_async(&mut connection).await?;
        let sent = primary.info("master_repl_offset").await?;
        let begun = Instant::now();
        while self.info("slave_repl_offset").await? < sent {
            self.again(begun, "what its primary sends").await?;
        }
        Ok(())
    }

    pub(crate) async fn again(
        &self,
        begun: Instant,
        what: &'static str,
    ) -> Result<(), HarnessError> {
        if begun.elapsed() > PATIENCE {
            return Err(HarnessError::NotReady { what, log: log_tail(self.directory.path()) });
        }
        tokio::time::sleep(AGAIN).await;
        Ok(())
    }
}

fn directives(
    options: &RedisOptions,
    directory: &Path,
    ports: Ports,
    primary: Option<u16>,
) -> String {
    let mut directives = options.directives(directory, ports);
    if let Some(port) = primary {
        directives.push_str(&format!("replicaof 127.0.0.1 {port}\n"));
    }
    directives
}

/// What a key holds in no order, of so many values each. Where that is a hash table, Redis moves it by
/// and by to one of another size, so its `DUMP` may differ though nothing was written.
async fn parts(
    connection: &mut MultiplexedConnection,
    command: &str,
    key: &[u8],
    values: usize,
) -> RedisResult<Vec<u8>> {
    let found: Vec<Vec<u8>> = cmd(command).arg(key).query_async(connection).await?;
    let mut parts: Vec<_> = found.chunks(values).collect();
    parts.sort();
    Ok(format!("{parts:?}").into_bytes())
}

pub(crate) async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

async fn try_info(url: &str) -> RedisResult<String> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(1)));
    let client = Client::open(url)?;
    info(&mut client.get_multiplexed_async_connection_with_config(&config).await?).await
}

pub(crate) async fn info(connection: &mut MultiplexedConnection) -> RedisResult<String> {
    cmd("INFO").query_async(connection).await
}

/// No rewrite of the append-only file is under way.
fn aof_is_written(info: &str) -> bool {
    let no = |field| field_of(info, field) == Some("0");
    no("aof_rewrite_in_progress") && no("aof_rewrite_scheduled")
}

pub(crate) fn field_of<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
