//! A class taken apart into the single things it asks for. This is the only place where a
//! requirement is held against a worker, so that matching and explaining never disagree.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Capabilities, Class, Condition, CustomerRules, Hardware, Isolation, Requirements,
    ServiceCapabilities,
    requirements::{CustomerNeeds, MustNot},
};
use crate::ids::{CustomerId, ServiceName, WorkerId};

/// One thing that a class asks of a worker.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask<'a> {
    Service(&'a ServiceName),
    /// Requirements that this version cannot read: nobody meets them.
    Unknown,
    /// GiB of the largest GPU.
    GpuMemory(f64),
    GpuCount(u32),
    CpuCores(u32),
    /// GiB.
    Ram(f64),
    /// Holds for jobs without a customer too: a worker may serve only certain customers.
    Customer(Option<&'a CustomerId>),
    Isolation(Isolation),
    Label(&'a str, &'a Condition),
    MustNotLabel(&'a str, &'a Condition),
    Models(&'a BTreeSet<String>),
    NodeClasses(&'a BTreeSet<String>),
    MustNotModels(&'a BTreeSet<String>),
    MustNotWorkers(&'a BTreeSet<WorkerId>),
    Excluded(&'a BTreeSet<WorkerId>),
}

/// What a worker holds against the asks of one class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer<'a> {
    /// `None` stands for any worker that the class does not rule out by name.
    pub(super) worker: Option<&'a WorkerId>,
    pub(super) capabilities: &'a Capabilities,
    /// The service that the class needs, if the worker has it.
    pub(super) service: Option<&'a ServiceCapabilities>,
}

impl<'a> Offer<'a> {
    pub(super) fn new(
        class: &Class,
        worker: Option<&'a WorkerId>,
        capabilities: &'a Capabilities,
    ) -> Self {
        Self { worker, capabilities, service: capabilities.services.get(&class.service) }
    }

    /// GiB of the largest GPU; 0 without a GPU.
    pub(super) fn gpu_memory_gb(&self) -> f64 {
        let memory = self.capabilities.hardware.gpus.iter().map(|gpu| gpu.memory_gb);
        memory.fold(0.0, f64::max)
    }
}

impl Class {
    /// Everything the class asks for, cheap questions first. Empty sets are not asked.
    pub(super) fn asks(&self) -> impl Iterator<Item = Ask<'_>> {
        // Taken apart without `..`: a new requirement does not compile until it is asked here.
        let Self { service, requirements, customer, excluded } = self;
        let Requirements {
            hardware: Hardware { gpu_memory_gb, gpu_count, cpu_cores, ram_gb },
            models,
            node_classes,
            labels,
            must_not: MustNot { models: bad_models, workers: bad_workers, labels: bad_labels },
            customer: CustomerNeeds { isolation },
            prefer: _,
            unknown,
        } = &**requirements;
        let first = [
            Some(Ask::Service(service)),
            unknown.as_ref().map(|_| Ask::Unknown),
            gpu_memory_gb.map(Ask::GpuMemory),
            gpu_count.map(Ask::GpuCount),
            cpu_cores.map(Ask::CpuCores),
            ram_gb.map(Ask::Ram),
            Some(Ask::Customer(customer.as_ref())),
            isolation.map(Ask::Isolation),
        ];
        let last = [
            some(models).map(Ask::Models),
            some(node_classes).map(Ask::NodeClasses),
            some(bad_models).map(Ask::MustNotModels),
            some(bad_workers).map(Ask::MustNotWorkers),
            some(excluded).map(Ask::Excluded),
        ];
        first
            .into_iter()
            .flatten()
            .chain(conditions(labels, Ask::Label))
            .chain(conditions(bad_labels, Ask::MustNotLabel))
            .chain(last.into_iter().flatten())
    }
}

fn some<T>(set: &BTreeSet<T>) -> Option<&BTreeSet<T>> {
    (!set.is_empty()).then_some(set)
}

fn conditions<'a>(
    conditions: &'a BTreeMap<String, Condition>,
    ask: fn(&'a str, &'a Condition) -> Ask<'a>,
) -> impl Iterator<Item = Ask<'a>> {
    conditions.iter().map(move |(label, condition)| ask(label, condition))
}

impl Ask<'_> {
    /// Whether the worker gives what is asked. Comparisons with NaN are false: not able.
    pub(super) fn is_met(&self, offer: &Offer<'_>) -> bool {
        let Capabilities { services: _, hardware, labels, customers } = offer.capabilities;
        match *self {
            Self::Service(_) => offer.service.is_some(),
            Self::Unknown => false,
            Self::GpuMemory(gb) => offer.gpu_memory_gb() >= gb,
            Self::GpuCount(count) => hardware.gpus.len() >= count as usize,
            Self::CpuCores(count) => hardware.cpu_cores >= count,
            Self::Ram(gb) => hardware.ram_gb >= gb,
            Self::Customer(customer) => customers.serves(customer),
            Self::Isolation(Isolation::Loose) => true,
            Self::Isolation(Isolation::Strict) => customers.isolation == Some(Isolation::Strict),
            Self::Label(label, condition) => {
                labels.get(label).is_some_and(|value| condition.holds(value))
            }
            Self::MustNotLabel(label, condition) => !condition.rules_out(labels.get(label)),
            Self::Models(wanted) => offer.service.is_some_and(|has| wanted.is_subset(&has.models)),
            Self::NodeClasses(wanted) => {
                offer.service.is_some_and(|has| wanted.is_subset(&has.node_classes))
            }
            Self::MustNotModels(unwanted) => offer
                .service
                .is_none_or(|has| !unwanted.iter().any(|model| has.models.contains(model))),
            Self::MustNotWorkers(ids) | Self::Excluded(ids) => {
                offer.worker.is_none_or(|worker| !ids.contains(worker))
            }
        }
    }
}

impl CustomerRules {
    /// Whether the worker serves this customer's jobs, or, with `None`, jobs without a customer.
    /// A customer that is both allowed and denied is denied.
    pub fn serves(&self, customer: Option<&CustomerId>) -> bool {
        let listed = |list: &BTreeSet<_>| customer.is_some_and(|customer| list.contains(customer));
        self.allowed.as_ref().is_none_or(listed) && !listed(&self.denied)
    }
}
