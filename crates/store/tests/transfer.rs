//! The store in memory moves house.

use std::{any::Any, sync::Arc};

use pointsman_store::{ManualClock, MemStore, Transfer};

fn open(clock: ManualClock) -> (Arc<dyn Transfer>, Box<dyn Any>) {
    (Arc::new(MemStore::new(Arc::new(clock))), Box::new(()))
}

pointsman_store::transfer_tests!(open);
