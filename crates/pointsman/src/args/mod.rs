//! The command line: every argument of every command, and nothing that acts.

mod given;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use pointsman_comfyui_sim::Version;
use pointsman_core::{
    CustomerId, JobId, MachineId, WorkerId,
    matching::{CustomerRules, Isolation},
    record::JobStatus,
    view::ENDED_IN_VIEW,
};
use pointsman_machine::GpuNumbers;
use pointsman_server::{Limits as ServerLimits, Role};
use pointsman_store::Retention;

use crate::{
    adapters::ArtifactsArg,
    services::ServiceArg,
    store_url::{BrokerUrl, RedisArgs, StoreUrl},
};

/// Runs generative-AI jobs on the machines that are able to, and shows the truth about all of it.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// The server that client commands talk to. Several of one fleet stand with commas between them:
    /// where one fails, the next is talked to.
    #[arg(long, global = true, env = "POINTSMAN_URL", default_value = "http://127.0.0.1:7780")]
    pub server: String,
    /// The token for that server.
    #[arg(long, global = true, env = "POINTSMAN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// One of a few values, by its name; another name is answered with all of them.
fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.map(name)).try_map(move |given| {
        all.into_iter().find(|value| name(*value) == given).ok_or("not one of them")
    })
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Server, one machine and its workers in one process.
    Up(Up),
    /// API, events, reconcilers and pages.
    Server(Server),
    /// A bare worker, for a server elsewhere.
    Worker(Worker),
    /// Submits a job: a ComfyUI workflow in API format, or another service's payload.
    Submit(Submit),
    /// Lists jobs, newest first.
    Jobs(Jobs),
    /// Shows one job.
    Job {
        /// The job's id, as `submit` and `jobs` show it.
        id: JobId,
    },
    /// Saves what a completed job made: its files under DIR/JOB, its service's result as DIR/JOB.json.
    Download {
        /// The job's id, as `submit` and `jobs` show it.
        id: JobId,
        /// The directory to save it in.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Cancels a job; a running one is stopped at its service.
    Cancel {
        /// The job's id, as `submit` and `jobs` show it.
        id: JobId,
    },
    /// Starts a new run of an ended job.
    Retry {
        /// The job's id, as `submit` and `jobs` show it.
        id: JobId,
    },
    /// Says why a job waits, rule by rule.
    Explain {
        /// The job's id, as `submit` and `jobs` show it.
        id: JobId,
    },
    /// Lists workers.
    Workers,
    /// Lists machines.
    Machines,
    /// Shows the fleet as it changes, until Ctrl-C: a line for each event, and every 5 s at most one
    /// with the progress of each running job, more seldom where many run. With --json each line is
    /// `{"event": …, "id": …, "data": …}`, as `GET /api/v1/events` sends it.
    Watch,
    /// Says what is wrong with what is stored, and mends it when asked.
    Doctor {
        /// Repairs what a repair can make right, and sets aside what cannot be read.
        #[arg(long)]
        repair: bool,
    },
    /// Manages the tokens in a server's data directory.
    #[command(subcommand)]
    Token(Token),
    /// Writes everything in a store as a stream, for another store; closes its intake first.
    Export(Export),
    /// Reads an export into an empty store.
    Import(Import),
    /// Shows, closes or opens a store's intake: whether it takes new work.
    Intake(Intake),
    /// Tells an embedded store that it came back from a backup, where it cannot see that by itself:
    /// its log begins a new epoch, in which workers take back what they run.
    Restored(Restored),
    /// The ComfyUI simulator alone.
    ComfyuiSim(ComfyuiSim),
    /// Prints the OpenAPI document.
    #[command(hide = true)]
    Openapi,
}

/// Where a server listens and keeps its data.
#[derive(Debug, Args)]
pub struct Listen {
    /// The address to listen on; beyond loopback a token must exist. Port 0 lets the system pick.
    #[arg(long, default_value = "127.0.0.1:7780", value_parser = listen_address)]
    pub listen: SocketAddr,
    /// Ended jobs that are kept.
    #[arg(
        long, default_value_t = Retention::USUAL.ended_jobs,
        value_parser = clap::value_parser!(u64).range(ENDED_IN_VIEW..)
    )]
    pub keep_jobs: u64,
    /// Days for which an ended job is kept.
    #[arg(
        long, default_value_t = Retention::USUAL.ended_for.as_secs() / Retention::DAY_S,
        value_parser = clap::value_parser!(u64).range(1..=36_500)
    )]
    pub keep_days: u64,
    /// GiB that are kept of payloads, results and files of ended jobs.
    #[arg(
        long, default_value_t = Retention::USUAL.ended_bytes >> 30,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000)
    )]
    pub keep_gib: u64,
    /// Jobs that may wait; beyond them submissions and retries are refused.
    #[arg(
        long, default_value_t = ServerLimits::WAITING_JOBS,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub max_waiting: u64,
    #[command(flatten)]
    pub drain: Drain,
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let wrong =
        "use IP:PORT, such as 127.0.0.1:7780, or 0.0.0.0:7780 for all of this host's addresses";
    text.parse().map_err(|_| wrong.to_owned())
}

/// How a process stops.
#[derive(Debug, Args)]
pub struct Drain {
    /// Seconds that a stopping process waits for what is under way, a week at most.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=604_800))]
    pub drain_s: u64,
}

impl Drain {
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    pub listen: Listen,
    /// The data directory.
    #[arg(long, default_value = "data")]
    pub data: PathBuf,
    /// The store: `redis://HOST:PORT`; without, it is embedded, in the data directory.
    #[arg(long, env = "POINTSMAN_STORE", hide_env_values = true)]
    pub store: Option<StoreUrl>,
    #[command(flatten)]
    pub redis: RedisArgs,
    /// The directory with the files of jobs, when several servers or workers share it; the default
    /// is the data directory.
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// A ComfyUI to drive; once for each. Without any, the bundled simulator is started.
    #[arg(long)]
    pub comfyui: Vec<String>,
    /// Workers; each gets one of the ComfyUIs in turn. The default is one for each ComfyUI, and fewer
    /// are refused.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: Option<u32>,
    /// Jobs of the simulation service that each worker runs at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub simulation_slots: u32,
    /// The machine's id; the default is the one in the data directory, at first the host's name.
    #[arg(long)]
    pub machine: Option<MachineId>,
    #[command(flatten)]
    pub customers: Customers,
    #[command(flatten)]
    pub limits: Limits,
}

#[derive(Debug, Args)]
pub struct Server {
    #[command(flatten)]
    pub listen: Listen,
    /// The store: `sqlite:DIR`, or `redis://HOST:PORT` (also `rediss://`, `redis+sentinel://`,
    /// `redis+cluster://`).
    #[arg(long, env = "POINTSMAN_STORE", hide_env_values = true, default_value = "sqlite:data")]
    pub store: StoreUrl,
    #[command(flatten)]
    pub redis: RedisArgs,
    /// The data directory, with tokens and files; the default is the store's own, or `data`.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The directory with the files of jobs, when several servers or workers share it; the default
    /// is the data directory.
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Worker {
    /// The worker's id. Of two processes with one id the newest wins.
    #[arg(long)]
    pub id: WorkerId,
    /// The machine it runs on; the default is the host's name.
    #[arg(long)]
    pub machine: Option<MachineId>,
    /// The server, `http://HOST:PORT` (for TLS, the address of a tunnel or local proxy to it), or
    /// several of one fleet with commas between them, of which the next is taken when one fails; or
    /// the store itself, `redis://HOST:PORT`.
    #[arg(
        long,
        env = "POINTSMAN_BROKER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7780"
    )]
    pub broker: BrokerUrl,
    #[command(flatten)]
    pub redis: RedisArgs,
    /// Where the files of jobs go, for a worker on `redis://`: a directory that servers and workers
    /// share, or a server's address (several with commas between them).
    #[arg(long, value_name = "DIR|http://SERVER")]
    pub artifacts: Option<ArtifactsArg>,
    /// A service to drive: `NAME[:SLOTS][=URL]`, such as `comfyui=http://127.0.0.1:8188` or
    /// `simulation:4`.
    #[arg(long, required = true)]
    pub service: Vec<ServiceArg>,
    /// A label that jobs may ask for: `NAME=VALUE`.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// The GPUs that are this worker's own, by their numbers in `nvidia-smi -L`, such as `0,1`, or
    /// `none`; all of the host's unless said. Say it where several workers share a host.
    #[arg(long, value_name = "NUMBERS")]
    pub gpus: Option<GpuNumbers>,
    #[command(flatten)]
    pub customers: Customers,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub drain: Drain,
}

/// Whose jobs a worker takes.
#[derive(Debug, Clone, Args)]
pub struct Customers {
    /// Takes the jobs of these customers alone, and none without a customer; everybody's unless said.
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub customers: Option<Vec<CustomerId>>,
    /// How strictly customers are kept apart where it runs; loose unless said. Jobs that ask for
    /// strict isolation run only on workers that say so.
    #[arg(long, value_parser = one_of([Isolation::Strict, Isolation::Loose], Isolation::as_str))]
    pub isolation: Option<Isolation>,
}

impl Customers {
    pub fn rules(&self) -> CustomerRules {
        let allowed = self.customers.as_ref().map(|ids| ids.iter().cloned().collect());
        CustomerRules { allowed, isolation: self.isolation, ..CustomerRules::default() }
    }
}

const DAY_S: i64 = 86_400;
const WEEK_S: i64 = 7 * DAY_S;

/// Limits of an attempt whose job sets none: as far as those that a job may set. 0 is not off.
#[derive(Debug, Clone, Args)]
pub struct Limits {
    /// Seconds without an event after which the service is asked.
    #[arg(
        long, env = "WORKER_JOB_PROGRESS_TIMEOUT_SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=DAY_S)
    )]
    pub silence_after_s: u32,
    /// Seconds without evidence of work after which an attempt is stalled; unset is 1800 while the
    /// service answers that it has it in its queue, else 300.
    #[arg(
        long, env = "WORKER_STALL_AFTER_SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=WEEK_S)
    )]
    pub stall_after_s: Option<u32>,
    /// Seconds that an attempt may take from its start, restarts of its worker included; unset is off.
    /// The smaller of the two wins.
    #[arg(
        long, env = "WORKER_COMFYUI_WORKFLOW_TIMEOUT_SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=WEEK_S)
    )]
    pub total_s: Option<u32>,
    /// The same in minutes; unset is off.
    #[arg(
        long, env = "WORKER_JOB_TIMEOUT_MINUTES",
        value_parser = clap::value_parser!(u32).range(1..=WEEK_S / 60)
    )]
    pub total_minutes: Option<u32>,
    /// Seconds between two looks at a service, also while it is idle.
    #[arg(
        long, env = "WORKER_SERVICE_HEALTH_CHECK_INTERVAL", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=3_600)
    )]
    pub health_check_s: u32,
}

#[derive(Debug, Args)]
pub struct Submit {
    /// The file with the payload, or `-` for standard input.
    pub file: PathBuf,
    /// The service that runs it.
    #[arg(long, default_value = "comfyui")]
    pub service: String,
    /// 0 to 100, higher first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub priority: u8,
    /// Requirements as JSON.
    #[arg(long)]
    pub requires: Option<String>,
    /// The same key gives the same job again.
    #[arg(long)]
    pub idempotency_key: Option<String>,
    /// Waits for the end, and ends with 0 when the job completed.
    #[arg(long)]
    pub wait: bool,
    /// Saves what the job made in this directory, as `download` does; implies --wait.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Jobs {
    /// Only jobs in this status.
    #[arg(long, value_parser = one_of(JobStatus::ALL, JobStatus::as_str))]
    pub status: Option<JobStatus>,
    /// Only jobs of this service.
    #[arg(long)]
    pub service: Option<String>,
    /// Only jobs that this worker has or had last.
    #[arg(long)]
    pub worker: Option<WorkerId>,
    /// Only jobs of this customer.
    #[arg(long)]
    pub customer: Option<String>,
    /// Only jobs that have ended, the last ended first.
    #[arg(long)]
    pub ended: bool,
    /// Only jobs older than those of a list, in the same order, that ended with this cursor.
    #[arg(long)]
    pub cursor: Option<String>,
    /// At most this many, the newest first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

#[derive(Debug, Subcommand)]
pub enum Token {
    /// Makes a token, prints it once, and stores its SHA-256.
    Add {
        /// What to call it; the name to revoke it by.
        name: String,
        /// What the token may do.
        #[arg(long, value_parser = one_of(Role::ALL, Role::as_str))]
        role: Role,
        /// The token sees only this customer's jobs.
        #[arg(long)]
        customer: Option<String>,
        /// The token may read payloads.
        #[arg(long)]
        payloads: bool,
        /// The server's data directory.
        #[arg(long, default_value = "data")]
        data: PathBuf,
    },
    /// Lists the tokens by name; never the tokens themselves.
    List {
        /// The server's data directory.
        #[arg(long, default_value = "data")]
        data: PathBuf,
    },
    /// Takes a token back; a running server refuses it within seconds.
    Revoke {
        /// The name it was made with.
        name: String,
        /// The server's data directory.
        #[arg(long, default_value = "data")]
        data: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct Export {
    /// The store: `sqlite:DIR` (stop its server first) or `redis://HOST:PORT`.
    #[arg(long, env = "POINTSMAN_STORE", hide_env_values = true)]
    pub store: StoreUrl,
    #[command(flatten)]
    pub redis: RedisArgs,
    /// The file to write, or `-` for standard output.
    #[arg(long, default_value = "-")]
    pub out: String,
    /// Take running jobs along: they begin anew in the new store, and a result that their workers
    /// still have counts there as late. Without it an export is refused while jobs run.
    #[arg(long)]
    pub with_running: bool,
}

#[derive(Debug, Args)]
pub struct Import {
    /// The store: `sqlite:DIR` or `redis://HOST:PORT`. It must never have had a job, worker or
    /// machine.
    #[arg(long, env = "POINTSMAN_STORE", hide_env_values = true)]
    pub store: StoreUrl,
    #[command(flatten)]
    pub redis: RedisArgs,
    /// The file with the export, or `-` for standard input.
    #[arg(default_value = "-")]
    pub file: String,
}

#[derive(Debug, Args)]
pub struct Intake {
    /// What to do with it; without, it is shown.
    #[arg(value_enum)]
    pub action: Option<IntakeAction>,
    /// The store itself: `sqlite:DIR` while no server has it open, or `redis://HOST:PORT`; without,
    /// the server is asked.
    #[arg(long, env = "POINTSMAN_STORE", hide_env_values = true)]
    pub store: Option<StoreUrl>,
    #[command(flatten)]
    pub redis: RedisArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum IntakeAction {
    /// Take no submissions, retries and claims any more; what runs may end.
    Close,
    /// Take new work again, after an export that was not the end of the store.
    Open,
}

#[derive(Debug, Args)]
pub struct Restored {
    /// The store: `sqlite:DIR` (stop its server first).
    #[arg(long, env = "POINTSMAN_STORE", hide_env_values = true)]
    pub store: StoreUrl,
}

#[derive(Debug, Args)]
pub struct ComfyuiSim {
    /// The address to listen on. Port 0 lets the system pick.
    #[arg(long, default_value = "127.0.0.1:8188", value_parser = listen_address)]
    pub listen: SocketAddr,
    /// A fault to start with, as `NAME` or `NAME=VALUE`; one that is not known is
    /// answered with the list of those that are.
    #[arg(long)]
    pub fault: Vec<String>,
    /// The ComfyUI version to behave like.
    #[arg(long, default_value = "0.27.0", value_parser = one_of(Version::ALL, Version::as_str))]
    pub comfyui_version: Version,
}

#[cfg(test)]
mod tests;
