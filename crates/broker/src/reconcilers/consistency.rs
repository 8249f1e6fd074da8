//! Records that contradict each other. No transition makes any, so each is a fault of this program
//! or of the disk: it is shown, and stays shown until it is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use pointsman_core::{
    Command, RecordKey, WorkerId,
    command::Raise,
    record::{AlertId, AlertRule, Severity},
};
use pointsman_store::{Contradiction, StoreError};

use super::{Outcome, Reconciler, World};

/// Alerts at most; the log has them all.
const MAX_SHOWN: usize = 100;

pub(super) struct Consistency;

#[async_trait]
impl Reconciler for Consistency {
    fn name(&self) -> &'static str {
        "consistency"
    }

    fn period(&self) -> Duration {
        // It looks at every record.
        Duration::from_secs(60)
    }

    async fn reconcile(&self, world: &World) -> Result<Outcome, StoreError> {
        let found = world.store().contradictions().await?;
        for Contradiction { about, message } in &found {
            let (kind, id) = (about.kind(), about.id());
            tracing::error!(?kind, id, message, "records contradict each other");
        }
        let repaired = world.execute(repairs(&found)).await?;
        // What a repair mended is no alert, unless it is found again.
        let found = match repaired.done {
            0 => found,
            _ => world.store().contradictions().await?,
        };
        // One alert a record, with the first thing that is wrong with it.
        let mut wanted: BTreeMap<AlertId, Raise> = BTreeMap::new();
        for raise in found.iter().map(inconsistent) {
            if wanted.len() < MAX_SHOWN {
                wanted.entry(raise.alert.clone()).or_insert(raise);
            }
        }
        let wanted = wanted.into_values().collect();
        let told = world.bring_about(&[AlertRule::Inconsistent], wanted).await?;
        let (done, refused) = (repaired.done + told.done, repaired.refused + told.refused);
        Ok(Outcome { done, refused })
    }
}

/// What is safe to repair: lists and statuses of workers, which follow from the jobs' records.
fn repairs(found: &[Contradiction]) -> Vec<Command> {
    let workers: BTreeSet<WorkerId> = found
        .iter()
        .filter_map(|contradiction| match &contradiction.about {
            RecordKey::Worker(id) => Some(id.clone()),
            RecordKey::Connector(id) => Some(id.worker.clone()),
            _ => None,
        })
        .collect();
    workers.into_iter().take(MAX_SHOWN).map(|worker| Command::Repair { worker }).collect()
}

fn inconsistent(Contradiction { about, message }: &Contradiction) -> Raise {
    let kind = serde_json::to_value(about.kind()).ok();
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or("record").to_owned();
    Raise {
        alert: AlertId { rule: AlertRule::Inconsistent, subject: format!("{kind}/{}", about.id()) },
        severity: Severity::Critical,
        message: format!("the record of {kind} {} contradicts others: {message}", about.id()),
        action: "run `pointsman doctor`; please report it with the log around this time".into(),
    }
}
