//! The store on a real Redis.

mod classes;
mod conformance;
mod doctor;
mod opening;
mod several;
mod support;
mod transfer;
mod unchanged;
