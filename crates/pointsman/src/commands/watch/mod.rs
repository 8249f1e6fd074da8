//! The fleet as it changes: a line for each event, until the reader or Ctrl-C ends it.

mod progress;

use std::{fmt::Display, time::Duration};

use pointsman_api::{Snapshot, ViewEvent};
use pointsman_client::{Client, ClientError, Event, Events};
use pointsman_core::{
    EventName, JobId, RecordKind,
    record::{Alert, Connector, JobRecord, Machine, Worker},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use tokio::time::Instant;

use self::progress::Told;
use super::print;
use crate::exit::Exit;

/// The pause before a stream is opened again.
const PAUSE: Duration = Duration::from_secs(1);
/// A server that is itself cut off from the store for so long is left: behind one address there may
/// be another that is not.
const LEFT_AFTER: Duration = Duration::from_secs(15);

/// Shows what happens from now on; first what is so. Goes on over restarts of the server.
pub async fn watch(client: &Client, json: bool) -> Result<(), Exit> {
    tokio::select! {
        ended = follow(client, json) => ended,
        _ = tokio::signal::ctrl_c() => Err(Exit::Interrupted("no longer watching".into())),
    }
}

async fn follow(client: &Client, json: bool) -> Result<(), Exit> {
    let mut position: Option<String> = None;
    let (mut standing, mut told) = (Standing::default(), Told::default());
    // A server that is not there at first may be a wrong address.
    let mut events = client.events(None, None).await?;
    loop {
        standing.since = None;
        match shown(&mut events, json, &mut position, &mut standing, &mut told).await? {
            Shown::ReaderGone => return Ok(()),
            Shown::CutOff => events = opened_again(client, position.as_deref()).await?,
            Shown::Broken(why) => {
                eprintln!("the server is away: {}", print::plain(&why));
                events = opened_again(client, position.as_deref()).await?;
                eprintln!("the server is there again");
            }
        }
    }
}

async fn opened_again(client: &Client, position: Option<&str>) -> Result<Events, Exit> {
    loop {
        tokio::time::sleep(PAUSE).await;
        match client.events(position, None).await {
            Err(error) if error.is_transient() => {}
            opened => return Ok(opened?),
        }
    }
}

/// How a stream ended.
enum Shown {
    /// Such as `| head`.
    ReaderGone,
    Broken(String),
    /// The server goes on, and knows nothing new.
    CutOff,
}

/// Whether what is shown is true, by the server's own word.
#[derive(Default)]
struct Standing {
    /// Why it is not. It says so every 5 s, and is told once.
    reason: Option<String>,
    /// Since when this stream says so.
    since: Option<Instant>,
}

impl Standing {
    /// What is news of it.
    fn hears(&mut self, event: &Event) -> Result<Option<String>, ClientError> {
        match &*event.name {
            "not_live" => {
                self.since.get_or_insert_with(Instant::now);
                let Reason { reason } = event.read()?;
                let told = self.reason.replace(reason.clone());
                Ok((told.as_ref() != Some(&reason)).then(|| format!("not live: {reason}")))
            }
            "bookmark" | "pulse" => {
                self.since = None;
                Ok(self.reason.take().map(|_| "live again".to_owned()))
            }
            _ => Ok(None),
        }
    }

    fn is_cut_off(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() > LEFT_AFTER)
    }
}

/// Shows a stream to its end, and keeps where it can go on.
async fn shown(
    events: &mut Events,
    json: bool,
    position: &mut Option<String>,
    standing: &mut Standing,
    told: &mut Told,
) -> Result<Shown, Exit> {
    loop {
        let event = match events.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(Shown::Broken("it ended the stream".into())),
            Err(error) if error.is_transient() => return Ok(Shown::Broken(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let news = standing.hears(&event)?;
        let is_read = match (json, news) {
            (true, _) => print::json_line(&as_it_came(&event)?)?,
            (false, Some(news)) => print::lines(&[news])?,
            (false, None) => print::lines(&as_lines(&event, told)?)?,
        };
        if !is_read {
            return Ok(Shown::ReaderGone);
        }
        if event.id.is_some() {
            *position = event.id;
        }
        if standing.is_cut_off() {
            return Ok(Shown::CutOff);
        }
    }
}

#[derive(Debug, Serialize)]
struct Came<'a> {
    event: &'a str,
    id: Option<&'a str>,
    data: Box<RawValue>,
}

fn as_it_came(event: &Event) -> Result<Came<'_>, ClientError> {
    Ok(Came { event: &event.name, id: event.id.as_deref(), data: event.read()? })
}

#[derive(Debug, Deserialize)]
struct Reason {
    reason: String,
}

/// What a person is told of it, and of the progress that it is time for; nothing of other lanes and
/// bookmarks, which come at least every 5 s.
fn as_lines(event: &Event, told: &mut Told) -> Result<Vec<String>, ClientError> {
    let mut lines = match &*event.name {
        "full_state_snapshot" => {
            *told = Told::default();
            picture(&event.read()?)
        }
        "resync" => vec![format!("begins anew: {}", event.read::<Reason>()?.reason)],
        "progress" => {
            told.hears(event.read()?);
            Vec::new()
        }
        "pulse" | "queues" | "bookmark" | "not_live" => Vec::new(),
        _ => {
            let event: ViewEvent = event.read()?;
            if let Some(job) = stopped(&event) {
                told.forget(&job);
            }
            change(&event)?.into_iter().collect()
        }
    };
    lines.extend(told.due());
    Ok(lines)
}

/// The job of which there is no more progress, if the event says that.
fn stopped(event: &ViewEvent) -> Option<JobId> {
    let is_running = |record: &Value| {
        record["status"] == json!("assigned") || record["status"] == json!("in_progress")
    };
    match event.kind {
        RecordKind::Job if !event.record.as_ref().is_some_and(is_running) => event.id.parse().ok(),
        _ => None,
    }
}

/// What is so at the beginning.
fn picture(now: &Snapshot) -> Vec<String> {
    let running = now.jobs.iter().filter(|job| !job.status.is_ended()).count();
    let offline = now.workers.iter().filter(|worker| worker.is_offline()).count();
    let head = format!(
        "{}  {}: machines {}, workers {} ({offline} offline), jobs running {running}, waiting {}, alerts {}",
        now.at,
        now.fleet,
        now.machines.len(),
        now.workers.len(),
        waiting(&now.lanes),
        now.alerts.len(),
    );
    let alerts = now.alerts.iter().map(|alert| line(&now.at, "alert", &alert.id, &alarm(alert)));
    std::iter::once(head).chain(alerts).collect()
}

/// All jobs that are pending: also those that are held out of their queues.
fn waiting(lanes: &Value) -> String {
    let count = |name| lanes.pointer("/queues/counts")?.get(name)?.as_u64();
    match (count("pending"), count("held")) {
        (Some(pending), Some(0)) => pending.to_string(),
        (Some(pending), Some(held)) => format!("{} ({held} held)", pending + held),
        _ => "?".to_owned(),
    }
}

fn line(at: &impl Display, what: &str, id: &impl Display, how: &str) -> String {
    format!("{at}  {what:<24}  {id}  {how}").trim_end().to_owned()
}

fn change(event: &ViewEvent) -> Result<Option<String>, ClientError> {
    // Nothing happened to it: it is only too old to be shown.
    if event.event == EventName::JobLeftView {
        return Ok(None);
    }
    let how = match &event.record {
        Some(record) => state(event.kind, record)?,
        None => String::new(),
    };
    Ok(Some(line(&event.at, event.event.as_str(), &event.id, &how)))
}

/// How a record is, and why.
fn state(kind: RecordKind, record: &Value) -> Result<String, ClientError> {
    fn read<'a, T: Deserialize<'a>>(record: &'a Value) -> Result<T, ClientError> {
        T::deserialize(record).map_err(|error| ClientError::Unexpected(error.to_string()))
    }
    Ok(match kind {
        RecordKind::Machine => {
            let machine: Machine = read(record)?;
            with(machine.status.as_str(), machine.reason)
        }
        RecordKind::Worker => {
            let worker: Worker = read(record)?;
            with(worker.shown_status(), worker.reason)
        }
        RecordKind::Connector => {
            let connector: Connector = read(record)?;
            with(connector.status.as_str(), connector.error_message)
        }
        RecordKind::Job => job(&read(record)?),
        RecordKind::Alert => alarm(&read(record)?),
    })
}

fn with(status: &str, why: Option<String>) -> String {
    match why {
        Some(why) => format!("{status}: {why}"),
        None => status.to_owned(),
    }
}

fn job(job: &JobRecord) -> String {
    let why = job.failure.as_ref().map(|why| format!("{} ({})", why.message.trim(), why.code));
    let by = job.worker_id.as_ref().map(|worker| format!(" on {worker}")).unwrap_or_default();
    let status = format!("{} {}, attempt {}{by}", job.service, job.status.as_str(), job.attempt);
    with(&status, why)
}

fn alarm(alert: &Alert) -> String {
    format!("{}: {} ({})", alert.severity.as_str(), alert.message, alert.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(name: &str, data: &str) -> Event {
        Event { id: None, name: name.into(), data: data.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_live_is_told_once_and_left_after_a_while() {
        let away = says("not_live", r#"{"reason":"the store is away","since":"x"}"#);
        let mut standing = Standing::default();
        let mut told = Vec::new();
        for _ in 0..4 {
            assert!(!standing.is_cut_off());
            told.extend(standing.hears(&away).unwrap());
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        assert!(standing.is_cut_off());

        // The next stream has its time, too, and the same is not told again.
        standing.since = None;
        told.extend(standing.hears(&away).unwrap());
        assert!(!standing.is_cut_off());
        let other = says("not_live", r#"{"reason":"it refused","since":"x"}"#);
        told.extend(standing.hears(&other).unwrap());
        tokio::time::advance(Duration::from_secs(20)).await;
        told.extend(standing.hears(&says("bookmark", "{}")).unwrap());
        told.extend(standing.hears(&says("pulse", "{}")).unwrap());
        assert!(!standing.is_cut_off());
        assert_eq!(told, ["not live: the store is away", "not live: it refused", "live again"]);
    }

    #[test]
    fn jobs_that_are_held_wait_too() {
        let lanes = |pending: u64, held: u64| json!({"queues": {"counts": {"pending": pending, "held": held}}});
        assert_eq!(waiting(&lanes(2, 3)), "5 (3 held)");
        assert_eq!(waiting(&lanes(2, 0)), "2");
        assert_eq!(waiting(&json!({"queues": null})), "?");
    }
}
