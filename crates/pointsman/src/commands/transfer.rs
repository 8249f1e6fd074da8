//! `pointsman export`, `import` and `intake`: on a store itself, while no server has it open.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use indicatif::ProgressBar;
use pointsman_api::IntakeState;
use pointsman_client::{Client, ClientError};
use pointsman_store::{
    Health, Intake, StoreError, Transfer, TransferError,
    transfer::{self, Counts, ExportOptions, Stream},
};
use serde::Serialize;
use tokio::{
    fs::File,
    io::{AsyncBufRead, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter},
};

use super::{STANDARD, named, out::Out, print};
use crate::{
    args::{self, IntakeAction},
    exit::Exit,
    store_url::{Purpose, RedisArgs, StoreUrl},
};

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
        STANDARD => Ok(write(&*store, args, tokio::io::stdout()).await),
        path => match Out::create_private(Path::new(path)).await {
            Ok(out) => Ok(to_file(&*store, args, out).await),
            Err(why) => Err(Exit::Usage(format!(
                "{why}; nothing was exported, and the intake is as it was"
            ))),
        },
    };
    let intake = match &exported {
        Ok(Err(_)) => Some(store.intake().await),
        _ => None,
    };
    let is_away = is_away(&*store);
    store.close().await.map_err(anyhow::Error::from)?;
    let (header, counts) = exported?.map_err(|error| not_exported(error, intake, is_away, args))?;
    let told = Told { seq: header.seq, counts: &counts, epoch: None, given_back: None };
    let text = format!(
        "exported {}\n{} takes no new work until {}",
        of(&counts),
        args.store,
        intake_command("open ", args)
    );
    tell(&told, &text, json, args.out == STANDARD)
}

async fn to_file(
    store: &dyn Transfer,
    args: &args::Export,
    mut out: Out,
) -> Result<(transfer::Header, Counts), TransferError> {
    let written = write(store, args, &mut out.file).await?;
    out.finish().await?;
    Ok(written)
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
fn not_exported(
    error: TransferError,
    intake: Option<Result<Intake, StoreError>>,
    is_away: bool,
    args: &args::Export,
) -> Exit {
    let now = match intake {
        Some(Ok(Intake::Closed)) => {
            format!("its intake stays closed: {} opens it", intake_command("open ", args))
        }
        Some(Ok(Intake::Open)) => "its intake is open".to_owned(),
        Some(Ok(Intake::Importing)) => "an import fills it".to_owned(),
        Some(Err(_)) | None => format!(
            "whether its intake was closed is not known: {} tells",
            intake_command("", args)
        ),
    };
    match error {
        TransferError::Running(_) => Exit::Usage(format!("{error}\n  {now}")),
        error => {
            let to = match args.out.as_str() {
                STANDARD => String::new(),
                path => format!(" to {path}"),
            };
            let error = anyhow!(error);
            failed(error.context(format!("{} was not exported{to}; {now}", args.store)), is_away)
        }
    }
}

/// The command that shows or opens the intake of the store that was exported.
fn intake_command(action: &str, args: &args::Export) -> String {
    let store = quoted(&args.store.to_string());
    let (fleet, password) = match &args.store {
        StoreUrl::Redis(address) => (
            format!(" --fleet {}", args.redis.fleet()),
            if address.password.is_some() { " (*** is the password)" } else { "" },
        ),
        StoreUrl::Sqlite(_) => (String::new(), ""),
    };
    format!("`pointsman intake {action}--store {store}{fleet}`{password}")
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    match text.chars().all(|c| c.is_alphanumeric() || "/:._+-,@%=".contains(c)) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

pub async fn import(args: &args::Import, json: bool) -> Result<(), Exit> {
    args.redis.belong_to(args.store.is_redis(), "--store")?;
    let bar = ProgressBar::new_spinner();
    if args.file != STANDARD {
        // A file can be read twice: first to see that it is whole.
        let checked = transfer::check(reader(&args.file).await?).await;
        checked.with_context(|| format!("{} was not imported", args.file))?;
    }
    // What is no export makes no store.
    let stream = Stream::open(reader(&args.file).await?).await;
    let stream = stream.map_err(|error| not_done(error, args))?;
    let store = args.store.open(Purpose::Import, &args.redis).await?;
    let told = &mut |counts: &Counts| progress(&bar, counts);
    let imported = transfer::import_stream(&*store, stream, told).await;
    bar.finish_and_clear();
    let is_away = is_away(&*store);
    store.close().await.map_err(anyhow::Error::from)?;
    let done = imported.map_err(|error| failed(not_done(error, args), is_away))?;
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

/// Whether the store cannot be reached any more: the same may work later.
fn is_away(store: &dyn Transfer) -> bool {
    matches!(store.health(), Health::Failed(_))
}

fn failed(error: anyhow::Error, is_away: bool) -> Exit {
    match is_away {
        true => Exit::Unreachable(format!("{error:#}")),
        false => Exit::Other(error),
    }
}

fn not_done(error: TransferError, args: &args::Import) -> anyhow::Error {
    let done = match error {
        TransferError::Unconfirmed(_) => format!("was imported into {}", args.store),
        _ => "was not imported".to_owned(),
    };
    anyhow!(error).context(format!("{} {done}", named(&args.file)))
}

async fn reader(file: &str) -> Result<Box<dyn AsyncBufRead + Unpin + Send>, Exit> {
    if file == STANDARD {
        return Ok(Box::new(BufReader::new(tokio::io::stdin())));
    }
    let opened = File::open(file).await;
    let opened = opened.map_err(|error| Exit::Usage(format!("cannot read {file}: {error}")))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, opened)))
}

pub async fn intake(
    args: &args::Intake,
    client: impl FnOnce() -> Result<Client, ClientError>,
    json: bool,
) -> Result<(), Exit> {
    let open = args.action.map(|action| matches!(action, IntakeAction::Open));
    let state = match &args.store {
        Some(url) => intake_of(url, &args.redis, open).await?,
        None => {
            args.redis.belong_to(false, "--store")?;
            match open {
                Some(open) => client()?.set_intake(open).await?,
                None => client()?.intake().await?,
            }
        }
    };
    if json {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn export(store: &str, out: &str) -> args::Export {
        args::Export {
            store: store.parse().unwrap(),
            redis: RedisArgs { fleet: Some("f".to_owned()), acks: None },
            out: out.to_owned(),
            with_running: false,
        }
    }

    #[test]
    fn the_command_that_opens_the_store_again_names_all_of_it() {
        let command = |store| intake_command("open ", &export(store, STANDARD));
        assert_eq!(command("sqlite:data"), "`pointsman intake open --store sqlite:data`");
        assert_eq!(
            command("rediss://app:secret@host:1?ca=/etc/ca.pem"),
            "`pointsman intake open --store 'rediss://app:***@host:1?ca=/etc/ca.pem' --fleet f` \
             (*** is the password)"
        );
        assert_eq!(quoted("sqlite:it's"), r"'sqlite:it'\''s'");
    }

    #[test]
    fn what_is_imported_is_named() {
        let not_done = |file: &str| {
            let store = "sqlite:x".parse().unwrap();
            let redis = RedisArgs { fleet: None, acks: None };
            let args = args::Import { store, redis, file: file.to_owned() };
            not_done(TransferError::Store(StoreError::Closed), &args).to_string()
        };
        assert_eq!(not_done("a.export"), "a.export was not imported");
        assert_eq!(not_done(STANDARD), "standard input was not imported");
    }

    #[test]
    fn an_export_that_failed_says_how_the_intake_is_and_names_the_file() {
        let args = export("redis://host:1", "out.export");
        let failed = |intake| {
            let error = TransferError::Io(std::io::ErrorKind::StorageFull.into());
            not_exported(error, Some(intake), false, &args).message().unwrap()
        };
        let open = failed(Ok(Intake::Open));
        assert!(open.contains("to out.export") && open.contains("is open"), "{open}");
        assert!(failed(Ok(Intake::Closed)).contains("stays closed: `pointsman intake open"));
        assert!(failed(Err(StoreError::Closed)).contains("not known: `pointsman intake --store"));
    }
}
