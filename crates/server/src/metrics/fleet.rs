//! What stands now, counted from the view: the same on every server of a fleet.

use std::{collections::BTreeMap, sync::atomic::AtomicU64};

use pointsman_broker::Snapshot;
use pointsman_core::record::{ConnectorStatus, MachineStatus, WorkerStatus};
use pointsman_store::Counts;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::gauge;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Connector {
    service: String,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Alert {
    rule: &'static str,
    severity: &'static str,
}

type ByStatus = Family<Status, Gauge>;

#[derive(Default)]
pub(super) struct Fleet {
    jobs: ByStatus,
    classes: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    machines: ByStatus,
    workers: ByStatus,
    connectors: Family<Connector, Gauge>,
    alerts: Family<Alert, Gauge>,
}

impl Fleet {
    pub fn new(registry: &mut Registry) -> Self {
        let fleet = Self::default();
        let help = "Jobs that are kept, by status; pending are those in their queues, held those \
                    that are pending and not in them";
        registry.register("jobs", help, fleet.jobs.clone());
        registry.register("classes", "Live classes of jobs", fleet.classes.clone());
        let help = "Age of the oldest waiting job";
        registry.register_with_unit("oldest_waiting", help, Unit::Seconds, fleet.oldest.clone());
        let help = "Machines that are known, by status";
        registry.register("machines", help, fleet.machines.clone());
        registry.register("workers", "Workers that are known, by status", fleet.workers.clone());
        let help = "Connectors that are known, by status";
        registry.register("connectors", help, fleet.connectors.clone());
        registry.register("alerts", "Alerts that stand, by rule", fleet.alerts.clone());
        fleet
    }

    pub fn set(&self, snapshot: &Snapshot) {
        if let Some(queues) = &snapshot.lanes.queues {
            let queues = &queues.queues;
            self.count_jobs(&queues.counts);
            let oldest = queues.classes.iter().filter_map(|class| class.oldest_at).min();
            self.oldest.set(oldest.map_or(0.0, |at| snapshot.at.since(at).as_secs_f64()));
        }
        for status in MachineStatus::ALL {
            let count = snapshot.machines.iter().filter(|machine| machine.status == status).count();
            set(&self.machines, status.as_str(), count);
        }
        // `corrupted` is reserved: no worker is.
        for status in WorkerStatus::ALL.into_iter().filter(|s| *s != WorkerStatus::Corrupted) {
            let count = snapshot.workers.iter().filter(|worker| worker.status == status).count();
            set(&self.workers, status.as_str(), count);
        }
        self.count_connectors(snapshot);
        self.count_alerts(snapshot);
    }

    fn count_jobs(&self, counts: &Counts) {
        for (status, count) in [
            ("pending", counts.pending),
            ("held", counts.held),
            ("assigned", counts.assigned),
            ("in_progress", counts.in_progress),
            ("completed", counts.completed),
            ("failed", counts.failed),
            ("cancelled", counts.cancelled),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.jobs.get_or_create(&Status { status }).set(count);
        }
        self.classes.set(i64::try_from(counts.classes).unwrap_or(i64::MAX));
    }

    fn count_connectors(&self, snapshot: &Snapshot) {
        let mut counts: BTreeMap<&str, [usize; ConnectorStatus::ALL.len()]> = BTreeMap::new();
        for connector in &snapshot.connectors {
            let of_service = counts.entry(connector.service_type.as_str()).or_default();
            for (n, status) in of_service.iter_mut().zip(ConnectorStatus::ALL) {
                *n += usize::from(connector.status == status);
            }
        }
        // What is known no more has no series any more.
        self.connectors.clear();
        for (service, counts) in counts {
            for (status, count) in ConnectorStatus::ALL.into_iter().zip(counts) {
                let label = Connector { service: service.to_owned(), status: status.as_str() };
                self.connectors.get_or_create(&label).set(gauge(count));
            }
        }
    }

    fn count_alerts(&self, snapshot: &Snapshot) {
        self.alerts.clear();
        for alert in &snapshot.alerts {
            let (rule, severity) = (alert.rule.as_str(), alert.severity.as_str());
            self.alerts.get_or_create(&Alert { rule, severity }).inc();
        }
    }
}

fn set(family: &ByStatus, status: &'static str, count: usize) {
    family.get_or_create(&Status { status }).set(gauge(count));
}
