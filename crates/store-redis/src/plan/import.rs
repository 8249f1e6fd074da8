//! What an import writes: records as they are with all their indexes, and no events.

use pointsman_core::{Record, Timestamp, WorkerId, decide::Side};
use pointsman_store::transfer::Item;

use super::{Plan, Stamps};
use crate::encoding::{fields, keys};

impl Plan {
    /// Puts items into a store that an import fills.
    pub fn of_items(items: &[Item], now: Timestamp) -> Self {
        let mut plan = Self { during_import: Some("items"), ..Self::default() };
        for item in items {
            plan.put(item, now);
        }
        plan
    }

    /// Copies of connectors' statuses, once all records are there.
    pub fn of_statuses<'a>(copies: impl IntoIterator<Item = &'a (WorkerId, String)>) -> Self {
        let mut plan = Self { during_import: Some("items"), ..Self::default() };
        for (worker, statuses) in copies {
            plan.copy_statuses(worker, statuses);
        }
        plan
    }

    fn put(&mut self, item: &Item, now: Timestamp) {
        match item {
            Item::Record(record) => self.put_record(record),
            Item::Side(Side::Idempotency { key, kept }) => {
                // What is over is no longer kept.
                let life = kept.until.since(now).as_millis();
                if life > 0 {
                    self.keep_idempotency(key, kept, life);
                }
            }
            Item::Side(side) => self.side(side),
        }
    }

    fn put_record(&mut self, record: &Record) {
        let key = record.key();
        self.indexes.set_fields(keys::record(&key), &fields::of_record(record));
        self.indexes.follow(&key, None, Some(record), Stamps::default());
    }
}
