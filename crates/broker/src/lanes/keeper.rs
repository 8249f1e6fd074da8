//! Works out the pulse and the queues, while somebody watches.

use std::{sync::Arc, time::Duration};

use pointsman_core::decide::limits::SILENT_AFTER;
use pointsman_store::StoreError;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until},
};

use crate::{
    frame::{AsOf, ProgressLane, PulseLane, QueuesLane, Shared},
    hub::{Hub, Liveness},
    snapshot::Lanes,
};

pub(crate) const PULSE_EVERY: Duration = Duration::from_secs(5);
/// A status that was confirmed within this is not old: workers report all of theirs every 15 s.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(30);
pub(crate) const QUEUES_EVERY: Duration = Duration::from_millis(500);
/// Pending jobs, and classes, in the queues lane.
const QUEUES_SHOWN: usize = 200;
/// A snapshot does not wait longer for the lanes; it then shows what was known last.
const LANES_WITHIN: Duration = Duration::from_secs(1);
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The newest value of a lane, and when it was worked out.
pub(crate) struct Lane<T> {
    newest: watch::Sender<Option<Arc<Shared<T>>>>,
    /// Held while a value is worked out: whoever asks meanwhile shares it.
    made_at: Mutex<Option<Instant>>,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { newest: watch::Sender::new(None), made_at: Mutex::new(None) }
    }
}

impl<T: serde::Serialize> Lane<T> {
    pub fn newest(&self) -> watch::Receiver<Option<Arc<Shared<T>>>> {
        self.newest.subscribe()
    }

    pub fn last(&self) -> Option<Arc<Shared<T>>> {
        self.newest.borrow().clone()
    }

    /// Works out a new value unless the last one is younger than `max_age`.
    async fn refresh(
        &self,
        max_age: Duration,
        make: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<(), StoreError> {
        let mut made_at = self.made_at.lock().await;
        if made_at.is_none_or(|at| at.elapsed() >= max_age) {
            let value = make.await?;
            *made_at = Some(Instant::now());
            self.newest.send_replace(Some(Shared::new(value)));
        }
        Ok(())
    }

    /// When a new value is due. One that is overdue, because it could not be worked out, is tried
    /// again in a second.
    async fn next_at(&self, every: Duration) -> Instant {
        let now = Instant::now();
        let due = self.made_at.lock().await.map(|at| at + every);
        due.filter(|due| *due > now).unwrap_or(now + TRY_AGAIN)
    }
}

/// The lanes for a snapshot, the queues no older than `max_age`. What the store does not give in
/// time is as it was known last; while the view is not live it is not even asked. The progress is
/// filled in with the records.
pub(crate) async fn fresh_lanes(hub: &Hub, max_age: Duration) -> Lanes {
    if hub.liveness() == Liveness::Live {
        let fresh = async { tokio::join!(pulse(hub, PULSE_EVERY), queues(hub, max_age)) };
        let problem = match tokio::time::timeout(LANES_WITHIN, fresh).await {
            Ok((pulse, queues)) => pulse.and(queues).err().map(|error| error.to_string()),
            Err(_) => Some("the store did not answer in time".to_owned()),
        };
        if let Some(problem) = problem {
            tracing::warn!(problem, "the lanes are as they were known last");
        }
    }
    let as_of = AsOf { seq: 0, at: hub.store.now() };
    Lanes {
        progress: ProgressLane { as_of, values: Vec::new() },
        pulse: hub.lanes.pulse.last(),
        queues: hub.lanes.queues.last(),
    }
}

async fn pulse(hub: &Hub, max_age: Duration) -> Result<(), StoreError> {
    let make = async {
        let as_of = hub.as_of();
        Ok(PulseLane {
            as_of,
            heard_since: as_of.at - SILENT_AFTER,
            confirmed_since: as_of.at - CONFIRMED_WITHIN,
            changes: false,
            pulse: hub.store.pulse().await?,
        })
    };
    hub.lanes.pulse.refresh(max_age, make).await
}

async fn queues(hub: &Hub, max_age: Duration) -> Result<(), StoreError> {
    let make = async {
        // Noted first: the value may be newer than it says, never older.
        let as_of = hub.as_of();
        Ok(QueuesLane { as_of, queues: hub.store.queues(QUEUES_SHOWN).await? })
    };
    hub.lanes.queues.refresh(max_age, make).await
}

/// The tasks that keep the lanes.
pub(crate) struct Keeper(pub Arc<Hub>);

impl Keeper {
    /// A pulse every 5 s, as long as the view is live.
    pub async fn keep_pulse(self) {
        let Self(hub) = self;
        let mut works = true;
        let work = async {
            loop {
                watched_or_failing(&hub, works).await;
                if hub.liveness() == Liveness::Live {
                    let kept = pulse(&hub, PULSE_EVERY).await;
                    hub.troubles.tried("pulse", &kept);
                    works = kept.is_ok();
                }
                sleep_until(hub.lanes.pulse.next_at(PULSE_EVERY).await).await;
            }
        };
        hub.stop.run_until_cancelled(work).await;
    }

    /// The queues whenever something has changed, at most twice a second.
    pub async fn keep_queues(self) {
        let Self(hub) = self;
        let mut news = hub.news();
        let mut works = true;
        let work = async {
            loop {
                watched_or_failing(&hub, works).await;
                news.mark_unchanged();
                let shown = hub.lanes.queues.last().map(|lane| lane.as_of.seq);
                if works && shown == Some(hub.seq()) {
                    // Nothing has changed: sleep until something has.
                    if news.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
                let kept = queues(&hub, QUEUES_EVERY).await;
                hub.troubles.tried("queues", &kept);
                works = kept.is_ok();
                tokio::time::sleep(QUEUES_EVERY).await;
            }
        };
        hub.stop.run_until_cancelled(work).await;
    }
}

/// Waits until somebody watches; but what fails is tried until it works, so that its trouble ends.
async fn watched_or_failing(hub: &Hub, works: bool) {
    if !works {
        return;
    }
    // An error means that the hub is gone, and it is not: we hold it.
    let _ = hub.viewers().subscribe().wait_for(|viewers| *viewers > 0).await;
}
