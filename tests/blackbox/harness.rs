//! Starts the binary, waits for what it says, and ends it with the test.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use pointsman_api::Submission;
use pointsman_client::Client;
use pointsman_core::{JobId, record::JobRecord};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    net::TcpSocket,
    process::{Child, Command},
    sync::watch,
    time::{Instant, timeout},
};

/// What a process says within this time, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `pointsman`, killed when dropped.
pub struct Process {
    child: Child,
    said: watch::Receiver<Vec<String>>,
    logged: watch::Receiver<Vec<String>>,
}

impl Process {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// The same, with variables in its environment.
    pub fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(arguments);
        command.envs(variables.iter().copied());
        Self::of(command)
    }

    /// The same, after a shell has done something of its own.
    pub fn start_after(shell: &str, arguments: &[&str]) -> Self {
        let mut command = command_of("sh");
        command.args(["-c", &format!("{shell} && exec \"$0\" \"$@\""), BINARY]).args(arguments);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let said = lines(child.stdout.take().expect("piped"), |_| {});
        // Shown with the test that fails.
        let logged = lines(child.stderr.take().expect("piped"), |line| eprintln!("{line}"));
        Self { child, said, logged }
    }

    /// Waits until it has logged a line with this in it.
    pub async fn logs(&mut self, part: &str) -> String {
        with(&mut self.logged, part).await
    }

    /// Waits until it has printed a line with this in it.
    pub async fn prints(&mut self, part: &str) -> String {
        with(&mut self.said, part).await
    }

    /// What it has printed.
    pub fn lines(&self) -> Vec<String> {
        self.said.borrow().clone()
    }

    /// How many lines it has logged.
    pub fn logged(&self) -> usize {
        self.logged.borrow().len()
    }

    /// What stands behind `head` in a line that the process prints.
    pub async fn says(&mut self, head: &str) -> String {
        let find = |said: &Vec<String>| said.iter().any(|line| line.starts_with(head));
        let said = timeout(PATIENCE, self.said.wait_for(find)).await;
        let said = said.unwrap_or_else(|_| panic!("no {head:?} in time")).expect("it still runs");
        let line = said.iter().find_map(|line| line.strip_prefix(head)).expect("just found");
        line.trim().to_owned()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.expect("kill runs").success(), "kill -{name} {pid}");
    }

    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    pub async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").expect("it ran")
    }
}

async fn with(lines: &mut watch::Receiver<Vec<String>>, part: &str) -> String {
    let find = |lines: &Vec<String>| lines.iter().any(|line| line.contains(part));
    let lines = timeout(PATIENCE, lines.wait_for(find)).await;
    let lines = lines.unwrap_or_else(|_| panic!("no {part:?} in time")).expect("it still runs");
    lines.iter().find(|line| line.contains(part)).expect("just found").clone()
}

fn lines(
    from: impl AsyncRead + Unpin + Send + 'static,
    heard: impl Fn(&str) + Send + 'static,
) -> watch::Receiver<Vec<String>> {
    let (tell, lines) = watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut from = BufReader::new(from).lines();
        while let Ok(Some(line)) = from.next_line().await {
            heard(&line);
            tell.send_modify(|lines: &mut Vec<String>| lines.push(line));
        }
    });
    lines
}

const BINARY: &str = env!("CARGO_BIN_EXE_pointsman");

fn command(arguments: &[&str]) -> Command {
    let mut command = command_of(BINARY);
    command.args(arguments);
    command
}

fn command_of(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("POINTSMAN_LOG", "warn");
    for name in ["URL", "TOKEN", "STORE", "BROKER"] {
        command.env_remove(format!("POINTSMAN_{name}"));
    }
    command
}

/// Runs a command of the binary to its end.
pub async fn run(arguments: &[&str]) -> std::process::Output {
    run_with(arguments, &[]).await
}

/// The same, with variables in its environment.
pub async fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> std::process::Output {
    let mut command = command(arguments);
    command.envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output();
    timeout(PATIENCE, output).await.expect("it ends in time").expect("the binary starts")
}

/// `up` or `server` on a data directory that outlives it.
pub struct Served {
    pub process: Process,
    pub client: Client,
    pub url: String,
    /// Its port is nobody else's until it is started again.
    _port: Option<TcpSocket>,
}

impl Served {
    pub async fn up(data: &Path, more: &[&str]) -> Self {
        let data = data.to_str().expect("a path in UTF-8");
        let fixed = ["up", "--listen", "127.0.0.1:0", "--data", data, "--machine", "box"];
        Self::from(Process::start(&[&fixed, more].concat())).await
    }

    /// A server alone; `port` 0 lets the system pick one, which is kept as long as this is.
    pub async fn server(data: &Path, port: u16) -> Self {
        let kept = TcpSocket::new_v4().expect("a socket");
        // Nobody listens at this one, so the server can; who asks for any port gets another.
        kept.set_reuseaddr(true).expect("an option");
        kept.bind(([127, 0, 0, 1], port).into()).expect("a port");
        let listen = kept.local_addr().expect("its address").to_string();
        let store = format!("sqlite:{}", data.display());
        let arguments = ["server", "--listen", &listen, "--store", &store];
        Self { _port: Some(kept), ..Self::from(Process::start(&arguments)).await }
    }

    /// A server on any store, with files and tokens in `data`.
    pub async fn on(store: &str, data: &Path) -> Self {
        let data = data.to_str().expect("a path in UTF-8");
        let listen = ["server", "--listen", "127.0.0.1:0"];
        let arguments = [&listen[..], &["--store", store, "--data", data]].concat();
        Self::from(Process::start(&arguments)).await
    }

    pub async fn from(mut process: Process) -> Self {
        let url = process.says("monitor:").await.trim_end_matches('/').to_owned();
        let client = Client::new(&url, None).expect("an address");
        Self { process, client, url, _port: None }
    }

    pub fn port(&self) -> u16 {
        let port = self.url.rsplit(':').next().expect("a port");
        port.parse().expect("a number")
    }

    /// A worker over HTTP, once the server knows this very process of it.
    pub async fn worker(&self, id: &str, slots: u32) -> Process {
        let service = format!("simulation:{slots}");
        let arguments = ["worker", "--id", id, "--broker", &self.url, "--service", &service];
        self.registered(Process::start(&arguments)).await
    }

    /// Waits until the server knows this very process of a worker.
    pub async fn registered(&self, mut process: Process) -> Process {
        let incarnation = process.says("worker:").await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let workers = self.client.workers().await.expect("the server answers");
            if workers.iter().any(|worker| worker.incarnation.to_string() == incarnation) {
                return process;
            }
            assert!(Instant::now() < deadline, "the worker registers");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn simulation(duration_ms: u64) -> Submission {
    let payload = json!({"duration_ms": duration_ms, "steps": 4});
    Submission::new("simulation", &payload).expect("JSON")
}

pub async fn submit(client: &Client, submission: &Submission) -> JobId {
    client.submit(submission).await.expect("accepted").job.id
}

/// Waits until the job's record is as wanted, following its events.
pub async fn until(
    client: &Client,
    id: JobId,
    within: Duration,
    wanted: impl Fn(&JobRecord) -> bool,
) -> JobRecord {
    let deadline = Instant::now() + within;
    let mut last = None;
    while Instant::now() < deadline {
        if let Ok(job) = client.job(id).await {
            if wanted(&job) {
                return job;
            }
            last = Some(job);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("job {id} did not get there within {within:?}: {last:?}");
}

pub fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}
