//! `pointsman export`, `import` and `intake`: on a store itself, while no server has it open.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use indicatif::ProgressBar;
use pointsman_api::IntakeState;
use pointsman_client::Client;
use pointsman_store::{
    Intake, Transfer, TransferError,
    transfer::{self, Counts, ExportOptions},
};
use serde::Serialize;
use tokio::{
    fs::File,
    io::{AsyncBufRead, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter},
};

use super::{exit_of, print};
use crate::{
    args::{self, Cli, IntakeAction},
    exit::Exit,
    store_url::{Purpose, RedisArgs, StoreUrl},
};

/// Standard input, or output.
const STANDARD: &str = "-";

#[derive(Serialize)]
struct Told<'a> {
    /// The seq that the export is of.
    seq: u64,
    counts: &'a Counts,
    /// Of the new log.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    /// Jobs that ran in the old store, and begin anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    given_back: Option<u64>,
}

pub async fn export(args: &args::Export, json: bool) -> Result<(), Exit> {
    let store = args.store.open(Purpose::Export, &args.redis).await?;
    let exported = match args.out.as_str() {
        STANDARD => write(&*store, args, tokio::io::stdout()).await,
        path => to_file(&*store, args, Path::new(path)).await,
    };
    store.close().await.map_err(anyhow::Error::from)?;
    let (header, counts) = exported.map_err(|error| stays_closed(error, args))?;
    let told = Told { seq: header.seq, counts: &counts, epoch: None, given_back: None };
    let text = format!(
        "exported {}\n{} takes no new work until `{}`",
        of(&counts),
        args.store,
        open_again(args)
    );
    tell(&told, &text, json, args.out == STANDARD)
}

/// A file that is there under its name is whole.
async fn to_file(
    store: &dyn Transfer,
    args: &args::Export,
    path: &Path,
) -> Result<(transfer::Header, Counts), TransferError> {
    let mut part = OsString::from(path);
    part.push(".part");
    let part = PathBuf::from(part);
    let mut file = File::create(&part).await?;
    let written = match write(store, args, &mut file).await {
        Ok(written) => file.sync_all().await.map(|()| written).map_err(TransferError::from),
        Err(error) => Err(error),
    };
    match written {
        Ok(written) => {
            tokio::fs::rename(&part, path).await?;
            Ok(written)
        }
        Err(error) => {
            // What cannot be removed does no harm: it has no footer.
            let _ = tokio::fs::remove_file(&part).await;
            Err(error)
        }
    }
}

async fn write(
    store: &dyn Transfer,
    args: &args::Export,
    to: impl AsyncWrite + Unpin + Send,
) -> Result<(transfer::Header, Counts), TransferError> {
    let made_by = env!("CARGO_PKG_VERSION").to_owned();
    let options = ExportOptions { made_by, with_running: args.with_running };
    let bar = ProgressBar::new_spinner();
    let mut to = BufWriter::new(to);
    let written =
        transfer::export(store, &options, &mut to, &mut |counts| progress(&bar, counts)).await;
    bar.finish_and_clear();
    to.flush().await?;
    written
}

/// An export that was refused leaves the intake closed, so that what runs can end.
fn stays_closed(error: TransferError, args: &args::Export) -> Exit {
    let open = format!("its intake stays closed: `{}` opens it", open_again(args));
    match error {
        TransferError::Running(_) => Exit::Usage(format!("{error}\n  {open}")),
        error => {
            let what = format!("{} was not exported; {open}", args.store);
            Exit::Other(anyhow!(error).context(what))
        }
    }
}

/// The command that opens the store that was exported.
fn open_again(args: &args::Export) -> String {
    let fleet = match &args.store {
        StoreUrl::Redis(_) => format!(" --fleet {}", args.redis.fleet()),
        StoreUrl::Sqlite(_) => String::new(),
    };
    format!("pointsman intake open --store {}{fleet}", args.store)
}

pub async fn import(args: &args::Import, json: bool) -> Result<(), Exit> {
    let bar = ProgressBar::new_spinner();
    if args.file != STANDARD {
        // A file can be read twice: first to see that it is whole.
        let checked = transfer::check(reader(&args.file).await?).await;
        checked.with_context(|| format!("{} was not imported", args.file))?;
    }
    let store = args.store.open(Purpose::Import, &args.redis).await?;
    let from = reader(&args.file).await?;
    let imported = transfer::import(&*store, from, &mut |counts| progress(&bar, counts)).await;
    bar.finish_and_clear();
    store.close().await.map_err(anyhow::Error::from)?;
    let done = imported.with_context(|| format!("{} was not imported", args.file))?;
    let told = Told {
        seq: done.header.seq,
        counts: &done.counts,
        epoch: Some(done.epoch.to_string()),
        given_back: Some(done.given_back),
    };
    let text = format!(
        "imported into {}: {}; jobs that ran and begin anew: {}",
        args.store,
        of(&done.counts),
        done.given_back
    );
    tell(&told, &text, json, false)
}

async fn reader(file: &str) -> Result<Box<dyn AsyncBufRead + Unpin + Send>, Exit> {
    if file == STANDARD {
        return Ok(Box::new(BufReader::new(tokio::io::stdin())));
    }
    let opened = File::open(file).await;
    let opened = opened.map_err(|error| Exit::Usage(format!("cannot read {file}: {error}")))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, opened)))
}

pub async fn intake(cli: &Cli, args: &args::Intake) -> Result<(), Exit> {
    let open = args.action.map(|action| matches!(action, IntakeAction::Open));
    let state = match &args.store {
        Some(url) => intake_of(url, &args.redis, open).await?,
        None => {
            args.redis.belong_to(false, "--store")?;
            let client = Client::new(&cli.server, cli.token.as_deref()).map_err(exit_of)?;
            let answer = match open {
                Some(open) => client.set_intake(open).await,
                None => client.intake().await,
            };
            answer.map_err(exit_of)?
        }
    };
    if cli.json {
        return print::json(&state);
    }
    let word = match state.intake {
        Intake::Open => "open",
        Intake::Closed => "closed",
        Intake::Importing => "closed: an import fills the store",
    };
    print::line(&format!("intake {word}; running jobs: {}", state.running))
}

async fn intake_of(
    url: &StoreUrl,
    redis: &RedisArgs,
    open: Option<bool>,
) -> Result<IntakeState, Exit> {
    let store = url.open(Purpose::Export, redis).await?;
    let state = async {
        if let Some(open) = open {
            store.set_intake(open).await?;
        }
        let intake = store.intake().await?;
        let counts = store.queues(0).await?.counts;
        anyhow::Ok(IntakeState { intake, running: counts.assigned + counts.in_progress })
    };
    let state = state.await;
    store.close().await.map_err(anyhow::Error::from)?;
    Ok(state?)
}

fn progress(bar: &ProgressBar, counts: &Counts) {
    bar.set_message(of(counts));
    bar.tick();
}

fn of(counts: &Counts) -> String {
    let Counts { jobs, workers, machines, .. } = counts;
    format!("jobs: {jobs}, workers: {workers}, machines: {machines}")
}

/// Where the stream takes standard output, what is told goes to standard error.
fn tell(told: &Told<'_>, text: &str, json: bool, to_stderr: bool) -> Result<(), Exit> {
    match (json, to_stderr) {
        (true, false) => print::json(told),
        (false, false) => print::line(text),
        (true, true) => {
            eprintln!("{}", serde_json::to_string(told).map_err(anyhow::Error::from)?);
            Ok(())
        }
        (false, true) => {
            eprintln!("{text}");
            Ok(())
        }
    }
}
