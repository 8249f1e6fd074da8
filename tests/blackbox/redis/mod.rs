//! The faults of a fleet on a real Redis: processes killed and frozen, connections cut, Redis away,
//! restarted, failed over and full.

mod acks;
mod failover;
mod files;
mod fleet;
mod judge;
mod links;
mod load;
mod machines;
mod memory;
mod newer;
mod outages;
mod refusals;
mod servers;
pub mod viewer;
mod workers;
