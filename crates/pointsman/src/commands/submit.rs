//! `pointsman submit`: hands a job in, and with `--wait` follows it to its end.

use std::{io::Read as _, path::Path, time::Duration};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use pointsman_api::{ErrorCode, Submission};
use pointsman_client::{Client, ClientError};
use pointsman_core::{
    JobId,
    record::{JobRecord, JobStatus},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{STANDARD, download, named, print, until_known};
use crate::{args, exit::Exit};

/// A broken stream is opened again this often before the server counts as gone.
const REOPEN: u32 = 60;

pub async fn submit(client: &Client, args: &args::Submit, json: bool) -> Result<(), Exit> {
    let key = args.idempotency_key.clone();
    // One of its own, so that what is not known to be taken can be repeated.
    let key = key.unwrap_or_else(|| Uuid::new_v4().to_string());
    let submission = submission(args, &key)?;
    if let Some(out) = &args.out {
        download::make(out)?;
    }
    let submitted = until_known(|| client.submit(&submission)).await;
    let submitted = submitted.map_err(|error| not_submitted(error, &key))?;
    let id = submitted.job.id;
    if !args.wait && args.out.is_none() {
        return print::job(&submitted.job, json);
    }
    if !json {
        print::line(&print::job_line(&submitted.job))?;
    }
    let ended = tokio::select! {
        ended = follow(client, id, json) => ended?,
        _ = tokio::signal::ctrl_c() => return Err(Exit::Interrupted(format!(
            "no longer waiting; the job goes on: `pointsman job {id}` shows it, \
             `pointsman cancel {id}` stops it"
        ))),
    };
    print::job(&ended, json)?;
    if ended.status != JobStatus::Completed {
        return Err(Exit::JobFailed);
    }
    let Some(out) = &args.out else { return Ok(()) };
    let saved = download::save(client, &ended, out).await?;
    if json { Ok(()) } else { download::tell(&saved) }
}

/// What may have been taken is repeated with its key; what was refused was not taken.
fn not_submitted(error: ClientError, key: &str) -> Exit {
    let may_be_taken = match &error {
        ClientError::Unreachable(_) | ClientError::Unexpected(_) => true,
        error => error.is(ErrorCode::OutcomeUnknown),
    };
    let exit = Exit::from(error);
    match may_be_taken {
        true => {
            exit.with_hint(&format!("repeated with --idempotency-key {key} it is the same job"))
        }
        false => exit,
    }
}

fn submission(args: &args::Submit, key: &str) -> Result<Submission, Exit> {
    let text = read(&args.file).map_err(|error| Exit::Usage(format!("{error:#}")))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        Exit::Usage(format!("{} is not JSON: {error}", named(&args.file.to_string_lossy())))
    })?;
    // A bare graph is what ComfyUI exports; the payload names it.
    let bare = args.service == "comfyui" && value.get("workflow").is_none();
    let payload = if bare { json!({"workflow": value}) } else { value };
    let requirements = args.requires.as_deref().map(|text| {
        serde_json::from_str(text)
            .map_err(|error| Exit::Usage(format!("--requires is not JSON: {error}")))
    });
    let submission = Submission::new(&args.service, &payload).map_err(anyhow::Error::from)?;
    Ok(Submission {
        priority: Some(args.priority.into()),
        requirements: requirements.transpose()?,
        idempotency_key: Some(key.to_owned()),
        ..submission
    })
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file != Path::new(STANDARD) {
        let read = std::fs::read_to_string(file);
        return read.with_context(|| format!("cannot read {}", file.display()));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(text)
}

/// What a progress bar needs of a job's events and of the progress lane.
#[derive(Debug, Deserialize)]
struct Seen {
    record: Option<JobRecord>,
    #[serde(default)]
    values: Vec<pointsman_core::record::Progress>,
}

/// Follows the job to its end, over restarts of the server too.
async fn follow(client: &Client, id: JobId, quiet: bool) -> Result<JobRecord, Exit> {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(100) };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos:>3} %  {elapsed}  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut broken = 0;
    let ended = loop {
        match watch(client, id, &bar, &mut broken).await {
            Ok(Some(ended)) => break ended,
            Ok(None) => {}
            Err(error) if error.is_transient() && broken < REOPEN => {
                broken += 1;
                bar.set_message("the server is away");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    bar.finish_and_clear();
    Ok(ended)
}

async fn watch(
    client: &Client,
    id: JobId,
    bar: &ProgressBar,
    broken: &mut u32,
) -> Result<Option<JobRecord>, ClientError> {
    let mut events = client.job_events(id).await?;
    while let Some(event) = events.next().await? {
        *broken = 0;
        let Ok(seen) = event.read::<Seen>() else { continue };
        if let Some(progress) = seen.values.last() {
            bar.set_position(progress.percent.unwrap_or(0.0) as u64);
            let node = progress.node.as_ref().map(|node| format!("node {node} "));
            let step = progress.step.zip(progress.steps).map(|(n, of)| format!("step {n}/{of}"));
            let at = node.unwrap_or_default() + &step.unwrap_or_default();
            // What it waits for says more than where it stands.
            bar.set_message(print::plain(progress.message.as_deref().unwrap_or(&at)));
        }
        if let Some(job) = seen.record {
            if job.status.is_ended() {
                return Ok(Some(job));
            }
            bar.set_message(job.status.as_str().to_owned());
        }
    }
    // The stream ended, with the job's last event or with the server.
    Ok(Some(client.job(id).await?).filter(|job| job.status.is_ended()))
}

#[cfg(test)]
mod tests {
    use pointsman_api::Problem;

    use super::*;

    #[test]
    fn only_what_may_have_been_taken_is_to_be_repeated() {
        let said = |error| not_submitted(error, "KEY").message().unwrap();
        let problem = |code| ClientError::Problem(Problem::new(code, "why"));
        let away = ClientError::Unreachable("timed out".into());
        for error in [away, problem(ErrorCode::OutcomeUnknown)] {
            let said = said(error);
            assert!(
                said.ends_with("repeated with --idempotency-key KEY it is the same job"),
                "{said}"
            );
        }
        for code in [ErrorCode::IntakeClosed, ErrorCode::TooManyWaiting, ErrorCode::StoreFull] {
            let said = said(problem(code));
            assert!(!said.contains("KEY"), "{said}");
        }
    }
}
