//! The reconcilers: each looks at its period, by itself, at what should be different, and asks the
//! store to change it. None takes input, each may be run twice in a row without harm, and each
//! shows what it did last.

mod alerts;
mod consistency;
mod contact;
mod due;
mod status;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pointsman_core::{Command, Rejected};
use pointsman_store::{Due, MAX_DUE, Store, StoreError};
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

use crate::hub::Hub;
use contact::Absence;
pub use status::ReconcilerStatus;
pub(crate) use status::Statuses;

/// What failed is tried again after this, or after its period where that is longer.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// One reconciler.
#[async_trait]
trait Reconciler: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    fn period(&self) -> Duration;
    /// Answers how many commands the store carried out.
    async fn reconcile(&self, world: &World) -> Result<u64, StoreError>;
}

/// What reconcilers work on.
pub(crate) struct World {
    hub: Arc<Hub>,
    absence: Absence,
    statuses: Arc<Statuses>,
}

/// Starts all of them.
pub(crate) fn spawn(hub: &Arc<Hub>, statuses: &Arc<Statuses>, tracker: &TaskTracker) {
    let world = Arc::new(World::new(hub.clone(), statuses.clone()));
    let due = due::all(hub.config.retention).map(|due| Box::new(due) as Box<dyn Reconciler>);
    let own: [Box<dyn Reconciler>; 2] =
        [Box::<alerts::Alerts>::default(), Box::<consistency::Consistency>::default()];
    for reconciler in due.into_iter().chain(own) {
        let world = world.clone();
        tracker.spawn(async move {
            let stop = world.hub.stop.clone();
            stop.run_until_cancelled(run(reconciler, &world)).await;
        });
    }
}

async fn run(reconciler: Box<dyn Reconciler>, world: &World) {
    let mut every = tokio::time::interval(reconciler.period());
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let outcome = reconciler.reconcile(world).await;
        world.hub.troubles.tried(reconciler.name(), &outcome);
        if outcome.is_err() {
            every.reset_after(reconciler.period().max(TRY_AGAIN));
        }
        world.statuses.ran(reconciler.name(), world.store(), outcome);
    }
}

impl World {
    pub fn new(hub: Arc<Hub>, statuses: Arc<Statuses>) -> Self {
        Self { hub, absence: Absence::default(), statuses }
    }

    fn store(&self) -> &dyn Store {
        &*self.hub.store
    }

    /// Does what is due of a kind: what follows from somebody's silence only if it was not the broker
    /// or the store that was away; else every deadline starts anew.
    async fn settle(&self, what: Due) -> Result<u64, StoreError> {
        if what.is_silence() {
            self.absence.check(self.store()).await?;
        }
        let mut total = 0;
        loop {
            let due = self.store().due(what).await.inspect_err(|_| {
                // A store that cannot be read cannot be told of a heartbeat either. (One that cannot
                // be written to, as its disk is full, still hears who is there.)
                if what.is_silence() {
                    self.absence.suspect();
                }
            })?;
            let full = due.len() >= MAX_DUE;
            let done = self.execute(due.into_iter().map(Command::Reconcile).collect()).await?;
            total += done;
            // A full answer means that there is more; one that changed nothing would come again.
            if !full || done == 0 {
                return Ok(total);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Answers how many of the commands were carried out.
    async fn execute(&self, commands: Vec<Command>) -> Result<u64, StoreError> {
        if commands.is_empty() {
            return Ok(0);
        }
        let mut carried_out = 0;
        for done in self.store().execute(commands).await? {
            match done {
                Ok(_) => carried_out += 1,
                // Its reason does not hold any more.
                Err(Rejected::NotDue) => {}
                Err(why) => {
                    self.hub.refused(&why);
                    tracing::debug!(%why, "a reconciler's command was refused");
                }
            }
        }
        Ok(carried_out)
    }
}
