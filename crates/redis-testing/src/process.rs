//! One process of redis-server: started with a configuration, signalled, ended.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpSocket;

use crate::HarnessError;

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub plain: u16,
    pub tls: Option<u16>,
}

/// So often a server is started anew where another process has taken its ports.
pub const TRIES: usize = 20;

/// Nodes of a cluster speak with each other on a port so much higher.
const BUS: u16 = 10_000;

impl Ports {
    /// Nobody else gets them as long as they are kept. One who is told a port's number still can listen
    /// there, so whoever starts a server tries again.
    pub fn free(tls: bool) -> Result<(Self, Kept), HarnessError> {
        let (plain, second) = (keep_a_port()?, tls.then(keep_a_port).transpose()?);
        let port = |kept: &TcpSocket| kept.local_addr().map(|address| address.port());
        let ports = Self { plain: port(&plain)?, tls: second.as_ref().map(port).transpose()? };
        Ok((ports, Kept { _plain: plain, _tls: second }))
    }

    /// Whether a node of a cluster can listen there.
    pub fn suit_a_cluster(self) -> bool {
        self.plain.checked_add(BUS).is_some()
    }
}

/// Ports of one's own, also while nobody listens there.
#[derive(Debug)]
pub struct Kept {
    _plain: TcpSocket,
    _tls: Option<TcpSocket>,
}

/// A socket that is bound, and at which nobody listens: the system gives its port to nobody who asks for
/// any or connects elsewhere, and lets those listen there who name it.
fn keep_a_port() -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok(socket)
}

/// A child that does not outlive its owner: killed when dropped, and by a watcher when this process
/// ends without dropping it, which is so for every `static` and after a signal. Then nobody else
/// removes its directory either.
#[derive(Debug)]
pub struct Process {
    child: Child,
    watcher: Child,
}

impl Process {
    /// Starts redis-server with a configuration on standard input; it writes to `redis.log`.
    pub fn with_directives(directory: &Path, directives: &str) -> Result<Self, HarnessError> {
        let mut process = Self::spawn(directory, &["-"], Stdio::piped())?;
        // The pipe is closed when it is dropped, which ends the configuration.
        if let Some(mut input) = process.child.stdin.take() {
            input.write_all(directives.as_bytes())?;
        }
        Ok(process)
    }

    pub fn spawn(directory: &Path, arguments: &[&str], input: Stdio) -> Result<Self, HarnessError> {
        let log = OpenOptions::new().create(true).append(true).open(directory.join("redis.log"))?;
        let mut child = Command::new("redis-server")
            .args(arguments)
            .current_dir(directory)
            .stdin(input)
            .stdout(File::try_clone(&log)?)
            .stderr(log)
            .spawn()
            .map_err(HarnessError::Start)?;
        // The watcher's input is a pipe that ends when this process does.
        let clear_up = r#"read -r _; kill -9 "$1"; rm -rf "$2""#;
        let mut watcher = Command::new("sh");
        watcher.args(["-c", clear_up, "watcher", &child.id().to_string()]).arg(directory);
        watcher.stdin(Stdio::piped());
        match watcher.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(watcher) => Ok(Self { child, watcher }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error.into())
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> Result<bool, HarnessError> {
        Ok(self.child.try_wait()?.is_some())
    }

    pub fn signal(&self, signal: Signal) -> Result<(), HarnessError> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.ok_or(HarnessError::NotRunning)?, signal).map_err(std::io::Error::from)?;
        Ok(())
    }

    /// Stops it, and returns when it stands still.
    pub fn freeze(&self) -> Result<(), HarnessError> {
        self.signal(Signal::STOP)?;
        while !matches!(self.stat()?.first().map(String::as_str), Some("T" | "Z")) {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// SIGKILL, and waits for the exit, which takes no time.
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        // The watcher first: once the child is waited for, its id may be another process's.
        self.watcher.kill()?;
        self.watcher.wait()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub fn resident_mb(&self) -> Result<f64, HarnessError> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kb.map(|kb| kb / 1000.0).ok_or(HarnessError::NotRunning)
    }

    /// User and system time since it started.
    pub fn cpu_seconds(&self) -> Result<f64, HarnessError> {
        let stat = self.stat()?;
        // utime and stime are the 14th and 15th field, the state the 3rd.
        let ticks: f64 =
            stat.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
    }

    /// The fields of `/proc/PID/stat` from the state on.
    fn stat(&self) -> Result<Vec<String>, HarnessError> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        let (_, rest) = stat.rsplit_once(") ").ok_or(HarnessError::NotRunning)?;
        Ok(rest.split(' ').map(str::to_owned).collect())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whoever is gone already needs no killing.
        let _ = self.kill();
    }
}

/// The last lines of what it wrote.
pub fn log_tail(directory: &Path) -> String {
    let log = std::fs::read_to_string(directory.join("redis.log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
