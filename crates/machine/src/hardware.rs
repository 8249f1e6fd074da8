//! What this host has.

use std::{str::FromStr, time::Duration};

use pointsman_core::matching::{Gpu, OfferedHardware};
use tokio::process::Command;

/// What was found on this host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hardware {
    pub gpus: Vec<Gpu>,
    pub cpu_cores: u32,
    /// GiB, the size it is sold as; in a container, what the container may have.
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
    let mut system = match sysinfo::System::new() {
        Ok(system) => system,
        Err(error) => {
            tracing::warn!(%error, "the size of main memory is not known; registering none");
            return 0.0;
        }
    };
    system.refresh_memory();
    let limits = [system.cgroup_limits(), own_limits(&mut system)];
    let limits = limits.into_iter().flatten().map(|limits| limits.total_memory);
    usable_gb(system.total_memory(), limits)
}

/// The limits of the control group that this process is in.
fn own_limits(system: &mut sysinfo::System) -> Option<sysinfo::CGroupLimits> {
    let own = sysinfo::Pid::from_u32(std::process::id());
    system.refresh_processes_specifics(
        sysinfo::ProcessesToUpdate::Some(&[own]),
        false,
        sysinfo::ProcessRefreshKind::nothing(),
    );
    system.process(own)?.cgroup_limits()
}

/// The smallest of the host's memory and the limits that are set, all in bytes.
fn usable_gb(host: u64, limits: impl Iterator<Item = u64>) -> f64 {
    nominal_gb(limits.fold(host, u64::min) as f64 / GIB)
}

/// A host reports a little less than it was sold with, since its kernel keeps some for itself: a size
/// up to 5 % below one that is sold is taken for that. Sold are 16, 20, 24, 28 GiB, and these by powers
/// of two.
fn nominal_gb(gib: f64) -> f64 {
    if gib <= 0.0 {
        return 0.0;
    }
    let step = 2f64.powf(gib.log2().floor() - 2.0);
    let nominal = (gib / step).ceil() * step;
    match gib >= nominal * 0.95 {
        true => nominal,
        false => (gib * 10.0).round() / 10.0,
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

/// Lines of `NAME, MIB`, in the order of the cards' numbers. Cards report a little under their nominal
/// size, so whole GiB are rounded to the nearest: a job that asks for 24 GiB means a 24 GiB card. One
/// that has no memory of its own, or is broken, reports a word in place of a number.
fn parse(list: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let (name, mib) = line.rsplit_once(',')?;
        let (name, mib) = (name.trim().to_owned(), mib.trim());
        let memory_gb = match mib.parse::<u32>() {
            Ok(mib) => (f64::from(mib) / 1024.0).round(),
            Err(_) => {
                tracing::warn!(
                    gpu = name,
                    said = mib,
                    "nvidia-smi does not tell this GPU's memory; registering it with 0 GiB, so that \
                     it gets no job that asks for GPU memory",
                );
                0.0
            }
        };
        Some(Gpu { name, memory_gb })
    };
    list.lines().filter_map(gpu).collect()
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
    fn a_card_that_does_not_tell_its_memory_keeps_its_number() {
        for unknown in ["[N/A]", "[Not Supported]", "nan", ""] {
            let gpus = parse(&format!("NVIDIA GB10, {unknown}\nNVIDIA GeForce RTX 4090, 24564\n"));
            let hardware = Hardware { gpus, ..Hardware::default() };
            let gpu = |number: &str| {
                let hardware = hardware.clone().with_gpus(&number.parse().unwrap());
                let Gpu { name, memory_gb } = hardware.unwrap().gpus.remove(0);
                (name, memory_gb)
            };
            assert_eq!(gpu("0"), ("NVIDIA GB10".into(), 0.0), "{unknown}");
            assert_eq!(gpu("1"), ("NVIDIA GeForce RTX 4090".into(), 24.0), "{unknown}");
        }
        assert_eq!(parse("No devices were found\n"), []);
    }

    #[test]
    fn main_memory_is_listed_with_its_nominal_size() {
        let sizes = [15.5, 62.6, 7.6, 3.8, 125.6, 251.5, 503.4, 1007.2, 16.0, 187.5];
        let nominal = [16.0, 64.0, 8.0, 4.0, 128.0, 256.0, 512.0, 1024.0, 16.0, 192.0];
        assert_eq!(sizes.map(nominal_gb), nominal);
        assert_eq!([14.63, 0.0, 90.04].map(nominal_gb), [14.6, 0.0, 90.0], "none that is sold");
    }

    #[test]
    fn a_container_has_what_it_may_use_and_not_what_its_host_has() {
        let gib = |n: u64| n << 30;
        assert_eq!(usable_gb(gib(512), [gib(32), gib(512)].into_iter()), 32.0);
        assert_eq!(usable_gb(gib(64), [u64::MAX].into_iter()), 64.0, "no limit");
        assert_eq!(usable_gb(gib(64), [].into_iter()), 64.0);
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
