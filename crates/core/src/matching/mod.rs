//! Requirements, capabilities, and the rules that hold one against the other.

mod ask;
pub mod canonical;
pub mod capabilities;
pub mod class;
pub mod condition;
pub mod requirements;
pub mod rules;
pub mod validate;

pub use canonical::{CapabilitiesDigest, ClassKey, digest};
pub use capabilities::{Capabilities, CustomerRules, Gpu, OfferedHardware, ServiceCapabilities};
pub use class::Class;
pub use condition::{Condition, LabelValue};
pub use requirements::{CustomerNeeds, Hardware, Isolation, MustNot, Prefer, Requirements};
pub use rules::{able, excludes};
pub use validate::{RequirementError, RequirementErrorCode};
