//! Requirements, capabilities, and the rules that hold one against the other.

pub mod capabilities;
pub mod requirements;

pub use capabilities::{Capabilities, CustomerRules, Gpu, OfferedHardware, ServiceCapabilities};
pub use requirements::{
    Condition, CustomerNeeds, Hardware, Isolation, LabelValue, MustNot, Prefer, Requirements,
};
