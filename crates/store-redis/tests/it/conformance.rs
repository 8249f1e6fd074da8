//! The suite that every store passes.

use crate::support::open;

pointsman_store::conformance_tests!(open);
