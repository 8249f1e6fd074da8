//! Operations that the store cannot take for now, as what they are about is damaged there.

use std::{collections::HashSet, sync::Arc, time::Duration};

use pointsman_core::{Outage, Rejected, command::Op};
use tokio::time::Instant;

use crate::attempt::Attempt;

/// They are said again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Kept, so that everything else goes on meanwhile.
#[derive(Default)]
pub(crate) struct PutOff {
    ops: Vec<(Arc<Attempt>, Op)>,
    again_at: Option<Instant>,
    damage: Outage,
}

impl PutOff {
    pub(crate) fn add(&mut self, attempt: Arc<Attempt>, op: Op, why: &Rejected) {
        let (why, now) = (why.to_string(), Instant::now());
        if self.damage.failed(&why, now.into_std()) {
            tracing::error!(job = %attempt.held().job, why, "not taken: kept and said again");
        }
        self.again_at = Some(now + AGAIN_AFTER);
        self.ops.push((attempt, op));
    }

    /// What was said is answered: where nothing was put off again, the damage is mended.
    pub(crate) fn answered(&mut self) {
        if self.ops.is_empty()
            && let Some(after) = self.damage.works(Instant::now().into_std())
        {
            tracing::info!(?after, "what was kept is taken");
        }
    }

    /// Takes what follows in an attempt of which something is kept: it must not overtake that.
    pub(crate) fn take_followers(&mut self, ops: &mut Vec<(Arc<Attempt>, Op)>) {
        if self.ops.is_empty() {
            return;
        }
        let kept: HashSet<_> = self.ops.iter().map(|(attempt, _)| attempt.held().token).collect();
        self.ops.extend(ops.extract_if(.., |(attempt, _)| kept.contains(&attempt.held().token)));
    }

    /// When they are due; none when there are none.
    pub(crate) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Those that are due are said again.
    pub(crate) fn take_due(&mut self) -> Vec<(Arc<Attempt>, Op)> {
        match self.again_at {
            Some(at) if at <= Instant::now() => {
                self.again_at = None;
                std::mem::take(&mut self.ops)
            }
            _ => Vec::new(),
        }
    }
}
