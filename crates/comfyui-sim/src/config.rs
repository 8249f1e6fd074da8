use std::path::PathBuf;
use std::time::Duration;

use crate::Faults;

/// Which ComfyUI to behave like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// 0.3.64: no `/api/jobs`, any string as prompt_id, a cache of the last prompt only, every progress step sent.
    V0_3_64,
    /// 0.27.0: the newer protocol.
    #[default]
    V0_27,
}

impl Version {
    /// The newer one first.
    pub const ALL: [Self; 2] = [Self::V0_27, Self::V0_3_64];

    /// As `/system_stats` says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_64 => "0.3.64",
            Self::V0_27 => "0.27.0",
        }
    }

    /// Whether this is the newer protocol.
    pub(crate) fn is_newer(self) -> bool {
        self == Self::V0_27
    }
}

/// How a simulator behaves.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Which ComfyUI to behave like.
    pub version: Version,
    /// What `CheckpointLoaderSimple` offers.
    pub checkpoints: Vec<String>,
    /// How long `KSampler` takes for one step. Every other node is as fast as the machine.
    pub step: Duration,
    /// Whether `KSampler` sends preview pictures, as a server started with `--preview-method auto` does.
    pub previews: bool,
    /// Where `input`, `output` and `temp` lie; None for a temporary folder that goes with the simulator.
    pub folder: Option<PathBuf>,
    /// How long a restart refuses connections. Real servers take 20 s and more.
    pub restart_takes: Duration,
    /// Faults from the start.
    pub faults: Faults,
}

impl Default for SimConfig {
    /// The newer version, one checkpoint `sim-v1.safetensors`, 25 ms a step, a temporary folder, no faults.
    fn default() -> Self {
        Self {
            version: Version::default(),
            checkpoints: vec!["sim-v1.safetensors".to_owned()],
            step: Duration::from_millis(25),
            previews: true,
            folder: None,
            restart_takes: Duration::ZERO,
            faults: Faults::default(),
        }
    }
}
