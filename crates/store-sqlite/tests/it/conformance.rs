//! The suite that every store passes.

use std::{any::Any, sync::Arc};

use pointsman_store::{Clock, ManualClock, Store};
use pointsman_store_sqlite::{Options, SqliteStore};

fn open(clock: ManualClock) -> (Arc<dyn Store>, Box<dyn Any>) {
    let dir = tempfile::tempdir().unwrap();
    let clock: Option<Arc<dyn Clock>> = Some(Arc::new(clock));
    let options = Options { clock, contact_gap: None, reserve_bytes: 0, ..Options::default() };
    (Arc::new(SqliteStore::open(dir.path(), options).unwrap()), Box::new(dir))
}

pointsman_store::conformance_tests!(open);
