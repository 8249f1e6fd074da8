//! The table of figures.

use std::time::Duration;

/// Figures as they come, printed at once and together at the end.
pub struct Report {
    rows: Vec<[String; 4]>,
    failures: usize,
}

impl Report {
    /// Prints the machine.
    pub fn begin() -> Self {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let mut memory = 0;
        let mut processor = String::from("an unknown processor");
        if let Ok(mut system) = sysinfo::System::new() {
            system.refresh_memory();
            memory = system.total_memory() >> 30;
        }
        if let Ok(cpus) = std::fs::read_to_string("/proc/cpuinfo") {
            let name = cpus.lines().find_map(|line| line.strip_prefix("model name"));
            processor =
                name.map_or(processor, |name| name.trim_start_matches([' ', '\t', ':']).into());
        }
        println!("machine: {cores} cores ({processor}), {memory} GiB\n");
        Self { rows: Vec::new(), failures: 0 }
    }

    /// One figure: what, how much, and what was aimed at.
    pub fn row(&mut self, workload: &str, figure: &str, value: String, goal: &str) {
        println!("{workload:<28} {figure:<44} {value:>16}   {goal}");
        self.rows.push([workload.into(), figure.into(), value, goal.into()]);
    }

    /// A workload that did not come to its end; the others go on.
    pub fn failed(&mut self, workload: &str, error: &anyhow::Error) {
        self.failures += 1;
        self.row(workload, "failed", format!("{error:#}"), "");
    }

    /// Prints the table; an error if a workload failed.
    pub fn end(&self) -> anyhow::Result<()> {
        println!("\n| workload | figure | value | goal |\n| --- | --- | --- | --- |");
        for [workload, figure, value, goal] in &self.rows {
            println!("| {workload} | {figure} | {value} | {goal} |");
        }
        anyhow::ensure!(self.failures == 0, "{} workload(s) failed", self.failures);
        Ok(())
    }
}

pub fn rate(count: usize, took: Duration) -> String {
    format!("{:.0}/s", count as f64 / took.as_secs_f64())
}

pub fn ms(span: Duration) -> String {
    format!("{:.2} ms", span.as_secs_f64() * 1000.0)
}

/// The p-th part of the sorted samples.
pub fn percentile(samples: &mut [Duration], p: f64) -> Duration {
    samples.sort_unstable();
    let at = ((samples.len() as f64 * p).ceil() as usize).clamp(1, samples.len().max(1)) - 1;
    samples.get(at).copied().unwrap_or_default()
}
