//! Progress of jobs among the lines of what happens: often enough to see that they get on, seldom
//! enough to read.

use std::{collections::BTreeMap, time::Duration};

use pointsman_api::JobProgress;
use pointsman_core::{JobId, Timestamp};
use serde::Deserialize;
use tokio::time::Instant;

use super::{line, with};
use crate::commands::list::how_far;

/// A job has a line of progress at most so often.
const EVERY: Duration = Duration::from_secs(5);
/// Lines a second of all jobs together, once each has had its first.
const PER_SECOND: usize = 2;

/// The `progress` lane.
#[derive(Debug, Deserialize)]
pub struct Lane {
    as_of: AsOf,
    values: Vec<JobProgress>,
}

#[derive(Debug, Deserialize)]
struct AsOf {
    at: Timestamp,
}

/// What was told of each job that runs, and what is still to be told.
#[derive(Default)]
pub struct Told(BTreeMap<JobId, OfJob>);

#[derive(Default)]
struct OfJob {
    told_at: Option<Instant>,
    told: String,
    /// When it was so, and how.
    news: Option<(Timestamp, String)>,
}

impl Told {
    pub fn hears(&mut self, Lane { as_of, values }: Lane) {
        for JobProgress { job, progress } in values {
            let said = match (how_far(&progress), progress.message) {
                (Some(how_far), why) => with(&how_far, why),
                (None, why) => why.unwrap_or_default(),
            };
            let of_job = self.0.entry(job).or_default();
            of_job.news = (said != of_job.told).then_some((as_of.at, said));
        }
    }

    /// The job runs no more.
    pub fn forget(&mut self, job: &JobId) {
        self.0.remove(job);
    }

    /// The lines that it is time for.
    pub fn due(&mut self) -> Vec<String> {
        let pause = EVERY.max(Duration::from_secs((self.0.len() / PER_SECOND) as u64));
        let now = Instant::now();
        let is_due = |of_job: &OfJob| of_job.told_at.is_none_or(|at| now - at >= pause);
        let due = self.0.iter_mut().filter(|(_, of_job)| is_due(of_job));
        let lines = due.filter_map(|(job, of_job)| {
            let (at, said) = of_job.news.take()?;
            of_job.told_at = Some(now);
            of_job.told = said;
            Some(line(&at, "progress", job, &of_job.told))
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn lane(jobs: impl IntoIterator<Item = u128>, percent: u32) -> Lane {
        let value =
            |job| json!({"job": Uuid::from_u128(job), "attempt": 1, "n": 1, "percent": percent});
        let values: Vec<_> = jobs.into_iter().map(value).collect();
        let as_of = json!({"seq": 1, "at": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({"as_of": as_of, "values": values})).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_has_a_line_every_5_s_and_its_last_word_is_told() {
        let mut told = Told::default();
        told.hears(lane([7], 1));
        let first = told.due();
        assert!(first[0].contains("  progress  ") && first[0].ends_with("07  1 %"), "{first:?}");
        for percent in 2..=50 {
            told.hears(lane([7], percent));
            assert!(told.due().is_empty());
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(told.due()[0].ends_with("  50 %"));
        tokio::time::advance(EVERY).await;
        told.hears(lane([7], 50));
        assert!(told.due().is_empty(), "the same is not told again");

        told.hears(lane([7], 99));
        told.forget(&lane([7], 0).values[0].job);
        assert!(told.due().is_empty(), "it has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn many_jobs_leave_room_for_what_happens() {
        let mut told = Told::default();
        let mut lines = 0;
        for second in 0..=60 {
            told.hears(lane(0..40, second));
            lines += told.due().len();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(lines, 40 + 3 * 40);
    }
}
