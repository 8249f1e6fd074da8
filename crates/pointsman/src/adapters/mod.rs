//! The ways in which a worker reaches the store: in this process, or over HTTP; and the places where
//! its jobs' files lie.

mod artifacts;
mod in_process;
mod over_http;

pub use artifacts::ArtifactPlace;
pub use in_process::InProcess;
pub use over_http::OverHttp;
