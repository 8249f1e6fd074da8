use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{RwLock, watch};

use crate::door::Door;
use crate::engine::prompt_thread;
use crate::folders::Folders;
use crate::gate::Gate;
use crate::life::{Ending, Life};
use crate::nodes::Catalog;
use crate::routes::router;
use crate::{Faults, SimConfig};

/// Connections that wait to be taken.
const BACKLOG: u32 = 1_024;

/// What outlives the restarts of a simulated process: its disk, its configuration, its address.
#[derive(Debug)]
pub(crate) struct Sim {
    pub(crate) config: SimConfig,
    pub(crate) catalog: Catalog,
    pub(crate) folders: Folders,
    /// Held while something blocks ComfyUI's event loop; every other request passes through it first.
    pub(crate) event_loop: RwLock<()>,
    /// Before the history.
    pub(crate) gate: Gate,
    requests: AtomicU64,
    faults: Mutex<Faults>,
    life: Mutex<Arc<Life>>,
    phase: watch::Sender<Phase>,
}

/// How far a simulator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It accepts connections, for the n-th time.
    Up(u64),
    /// Its process ended and does not come back.
    Gone,
}

impl Sim {
    pub(crate) fn new(config: SimConfig) -> io::Result<Self> {
        let catalog =
            Catalog::new(config.version, &config.checkpoints).map_err(io::Error::other)?;
        let folders = Folders::new(config.folder.clone())?;
        let faults = Mutex::new(config.faults.clone());
        let (phase, _) = watch::channel(Phase::Up(0));
        Ok(Self {
            config,
            catalog,
            folders,
            event_loop: RwLock::default(),
            gate: Gate::default(),
            requests: AtomicU64::new(0),
            faults,
            life: Mutex::default(),
            phase,
        })
    }

    /// The process that runs now.
    pub(crate) fn life(&self) -> Arc<Life> {
        self.life.lock().clone()
    }

    pub(crate) fn faults(&self) -> Faults {
        self.faults.lock().clone()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Lets one process after another live at this address, until one does not come back.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let addr = listener.local_addr()?;
        let mut listener = Arc::new(listener);
        for start in 0.. {
            self.phase.send_replace(Phase::Up(start));
            match self.live(listener.clone()).await {
                Ending::Restart => listener = self.restart(listener, addr).await?,
                Ending::ForGood => break,
            }
        }
        self.phase.send_replace(Phase::Gone);
        Ok(())
    }

    /// One process, to its end. Its memory is dropped with it.
    async fn live(self: &Arc<Self>, listener: Arc<TcpListener>) -> Ending {
        let life = self.life();
        self.folders.empty_temp();
        let door = Door { listener, over: life.over.clone() };
        let serve = axum::serve(door, router(self.clone(), life.clone()));
        tokio::select! {
            _ = serve.into_future() => {}
            _ = prompt_thread(self, &life) => {}
            () = life.over.cancelled() => {}
        }
        *self.life.lock() = Arc::default();
        life.ending()
    }

    /// Stays away for as long as a restart takes; then listens again. Nobody else can get its port: a restart that
    /// takes no time keeps the listener, another one a socket that does not listen yet.
    async fn restart(
        &self,
        listener: Arc<TcpListener>,
        addr: SocketAddr,
    ) -> io::Result<Arc<TcpListener>> {
        if self.config.restart_takes.is_zero() {
            return Ok(listener);
        }
        drop(listener);
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        tokio::time::sleep(self.config.restart_takes).await;
        Ok(Arc::new(socket.listen(BACKLOG)?))
    }
}
