//! Workers that wait, on their way into the state. They need no thread's attention: the writer
//! lets them in before it applies what may bring them work.

use parking_lot::Mutex;
use pointsman_core::{ServiceName, WorkerId};
use pointsman_store::{State, WorkHint};
use tokio::sync::oneshot;

/// Beyond that a hint ends at once: "look now" is never wrong.
const MAX_ENTERING: usize = 10_000;

struct Entering {
    worker: WorkerId,
    services: Vec<ServiceName>,
    wake: oneshot::Sender<()>,
}

/// `None` once the store is closed.
pub(crate) struct WaitingRoom(Mutex<Option<Vec<Entering>>>);

impl Default for WaitingRoom {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl WaitingRoom {
    pub fn enter(&self, worker: WorkerId, services: Vec<ServiceName>) -> WorkHint {
        let (wake, hint) = WorkHint::new();
        if let Some(entering) = self.0.lock().as_mut().filter(|all| all.len() < MAX_ENTERING) {
            entering.push(Entering { worker, services, wake });
        }
        hint
    }

    /// To be called before a batch is applied. Whoever came before the batch's first request was
    /// queued waits by then; so nobody who waits and then looks misses what comes in between.
    pub fn admit(&self, state: &mut State) {
        let entering = self.0.lock().as_mut().map(std::mem::take);
        for Entering { worker, services, wake } in entering.into_iter().flatten() {
            if !wake.is_closed() {
                state.wait_for_work(worker, services, wake);
            }
        }
    }

    pub fn close(&self) {
        drop(self.0.lock().take());
    }
}
