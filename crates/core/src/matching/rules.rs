//! The rules: whether a worker may run the jobs of a class, and if not, why not.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Capabilities, Class,
    ask::{Ask, Offer},
};
use crate::ids::{IdError, WorkerId};

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

/// A rule, written as the place in the requirements that asks it: `hardware.gpu_memory_gb`,
/// `labels.tier`, `must_not.workers`; those that lie elsewhere are `service`, `customer`,
/// `excluded` and `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Rule {
    /// The worker has the service.
    Service,
    /// Requirements that this version cannot read; every worker fails it.
    Unknown,
    GpuMemory,
    GpuCount,
    CpuCores,
    Ram,
    /// The worker's own rules about whom it serves.
    Customer,
    Isolation,
    Label(String),
    MustNotLabel(String),
    Models,
    NodeClasses,
    MustNotModels,
    MustNotWorkers,
    /// The worker failed this job, and others go first for a while.
    Excluded,
}

impl Rule {
    /// Of what a service has: known only once it was reached.
    pub(super) fn is_learned(&self) -> bool {
        matches!(self, Self::Models | Self::NodeClasses)
    }
}

const LABEL: &str = "labels.";
const MUST_NOT_LABEL: &str = "must_not.labels.";

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "service",
            Self::Unknown => "unknown",
            Self::GpuMemory => "hardware.gpu_memory_gb",
            Self::GpuCount => "hardware.gpu_count",
            Self::CpuCores => "hardware.cpu_cores",
            Self::Ram => "hardware.ram_gb",
            Self::Customer => "customer",
            Self::Isolation => "customer.isolation",
            Self::Label(label) => return write!(f, "{LABEL}{label}"),
            Self::MustNotLabel(label) => return write!(f, "{MUST_NOT_LABEL}{label}"),
            Self::Models => "models",
            Self::NodeClasses => "node_classes",
            Self::MustNotModels => "must_not.models",
            Self::MustNotWorkers => "must_not.workers",
            Self::Excluded => "excluded",
        })
    }
}

impl FromStr for Rule {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Ok(match text {
            "service" => Self::Service,
            "unknown" => Self::Unknown,
            "hardware.gpu_memory_gb" => Self::GpuMemory,
            "hardware.gpu_count" => Self::GpuCount,
            "hardware.cpu_cores" => Self::CpuCores,
            "hardware.ram_gb" => Self::Ram,
            "customer" => Self::Customer,
            "customer.isolation" => Self::Isolation,
            "models" => Self::Models,
            "node_classes" => Self::NodeClasses,
            "must_not.models" => Self::MustNotModels,
            "must_not.workers" => Self::MustNotWorkers,
            "excluded" => Self::Excluded,
            _ => {
                let label = text.strip_prefix(LABEL).map(|label| Self::Label(label.into()));
                let must_not = || {
                    let label = text.strip_prefix(MUST_NOT_LABEL)?;
                    Some(Self::MustNotLabel(label.into()))
                };
                let right = "use a place in the requirements, such as hardware.gpu_memory_gb";
                return label.or_else(must_not).ok_or_else(|| IdError::new("rule", text, right));
            }
        })
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl TryFrom<String> for Rule {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl utoipa::PartialSchema for Rule {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        String::schema()
    }
}

impl ToSchema for Rule {}

impl Ask<'_> {
    pub(super) fn rule(&self) -> Rule {
        match *self {
            Self::Service(_) => Rule::Service,
            Self::Unknown => Rule::Unknown,
            Self::GpuMemory(_) => Rule::GpuMemory,
            Self::GpuCount(_) => Rule::GpuCount,
            Self::CpuCores(_) => Rule::CpuCores,
            Self::Ram(_) => Rule::Ram,
            Self::Customer(_) => Rule::Customer,
            Self::Isolation(_) => Rule::Isolation,
            Self::Label(label, _) => Rule::Label(label.into()),
            Self::MustNotLabel(label, _) => Rule::MustNotLabel(label.into()),
            Self::Models(_) => Rule::Models,
            Self::NodeClasses(_) => Rule::NodeClasses,
            Self::MustNotModels(_) => Rule::MustNotModels,
            Self::MustNotWorkers(_) => Rule::MustNotWorkers,
            Self::Excluded(_) => Rule::Excluded,
        }
    }
}
