//! `pointsman download`, and what `submit --out` saves.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use futures::TryStreamExt as _;
use pointsman_api::{ErrorCode, check_file_name};
use pointsman_client::{Client, ClientError};
use pointsman_core::{
    JobId,
    record::{Artifact, JobRecord, JobStatus},
};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use super::{out::Out, print};
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
    let job = client.job(id).await?;
    match job.status {
        JobStatus::Completed => {}
        ended if ended.is_ended() => {
            print::job(&job, json)?;
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
    if saved.is_empty() {
        return print::line("nothing to save: the job made no files, and has no result");
    }
    saved.iter().try_for_each(|path| print::line(&format!("saved {}", path.display())))
}

/// Saves a completed job's files under `out/JOB`, and its service's result as `out/JOB.json`.
pub async fn save(client: &Client, job: &JobRecord, out: &Path) -> Result<Vec<PathBuf>, Exit> {
    check_names(job)?;
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

/// A hostile server could name any place on this machine; an honest one keeps only plain names.
fn check_names(job: &JobRecord) -> Result<(), Exit> {
    job.artifacts.iter().try_for_each(|artifact| {
        check_file_name(&artifact.name).map_err(|problem| {
            let what =
                format!("the server names an artifact that cannot be saved: {}", problem.detail);
            let cure =
                "nothing is saved; no Pointsman server gives such a name: do you trust this one?";
            Exit::Other(anyhow!("{what}\n  {cure}"))
        })
    })
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
                            return Err(ClientError::Unexpected(why).into());
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
        return Err(error.into());
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

fn unwritable(path: &Path, error: io::Error) -> Exit {
    Exit::Other(anyhow!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pointsman_core::Timestamp;
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    /// Answers whatever is asked with one byte.
    async fn answering() -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut asked = [0; 8192];
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\netag: \"{SHA256}\"");
                let answer = format!("{head}\r\nconnection: close\r\n\r\nx");
                let _ = connection.read(&mut asked).await;
                let _ = connection.write_all(answer.as_bytes()).await;
            }
        });
        Client::new(&address, None).unwrap()
    }

    fn with_artifacts(names: &[&str]) -> JobRecord {
        let artifacts: Vec<_> = names
            .iter()
            .map(|name| json!({"name": name, "size": 1, "media_type": "image/png", "sha256": SHA256, "type": "output"}))
            .collect();
        serde_json::from_value(json!({
            "id": JobId::from_uuid(uuid::Uuid::nil()), "rev": 1, "status": "completed",
            "service": "simulation", "priority": 50, "run": 1, "attempt": 1, "failures": 0,
            "losses": 0, "max_failures": 1, "max_losses": 1, "place": 1, "queued_seq": 1,
            "created_at": Timestamp::from_millis(0), "cached": false, "artifacts": artifacts,
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_is_an_error_and_nothing_is_written() {
        let client = answering().await;
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("inner/out");
        let absolute = dir.path().join("absolute").display().to_string();
        for bad in ["../../elsewhere", absolute.as_str(), ".bashrc", ""] {
            let job = with_artifacts(&["good.png", bad]);
            let why = save(&client, &job, &out).await.err().and_then(|exit| exit.message());
            assert!(why.is_some_and(|why| why.contains("artifact")), "{bad}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{bad}");
        }
        let saved = save(&client, &with_artifacts(&["good.png"]), &out).await.unwrap();
        assert!(saved[0].ends_with("good.png") && fs::read(&saved[0]).unwrap() == b"x");
    }
}
