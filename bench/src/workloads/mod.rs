//! One file a workload.

pub mod claim;
pub mod comfyui;
pub mod drain;
pub mod memory;
pub mod redis;
pub mod start;
pub mod submit;
pub mod viewers;
