//! Whether requirements make sense at all, said when they come in: at submission and, for
//! capabilities, at registration. Reading has refused unknown fields and wrong types before.

use std::{collections::BTreeSet, io, ops::RangeInclusive};

use super::{
    Capabilities, Condition, LabelValue, Requirements, contradict,
    refusal::{Pointer, RequirementError, RequirementErrorCode as Code},
};

/// Bytes of requirements as JSON, as they are submitted: they stand in the record of the job and of
/// its class, and in every event of the job.
pub const MAX_BYTES: usize = 64 << 10;
/// The same once they were completed from a graph: what it adds is not held against what was asked.
const MAX_COMPLETED_BYTES: usize = 128 << 10;
/// Models in one list of the requirements.
const MAX_MODELS: usize = 200;
/// Node classes in the requirements.
const MAX_NODE_CLASSES: usize = 2_000;
/// Label conditions in the requirements (as many again in `must_not`), and labels of a worker.
const MAX_LABELS: usize = 100;
/// Every other list: workers that must not, values of a condition, services of a worker.
pub const MAX_LIST: usize = 100;
/// Bytes of every text but the names that a worker lists.
pub const MAX_TEXT: usize = 200;
/// Models, and also node classes, of one service of a worker.
pub const MAX_OFFERED: usize = 20_000;
/// Bytes of the name of a model or node class that a worker lists.
const MAX_OFFERED_NAME: usize = 1_000;
/// GPUs of a worker.
const MAX_GPUS: usize = 1_000;
/// Customers in one of a worker's lists.
pub const MAX_CUSTOMERS: usize = 10_000;

const GPU_MEMORY_GB: RangeInclusive<f64> = 0.0..=10_000.0;
pub(super) const GPU_COUNT: RangeInclusive<f64> = 0.0..=MAX_GPUS as f64;
pub(super) const CPU_CORES: RangeInclusive<f64> = 0.0..=100_000.0;
const RAM_GB: RangeInclusive<f64> = 0.0..=1_000_000.0;
/// 2^53 - 1: up to here every whole number is exact, so no two different ones become equal.
const LABEL_NUMBER: RangeInclusive<f64> = -9_007_199_254_740_991.0..=9_007_199_254_740_991.0;

/// The checks of single values, each refused at its place.
impl Pointer {
    pub(super) fn number(
        &self,
        number: f64,
        range: &RangeInclusive<f64>,
    ) -> Result<(), RequirementError> {
        if range.contains(&number) {
            return Ok(());
        }
        let (low, high) = (range.start(), range.end());
        let message = format!("{number} is out of range: use a number from {low} to {high}");
        Err(self.refuse(Code::OutOfRange, message))
    }

    fn text(&self, text: &str, max_bytes: usize) -> Result<(), RequirementError> {
        if text.is_empty() {
            return Err(self.refuse(Code::Malformed, "an empty text names nothing"));
        }
        if text.len() > max_bytes {
            let (size, head) = (text.len(), text.chars().take(40).collect::<String>());
            let message = format!("\"{head}…\" has {size} bytes, and {max_bytes} is the most");
            return Err(self.refuse(Code::TooLarge, message));
        }
        Ok(())
    }

    fn count(&self, count: usize, max: usize) -> Result<(), RequirementError> {
        if count <= max {
            return Ok(());
        }
        let message = format!("{count} entries are too many: {max} is the most");
        Err(self.refuse(Code::TooLarge, message))
    }

    fn names(
        &self,
        names: &BTreeSet<String>,
        max: usize,
        max_bytes: usize,
    ) -> Result<(), RequirementError> {
        self.count(names.len(), max)?;
        names.iter().try_for_each(|name| self.text(name, max_bytes))
    }

    fn value(&self, value: &LabelValue) -> Result<(), RequirementError> {
        match value {
            LabelValue::Flag(_) => Ok(()),
            LabelValue::Number(number) => self.number(*number, &LABEL_NUMBER),
            LabelValue::Text(text) => self.text(text, MAX_TEXT),
            LabelValue::List(texts) => self.names(texts, MAX_LIST, MAX_TEXT),
        }
    }
}

impl Requirements {
    /// Whether there is no more than what a submitter may send.
    pub(super) fn check_bytes(&self) -> Result<(), RequirementError> {
        self.within(MAX_BYTES, "the requirements")
    }

    fn within(&self, max: usize, what: &str) -> Result<(), RequirementError> {
        let mut size = Size(0);
        // Counting does not fail.
        let _ = serde_json::to_writer(&mut size, self);
        let Size(size) = size;
        if size <= max {
            return Ok(());
        }
        let message = format!("{what} have {size} bytes as JSON, and {max} is the most");
        Err(Pointer::root().refuse(Code::TooLarge, message))
    }

    /// Checks ranges, sizes, and that a worker which meets everything can be imagined. That no
    /// worker meets it *now* is no error. To be called again after the requirements were
    /// completed from a graph.
    pub fn check(&self) -> Result<(), RequirementError> {
        let root = Pointer::root();
        if let Some(value) = &self.unknown {
            Self::read(value)?;
            return Err(root.refuse(Code::Malformed, "these requirements are not understood"));
        }
        let hardware = [
            ("gpu_memory_gb", self.hardware.gpu_memory_gb, GPU_MEMORY_GB),
            ("gpu_count", self.hardware.gpu_count.map(f64::from), GPU_COUNT),
            ("cpu_cores", self.hardware.cpu_cores.map(f64::from), CPU_CORES),
            ("ram_gb", self.hardware.ram_gb, RAM_GB),
        ];
        for (name, number, range) in hardware {
            if let Some(number) = number {
                root.field("hardware").field(name).number(number, &range)?;
            }
        }
        let must_not = root.field("must_not");
        let prefer = root.field("prefer");
        root.field("models").names(&self.models, MAX_MODELS, MAX_TEXT)?;
        root.field("node_classes").names(&self.node_classes, MAX_NODE_CLASSES, MAX_TEXT)?;
        must_not.field("models").names(&self.must_not.models, MAX_MODELS, MAX_TEXT)?;
        must_not.field("workers").count(self.must_not.workers.len(), MAX_LIST)?;
        prefer.field("models").names(&self.prefer.models, MAX_MODELS, MAX_TEXT)?;
        for (place, conditions) in [
            (root.field("labels"), &self.labels),
            (must_not.field("labels"), &self.must_not.labels),
        ] {
            place.count(conditions.len(), MAX_LABELS)?;
            for (label, condition) in conditions {
                place.field(label).text(label, MAX_TEXT)?;
                condition.check(&place.field(label))?;
            }
        }
        self.within(
            MAX_COMPLETED_BYTES,
            "with the node classes and models that the workflow names, the requirements",
        )?;
        contradict::check(self)
    }
}

/// How much was written, of which nothing is kept.
struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Condition {
    fn check(&self, place: &Pointer) -> Result<(), RequirementError> {
        let Self { eq, gt, gte, lt, lte, one_of, all } = self;
        if self.is_empty() {
            let message = "a condition needs at least one of eq, gt, gte, lt, lte, in and all";
            return Err(place.refuse(Code::Malformed, message));
        }
        for (name, bound) in [("gt", gt), ("gte", gte), ("lt", lt), ("lte", lte)] {
            if let Some(bound) = bound {
                place.field(name).number(*bound, &LABEL_NUMBER)?;
            }
        }
        if let Some(value) = eq {
            place.field("eq").value(value)?;
        }
        let values = place.field("in");
        values.count(one_of.len(), MAX_LIST)?;
        for (index, value) in one_of.iter().enumerate() {
            values.item(index).value(value)?;
        }
        place.field("all").names(all, MAX_LIST, MAX_TEXT)
    }
}

impl Capabilities {
    /// Checks sizes and ranges at registration, so that one worker cannot fill the store and a
    /// comparison never meets a number that is none.
    pub fn check(&self) -> Result<(), RequirementError> {
        let root = Pointer::root();
        let services = root.field("services");
        services.count(self.services.len(), MAX_LIST)?;
        for (name, service) in &self.services {
            let place = services.field(name.as_str());
            if let Some(version) = &service.version {
                place.field("version").text(version, MAX_TEXT)?;
            }
            place.field("models").names(&service.models, MAX_OFFERED, MAX_OFFERED_NAME)?;
            let node_classes = place.field("node_classes");
            node_classes.names(&service.node_classes, MAX_OFFERED, MAX_OFFERED_NAME)?;
        }
        let hardware = root.field("hardware");
        let gpus = hardware.field("gpus");
        gpus.count(self.hardware.gpus.len(), MAX_GPUS)?;
        for (index, gpu) in self.hardware.gpus.iter().enumerate() {
            gpus.item(index).field("name").text(&gpu.name, MAX_TEXT)?;
            gpus.item(index).field("memory_gb").number(gpu.memory_gb, &GPU_MEMORY_GB)?;
        }
        let cores = f64::from(self.hardware.cpu_cores);
        hardware.field("cpu_cores").number(cores, &CPU_CORES)?;
        hardware.field("ram_gb").number(self.hardware.ram_gb, &RAM_GB)?;
        let labels = root.field("labels");
        labels.count(self.labels.len(), MAX_LABELS)?;
        for (label, value) in &self.labels {
            labels.field(label).text(label, MAX_TEXT)?;
            labels.field(label).value(value)?;
        }
        let customers = root.field("customers");
        let allowed = self.customers.allowed.as_ref().map_or(0, BTreeSet::len);
        customers.field("allowed").count(allowed, MAX_CUSTOMERS)?;
        customers.field("denied").count(self.customers.denied.len(), MAX_CUSTOMERS)
    }
}
