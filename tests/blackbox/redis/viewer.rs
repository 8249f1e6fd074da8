//! A monitor of a test: follows the view, and moves to another server when its own is gone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use pointsman_api::{Snapshot, ViewEvent};
use pointsman_client::{Client, ClientError, Event};
use pointsman_core::RecordKind;
use serde::Serialize;
use serde_json::Value;
use tokio::{task::AbortHandle, time::Instant};

use super::fleet::{SOON, becomes};

/// Every record of a view by kind and id.
pub type Records = BTreeMap<(RecordKind, String), Value>;

/// What a viewer holds.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// `epoch.seq`.
    pub position: String,
    pub records: Records,
    pub snapshots: usize,
    pub resyncs: usize,
    /// Servers it had to leave.
    pub moves: usize,
    /// How often it was told that what it shows may not be true now.
    pub not_live: usize,
    /// When it was last told that it is, by a bookmark or a pulse.
    pub live_at: Option<Instant>,
}

impl Seen {
    pub fn epoch(&self) -> &str {
        self.position.split_once('.').map_or("", |(epoch, _)| epoch)
    }
}

/// A viewer that runs until it is dropped.
pub struct Viewer {
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

impl Viewer {
    /// Follows the first of the servers that answers, and holds a snapshot when this answers.
    pub async fn of(servers: &[&Client]) -> Self {
        let servers: Vec<Client> = servers.iter().map(|client| (*client).clone()).collect();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let task = tokio::spawn(follow(servers, seen.clone())).abort_handle();
        let viewer = Self { seen, task };
        viewer.until("a snapshot", |seen| seen.snapshots > 0).await;
        viewer
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Seen) -> bool) -> Seen {
        becomes(what, SOON, async || Some(self.seen()).filter(&holds)).await
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// What it holds once it is in the epoch that this server is in.
    pub async fn caught_up(&self, server: &Client) -> Seen {
        let now = server.snapshot().await.expect("the server answers").epoch;
        self.until("the epoch that is now", |seen| seen.epoch() == now).await
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(servers: Vec<Client>, seen: Arc<Mutex<Seen>>) {
    for client in servers.iter().cycle() {
        if watch(client, &seen).await.is_err() {
            seen.lock().moves += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn watch(client: &Client, seen: &Mutex<Seen>) -> Result<(), ClientError> {
    let position = Some(seen.lock().position.clone()).filter(|position| !position.is_empty());
    let mut events = client.events(position.as_deref(), Some(20)).await?;
    while let Some(event) = events.next().await? {
        take(&event, &mut seen.lock())?;
    }
    // The server ended the stream: to the next one.
    Err(ClientError::Unreachable("the stream ended".into()))
}

fn take(event: &Event, seen: &mut Seen) -> Result<(), ClientError> {
    match event.name.as_str() {
        "full_state_snapshot" => {
            seen.records = records(&event.read::<Snapshot>()?);
            seen.snapshots += 1;
        }
        "resync" => seen.resyncs += 1,
        "bookmark" | "pulse" => seen.live_at = Some(Instant::now()),
        "not_live" => seen.not_live += 1,
        "progress" | "queues" => {}
        _ => {
            let change: ViewEvent = event.read()?;
            let key = (change.kind, change.id);
            match change.record {
                Some(record) => seen.records.insert(key, record),
                None => seen.records.remove(&key),
            };
        }
    }
    if let Some(position) = &event.id {
        seen.position.clone_from(position);
    }
    Ok(())
}

/// The records of a snapshot, as events would tell them.
pub fn records(snapshot: &Snapshot) -> Records {
    fn all<T: Serialize>(kind: RecordKind, records: &[T]) -> Vec<((RecordKind, String), Value)> {
        let json = records.iter().map(|record| serde_json::to_value(record).expect("JSON"));
        json.map(|record| ((kind, record["id"].as_str().expect("an id").to_owned()), record))
            .collect()
    }
    let Snapshot { machines, workers, connectors, alerts, jobs, .. } = snapshot;
    let mut records = Records::new();
    records.extend(all(RecordKind::Machine, machines));
    records.extend(all(RecordKind::Worker, workers));
    records.extend(all(RecordKind::Connector, connectors));
    records.extend(all(RecordKind::Alert, alerts));
    records.extend(all(RecordKind::Job, jobs));
    records
}

/// The view of two servers at one seq, once both show the same one.
pub async fn both(one: &Client, other: &Client) -> (Snapshot, Snapshot) {
    becomes("two servers at one seq", SOON, async || {
        let (one, other) = (one.snapshot().await.ok()?, other.snapshot().await.ok()?);
        (one.position() == other.position()).then_some((one, other))
    })
    .await
}
