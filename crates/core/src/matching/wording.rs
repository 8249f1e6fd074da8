//! The asks in words, for people who look into why a job waits.

use std::{collections::BTreeSet, fmt::Display};

use super::{
    Class,
    ask::{Ask, Offer},
    capabilities::ServiceCapabilities,
};
use crate::bounds::brief;

/// How many entries of a list are spelled out.
const SHOWN: usize = 10;

/// The first ten entries, and how many more there are.
pub(super) fn listed<T: Display>(entries: impl IntoIterator<Item = T>) -> String {
    let mut entries = entries.into_iter();
    let shown: Vec<String> = entries.by_ref().take(SHOWN).map(|entry| entry.to_string()).collect();
    match entries.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Asks of a class that are spelled out in a sentence.
const ASKS: usize = 4;

impl Class {
    /// What it asks for beside its service, in a few words; none where it asks for nothing.
    pub fn wants(&self) -> Option<String> {
        let said = |ask: &Ask<'_>| !matches!(ask, Ask::Service(_) | Ask::Customer(None));
        let mut asks = self.asks().filter(said);
        let first: Vec<String> = asks.by_ref().take(ASKS).map(|ask| brief(&ask.wanted())).collect();
        match asks.count() {
            0 if first.is_empty() => None,
            0 => Some(first.join("; ")),
            more => Some(format!("{}; and {more} more", first.join("; "))),
        }
    }
}

/// Wanted by a job of which some workers are excluded.
pub(super) const EXCLUDED: &str = "none of the workers excluded for this job";

/// Found where a worker registered before its service ever answered.
pub(super) const NOT_KNOWN: &str = "not known yet: its service has not answered";

fn is_unknown(service: &ServiceCapabilities) -> bool {
    *service == ServiceCapabilities::default()
}

impl<'a> Ask<'a> {
    /// The names that the worker's service has not, of models or node classes; none where another thing
    /// is asked, or it is not known.
    pub(super) fn missing(&self, offer: &Offer<'_>) -> Option<BTreeSet<&'a str>> {
        let has = offer.service.filter(|has| !is_unknown(has))?;
        let (wanted, has) = match *self {
            Self::Models(wanted) => (wanted, &has.models),
            Self::NodeClasses(wanted) => (wanted, &has.node_classes),
            _ => return None,
        };
        let missing = wanted.iter().filter(|name| !has.contains(*name));
        Some(missing.map(String::as_str).collect())
    }

    /// Some of the names that it asks for, such as `the models A, B`.
    pub(super) fn named(&self, names: &BTreeSet<&str>) -> String {
        let noun = match (self, names.len()) {
            (Self::Models(_), 1) => "model",
            (Self::Models(_), _) => "models",
            (_, 1) => "node class",
            (_, _) => "node classes",
        };
        format!("the {noun} {}", listed(names))
    }

    /// What is asked, such as `a GPU with at least 24 GiB`.
    pub(super) fn wanted(&self) -> String {
        match self {
            Self::Service(name) => format!("the service {name}"),
            Self::Unknown => "requirements of a newer version than this one".into(),
            Self::GpuMemory(gb) => format!("a GPU with at least {gb} GiB"),
            Self::GpuCount(count) => format!("at least {count} GPUs"),
            Self::CpuCores(count) => format!("at least {count} CPU cores"),
            Self::Ram(gb) => format!("at least {gb} GiB of main memory"),
            Self::Customer(Some(customer)) => format!("serves the customer {customer}"),
            Self::Customer(None) => "serves jobs without a customer".into(),
            Self::Isolation(isolation) => format!("{} isolation", isolation.as_str()),
            Self::Label(label, condition) => format!("{label} {condition}"),
            Self::MustNotLabel(label, condition) => format!("not {label} {condition}"),
            Self::Models(models) => format!("all of the models {}", listed(*models)),
            Self::NodeClasses(classes) => format!("all of the node classes {}", listed(*classes)),
            Self::MustNotModels(models) => format!("none of the models {}", listed(*models)),
            Self::MustNotWorkers(ids) => format!("none of the workers {}", listed(*ids)),
            Self::Excluded(ids) => {
                format!("{EXCLUDED}: {}", listed(*ids))
            }
        }
    }

    /// What the worker has instead, such as `the largest has 12 GiB`. Says nothing about other
    /// customers: whoever asks why a job waits may be one of them.
    pub(super) fn found(&self, offer: &Offer<'_>) -> String {
        let capabilities = offer.capabilities;
        let hardware = &capabilities.hardware;
        match *self {
            Self::Service(_) if capabilities.services.is_empty() => "no services".into(),
            Self::Service(_) => format!("only {}", listed(capabilities.services.keys())),
            Self::Unknown => "no worker is able: this version cannot read them".into(),
            Self::GpuMemory(_) if hardware.gpus.is_empty() => "no GPU".into(),
            Self::GpuMemory(_) => format!("the largest has {} GiB", offer.gpu_memory_gb()),
            Self::GpuCount(_) => format!("{} GPUs", hardware.gpus.len()),
            Self::CpuCores(_) => format!("{} CPU cores", hardware.cpu_cores),
            Self::Ram(_) => format!("{} GiB", hardware.ram_gb),
            Self::Customer(Some(_)) => "does not serve this customer".into(),
            Self::Customer(None) => "serves only certain customers".into(),
            Self::Isolation(_) => match capabilities.customers.isolation {
                Some(isolation) => format!("{} isolation", isolation.as_str()),
                None => "loose isolation (not set)".into(),
            },
            Self::Label(label, _) | Self::MustNotLabel(label, _) => {
                match capabilities.labels.get(label) {
                    Some(value) => format!("{label} is {value}"),
                    None => format!("no label {label}"),
                }
            }
            Self::Models(wanted) => match offer.service {
                Some(has) if is_unknown(has) => NOT_KNOWN.into(),
                Some(has) => format!("lacks {}", listed(wanted.difference(&has.models))),
                None => "not even the service".into(),
            },
            Self::NodeClasses(wanted) => match offer.service {
                Some(has) if is_unknown(has) => NOT_KNOWN.into(),
                Some(has) => format!("lacks {}", listed(wanted.difference(&has.node_classes))),
                None => "not even the service".into(),
            },
            Self::MustNotModels(unwanted) => match offer.service {
                Some(has) => format!("has {}", listed(unwanted.intersection(&has.models))),
                None => "not even the service".into(),
            },
            Self::MustNotWorkers(_) => "it is one of them".into(),
            Self::Excluded(_) => "it failed this job, and is left out for a while".into(),
        }
    }
}
