//! The worker against a scripted broker and a scripted service, with the clock paused.

mod broker;
mod service;
mod setup;
mod state;

mod chaos;
mod contact;
mod ends;
mod exchanges;
mod fail_over;
mod files;
mod keeping;
mod restarts;
mod stopping;
