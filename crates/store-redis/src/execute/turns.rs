//! Turns of one worker's commands.

use std::hash::{BuildHasher as _, RandomState};

use pointsman_core::WorkerId;

/// One worker's exchanges and renewals take turns: they would only overtake each other.
pub struct Turns {
    locks: Vec<tokio::sync::Mutex<()>>,
    hash: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            locks: (0..64).map(|_| tokio::sync::Mutex::default()).collect(),
            hash: RandomState::new(),
        }
    }
}

impl Turns {
    pub async fn of(&self, worker: &WorkerId) -> tokio::sync::MutexGuard<'_, ()> {
        let at = self.hash.hash_one(worker) as usize % self.locks.len();
        self.locks[at].lock().await
    }
}
