//! The store in memory passes the suite.

use std::{any::Any, sync::Arc};

use pointsman_store::{ManualClock, MemStore, Store};

fn open(clock: ManualClock) -> (Arc<dyn Store>, Box<dyn Any>) {
    (Arc::new(MemStore::new(Arc::new(clock))), Box::new(()))
}

pointsman_store::conformance_tests!(open);
