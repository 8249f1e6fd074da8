//! The store on a real Redis.

mod between;
mod broken;
mod classes;
mod conformance;
mod damage;
mod doctor;
mod history;
mod idle;
mod many;
mod meanwhile;
mod opening;
mod payloads;
mod previews;
mod probed;
mod profiles;
mod seeds;
mod set_back;
mod several;
mod shown;
mod support;
mod together;
mod transfer;
mod trouble;
mod unchanged;
mod wake;
mod wrong_types;
