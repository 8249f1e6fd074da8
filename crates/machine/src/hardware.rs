//! What this host has.

use std::{str::FromStr, time::Duration};

use pointsman_core::matching::{Gpu, OfferedHardware};
use tokio::process::Command;

/// What was found on this host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hardware {
    pub gpus: Vec<Gpu>,
    pub cpu_cores: u32,
    /// GiB.
    pub ram_gb: f64,
}

impl Hardware {
    /// What one of `workers` equal workers may call its own: a GPU each while there are enough,
    /// all of them for a single worker; cores and memory are the machine's.
    pub fn share(&self, worker: usize, workers: usize) -> OfferedHardware {
        let gpus = match workers {
            1 => self.gpus.clone(),
            _ => self.gpus.get(worker).cloned().into_iter().collect(),
        };
        OfferedHardware { gpus, cpu_cores: self.cpu_cores, ram_gb: self.ram_gb }
    }
}

/// Which of a host's GPUs are a worker's own, by the numbers that `nvidia-smi` gives them; an empty
/// list is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuNumbers(Vec<usize>);

impl FromStr for GpuNumbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let number = |part: &str| part.trim().parse().ok();
        let numbers: Option<Vec<usize>> = text.split(',').map(number).collect();
        let mut numbers = numbers
            .ok_or("expected the numbers that `nvidia-smi -L` shows, such as 0,1, or none")?;
        numbers.sort_unstable();
        numbers.dedup();
        Ok(Self(numbers))
    }
}

/// A GPU that the host does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no GPU {number}: `nvidia-smi` lists {count} on this host")]
pub struct NoSuchGpu {
    number: usize,
    count: usize,
}

impl Hardware {
    /// The host with only these GPUs.
    ///
    /// # Errors
    /// [`NoSuchGpu`].
    pub fn with_gpus(self, numbers: &GpuNumbers) -> Result<Self, NoSuchGpu> {
        let count = self.gpus.len();
        let gpu = |&number| self.gpus.get(number).cloned().ok_or(NoSuchGpu { number, count });
        let gpus = numbers.0.iter().map(gpu).collect::<Result<_, _>>()?;
        Ok(Self { gpus, ..self })
    }
}

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// Looks what this host has. GPUs are those that `nvidia-smi` lists; a host without it has none.
pub async fn discover() -> Hardware {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    Hardware {
        gpus: nvidia().await,
        cpu_cores: u32::try_from(cores).unwrap_or(u32::MAX),
        ram_gb: memory_gb(),
    }
}

fn memory_gb() -> f64 {
    match sysinfo::System::new() {
        Ok(mut system) => {
            system.refresh_memory();
            round(system.total_memory() as f64 / GIB)
        }
        Err(error) => {
            tracing::warn!(%error, "the size of main memory is not known; registering none");
            0.0
        }
    }
}

async fn nvidia() -> Vec<Gpu> {
    let ask = Command::new("nvidia-smi")
        .args(["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"])
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(ASK_WITHIN, ask).await {
        Ok(Ok(output)) if output.status.success() => {
            parse(&String::from_utf8_lossy(&output.stdout))
        }
        Ok(Ok(output)) => {
            tracing::warn!(status = %output.status, "nvidia-smi failed; registering no GPUs");
            Vec::new()
        }
        Ok(Err(_)) => Vec::new(),
        Err(_) => {
            tracing::warn!("nvidia-smi does not answer; registering no GPUs");
            Vec::new()
        }
    }
}

/// Lines of `NAME, MIB`. Cards report a little under their nominal size, so whole GiB are rounded
/// to the nearest: a job that asks for 24 GiB means a 24 GiB card.
fn parse(list: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let (name, mib) = line.rsplit_once(',')?;
        let mib: f64 = mib.trim().parse().ok()?;
        Some(Gpu { name: name.trim().to_owned(), memory_gb: (mib / 1024.0).round() })
    };
    list.lines().filter_map(gpu).collect()
}

fn round(gib: f64) -> f64 {
    (gib * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_listed_with_their_nominal_memory() {
        let list = "NVIDIA GeForce RTX 4090, 24564\nNVIDIA H200, 143771\n";
        let found = parse(list);
        let sizes: Vec<_> = found.iter().map(|gpu| gpu.memory_gb).collect();
        assert_eq!(sizes, [24.0, 140.0]);
        assert_eq!(found[0].name, "NVIDIA GeForce RTX 4090");
    }

    #[test]
    fn a_gpu_each_or_all_for_one() {
        let gpu = |name: &str| Gpu { name: name.into(), memory_gb: 24.0 };
        let hardware = Hardware { gpus: vec![gpu("a"), gpu("b")], cpu_cores: 8, ram_gb: 64.0 };
        assert_eq!(hardware.share(0, 1).gpus.len(), 2);
        assert_eq!(hardware.share(1, 2).gpus, [gpu("b")]);
        assert!(hardware.share(2, 3).gpus.is_empty());
        let only = |numbers: &str| hardware.clone().with_gpus(&numbers.parse().unwrap());
        assert_eq!(only("1").unwrap().gpus, [gpu("b")]);
        assert_eq!(only("1, 0,1").unwrap(), hardware);
        assert!(only("none").unwrap().gpus.is_empty());
        let why = only("0,2").unwrap_err().to_string();
        assert_eq!(why, "there is no GPU 2: `nvidia-smi` lists 2 on this host");
        for odd in ["", "a", "0,", "-1", "GPU-1"] {
            assert!(odd.parse::<GpuNumbers>().is_err(), "{odd}");
        }
    }
}
