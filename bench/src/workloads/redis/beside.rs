//! BullMQ and we do the same on the same redis-server, in turns. The load shares the cores with
//! the server, so the figure of a side is the median of its rounds.

use std::path::Path;

use anyhow::{Context as _, ensure};
use pointsman_redis_testing::{Aof, RedisServer};

use super::{
    Figures, Task,
    bare::{self, Step},
    ours, server,
};
use crate::{bullmq::BullMq, report::Report};

const ROUNDS: usize = 3;
const START_SAMPLES: usize = 500;

/// A row: which figure of the task, how it is written, what was aimed at.
struct Row {
    ours: &'static str,
    theirs: &'static str,
    figure: &'static str,
    unit: Unit,
    goal: &'static str,
}

#[derive(Clone, Copy)]
enum Unit {
    JobsASecond,
    Milliseconds,
    Microseconds,
    Bytes,
}

const fn row(key: &'static str, figure: &'static str, unit: Unit, goal: &'static str) -> Row {
    Row { ours: key, theirs: key, figure, unit, goal }
}

/// What the bare writes of it take, beside the same figure of theirs.
const fn bare(ours: &'static str, row: Row) -> Row {
    Row { ours, ..row }
}

const RATE: &str = "jobs_a_second";
const REDIS: &str = "redis_us_a_job";

/// The rows of a drain by one worker, by how four of them are called: what it does, and what its
/// bare writes take.
fn of_drain([drained, redis, transactions, function]: [&'static str; 4]) -> Vec<Row> {
    let rate = |figure| row(RATE, figure, Unit::JobsASecond, "");
    let redis_of_these = || row(REDIS, "redis-server's time of these", Unit::Microseconds, "");
    vec![
        row(RATE, drained, Unit::JobsASecond, ">= 2x"),
        row(REDIS, redis, Unit::Microseconds, ""),
        bare("transaction_jobs_a_second", rate(transactions)),
        bare("transaction_redis_us_a_job", redis_of_these()),
        bare("function_jobs_a_second", rate(function)),
        bare("function_redis_us_a_job", redis_of_these()),
    ]
}

pub async fn bullmq(
    report: &mut Report,
    workload: &str,
    aof: Aof,
    jobs: usize,
    directory: &Path,
) -> anyhow::Result<()> {
    let mut pair =
        Pair { server: server(aof).await?, theirs: BullMq::at(directory)?, broken: None };
    use Unit::{Bytes, JobsASecond, Microseconds, Milliseconds};
    let tasks = [
        (
            Task::Drain { jobs, at_once: 50, workers: 1 },
            of_drain([
                "drained, 50 at once",
                "redis-server's time of a job, 50 at once",
                "its writes as transactions, 50 at once",
                "its writes in a function, 50 at once",
            ]),
        ),
        (
            Task::Drain { jobs, at_once: 25, workers: 2 },
            vec![
                row(RATE, "drained, 50 at once in two workers", JobsASecond, ""),
                row(REDIS, "redis-server's time of a job, in two workers", Microseconds, ""),
            ],
        ),
        (
            Task::Drain { jobs: jobs / 4, at_once: 1, workers: 1 },
            of_drain([
                "drained, 1 at once",
                "redis-server's time of a job, 1 at once",
                "its writes as transactions, 1 at once",
                "its writes in a function, 1 at once",
            ]),
        ),
        (
            Task::SubmitSingle { jobs },
            vec![row(RATE, "submitted, 50 calls at once", JobsASecond, "")],
        ),
        (
            Task::SubmitBulk { jobs },
            vec![
                row(RATE, "submitted, 500 a call", JobsASecond, ""),
                row("bytes_a_job", "memory of a waiting job of 2 KB", Bytes, ""),
            ],
        ),
        (
            Task::Start { jobs: START_SAMPLES },
            vec![
                row("p50_ms", "submit to start at rest, p50", Milliseconds, "<= 1x"),
                row("p99_ms", "submit to start at rest, p99", Milliseconds, "<= 1x"),
            ],
        ),
    ];
    for (task, rows) in tasks {
        let (mut ours, mut theirs) = pair.rounds(task).await?;
        for row in rows {
            let value =
                row.unit.compared(median(&mut ours, row.ours), median(&mut theirs, row.theirs));
            report.row(workload, row.figure, value, row.goal);
        }
    }
    pair.broken.map_or(Ok(()), |error| Err(error.context("our side")))
}

/// Both sides of the comparison.
struct Pair {
    server: RedisServer,
    theirs: BullMq,
    /// Why our side could not do it; it is not asked again, while BullMQ's figures are still told.
    broken: Option<anyhow::Error>,
}

impl Pair {
    /// Who begins changes from round to round.
    async fn rounds(&mut self, task: Task) -> anyhow::Result<(Vec<Figures>, Vec<Figures>)> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                theirs.push(self.theirs(task).await?);
                ours.extend(self.ours(task).await?);
            } else {
                ours.extend(self.ours(task).await?);
                theirs.push(self.theirs(task).await?);
            }
        }
        Ok((ours, theirs))
    }

    async fn theirs(&self, task: Task) -> anyhow::Result<Figures> {
        let before = self.emptied().await?;
        let figures = self.theirs.measure(&self.server, task).await?;
        self.with_memory(figures, before, task).await
    }

    async fn ours(&mut self, task: Task) -> anyhow::Result<Option<Figures>> {
        if self.broken.is_some() {
            return Ok(None);
        }
        let before = self.emptied().await?;
        match ours::measure(&self.server, task).await {
            Ok(figures) => {
                let mut figures = self.with_memory(figures, before, task).await?;
                figures.extend(self.bare(task).await?);
                Ok(Some(figures))
            }
            Err(error) => {
                self.broken = Some(error);
                Ok(None)
            }
        }
    }

    /// What of a drain is writes.
    async fn bare(&self, task: Task) -> anyhow::Result<Figures> {
        let Task::Drain { jobs, at_once, workers: 1 } = task else { return Ok(Figures::new()) };
        let mut figures = Figures::new();
        for step in Step::ALL {
            self.emptied().await?;
            let url = self.server.url();
            let drain = move || async move { bare::drain(&url, step, jobs, at_once).await };
            figures.extend(ours::on_one_thread(drain).await?);
        }
        Ok(figures)
    }

    /// Nothing in it; answers the bytes it then uses.
    async fn emptied(&self) -> anyhow::Result<u64> {
        self.server.empty().await?;
        self.used().await
    }

    async fn used(&self) -> anyhow::Result<u64> {
        self.server.info("used_memory").await?.context("INFO tells used_memory")
    }

    /// What the jobs that are there now take, each; of use where all of them wait. The scripts of
    /// either side, about 1 MB, are in it.
    async fn with_memory(
        &self,
        mut figures: Figures,
        before: u64,
        task: Task,
    ) -> anyhow::Result<Figures> {
        let used = self.used().await?;
        ensure!(used > before, "the jobs are gone from the server");
        figures.insert("bytes_a_job".into(), (used - before) as f64 / task.jobs() as f64);
        Ok(figures)
    }
}

impl Unit {
    fn compared(self, ours: Option<f64>, theirs: Option<f64>) -> String {
        let written = |value: Option<f64>| value.map_or("-".into(), |value| self.written(value));
        let times = ours.zip(theirs).map(|(ours, theirs)| format!(" ({:.2}x)", ours / theirs));
        format!("{}, BullMQ {}{}", written(ours), written(theirs), times.unwrap_or_default())
    }

    fn written(self, value: f64) -> String {
        match self {
            Self::JobsASecond => format!("{value:.0}/s"),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Microseconds => format!("{value:.1} us"),
            Self::Bytes => format!("{value:.0} B"),
        }
    }
}

fn median(rounds: &mut [Figures], key: &str) -> Option<f64> {
    let mut values: Vec<f64> = rounds.iter().filter_map(|f| f.get(key).copied()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
