//! The oldest job of a class. A queue is in the order of claims, so it is looked
//! for among the first of each priority: one step a priority, all classes together.

use pointsman_core::{JobId, RecordKey, Timestamp, matching::ClassKey};
use pointsman_store::StoreError;
use redis::Value;
use serde::{Deserialize as _, de::IntoDeserializer as _};

use crate::{
    encoding::keys::{self, PLACE_BITS},
    link::{list, text},
    store::Inner,
};

/// Jobs asked for at once.
const CHUNK: usize = 1_000;

/// When it was submitted, and which it is.
pub type Oldest = (Timestamp, JobId);

/// The first job of a priority.
struct First {
    /// Which of the classes.
    class: usize,
    rank: u64,
    job: JobId,
}

impl Inner {
    /// Of each class; none where nothing waits.
    pub(super) async fn oldest_waiting(
        &self,
        classes: &[ClassKey],
    ) -> Result<Vec<Option<Oldest>>, StoreError> {
        let mut pipeline = redis::pipe();
        for key in classes {
            for end in [0, -1] {
                let queue = self.key(&keys::queue(key));
                pipeline.cmd("ZRANGE").arg(queue).arg(end).arg(end).arg("WITHSCORES");
            }
        }
        let ends = self.link.send_passing(&pipeline).await?;
        let mut firsts = Vec::with_capacity(classes.len());
        // Where lower priorities wait too.
        let mut on = Vec::new();
        for (class, ends) in ends.chunks_exact(2).enumerate() {
            let (Some(first), Some(last)) = (first(class, &ends[0]), first(class, &ends[1])) else {
                continue;
            };
            on.extend((first.rank < last.rank).then_some((class, first.rank + 1)));
            firsts.push(first);
        }
        while !on.is_empty() {
            let mut pipeline = redis::pipe();
            for (class, rank) in &on {
                let queue = self.key(&keys::queue(&classes[*class]));
                pipeline.cmd("ZRANGE").arg(queue).arg(rank << PLACE_BITS).arg("+inf");
                pipeline.arg("BYSCORE").arg("LIMIT").arg(0).arg(1).arg("WITHSCORES");
            }
            let found = self.link.send_passing(&pipeline).await?;
            let next = on.iter().zip(&found).filter_map(|((class, _), value)| first(*class, value));
            let next: Vec<First> = next.collect();
            on = next.iter().map(|first| (first.class, first.rank + 1)).collect();
            firsts.extend(next);
        }
        self.oldest_of(classes.len(), &firsts).await
    }

    async fn oldest_of(
        &self,
        classes: usize,
        firsts: &[First],
    ) -> Result<Vec<Option<Oldest>>, StoreError> {
        let mut oldest: Vec<Option<Oldest>> = vec![None; classes];
        for firsts in firsts.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for first in firsts {
                let record = self.key(&keys::record(&RecordKey::Job(first.job)));
                pipeline.cmd("HGET").arg(record).arg("created_at");
            }
            let created = self.link.send_each(&pipeline).await?;
            for (first, created) in firsts.iter().zip(&created) {
                // It has gone meanwhile, or is damaged, which the doctor tells.
                let Some(at) = created.as_ref().ok().and_then(|created| time(&text(created)))
                else {
                    continue;
                };
                let oldest = &mut oldest[first.class];
                let this = (at, first.job);
                *oldest = Some(oldest.map_or(this, |oldest| oldest.min(this)));
            }
        }
        Ok(oldest)
    }
}

fn first(class: usize, found: &Value) -> Option<First> {
    let [member, score] = list(found) else { return None };
    let score = text(score).parse::<f64>().ok()?;
    let job = text(member).split_once(':')?.1.parse().ok()?;
    Some(First { class, rank: score as u64 >> PLACE_BITS, job })
}

fn time(text: &str) -> Option<Timestamp> {
    let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        text.into_deserializer();
    Timestamp::deserialize(text).ok()
}
