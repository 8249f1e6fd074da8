//! What a drain takes at the least: its writes alone.
//!
//! They are those of a worker's exchanges, on records of the same fields. No job is chosen, nothing
//! is compared or checked, no answer is decided on: nobody who keeps these records can drain faster.
//! In a transaction Redis carries out the commands as they come; in a function Lua hands on each.

use anyhow::ensure;
use redis::{Pipeline, aio::MultiplexedConnection, pipe};
use uuid::Uuid;

use super::{Figures, ours::Drained};
use crate::fleet::payload;

const AT: &str = "2026-01-01T00:00:00.000Z";
const PLACES: u64 = 50 << 46;
/// Jobs that are put in with one call.
const BULK: usize = 500;

/// How the writes of one exchange become one step.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// MULTI and EXEC.
    Transaction,
    /// A function that is given the commands, and does nothing else.
    Function,
}

impl Step {
    pub const ALL: [Self; 2] = [Self::Transaction, Self::Function];

    /// Before the names of its figures.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Transaction => "transaction_",
            Self::Function => "function_",
        }
    }
}

/// Each command is how many texts it has, then these.
const FUNCTION: &str = "#!lua name=bare
redis.register_function('bare', function(_, args)
  local i = 1
  while i < #args do
    local last = i + args[i]
    redis.call(unpack(args, i + 1, last))
    i = last + 1
  end
end)";

/// So many jobs, so many at once; the figures of a drain, each with what it is a step of before
/// its name.
pub async fn drain(url: &str, step: Step, jobs: usize, at_once: usize) -> anyhow::Result<Figures> {
    let mut redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let ids: Vec<_> = (0..jobs).map(|_| Uuid::now_v7()).collect();
    submit(&mut redis, &ids).await?;
    let mut exchanges = Vec::new();
    let mut running: &[Uuid] = &[];
    for (n, claimed) in ids.chunks(at_once).chain([&ids[..0]]).enumerate() {
        exchanges.push(as_one(step, exchange(n * at_once, running, claimed, jobs)));
        running = claimed;
    }
    redis::cmd("FUNCTION").arg(&["LOAD", "REPLACE", FUNCTION]).exec_async(&mut redis).await?;
    let drained = Drained::begin(url).await?;
    for exchange in &exchanges {
        exchange.exec_async(&mut redis).await?;
    }
    let figures = drained.done(jobs).await?;
    let ended: usize = redis::cmd("ZCARD").arg(key("ended")).query_async(&mut redis).await?;
    ensure!(ended == jobs, "{ended} of {jobs} jobs ended");
    Ok(figures
        .into_iter()
        .map(|(name, value)| (format!("{}{name}", step.prefix()), value))
        .collect())
}

fn as_one(step: Step, mut writes: Pipeline) -> Pipeline {
    let Step::Function = step else { return std::mem::take(writes.atomic()) };
    let mut call = redis::cmd("FCALL");
    call.arg("bare").arg(0);
    for command in writes.cmd_iter() {
        let texts: Vec<_> = command.args_iter().collect();
        call.arg(texts.len());
        for text in texts {
            if let redis::Arg::Simple(text) = text {
                call.arg(text);
            }
        }
    }
    let mut one = pipe();
    one.add_command(call).ignore();
    one
}

fn key(name: impl std::fmt::Display) -> String {
    format!("{{bare}}:{name}")
}

fn member(place: usize, id: impl std::fmt::Display) -> String {
    format!("{place:012x}:{id}")
}

fn score(place: usize) -> u64 {
    PLACES + place as u64
}

async fn submit(redis: &mut MultiplexedConnection, ids: &[Uuid]) -> anyhow::Result<()> {
    let payload = payload();
    for (bulk, ids) in ids.chunks(BULK).enumerate() {
        let mut pipe = pipe();
        for (n, id) in ids.iter().enumerate() {
            let place = bulk * BULK + n;
            let (number, text) = (place.to_string(), id.to_string());
            let number = number.as_str();
            let fields = [
                ("rev", number),
                ("place", number),
                ("queued_seq", number),
                ("id", text.as_str()),
                ("status", "pending"),
                ("service", "simulation"),
                ("priority", "50"),
                ("attempt", "0"),
                ("created_at", AT),
                ("payload_bytes", "2000"),
            ];
            pipe.hset_multiple(key(format_args!("job:{id}")), &fields).ignore();
            pipe.set(key(format_args!("payload:{id}")), &payload).ignore();
            pipe.zadd(key("queue:class"), member(place, id), score(place)).ignore();
        }
        pipe.exec_async(redis).await?;
    }
    Ok(())
}

/// What is written where the jobs that run end, and the next ones are claimed: `from` is the first
/// of those in the queue.
fn exchange(from: usize, ended: &[Uuid], claimed: &[Uuid], jobs: usize) -> Pipeline {
    let next = from + claimed.len();
    let (seq, ids) = (from.to_string(), ids_of(claimed));
    let seq = seq.as_str();
    let token = Uuid::now_v7().to_string();
    let mut pipe = pipe();
    let mut log = redis::cmd("XADD");
    log.arg(key("log")).arg(&["MAXLEN", "~", "200000"]).arg(format!("{}-0", from + 1));
    log.arg(&["at", seq, "ended_no", seq]);
    let worker = [
        ("rev", seq),
        ("current_job_ids", &ids),
        ("connector_statuses", STATUSES),
        ("last_status_change", AT),
        ("jobs_completed", seq),
    ];
    let connector = [("rev", seq), ("job_ids", &ids), ("timestamp", AT)];
    pipe.hset_multiple(key("worker:w"), &worker).ignore();
    pipe.hset_multiple(key("connector:w:simulation"), &connector).ignore();
    log.arg("connector_status_changed").arg(format!("{STATUSES}{ids}"));
    log.arg("worker_status_changed").arg(format!("{STATUSES}{STATUSES}{STATUSES}{ids}"));
    pipe.cmd("ZADD").arg(key("pulse")).arg(&[seq, "w:w", seq, "c:w:simulation"]).ignore();
    for (n, id) in ended.iter().enumerate() {
        let ending = (from - ended.len() + n).to_string();
        let job = key(format_args!("job:{id}"));
        let fields = [
            ("rev", seq),
            ("ended_no", &ending),
            ("status", "completed"),
            ("completed_at", AT),
            ("handed_in", "true"),
        ];
        pipe.hset_multiple(&job, &fields).ignore();
        pipe.hdel(&job, "incarnation").ignore();
        log.arg(format!("job_completed job:{id}")).arg(RECORD);
    }
    if !ended.is_empty() {
        let mut index = redis::cmd("ZADD");
        index.arg(key("ended"));
        for (n, id) in ended.iter().enumerate() {
            index.arg(from - ended.len() + n).arg(id.to_string());
        }
        pipe.add_command(index).ignore();
        pipe.zrem(key("leases"), texts(ended)).ignore();
    }
    for id in claimed {
        let fields = [
            ("rev", seq),
            ("attempt", "1"),
            ("token", &token),
            ("status", "assigned"),
            ("worker_id", "w"),
            ("machine_id", "m"),
            ("incarnation", &token),
            ("assigned_at", AT),
        ];
        pipe.hset_multiple(key(format_args!("job:{id}")), &fields).ignore();
        log.arg(format!("job_assigned job:{id}")).arg(RECORD);
    }
    if !claimed.is_empty() {
        let members: Vec<_> = claimed.iter().zip(from..).map(|(id, at)| member(at, id)).collect();
        pipe.zrem(key("queue:class"), members).ignore();
        let leases: Vec<_> = texts(claimed).into_iter().map(|id| (next, id)).collect();
        pipe.zadd_multiple(key("leases"), &leases).ignore();
        let payloads: Vec<_> = claimed.iter().map(|id| key(format_args!("payload:{id}"))).collect();
        pipe.cmd("MGET").arg(payloads).ignore();
        pipe.zrem(key("heads:simulation"), member(from, "class")).ignore();
        pipe.zadd(key("heads:simulation"), member(next, "class"), score(next)).ignore();
    }
    pipe.add_command(log).ignore();
    let class = [("live", (jobs - from).to_string()), ("head", member(next, "class"))];
    pipe.hset_multiple(key("class:class"), &class).ignore();
    let meta = ["seq", "ended_no", "completed", "assigned", "pending", "ended_bytes"];
    pipe.hset_multiple(key("meta"), &meta.map(|name| (name, seq))).ignore();
    pipe
}

fn texts(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}

fn ids_of(ids: &[Uuid]) -> String {
    format!("[\"{}\"]", texts(ids).join("\",\""))
}

/// As long as what a worker's hash and its events hold besides the ids of its jobs.
const STATUSES: &str = r#"{"simulation":{"error_message":null,"status":"active","timestamp":"2026-01-01T00:00:00.000Z","of":"simulation","services":[{"slots":1}]}}"#;

/// As long as the record of a job in the log.
const RECORD: &str = "34 id 01a21948-5d6f-7026-8999-09f4a4256848 rev 13 status completed service simulation \
    priority 50 attempt 1 token 9b4235f5-bde4-4476-be47-03aabe850156 place 5 queued_seq 5 worker_id w machine_id m \
    created_at 2026-01-01T00:00:00.000Z assigned_at 2026-01-01T00:00:00.000Z completed_at 2026-01-01T00:00:00.000Z \
    ended_no 0 handed_in true payload_bytes 2000";
