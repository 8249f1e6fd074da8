//! What viewers receive: groups of events, and the lanes beside them. Each frame says how it is
//! written as server-sent events.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use pointsman_core::{JobId, Seq, Timestamp, record::Progress, to_json};
use pointsman_store::{Epoch, Position, Pulse, Queues};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Snapshot, hub::ViewGroup};

/// One thing a viewer receives.
#[derive(Debug, Clone)]
pub enum Frame {
    /// The viewer cannot go on from where it stood; a snapshot follows.
    Resync(Resync),
    Snapshot(Arc<Shared<Snapshot>>),
    Events(EventsFrame),
    Progress(ProgressLane),
    Pulse(Arc<Shared<PulseLane>>),
    Queues(Arc<Shared<QueuesLane>>),
    Bookmark(Bookmark),
    NotLive(NotLive),
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Only on the last line of a group of events, and on a snapshot: where to resume.
    pub id: Option<Position>,
    pub event: &'static str,
    /// One line of JSON.
    pub data: Arc<str>,
}

impl Frame {
    /// The frame as server-sent events, in order.
    pub fn lines(&self) -> Vec<Line> {
        match self {
            Self::Events(frame) => frame.lines(),
            Self::Snapshot(snapshot) => {
                let id = Some(snapshot.position());
                vec![Line { id, event: "full_state_snapshot", data: snapshot.json() }]
            }
            Self::Resync(value) => lane("resync", to_json(value)),
            Self::Progress(value) => lane("progress", to_json(value)),
            Self::Pulse(value) => lane("pulse", value.json()),
            Self::Queues(value) => lane("queues", value.json()),
            Self::Bookmark(value) => lane("bookmark", to_json(value)),
            Self::NotLive(value) => lane("not_live", to_json(value)),
        }
    }
}

fn lane(event: &'static str, data: impl Into<Arc<str>>) -> Vec<Line> {
    vec![Line { id: None, event, data: data.into() }]
}

/// A group of events: of one seq, or conflated from a window, then with only the newest event of
/// each record. Equality with the store holds after its last event.
#[derive(Debug, Clone)]
pub struct EventsFrame {
    /// Where to resume after the whole group.
    pub position: Position,
    pub events: Vec<EventRef>,
}

/// An event in the ring, shared by all viewers.
#[derive(Debug, Clone)]
pub struct EventRef {
    pub(crate) group: Arc<ViewGroup>,
    pub(crate) index: usize,
}

impl EventRef {
    pub fn seq(&self) -> Seq {
        self.group.seq
    }

    pub fn event(&self) -> &pointsman_core::Event {
        &self.group.events[self.index].event
    }

    /// The event as one line of JSON.
    pub fn json(&self) -> Arc<str> {
        self.group.line(self.index)
    }
}

impl EventsFrame {
    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = self
            .events
            .iter()
            .map(|event| Line { id: None, event: event.event().name.as_str(), data: event.json() })
            .collect();
        if let Some(last) = lines.last_mut() {
            last.id = Some(self.position.clone());
        }
        lines
    }
}

/// Up to which change, and when on the store's clock, a lane value is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AsOf {
    /// The last change that is in it.
    pub seq: Seq,
    /// When it was so, on the store's clock.
    pub at: Timestamp,
}

/// The newest progress of running jobs: those that changed since the last frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressLane {
    /// When it was so.
    pub as_of: AsOf,
    /// One for each job.
    pub values: Vec<ProgressValue>,
}

/// How far one running job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressValue {
    /// The job that runs.
    pub job: JobId,
    #[serde(flatten)]
    pub progress: Progress,
}

/// When everybody was last heard, and what last confirmed each connector's status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PulseLane {
    /// When it was so.
    pub as_of: AsOf,
    /// A worker or machine that was heard before this, or never, is silent.
    pub heard_since: Timestamp,
    /// A connector whose status was confirmed before this, or never, is silent.
    pub confirmed_since: Timestamp,
    /// False: everybody is listed. True: replace who is listed; of the others, what was told of who
    /// was silent then stands, and who was not was heard, or confirmed, since these times.
    pub changes: bool,
    #[serde(flatten)]
    pub pulse: Pulse,
}

/// The first pending jobs, the classes with the oldest heads, and the counts of everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueuesLane {
    /// When it was so.
    pub as_of: AsOf,
    #[serde(flatten)]
    pub queues: Queues,
}

/// How far the viewer has been served; the view has not changed for it since its last event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bookmark {
    /// The store's epoch: `seq` counts anew in each.
    #[schema(value_type = String)]
    pub epoch: Epoch,
    /// The last change that the viewer has.
    pub seq: Seq,
    /// When it was so, on the store's clock.
    pub at: Timestamp,
}

/// What is shown may be old: this server has not read the log to its end for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotLive {
    /// Why, for people.
    pub reason: String,
    /// Up to when what is shown is known to be true.
    pub since: Timestamp,
}

/// Why a viewer starts again from a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resync {
    /// Why it must.
    pub reason: ResyncReason,
}

/// Why a viewer must start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResyncReason {
    /// The store began a new epoch: it was restored or imported, or its log was cut off.
    OtherEpoch,
    /// The position asked for was never reached.
    BeyondHead,
    /// What followed the position is not in this server's memory: it is long ago, or from before the
    /// server started.
    NotKept,
    /// The viewer read more slowly than changes came.
    TooSlow,
    /// The server found a hole in what it had read, and began anew.
    Rebuilt,
}

/// A value that all viewers share; its JSON is written once.
#[derive(Debug)]
pub struct Shared<T> {
    value: T,
    json: OnceLock<Arc<str>>,
}

impl<T: Serialize> Shared<T> {
    pub(crate) fn new(value: T) -> Arc<Self> {
        Arc::new(Self { value, json: OnceLock::new() })
    }

    pub fn json(&self) -> Arc<str> {
        self.json.get_or_init(|| to_json(&self.value).into()).clone()
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(to)
    }
}
