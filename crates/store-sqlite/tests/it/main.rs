//! The embedded store, held to the suite of all stores and to what only a durable one promises.

mod away;
mod conformance;
mod doctor;
mod failing;
mod full;
mod kill;
mod log;
mod migration;
mod opening;
mod quarantine;
mod reopen;
mod restored;
mod rows;
mod support;
mod transfer;
