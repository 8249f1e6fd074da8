//! The real router over a broker and a store in memory, asked over HTTP.

mod access;
mod artifacts;
mod bad_input;
mod bad_worker_input;
mod bounds;
mod events;
mod fixture;
mod intake;
mod jobs;
mod metrics;
mod permissions;
mod repeats;
mod revoked;
mod server;
mod worker;
