//! A simulator that speaks ComfyUI's protocol, for tests, demonstrations and benchmarks.
//!
//! It is held to recordings of real servers of two versions: the same routes, the same messages with the same fields in
//! the same order, the same cache, the same validation errors, the same weaknesses. Pictures are really drawn. What goes
//! wrong with real servers goes wrong here on demand ([`Faults`]).
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use pointsman_comfyui_sim::{SimConfig, Simulator};
//! let sim = Simulator::start(SimConfig::default()).await?;
//! println!("{}", sim.url());
//! sim.stop().await;
//! # Ok(())
//! # }
//! ```

mod cache;
mod clock;
mod config;
mod door;
mod engine;
mod faults;
mod folders;
mod gate;
mod handle;
mod history;
mod hub;
mod life;
mod nodes;
mod picture;
mod queue;
mod routes;
mod sim;
mod validate;

pub use config::{SimConfig, Version};
pub use faults::{Faults, UnknownFault};
pub use handle::{SimHandle, Simulator};
