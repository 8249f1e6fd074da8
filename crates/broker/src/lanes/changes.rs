//! What of the pulse a viewer must be told that has an earlier one: in a large fleet nearly
//! everybody was heard a moment ago, and this is said once for all of them.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use pointsman_core::{ConnectorId, Timestamp};
use pointsman_store::{Pulse, PulseConnector, PulseEntry};

use crate::frame::{PulseLane, Shared};

/// A pulse that names no more than so many is sent whole.
const FEW: usize = 500;

/// The last changes that were worked out, as viewers that keep up all need the same.
#[derive(Default)]
pub(crate) struct PulseChanges(Mutex<Option<Worked>>);

struct Worked {
    before: Arc<Shared<PulseLane>>,
    newest: Arc<Shared<PulseLane>>,
    changes: Arc<Shared<PulseLane>>,
}

impl PulseChanges {
    /// What to tell a viewer that has `before`: what has changed, or the whole where that is small.
    pub fn between(
        &self,
        before: &Arc<Shared<PulseLane>>,
        newest: &Arc<Shared<PulseLane>>,
    ) -> Arc<Shared<PulseLane>> {
        if entries(&newest.pulse) <= FEW {
            return newest.clone();
        }
        let mut last = self.0.lock();
        let fits = |worked: &&Worked| {
            Arc::ptr_eq(&worked.before, before) && Arc::ptr_eq(&worked.newest, newest)
        };
        if let Some(worked) = last.as_ref().filter(fits) {
            return worked.changes.clone();
        }
        let changes = Shared::new(changes(before, newest));
        let (before, newest) = (before.clone(), newest.clone());
        *last = Some(Worked { before, newest, changes: changes.clone() });
        changes
    }
}

fn entries(pulse: &Pulse) -> usize {
    pulse.workers.len() + pulse.machines.len() + pulse.connectors.len()
}

fn changes(before: &PulseLane, newest: &PulseLane) -> PulseLane {
    let heard = (before.heard_since, newest.heard_since);
    let confirmed = (before.confirmed_since, newest.confirmed_since);
    PulseLane {
        changes: true,
        pulse: Pulse {
            workers: changed(&before.pulse.workers, &newest.pulse.workers, heard),
            machines: changed(&before.pulse.machines, &newest.pulse.machines, heard),
            connectors: changed(&before.pulse.connectors, &newest.pulse.connectors, confirmed),
        },
        ..*newest
    }
}

/// Those that are new, that fell silent or are heard again, whose silence is another one, and as
/// never heard those of whom nothing is known any more.
fn changed<E: Heard>(before: &[E], newest: &[E], since: (Timestamp, Timestamp)) -> Vec<E> {
    let mut unseen: HashMap<&E::Id, &E> = before.iter().map(|entry| (entry.id(), entry)).collect();
    let is_told = |now: &&E| {
        let Some(before) = unseen.remove(now.id()) else { return true };
        let (was_silent, is_silent) = (before.at() < Some(since.0), now.at() < Some(since.1));
        was_silent != is_silent || is_silent && before.at() != now.at()
    };
    let mut told: Vec<E> = newest.iter().filter(is_told).cloned().collect();
    told.extend(unseen.into_values().map(Heard::unheard));
    told
}

/// One line of a pulse.
trait Heard: Clone {
    type Id: Hash + Eq;
    fn id(&self) -> &Self::Id;
    fn at(&self) -> Option<Timestamp>;
    /// The same when nothing is known of it.
    fn unheard(&self) -> Self;
}

impl Heard for PulseEntry {
    type Id = String;
    fn id(&self) -> &String {
        &self.id
    }
    fn at(&self) -> Option<Timestamp> {
        self.heartbeat_at
    }
    fn unheard(&self) -> Self {
        Self { heartbeat_at: None, ..self.clone() }
    }
}

impl Heard for PulseConnector {
    type Id = ConnectorId;
    fn id(&self) -> &ConnectorId {
        &self.id
    }
    fn at(&self) -> Option<Timestamp> {
        self.confirmed_at
    }
    fn unheard(&self) -> Self {
        Self { confirmed_at: None, source: None, ..self.clone() }
    }
}
