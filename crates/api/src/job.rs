//! Lists of jobs, and what is asked about one.

use pointsman_core::{
    CustomerId, JobId, ServiceName, Timestamp, WorkerId,
    matching::Explanation,
    record::{Hold, JobRecord, JobStatus, PastAttempt, Progress},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The order of a list of jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobsOrder {
    /// The last submitted first.
    #[default]
    Submitted,
    /// Only jobs that have ended, the last ended first.
    Ended,
}

/// Which jobs a list shows, and in which order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobsQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<JobStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub service: Option<ServiceName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub customer: Option<CustomerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub worker: Option<WorkerId>,
    /// `submitted`: the last submitted first, as unless given. `ended`: only jobs that have ended,
    /// the last ended first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub order: Option<JobsOrder>,
    /// Jobs on a page, 1 to 1,000; 100 unless given. A page also ends with the job that brings it to
    /// 4 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before, which was asked for in the same order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of jobs, in the order that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobsPage {
    /// At most `limit`.
    pub jobs: Vec<JobRecord>,
    /// Asks for the page after this one; null at the end. A page may be short, even empty, and
    /// yet have a next one.
    pub next_cursor: Option<String>,
}

/// Every attempt at a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attempts {
    /// 1, and one more for each retry.
    pub run: u32,
    /// Claims so far, over all runs.
    pub attempt: u32,
    /// Where the job stands.
    pub status: JobStatus,
    /// The worker that has the job, or had it last.
    pub worker_id: Option<WorkerId>,
    /// Attempts that did not end the job, oldest first, the last 32.
    pub past: Vec<PastAttempt>,
    /// Results that came in from attempts that had lost the job.
    pub late_results: u32,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CurrentProgress {
    /// The job.
    pub job: JobId,
    /// Where it stands.
    pub status: JobStatus,
    /// When it was so.
    pub at: Timestamp,
    /// What its worker said last of the attempt that runs; null while this server has heard nothing of it
    /// (a worker tells it again every 15 s, should the server have started since), and when none runs.
    /// What was said last before a job's end stands in its record.
    pub progress: Option<Progress>,
    /// Whether a null `progress` says that there is none. For 20 s after its start a server may lack
    /// what was said before: of attempts that began earlier, until it hears of them again.
    pub known: bool,
}

/// Why a job waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// The job.
    pub job: JobId,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it is not in its queue.
    pub hold: Option<Hold>,
    /// One sentence that says why it waits, or that it does not.
    pub answer: String,
    /// Waiting jobs that may be claimed before it by a worker that is there and able to run it: those
    /// before it of its own class, and of classes that such a worker is able to run too. Null when it
    /// is not in its queue, or when there are 10,000 or more.
    pub ahead: Option<u64>,
    /// Rule by rule, how many workers pass or fail it, and which.
    pub explanation: Explanation,
}
