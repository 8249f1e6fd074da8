//! The real binary, driven as users drive it.

mod command_line;
mod commands;
mod downloads;
mod harness;
mod kills;
mod moving;
mod pictures;
mod redis;
mod restored;
mod stopping;
mod watching;
