//! A typed HTTP client: for the command line, for tests, and for workers that come in over HTTP.
//!
//! Calls are not repeated by themselves: the caller knows what may be repeated, and for how long.

mod addresses;
mod clock;
mod connection;
mod error;
mod events;
mod files;
mod fleet;
mod jobs;
mod pool;
mod sse;
mod worker;

pub use connection::Client;
pub use error::ClientError;
pub use events::Events;
pub use files::{Download, Source};
pub use jobs::Submitted;
pub use sse::Event;
