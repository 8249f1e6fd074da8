//! Which services a job may name: those that every version knows, and those that a worker brought.

use std::collections::BTreeSet;

use parking_lot::RwLock;
use pointsman_api::{ErrorCode, Problem};
use pointsman_broker::Broker;
use pointsman_core::ServiceName;

/// Known without any worker.
pub(crate) const BUILT_IN: [&str; 2] = ["comfyui", "simulation"];
/// Names remembered at most; beyond that only those of workers that are there count.
const REMEMBERED: usize = 1_000;

/// Services that workers brought, also workers that are gone meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Services {
    seen: RwLock<BTreeSet<ServiceName>>,
}

impl Services {
    pub async fn check(&self, broker: &Broker, service: &ServiceName) -> Result<(), Problem> {
        if BUILT_IN.contains(&service.as_str()) || self.seen.read().contains(service) {
            return Ok(());
        }
        // Workers of this process do not come in through a route, so the view is asked.
        let workers = broker.snapshot().await.workers;
        let brought = workers.iter().flat_map(|worker| &worker.services).map(|slots| &slots.name);
        let brought: BTreeSet<ServiceName> = brought.cloned().collect();
        self.remember(&brought);
        if brought.contains(service) {
            return Ok(());
        }
        let others = self.seen.read();
        let known: BTreeSet<&str> =
            BUILT_IN.into_iter().chain(others.iter().map(ServiceName::as_str)).collect();
        let known: Vec<&str> = known.into_iter().take(50).collect();
        Err(Problem::new(
            ErrorCode::UnknownService,
            format!("no worker ever brought the service {service}"),
        )
        .at("/service")
        .cure(format!("use one of {}; or start a worker that brings it first", known.join(", "))))
    }

    pub fn remember<'a>(&self, names: impl IntoIterator<Item = &'a ServiceName>) {
        let mut seen = self.seen.write();
        for name in names {
            if seen.len() < REMEMBERED && !BUILT_IN.contains(&name.as_str()) {
                seen.insert(name.clone());
            }
        }
    }
}
