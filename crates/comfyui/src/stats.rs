use serde::Deserialize;

/// What `GET /system_stats` said. Nothing in it tells a restart: no process id, start time or boot id.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SystemStats {
    /// The host and the software.
    pub system: SystemInfo,
    /// The accelerators: newer versions list all, older ones only the one in use.
    #[serde(default)]
    pub devices: Vec<Device>,
}

/// The host and the software of a service.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SystemInfo {
    /// `linux`, `posix`, `nt`, …
    #[serde(default)]
    pub os: String,
    /// Main memory in bytes.
    #[serde(default)]
    pub ram_total: u64,
    /// Free main memory in bytes.
    #[serde(default)]
    pub ram_free: u64,
    /// Such as `0.27.0`.
    #[serde(default)]
    pub comfyui_version: Option<String>,
    /// Such as `3.11.7 (main, …)`.
    #[serde(default)]
    pub python_version: Option<String>,
    /// Such as `2.15.0+cu132`.
    #[serde(default)]
    pub pytorch_version: Option<String>,
    /// The command line of the service.
    #[serde(default)]
    pub argv: Vec<String>,
}

/// One accelerator as torch sees it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Device {
    /// Such as `cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync`.
    pub name: String,
    /// `cuda`, `cpu`, `mps`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Index of the device; None for the CPU.
    #[serde(default)]
    pub index: Option<u32>,
    /// Memory in bytes.
    #[serde(default)]
    pub vram_total: u64,
    /// Free memory in bytes.
    #[serde(default)]
    pub vram_free: u64,
    /// Bytes that torch has reserved.
    #[serde(default)]
    pub torch_vram_total: u64,
    /// Bytes free within what torch has reserved.
    #[serde(default)]
    pub torch_vram_free: u64,
}
