//! The ways in which a worker reaches the store: in this process, or over HTTP.

mod in_process;
mod over_http;

pub use in_process::InProcess;
pub use over_http::OverHttp;
