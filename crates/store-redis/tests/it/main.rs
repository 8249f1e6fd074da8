//! The store on a real Redis.

mod conformance;
mod several;
mod support;
mod unchanged;
