//! Requirements, capabilities, and the rules that hold one against the other.
//!
//! A job's requirements, its service, customer and exclusions make its [`Class`]; jobs of one
//! class are equal in the eyes of every worker and wait in one queue, named by the [`ClassKey`].
//! [`able`] holds a class against the capabilities that a worker registered. Whatever is not
//! understood is not met: the rules fail closed.

mod ask;
mod canonical;
mod capabilities;
mod class;
mod complete;
mod condition;
mod contradict;
mod crowd;
mod explain;
mod lacking;
mod parse;
mod refusal;
mod requirements;
mod rules;
#[cfg(test)]
mod tests;
mod validate;
mod wording;

pub use canonical::{CapabilitiesDigest, ClassKey, digest};
pub use capabilities::{Capabilities, CustomerRules, Gpu, OfferedHardware, ServiceCapabilities};
pub use class::Class;
pub use complete::complete_from_graph;
pub use condition::{Condition, LabelValue};
pub use crowd::Crowd;
pub use explain::{
    AbleWorkers, Availability, Explanation, FailingWorker, NotReadyWorker, PoisonousClass,
    RuleOutcome, Throttle, explain,
};
pub use refusal::{RequirementError, RequirementErrorCode};
pub use requirements::{CustomerNeeds, Hardware, Isolation, MustNot, Prefer, Requirements};
pub use rules::{Rule, able, excludes};
pub use validate::{MAX_BYTES, MAX_CUSTOMERS, MAX_LIST, MAX_OFFERED};
