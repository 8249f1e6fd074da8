//! The machine agent: registers its machine, hosts its workers, and says how the machine is.
//!
//! In this first form it starts no services of its own; it drives those that are there.

mod agent;
mod hardware;

pub use agent::{Agent, AgentConfig, Fitness, Host, MachineError, Member};
pub use hardware::{GpuNumbers, Hardware, NoSuchGpu, discover};
