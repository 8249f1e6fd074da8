//! Lists and single records.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream};
use pointsman_api::{CurrentProgress, ErrorCode, JobsOrder, JobsPage, JobsQuery, Snapshot};
use pointsman_client::{Client, ClientError};
use pointsman_core::{
    ConnectorId, CustomerId, JobId, ServiceName, Timestamp,
    bounds::brief,
    record::{Connector, JobRecord, JobStatus, Progress, Worker},
};

use super::print;
use crate::{args, exit::Exit};

/// Running jobs that are asked about at once.
const AT_ONCE: usize = 32;
/// Shorter silences are ordinary: between two nodes, between two steps.
const SILENCE: Duration = Duration::from_secs(5);

pub async fn jobs(client: &Client, args: &args::Jobs, json: bool) -> Result<(), Exit> {
    let service = args.service.as_deref().map(ServiceName::new).transpose();
    let customer = args.customer.as_deref().map(CustomerId::new).transpose();
    let query = JobsQuery {
        status: args.status,
        service: service.map_err(|error| Exit::Usage(error.to_string()))?,
        customer: customer.map_err(|error| Exit::Usage(error.to_string()))?,
        worker: args.worker.clone(),
        order: args.ended.then_some(JobsOrder::Ended),
        cursor: args.cursor.clone(),
        limit: None,
    };
    let asked = async |query: &JobsQuery| client.jobs(query).await;
    let page = whole_page(query, args.limit, asked).await?;
    if json {
        return print::json(&page);
    }
    let remarks = stream::iter(&page.jobs).map(|job| remark(client, job)).buffered(AT_ONCE);
    let remarks: Vec<String> = remarks.collect().await;
    let rows: Vec<Vec<String>> = page
        .jobs
        .iter()
        .zip(remarks)
        .map(|(job, remark)| {
            let worker = job.worker_id.as_ref().map(ToString::to_string).unwrap_or_default();
            let failure = job.failure.as_ref().map(|f| f.code.clone()).unwrap_or_default();
            vec![
                job.id.to_string(),
                job.status.as_str().to_owned(),
                job.service.to_string(),
                job.priority.to_string(),
                job.attempt.to_string(),
                worker,
                job.created_at.to_string(),
                failure,
                remark,
            ]
        })
        .collect();
    let head = [
        "JOB",
        "STATUS",
        "SERVICE",
        "PRIORITY",
        "ATTEMPT",
        "WORKER",
        "SUBMITTED",
        "FAILURE",
        "REMARK",
    ];
    print::table(&head, &rows)?;
    if let Some(cursor) = page.next_cursor {
        eprintln!(
            "there may be older ones than these {}: --cursor {cursor} lists them",
            rows.len()
        );
    }
    Ok(())
}

/// What is said of a job beside its status, as the pages do: what holds it, what its worker says.
async fn remark(client: &Client, job: &JobRecord) -> String {
    match job.status {
        JobStatus::Pending => held(job).map(|why| format!("held: {why}")).unwrap_or_default(),
        JobStatus::Assigned | JobStatus::InProgress => {
            let cancelling = job.cancel_requested_at.map(|_| "cancelling".to_owned());
            let said = match client.progress(job.id).await {
                Ok(now) => at_work(job, &now),
                Err(error) => Some(format!("progress {}", not_known(&error))),
            };
            cancelling.into_iter().chain(said).collect::<Vec<_>>().join("; ")
        }
        _ => job.remark().map(brief).unwrap_or_default(),
    }
}

/// Why it is not known how far a job is.
fn not_known(error: &ClientError) -> String {
    match error.is(ErrorCode::RouteNotFound) {
        true => "not known: the server is of an older version".to_owned(),
        false => format!("not known: {error}"),
    }
}

/// Why, and until when, a waiting job is held.
fn held(job: &JobRecord) -> Option<String> {
    let hold = job.hold.as_ref()?;
    let until = hold.until.map(|until| format!(", until {until}")).unwrap_or_default();
    Some(format!("{}{until}", hold.reason.as_str()))
}

/// Where a running job stands, and for how long nothing was heard of it, where that is long.
fn at_work(job: &JobRecord, now: &CurrentProgress) -> Option<String> {
    if !now.known {
        return Some("progress not known yet".to_owned());
    }
    let silence = heard_at(job, now).map(|at| now.at.since(at)).filter(|it| *it > SILENCE);
    let silent = silence.map(|silence| format!("silent for {} s", silence.as_secs()));
    let progress = now.progress.as_ref();
    let says = match silent {
        Some(_) => progress.and_then(Progress::message_beside_silence),
        None => progress.and_then(|progress| progress.message.as_deref()),
    };
    let says = says.map(brief);
    let said: Vec<String> =
        [progress.and_then(how_far), says, silent].into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// When the service was last heard of a job that it runs: at its start, where it has said nothing.
fn heard_at(job: &JobRecord, now: &CurrentProgress) -> Option<Timestamp> {
    let told = now.progress.as_ref().and_then(|progress| progress.last_event_at);
    told.or(job.started_at).filter(|_| now.known && now.status == JobStatus::InProgress)
}

/// The server looks at so many records for one answer, and few of them may be meant: it is asked on
/// until there are `wanted`, or no more.
async fn whole_page(
    mut query: JobsQuery,
    wanted: u32,
    mut ask: impl AsyncFnMut(&JobsQuery) -> Result<JobsPage, ClientError>,
) -> Result<JobsPage, ClientError> {
    let mut jobs = Vec::new();
    loop {
        let listed = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        query.limit = Some(wanted.saturating_sub(listed));
        let page = ask(&query).await?;
        jobs.extend(page.jobs);
        if page.next_cursor.is_none() || jobs.len() >= wanted as usize {
            return Ok(JobsPage { jobs, next_cursor: page.next_cursor });
        }
        query.cursor = page.next_cursor;
    }
}

pub async fn job(client: &Client, id: JobId, json: bool) -> Result<(), Exit> {
    let job = client.job(id).await?;
    if json {
        return print::json(&job);
    }
    print::line(&print::job_line(&job))?;
    let mut rows = vec![
        vec!["service".to_owned(), job.service.to_string()],
        vec!["priority".to_owned(), job.priority.to_string()],
        vec!["submitted".to_owned(), job.created_at.to_string()],
        vec!["run, attempt".to_owned(), format!("{}, {}", job.run, job.attempt)],
        vec!["failures, losses".to_owned(), format!("{}, {}", job.failures, job.losses)],
    ];
    let times = [("started", job.started_at), ("ended", job.completed_at)];
    rows.extend(
        times.into_iter().filter_map(|(name, at)| Some(vec![name.to_owned(), at?.to_string()])),
    );
    rows.extend(job.worker_id.iter().map(|w| vec!["worker".to_owned(), w.to_string()]));
    rows.extend(job.artifacts.iter().map(|artifact| {
        vec!["artifact".to_owned(), format!("{} ({} bytes)", artifact.name, artifact.size)]
    }));
    rows.extend(job.past_attempts.iter().flat_map(|past| {
        past.late_artifacts.iter().map(|artifact| {
            let (name, size) = (&artifact.name, artifact.size);
            let of = format!("{name} ({size} bytes), of attempt {}", past.attempt);
            vec!["late artifact".to_owned(), of]
        })
    }));
    if let Some(asked) = job.cancel_requested_at.filter(|_| !job.status.is_ended()) {
        rows.push(vec!["cancel asked".to_owned(), asked.to_string()]);
    }
    if matches!(job.status, JobStatus::Assigned | JobStatus::InProgress) {
        rows.extend(match client.progress(id).await {
            Ok(now) => progress_rows(&job, now),
            Err(error) => vec![vec!["progress".to_owned(), not_known(&error)]],
        });
    }
    rows.extend(held(&job).map(|why| vec!["held".to_owned(), why]));
    print::rows(&rows)
}

/// Where the work on a job stands; `None` where its worker does not say.
pub(super) fn how_far(progress: &Progress) -> Option<String> {
    let percent = progress.percent.map(|percent| format!("{percent:.0} %"));
    let node = progress.node.as_ref().map(|node| format!("node {node}"));
    let step = progress.step.zip(progress.steps).map(|(step, of)| format!("step {step}/{of}"));
    let at: Vec<String> = [percent, node, step].into_iter().flatten().collect();
    (!at.is_empty()).then(|| at.join(", "))
}

fn progress_rows(job: &JobRecord, now: CurrentProgress) -> Vec<Vec<String>> {
    let heard = heard_at(job, &now).map(|at| format!("{} s ago", now.at.since(at).as_secs()));
    let unknown = "not known yet: the server has just started".to_owned();
    let progress = now.progress.unwrap_or_default();
    let rows = [
        ("progress", if now.known { how_far(&progress) } else { Some(unknown) }),
        ("its worker says", progress.message),
        ("service heard", heard),
    ];
    let rows = rows.into_iter().filter_map(|(name, said)| Some(vec![name.to_owned(), said?]));
    rows.collect()
}

pub async fn workers(client: &Client, json: bool) -> Result<(), Exit> {
    if json {
        return print::json(&client.workers().await?);
    }
    let Snapshot { workers, connectors, at, .. } = client.snapshot().await?;
    let connectors = connectors.into_iter().map(|c| (c.id.clone(), c)).collect();
    let rows: Vec<Vec<String>> = workers
        .iter()
        .map(|worker| {
            vec![
                worker.id.to_string(),
                worker.shown_status().to_owned(),
                worker.machine_id.to_string(),
                worker.current_job_ids.len().to_string(),
                worker.jobs_completed.to_string(),
                worker.jobs_failed.to_string(),
                worker.summary.clone(),
                reason(worker, &connectors, at),
            ]
        })
        .collect();
    let head = ["WORKER", "STATUS", "MACHINE", "JOBS", "COMPLETED", "FAILED", "SERVICES", "REASON"];
    print::table(&head, &rows)
}

/// Why a worker takes no jobs, or fewer than it could.
fn reason(
    worker: &Worker,
    connectors: &BTreeMap<ConnectorId, Connector>,
    now: Timestamp,
) -> String {
    let mut said: Vec<String> = worker.reason.iter().cloned().collect();
    if !worker.is_offline() {
        let own = worker.connector_ids().filter_map(|id| connectors.get(&id));
        said.extend(own.filter_map(Connector::trouble));
        said.extend(worker.suspicion(now));
    }
    said.join("; ")
}

pub async fn machines(client: &Client, json: bool) -> Result<(), Exit> {
    let machines = client.machines().await?;
    if json {
        return print::json(&machines);
    }
    let rows: Vec<Vec<String>> = machines
        .iter()
        .map(|machine| {
            let gpus: Vec<_> = machine.gpus.iter().map(|gpu| gpu.name.clone()).collect();
            let reason = machine.reason.clone().unwrap_or_default();
            let drained = if machine.orders.drain { ", drained" } else { "" };
            let status = format!("{}{drained}", machine.status.as_str());
            vec![machine.id.to_string(), status, gpus.join(", "), reason]
        })
        .collect();
    print::table(&["MACHINE", "STATUS", "GPUS", "REASON"], &rows)
}

#[cfg(test)]
mod tests {
    use pointsman_api::Problem;
    use serde_json::{Value, json};

    use super::*;

    /// What the row of a worker says, of whose record and connector these parts are so.
    fn said(worker: &Value, connector: &Value) -> String {
        let incarnation = uuid::Uuid::nil();
        let mut whole = json!({
            "id": "w", "rev": 1, "machine_id": "box", "incarnation": incarnation, "status": "idle",
            "reason": null, "action": null, "presence": {"state": "ready"}, "orders": {},
            "services": [{"name": "comfyui", "slots": 1}], "current_job_ids": [], "summary": "",
            "capabilities_digest": "0".repeat(32), "connected_at": at(0), "last_status_change": at(0),
            "jobs_completed": 0, "jobs_failed": 0,
        });
        let mut of = json!({
            "id": "w:comfyui", "rev": 1, "worker_id": "w", "machine_id": "box",
            "service_type": "comfyui", "status": "idle", "reported": "idle", "timestamp": at(0),
            "error_message": null, "job_ids": [],
        });
        for (record, parts) in [(&mut whole, worker), (&mut of, connector)] {
            record.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
        }
        let connector: Connector = serde_json::from_value(of).unwrap();
        let connectors = BTreeMap::from([(connector.id.clone(), connector)]);
        reason(&serde_json::from_value(whole).unwrap(), &connectors, at(10))
    }

    fn pending(more: &Value) -> JobRecord {
        let mut job = json!({
            "id": uuid::Uuid::nil(), "rev": 1, "status": "pending", "service": "simulation",
            "priority": 50, "run": 1, "attempt": 0, "failures": 0, "losses": 0,
            "max_failures": 1, "max_losses": 1, "place": 1, "queued_seq": 1,
            "created_at": at(0), "cached": false, "artifacts": [],
        });
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    #[tokio::test]
    async fn a_job_that_is_held_says_why() {
        let client = Client::new("http://127.0.0.1:9", None).unwrap();
        let said = async |more: Value| remark(&client, &pending(&more)).await;
        assert_eq!(said(json!({})).await, "");
        let hold = json!({"hold": {"reason": "backoff", "until": at(20)}});
        assert_eq!(said(hold).await, "held: backoff, until 2023-11-14T22:13:40.000Z");
        let runs = json!({"status": "in_progress", "cancel_requested_at": at(1)});
        let said = said(runs).await;
        assert!(said.starts_with("cancelling; progress not known: server not reach"), "{said}");
    }

    #[test]
    fn a_server_of_an_older_version_is_named_as_what_it_is() {
        let answered = |code| {
            not_known(&ClientError::Problem(Problem::new(code, "there is no route /api/v1/x")))
        };
        let older = answered(ErrorCode::RouteNotFound);
        assert_eq!(older, "not known: the server is of an older version");
        assert!(answered(ErrorCode::StoreFailed).contains("no route"));
    }

    #[tokio::test]
    async fn short_and_empty_pages_are_followed_by_the_next() {
        // Pages of so many jobs; how many were asked for, and after which.
        for (pages, listed, next, asked) in [
            (vec![1, 0, 2, 9], 3, Some("3"), "3 after -, 2 after 1, 2 after 2"),
            (vec![0, 1], 1, None, "3 after -, 3 after 1"),
            (vec![3], 3, None, "3 after -"),
        ] {
            let mut asked_for = Vec::new();
            let page = whole_page(JobsQuery::default(), 3, async |query| {
                let limit = query.limit.unwrap();
                asked_for.push(format!("{limit} after {}", query.cursor.as_deref().unwrap_or("-")));
                let at = asked_for.len();
                let jobs = (0..pages[at - 1]).map(|_| pending(&json!({}))).collect();
                Ok(JobsPage { jobs, next_cursor: (at < pages.len()).then(|| at.to_string()) })
            });
            let page = page.await.unwrap();
            assert_eq!((page.jobs.len(), page.next_cursor.as_deref()), (listed, next));
            assert_eq!(asked_for.join(", "), asked);
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000)
    }

    /// A job that began at 0, and how far it is at `seconds`.
    fn asked(
        status: JobStatus,
        seconds: i64,
        progress: Option<&Progress>,
    ) -> (JobRecord, CurrentProgress) {
        let job = pending(&json!({"status": "in_progress", "started_at": at(0)}));
        let (id, progress) = (job.id, progress.cloned());
        (job, CurrentProgress { job: id, status, at: at(seconds), progress, known: true })
    }

    #[test]
    fn what_a_running_job_waits_for_is_shown() {
        let progress = Progress {
            percent: Some(99.6),
            step: Some(3),
            steps: Some(4),
            message: Some("a.png is not stored yet".into()),
            last_event_at: Some(at(2)),
            ..Progress::default()
        };
        let (job, now) = asked(JobStatus::InProgress, 14, Some(&progress));
        assert_eq!(
            progress_rows(&job, now),
            [
                ["progress", "100 %, step 3/4"],
                ["its worker says", "a.png is not stored yet"],
                ["service heard", "12 s ago"],
            ]
        );
        let (job, now) = asked(JobStatus::InProgress, 14, None);
        assert_eq!(progress_rows(&job, now.clone()), [["service heard", "14 s ago"]]);
        let unknown = CurrentProgress { known: false, ..now.clone() };
        let said = "not known yet: the server has just started";
        assert_eq!(progress_rows(&job, unknown), [["progress", said]]);
        let assigned = CurrentProgress { status: JobStatus::Assigned, ..now };
        assert!(progress_rows(&job, assigned).is_empty());
    }

    #[test]
    fn the_list_of_jobs_says_of_each_in_one_line_where_it_stands() {
        let progress = Progress {
            percent: Some(40.0),
            node: Some("3".into()),
            message: Some("KSampler\nand more".into()),
            last_event_at: Some(at(2)),
            ..Progress::default()
        };
        let said = |status, seconds, progress| {
            let (job, now) = asked(status, seconds, progress);
            at_work(&job, &now)
        };
        let some = |text: &str| Some(text.to_owned());
        let (runs, told) = (JobStatus::InProgress, Some(&progress));
        assert_eq!(said(runs, 7, told), some("40 %, node 3; KSampler"));
        assert_eq!(said(runs, 14, told), some("40 %, node 3; KSampler; silent for 12 s"));
        let counts = Progress { message: Some(Progress::silence(SILENCE)), ..progress.clone() };
        assert_eq!(said(runs, 14, Some(&counts)), some("40 %, node 3; silent for 12 s"), "once");
        let nothing_runs = said(JobStatus::Assigned, 14, told);
        assert_eq!(nothing_runs, some("40 %, node 3; KSampler"));
    }

    #[test]
    fn a_job_of_which_nothing_was_heard_is_silent_since_its_start_if_that_can_be_known() {
        let said = |status, seconds, known| {
            let (job, now) = asked(status, seconds, None);
            at_work(&job, &CurrentProgress { known, ..now })
        };
        let (runs, waits) = (JobStatus::InProgress, JobStatus::Assigned);
        assert_eq!(said(runs, 5, true), None);
        assert_eq!(said(runs, 14, true).as_deref(), Some("silent for 14 s"));
        assert_eq!(said(runs, 14, false).as_deref(), Some("progress not known yet"));
        assert_eq!(said(waits, 14, true), None, "nothing runs yet");
    }

    #[test]
    fn a_worker_that_takes_no_jobs_says_why() {
        let (none, dead) =
            (json!({}), json!({"status": "error", "error_message": "refused\nmore"}));
        assert_eq!(said(&none, &none), "");
        assert_eq!(said(&none, &dead), "comfyui (error): refused");
        assert_eq!(said(&none, &json!({"status": "connecting"})), "comfyui (connecting)");
        let gone = json!({"presence": {"state": "offline", "why": "left"}, "reason": "it left"});
        assert_eq!(said(&gone, &json!({"status": "offline"})), "it left");
        for (until, takes) in [(20, "none until 2023-11-14T22:13:40"), (5, "one at a time")] {
            let suspect = json!({"suspect_until": at(until), "suspect_jobs": [uuid::Uuid::nil()]});
            let said = said(&suspect, &dead);
            assert!(said.starts_with("comfyui (error): refused; suspect: it broke 1 "), "{said}");
            assert!(said.contains(&format!("it takes {takes}")), "{said}");
        }
    }
}
