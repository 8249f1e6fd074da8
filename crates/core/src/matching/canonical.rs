//! Names for what is equal: the key of a class of jobs and the digest of a worker's capabilities.
//!
//! Both are the first 128 bits of the SHA-256 of a canonical form. The form writes a field only
//! where it asks for something, with its name before it, in a fixed order: a version that adds a
//! field gives the classes without it the keys they had, so old and new servers agree on them.
//! Keys are stored: whoever changes the form of a field renames every class that uses it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::{
    Capabilities, Class, Condition, Isolation, LabelValue, Requirements, requirements::MustNot,
};
use crate::ids::{IdError, read_from_text};

macro_rules! digest_id {
    ($(#[doc = $doc:literal])+ $name:ident, $what:literal) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
        #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
        pub struct $name([u8; 16]);
        read_from_text!($name);

        impl $name {
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
            fn of(canonical: &[u8]) -> Self {
                let full: [u8; 32] = Sha256::digest(canonical).into();
                let mut short = [0; 16];
                short.copy_from_slice(&full[..16]);
                Self(short)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                let well_formed = text.len() == 32 && text.bytes().all(digits);
                let number = well_formed.then(|| u128::from_str_radix(text, 16).ok()).flatten();
                let rule = "use 32 lowercase hexadecimal digits";
                number
                    .map(|n| Self(n.to_be_bytes()))
                    .ok_or_else(|| IdError::new($what, text, rule))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    };
}

digest_id! {
    /// Names a class: jobs with equal effective requirements. 32 lowercase hexadecimal digits.
    ClassKey, "class key"
}
digest_id! {
    /// Names a profile: workers with equal capabilities. 32 lowercase hexadecimal digits.
    CapabilitiesDigest, "capabilities digest"
}

/// The digest of what a worker registered: equal exactly when all of it is equal (`24` and
/// `24.0` are), the service versions and the order of the GPUs included.
pub fn digest(capabilities: &Capabilities) -> CapabilitiesDigest {
    CapabilitiesDigest::of(&canonical_capabilities(capabilities))
}

impl Class {
    /// The name of the class without its exclusions, which losses count for.
    pub fn base(&self) -> ClassKey {
        match self.excluded.is_empty() {
            true => self.key(),
            false => Self { excluded: BTreeSet::new(), ..self.clone() }.key(),
        }
    }

    /// The class's name. Asking for nothing, such as 0 CPU cores or loose isolation, counts as
    /// not asking.
    pub fn key(&self) -> ClassKey {
        ClassKey::of(&canonical_class(self))
    }
}

/// Bytes in which every text has its length, and every list its count, before it, so that
/// different values never run together into equal bytes.
#[derive(Default)]
struct Canon(Vec<u8>);

impl Canon {
    fn count(&mut self, n: usize) {
        self.0.extend_from_slice(&(n as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, number: f64) {
        // Adding zero turns -0 into 0: equal numbers have equal bytes.
        self.0.extend_from_slice(&(number + 0.0).to_le_bytes());
    }

    fn texts<T: AsRef<str>>(&mut self, texts: impl ExactSizeIterator<Item = T>) {
        self.count(texts.len());
        texts.for_each(|text| self.text(text.as_ref()));
    }

    fn amount(&mut self, name: &str, at_least: Option<f64>) {
        if let Some(n) = at_least.filter(|n| *n != 0.0) {
            self.text(name);
            self.number(n);
        }
    }

    fn set<T: AsRef<str>>(&mut self, name: &str, texts: impl ExactSizeIterator<Item = T>) {
        if texts.len() > 0 {
            self.text(name);
            self.texts(texts);
        }
    }

    fn value(&mut self, value: &LabelValue) {
        match value {
            LabelValue::Flag(flag) => self.0.extend_from_slice(&[b'f', u8::from(*flag)]),
            LabelValue::Number(number) => {
                self.0.push(b'n');
                self.number(*number);
            }
            LabelValue::Text(text) => {
                self.0.push(b't');
                self.text(text);
            }
            LabelValue::List(texts) => {
                self.0.push(b'l');
                self.texts(texts.iter());
            }
        }
    }

    fn condition(&mut self, condition: &Condition) {
        let Condition { eq, gt, gte, lt, lte, one_of, all } = condition;
        if let Some(value) = eq {
            self.text("eq");
            self.value(value);
        }
        for (name, bound) in [("gt", gt), ("gte", gte), ("lt", lt), ("lte", lte)] {
            if let Some(bound) = bound {
                self.text(name);
                self.number(*bound);
            }
        }
        if !one_of.is_empty() {
            let mut values: Vec<Vec<u8>> = one_of.iter().map(canonical_value).collect();
            values.sort_unstable();
            values.dedup();
            self.text("in");
            self.count(values.len());
            values.iter().for_each(|value| self.0.extend_from_slice(value));
        }
        self.set("all", all.iter());
        self.text("end");
    }
}

fn canonical_value(value: &LabelValue) -> Vec<u8> {
    let mut canon = Canon::default();
    canon.value(value);
    canon.0
}

pub(super) fn canonical_condition(condition: &Condition) -> Vec<u8> {
    let mut canon = Canon::default();
    canon.condition(condition);
    canon.0
}

pub(super) fn canonical_class(class: &Class) -> Vec<u8> {
    let Class { service, requirements, customer, excluded } = class;
    // Preferences stay outside: they never change who is able, and one queue for jobs that
    // differ only in them keeps those jobs in their order.
    let Requirements {
        hardware,
        models,
        node_classes,
        labels,
        must_not,
        customer: needs,
        prefer: _,
        unknown,
    } = &**requirements;
    let MustNot { models: bad_models, workers: bad_workers, labels: bad_labels } = must_not;

    let mut canon = Canon(Vec::with_capacity(1024));
    canon.text(service.as_str());
    canon.amount("gpu_memory_gb", hardware.gpu_memory_gb);
    canon.amount("gpu_count", hardware.gpu_count.map(f64::from));
    canon.amount("cpu_cores", hardware.cpu_cores.map(f64::from));
    canon.amount("ram_gb", hardware.ram_gb);
    canon.set("models", models.iter());
    canon.set("node_classes", node_classes.iter());
    for (kind, conditions) in [("label", labels), ("must_not.label", bad_labels)] {
        for (label, condition) in conditions {
            canon.text(kind);
            canon.text(label);
            canon.condition(condition);
        }
    }
    canon.set("must_not.models", bad_models.iter());
    canon.set("must_not.workers", bad_workers.iter().map(|id| id.as_str()));
    if needs.isolation == Some(Isolation::Strict) {
        canon.text("strict");
    }
    if let Some(customer) = customer {
        canon.text("customer");
        canon.text(customer.as_str());
    }
    canon.set("excluded", excluded.iter().map(|id| id.as_str()));
    if let Some(unknown) = unknown {
        canon.text("unknown");
        canon.text(&unknown.to_string());
    }
    canon.0
}

fn canonical_capabilities(capabilities: &Capabilities) -> Vec<u8> {
    let Capabilities { services, hardware, labels, customers } = capabilities;
    let mut canon = Canon::default();
    for (name, service) in services {
        canon.text("service");
        canon.text(name.as_str());
        canon.set("version", service.version.iter());
        canon.set("models", service.models.iter());
        canon.set("node_classes", service.node_classes.iter());
    }
    for gpu in &hardware.gpus {
        canon.text("gpu");
        canon.text(&gpu.name);
        canon.number(gpu.memory_gb);
    }
    canon.amount("cpu_cores", Some(f64::from(hardware.cpu_cores)));
    canon.amount("ram_gb", Some(hardware.ram_gb));
    for (label, value) in labels {
        canon.text("label");
        canon.text(label);
        canon.value(value);
    }
    if let Some(allowed) = &customers.allowed {
        // Written even when empty: "nobody" is not "anybody".
        canon.text("allowed");
        canon.texts(allowed.iter().map(|id| id.as_str()));
    }
    canon.set("denied", customers.denied.iter().map(|id| id.as_str()));
    if let Some(isolation) = customers.isolation {
        canon.text(isolation.as_str());
    }
    canon.0
}
