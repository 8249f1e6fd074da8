//! How viewers read the ring.

use std::{collections::HashSet, sync::Arc};

use pointsman_store::Position;

use super::{Hub, ViewGroup};
use crate::frame::{EventRef, EventsFrame, ResyncReason};

/// What a viewer at some position should do.
pub(crate) enum Next {
    /// There is nothing after its position.
    Nothing,
    /// There is something after its position.
    Ahead,
    Resync(ResyncReason),
}

impl Hub {
    /// Where a viewer at `position` stands; `rebuilds` is how many it has seen.
    pub fn next(&self, position: &Position, joining: bool, rebuilds: u64) -> Next {
        let live = self.live.read();
        if position.epoch != live.epoch {
            return Next::Resync(ResyncReason::OtherEpoch);
        }
        if position.seq > live.view.seq {
            return Next::Resync(ResyncReason::BeyondHead);
        }
        if position.seq < live.ring.floor() {
            return Next::Resync(match (joining, rebuilds == live.rebuilds) {
                (true, _) => ResyncReason::NotKept,
                (false, true) => ResyncReason::TooSlow,
                (false, false) => ResyncReason::Rebuilt,
            });
        }
        if position.seq < live.view.seq { Next::Ahead } else { Next::Nothing }
    }

    /// The next group after `position`, or all there are as one, with the newest event of each
    /// record. What is from before this server came is one group. The position moves on also where
    /// nothing of the log shows in the view.
    pub fn pull(&self, position: &mut Position, conflate: bool) -> Option<EventsFrame> {
        let groups: Vec<Arc<ViewGroup>> = {
            let live = self.live.read();
            if position.epoch != live.epoch || position.seq < live.ring.floor() {
                return None;
            }
            let is_before = position.seq < live.began;
            let after = live.ring.after(position.seq);
            let groups: Vec<_> = match (conflate, is_before) {
                (true, _) => after.cloned().collect(),
                (false, true) => after.take_while(|g| g.seq <= live.began).cloned().collect(),
                (false, false) => after.take(1).cloned().collect(),
            };
            position.seq = match groups.last() {
                _ if !conflate && is_before => live.began,
                Some(last) if !conflate => last.seq,
                _ => live.view.seq.max(position.seq),
            };
            groups
        };
        let events = if conflate { newest(&groups) } else { all(&groups) };
        // The id is that of the last line: resuming there repeats nothing and misses nothing.
        let seq = events.last()?.seq();
        let position = Position { epoch: position.epoch.clone(), seq };
        Some(EventsFrame { position, events })
    }
}

fn all(groups: &[Arc<ViewGroup>]) -> Vec<EventRef> {
    let events = groups.iter().flat_map(|group| {
        (0..group.events.len()).map(|index| EventRef { group: group.clone(), index })
    });
    events.collect()
}

/// Only the newest event of each record, in the order of the log.
fn newest(groups: &[Arc<ViewGroup>]) -> Vec<EventRef> {
    let mut seen = HashSet::new();
    let mut events = Vec::new();
    for group in groups.iter().rev() {
        for (index, event) in group.events.iter().enumerate().rev() {
            if seen.insert(&event.event.key) {
                events.push(EventRef { group: group.clone(), index });
            }
        }
    }
    events.reverse();
    events
}

#[cfg(test)]
mod tests {
    use pointsman_core::Command;
    use pointsman_store::{
        Epoch, LogPage, ManualClock, MemStore, Store as _,
        conformance::fleet::{Fleet, spec},
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{BrokerConfig, hub::Tail};

    /// The view may be built anew between a viewer's look and what it pulls.
    #[tokio::test]
    async fn nothing_is_pulled_where_a_viewer_must_begin_anew() {
        let store = Arc::new(MemStore::new(Arc::new(ManualClock::default())));
        let fleet = Fleet::on(&store);
        let seed = store.seed().await.unwrap();
        let (epoch, tail) = (seed.position.epoch.clone(), Tail::none(0));
        let config = BrokerConfig { ring_groups: 1, ..BrokerConfig::default() };
        let hub = Hub::new(store.clone(), config.into(), seed, tail, CancellationToken::new());
        for _ in 0..2 {
            let job = fleet.submit(spec(50)).await;
            fleet.run(Command::Cancel { job }).await.unwrap();
        }
        let LogPage::Groups(groups) = store.log(0, 4).await.unwrap() else { panic!("cut") };
        assert!(hub.fold(&groups));
        let [not_kept, other] = [(epoch.clone(), 0), (Epoch::mint(), 3)];
        for (epoch, seq) in [not_kept, other] {
            let mut position = Position { epoch, seq };
            assert!(hub.pull(&mut position, false).is_none());
            assert_eq!(position.seq, seq, "it stays where it is");
        }
        assert!(hub.pull(&mut Position { epoch, seq: 3 }, false).is_some());
    }
}
