//! Reads the log: by the store's feed, and by itself once a second, so that a lost hint costs
//! time and never a change.

use std::{sync::Arc, time::Duration};

use pointsman_core::LogGroup;
use pointsman_store::{LogPage, Seed, Store, StoreError};
use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::MissedTickBehavior,
};

use super::{
    Hub,
    tail::{Ended, Tail},
};

const SLOW_LOOK: Duration = Duration::from_secs(1);
/// Groups folded in under one lock, and read from the log at once.
pub(super) const BATCH: usize = 256;

/// The task that keeps the hub's view the store's.
pub(crate) struct Follower {
    hub: Arc<Hub>,
    /// `None` once the store has closed it.
    feed: Option<Receiver<Arc<LogGroup>>>,
}

impl Follower {
    /// `feed` is the one that [`begin`] answered with the hub's seed.
    pub fn new(hub: Arc<Hub>, feed: Receiver<Arc<LogGroup>>) -> Self {
        Self { hub, feed: Some(feed) }
    }

    /// Follows until the hub stops.
    pub async fn run(mut self) {
        let stop = self.hub.stop.clone();
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&mut self) {
        let mut slow = tokio::time::interval(SLOW_LOOK);
        slow.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let received = tokio::select! {
                _ = slow.tick() => None,
                received = next_group(&mut self.feed) => Some(received),
            };
            let looked = match received {
                Some(Ok(group)) => self.take(group).await,
                Some(Err(RecvError::Lagged(_))) | None => self.look().await,
                Some(Err(RecvError::Closed)) => {
                    self.feed = None;
                    continue;
                }
            };
            self.hub.troubles.tried("log", &looked);
            if let Err(error) = looked {
                self.hub.contact.trouble(error.to_string());
            }
        }
    }

    /// Folds in what the feed holds; where something is missing before it, reads the log.
    async fn take(&mut self, first: Arc<LogGroup>) -> Result<(), StoreError> {
        let mut groups = vec![first];
        let mut end = TryRecvError::Empty;
        while groups.len() < BATCH {
            match self.feed.as_mut().map_or(Err(TryRecvError::Closed), Receiver::try_recv) {
                Ok(group) => groups.push(group),
                Err(why) => {
                    end = why;
                    break;
                }
            }
        }
        // Where the feed lags, the next that it has shows that something is missing before it.
        if self.hub.store.epoch() != self.hub.position().epoch || !self.hub.fold(&groups) {
            return self.look().await;
        }
        if groups.len() < BATCH && end == TryRecvError::Empty {
            self.hub.contact.at_end(self.hub.store.now());
        }
        Ok(())
    }

    /// Reads the log to its end.
    async fn look(&mut self) -> Result<(), StoreError> {
        let store = self.hub.store.clone();
        let mut rebuilt = false;
        loop {
            let page = store.log(self.hub.seq(), BATCH).await?;
            if store.epoch() != self.hub.position().epoch {
                // It came from another history than the one it was asked of.
                self.rebuild().await?;
                rebuilt = true;
                continue;
            }
            match page {
                LogPage::Groups(groups) if groups.is_empty() => {
                    self.hub.contact.at_end(store.now());
                    return Ok(());
                }
                LogPage::Groups(groups) if self.hub.fold(&groups) => {}
                LogPage::Groups(_) | LogPage::Cut { .. } if rebuilt => {
                    return Err(StoreError::Failed("the log has a hole after its seed".into()));
                }
                LogPage::Groups(_) | LogPage::Cut { .. } => {
                    self.rebuild().await?;
                    rebuilt = true;
                }
            }
        }
    }

    async fn rebuild(&mut self) -> Result<(), StoreError> {
        let (feed, seed) = begin(&*self.hub.store).await?;
        tracing::warn!(position = %seed.position, "the view is built anew");
        self.hub.rebuild(seed);
        self.feed = Some(feed);
        Ok(())
    }
}

/// Where a server begins: a feed, the seed it goes on from, and what was just before it, as far as
/// that can be had.
pub(crate) async fn begin_with_tail(
    store: &dyn Store,
) -> Result<(Receiver<Arc<LogGroup>>, Seed, Tail), StoreError> {
    let ended = Ended::read(store).await;
    let (feed, seed) = begin(store).await?;
    let tail = match ended {
        Ok(ended) => Tail::read(store, &seed, &ended).await,
        Err(error) => Err(error),
    };
    let tail = tail.unwrap_or_else(|error| {
        tracing::warn!(%error, "viewers that come from elsewhere begin anew: the log is not read");
        Tail::none(seed.position.seq)
    });
    Ok((feed, seed, tail))
}

/// A feed, and the seed it goes on from. Subscribed before the seed is read: what happens in between
/// is in one or the other. A feed that began in another epoch may hold groups of that one.
async fn begin(store: &dyn Store) -> Result<(Receiver<Arc<LogGroup>>, Seed), StoreError> {
    loop {
        let epoch = store.epoch();
        let feed = store.subscribe();
        let seed = store.seed().await?;
        if seed.position.epoch == epoch {
            return Ok((feed, seed));
        }
    }
}

async fn next_group(
    feed: &mut Option<Receiver<Arc<LogGroup>>>,
) -> Result<Arc<LogGroup>, RecvError> {
    match feed {
        Some(feed) => feed.recv().await,
        None => std::future::pending().await,
    }
}
