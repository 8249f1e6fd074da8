//! The store on a real Redis.

mod conformance;
mod support;
