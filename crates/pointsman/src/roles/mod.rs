//! The roles that run until they are told to stop.

mod machine;
mod server;
mod sim;
mod up;
mod worker;

pub use server::server;
pub use sim::comfyui_sim;
pub use up::up;
pub use worker::worker;
