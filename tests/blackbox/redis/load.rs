//! Submitters that go on through every fault; only what was acknowledged counts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use pointsman_client::Client;
use pointsman_core::JobId;
use tokio::{task::JoinSet, time::Instant};

use super::fleet::SOON;
use crate::harness::simulation;

/// At each server.
const SUBMITTERS: usize = 3;
/// How long one of these jobs takes.
const SHORT_MS: u64 = 20;
const AFTER_A_FAILURE: Duration = Duration::from_millis(50);

/// Load on some servers, until it is stopped.
pub struct Load {
    acknowledged: Arc<Mutex<BTreeMap<JobId, Instant>>>,
    failures: Arc<Mutex<usize>>,
    submitters: JoinSet<()>,
}

impl Load {
    pub fn on(clients: &[&Client]) -> Self {
        let acknowledged: Arc<Mutex<BTreeMap<JobId, Instant>>> = Arc::default();
        let failures: Arc<Mutex<usize>> = Arc::default();
        let mut submitters = JoinSet::new();
        for client in clients.iter().flat_map(|client| [client; SUBMITTERS]) {
            let client = (*client).clone();
            let (acknowledged, failures) = (acknowledged.clone(), failures.clone());
            submitters.spawn(async move {
                loop {
                    match client.submit(&simulation(SHORT_MS)).await {
                        Ok(submitted) => {
                            acknowledged.lock().insert(submitted.job.id, Instant::now());
                        }
                        Err(_) => {
                            *failures.lock() += 1;
                            tokio::time::sleep(AFTER_A_FAILURE).await;
                        }
                    }
                }
            });
        }
        Self { acknowledged, failures, submitters }
    }

    /// Waits for so many acknowledgements more.
    pub async fn goes_on(&self, more: usize) {
        let enough = self.acknowledged.lock().len() + more;
        let deadline = Instant::now() + SOON;
        while self.acknowledged.lock().len() < enough {
            assert!(Instant::now() < deadline, "submissions are accepted");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What was acknowledged, and when; and how many submissions failed.
    pub async fn stop(mut self) -> (BTreeMap<JobId, Instant>, usize) {
        self.submitters.shutdown().await;
        let acknowledged = self.acknowledged.lock().clone();
        (acknowledged, *self.failures.lock())
    }
}
