//! The rules: whether a worker may run the jobs of a class, and if not, why not.

use super::{Capabilities, Class, ask::Offer};
use crate::ids::WorkerId;

/// Whether a worker with these capabilities can serve the class, leaving aside whether this very
/// worker is ruled out by name; [`excludes`] says that. Allocates nothing.
pub fn able(class: &Class, capabilities: &Capabilities) -> bool {
    let offer = Offer::new(class, None, capabilities);
    class.asks().all(|ask| ask.is_met(&offer))
}

/// Whether the class rules this worker out by name, whatever it can do.
pub fn excludes(class: &Class, worker: &WorkerId) -> bool {
    class.excluded.contains(worker) || class.requirements.must_not.workers.contains(worker)
}
