//! Real redis-servers for tests and benchmarks: each on a free port of loopback, in a directory of
//! its own, gone when dropped. Never one that already runs on this machine.

mod cluster;
mod error;
mod options;
mod process;
mod sentinel;
mod server;
mod tls;

pub use error::HarnessError;
pub use options::{Aof, RedisOptions};
pub use sentinel::Sentinel;
pub use server::RedisServer;
