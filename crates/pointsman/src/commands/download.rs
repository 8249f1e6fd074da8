//! `pointsman download`, and what `submit --out` saves.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use futures::TryStreamExt as _;
use pointsman_api::ErrorCode;
use pointsman_client::{Client, ClientError};
use pointsman_core::{
    JobId,
    record::{Artifact, JobRecord, JobStatus},
};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use super::{exit_of, out::Out, print};
use crate::exit::Exit;

/// A transfer that breaks off without having moved on counts as failed after so many tries, and the
/// pause between two.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Saved {
    saved: Vec<PathBuf>,
}

pub async fn download(client: &Client, id: JobId, out: &Path, json: bool) -> Result<(), Exit> {
    make(out)?;
    let job = client.job(id).await.map_err(exit_of)?;
    match job.status {
        JobStatus::Completed => {}
        ended if ended.is_ended() => {
            match json {
                true => print::json(&job)?,
                false => print::line(&print::job_line(&job))?,
            }
            return Err(Exit::JobFailed);
        }
        status => {
            let why = "what it makes is there once it has completed";
            return Err(Exit::Usage(format!("job {id} is {}: {why}", status.as_str())));
        }
    }
    let saved = save(client, &job, out).await?;
    match json {
        true => print::json(&Saved { saved }),
        false => tell(&saved),
    }
}

/// Makes the directory: before there is anything to save, so that it is known to be there.
pub fn make(out: &Path) -> Result<(), Exit> {
    let made = std::fs::create_dir_all(out);
    made.map_err(|error| Exit::Usage(format!("cannot make {}: {error}", out.display())))
}

pub fn tell(saved: &[PathBuf]) -> Result<(), Exit> {
    saved.iter().try_for_each(|path| print::line(&format!("saved {}", path.display())))
}

/// Saves a completed job's files under `out/JOB`, and its service's result as `out/JOB.json`.
pub async fn save(client: &Client, job: &JobRecord, out: &Path) -> Result<Vec<PathBuf>, Exit> {
    let saved = tokio::select! {
        saved = save_all(client, job, out) => saved,
        _ = tokio::signal::ctrl_c() => Err(Exit::Interrupted("not all of it is saved".into())),
    };
    saved.map_err(|exit| {
        let again = format!("pointsman download {} --out {}", job.id, out.display());
        exit.with_hint(&format!("`{again}` saves it later"))
    })
}

async fn save_all(client: &Client, job: &JobRecord, out: &Path) -> Result<Vec<PathBuf>, Exit> {
    let directory = out.join(job.id.to_string());
    let mut saved = Vec::new();
    if !job.artifacts.is_empty() {
        make(&directory)?;
    }
    for artifact in &job.artifacts {
        let path = directory.join(&artifact.name);
        let mut file = Out::create(&path).await.map_err(Exit::Usage)?;
        fetch(client, job.id, artifact, &mut file.file, &path).await?;
        file.finish().await.map_err(|error| unwritable(&path, error))?;
        saved.push(path);
    }
    if let Some(result) = result(client, job.id).await? {
        let path = out.join(format!("{}.json", job.id));
        let mut file = Out::create(&path).await.map_err(Exit::Usage)?;
        let written = file.file.write_all(&result).await;
        written.map_err(|error| unwritable(&path, error))?;
        file.file.flush().await.map_err(|error| unwritable(&path, error))?;
        file.finish().await.map_err(|error| unwritable(&path, error))?;
        saved.push(path);
    }
    Ok(saved)
}

/// What the service said, where it said something.
async fn result(client: &Client, id: JobId) -> Result<Option<bytes::Bytes>, Exit> {
    let mut tries = 0;
    loop {
        match client.result(id).await {
            Ok(result) => return Ok(Some(result)),
            Err(error) if error.is(ErrorCode::ResultNotFound) => return Ok(None),
            Err(error) => again(error, &mut tries).await?,
        }
    }
}

/// Reads an artifact; where the transfer breaks off, it goes on from there.
async fn fetch(
    client: &Client,
    id: JobId,
    artifact: &Artifact,
    file: &mut tokio::fs::File,
    path: &Path,
) -> Result<(), Exit> {
    let (mut have, mut tries) = (0, 0);
    loop {
        let begun = have;
        let broke = match client.artifact_from(id, artifact, have).await {
            Err(error) => error,
            Ok(download) => {
                let mut bytes = std::pin::pin!(download.stream());
                loop {
                    match bytes.try_next().await {
                        Ok(Some(piece)) => {
                            let written = file.write_all(&piece).await;
                            written.map_err(|error| unwritable(path, error))?;
                            have += piece.len() as u64;
                        }
                        Ok(None) if have == artifact.size => {
                            let flushed = file.flush().await;
                            return flushed.map_err(|error| unwritable(path, error));
                        }
                        Ok(None) => {
                            let of = artifact.size;
                            let why = format!("{} has {of} bytes, not {have}", artifact.name);
                            return Err(exit_of(ClientError::Unexpected(why)));
                        }
                        Err(error) => break error,
                    }
                }
            }
        };
        if have > begun {
            tries = 0;
        }
        again(broke, &mut tries).await?;
    }
}

/// Waits before the next try, where there is one.
async fn again(error: ClientError, tries: &mut u32) -> Result<(), Exit> {
    *tries += 1;
    if !error.is_transient() || *tries >= TRIES {
        return Err(exit_of(error));
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

fn unwritable(path: &Path, error: io::Error) -> Exit {
    Exit::Other(anyhow!("cannot write {}: {error}", path.display()))
}
