//! The ways in which a worker reaches the store: in this process, over HTTP, or on Redis; and the
//! places where its jobs' files lie.

mod artifacts;
mod in_process;
mod on_store;
mod over_http;
mod over_redis;

pub use artifacts::{ArtifactPlace, ArtifactsArg, check_shared_files, shared_files};
pub use in_process::InProcess;
pub use over_http::OverHttp;
pub use over_redis::OverRedis;
