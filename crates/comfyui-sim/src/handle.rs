use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::life::Ending;
use crate::sim::{Phase, Sim};
use crate::{Faults, SimConfig};

/// A ComfyUI that needs no GPU and no Python.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Starts one at a free port of 127.0.0.1. It accepts connections when this returns.
    ///
    /// # Errors
    /// When the port cannot be bound or the folders cannot be made.
    pub async fn start(config: SimConfig) -> io::Result<SimHandle> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), config).await
    }

    /// Starts one at this address.
    ///
    /// # Errors
    /// As [`Simulator::start`].
    pub async fn start_at(addr: SocketAddr, config: SimConfig) -> io::Result<SimHandle> {
        let sim = Arc::new(Sim::new(config)?);
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let phase = sim.phase();
        let task = AbortOnDropHandle::new(tokio::spawn(sim.clone().run(listener)));
        Ok(SimHandle { sim, addr, phase, task })
    }
}

/// A simulator that runs. Dropping it ends it.
#[derive(Debug)]
pub struct SimHandle {
    sim: Arc<Sim>,
    addr: SocketAddr,
    phase: watch::Receiver<Phase>,
    task: AbortOnDropHandle<io::Result<()>>,
}

impl SimHandle {
    /// Such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Replaces the faults, from the next prompt and request on.
    pub fn set_faults(&self, faults: Faults) {
        self.sim.set_faults(faults);
    }

    /// Holds prompts that are over out of the history, until [`let_history_go`](Self::let_history_go).
    pub fn hold_history(&self) {
        self.sim.gate.close();
    }

    /// Ends what [`hold_history`](Self::hold_history) began.
    pub fn let_history_go(&self) {
        self.sim.gate.open();
    }

    /// Returns when a prompt is over whose history is held.
    pub async fn holds_history(&self) {
        self.sim.gate.somebody_waits().await;
    }

    /// The requests that came so far, answered or not.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.sim.requests()
    }

    /// Kills the process and starts it again: connections break without a word; queue, history, cache and temporary
    /// files are gone. Returns when it accepts connections again; at once when the process has exited.
    pub async fn restart(&self) {
        let mut phase = self.phase.clone();
        let before = *phase.borrow_and_update();
        self.sim.life().end(Ending::Restart);
        // The sender lives as long as `self`.
        let _ = phase.wait_for(|now| *now != before || *now == Phase::Gone).await;
    }

    /// Returns when the process has ended by itself (see [`Faults::process_exit`]), or was stopped.
    pub async fn exited(&self) {
        let _ = self.phase.clone().wait_for(|phase| *phase == Phase::Gone).await;
    }

    /// Ends it and returns when nothing listens any more.
    pub async fn stop(mut self) {
        self.sim.life().end(Ending::ForGood);
        let _ = (&mut self.task).await;
    }
}

impl Drop for SimHandle {
    /// Cuts the connections too, which have tasks of their own.
    fn drop(&mut self) {
        self.sim.life().end(Ending::ForGood);
    }
}
