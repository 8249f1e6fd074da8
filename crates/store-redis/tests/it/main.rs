//! The store on a real Redis.

mod conformance;
mod doctor;
mod opening;
mod several;
mod support;
mod transfer;
mod unchanged;
