use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use pointsman_comfyui::graph::link;

use super::plan::plan;
use super::progress::Progress;
use super::report::Report;
use crate::Faults;
use crate::cache::{self, Key};
use crate::folders::Root;
use crate::life::{CurrentNode, Ending, Life};
use crate::nodes::{self, Inputs, Job, NodeFailure, NodeOutput, Output, Raised};
use crate::queue::Prompt;
use crate::sim::Sim;

/// One run of one prompt.
pub(super) struct Run<'a> {
    sim: &'a Sim,
    life: &'a Life,
    prompt: &'a Prompt,
    faults: Faults,
    keys: HashMap<String, Key>,
    results: HashMap<String, Arc<NodeOutput>>,
    executed: Vec<String>,
    progress: Progress,
    report: Report<'a>,
}

/// Where and why a run ended before its end.
struct Stop {
    node: String,
    why: NodeFailure,
}

impl<'a> Run<'a> {
    pub(super) fn new(sim: &'a Sim, life: &'a Life, prompt: &'a Prompt, faults: Faults) -> Self {
        Self {
            sim,
            life,
            prompt,
            faults,
            keys: cache::keys(prompt, &sim.folders.root(Root::Input)),
            results: HashMap::new(),
            executed: Vec::new(),
            progress: Progress::new(prompt, sim.config.version.is_newer()),
            report: Report::new(life, prompt),
        }
    }

    /// Runs the prompt and returns its history entry.
    pub(super) async fn finish(mut self) -> Value {
        if self.faults.cached {
            self.warm_the_cache().await;
        }
        self.report.message("execution_start", json!({}), false);
        self.look_into_the_cache();
        let cached: Vec<&String> =
            self.prompt.graph.keys().filter(|id| self.results.contains_key(*id)).collect();
        self.report.message("execution_cached", json!({ "nodes": cached }), false);
        let stopped = self.nodes().await;
        let succeeded = stopped.is_ok();
        match stopped {
            Ok(()) => self.report.message("execution_success", json!({}), false),
            Err(Stop { node, why: NodeFailure::Interrupted }) => {
                self.report.interrupted(&node, &self.executed)
            }
            Err(Stop { node, why: NodeFailure::Raised(raised) }) => {
                self.report.failed(&node, &self.executed, &raised);
            }
        }
        self.clean_up().await;
        self.report.into_entry(succeeded || self.faults.success_with_error)
    }

    /// Fills the cache as an earlier run would have, without saying anything and without taking time.
    async fn warm_the_cache(&mut self) {
        for node in plan(self.prompt, &HashMap::new()) {
            if let Ok(output) = self.node(&node, true).await {
                self.keep(&node, output);
            }
        }
        self.results.clear();
    }

    fn look_into_the_cache(&mut self) {
        let mut cache = self.life.cache.lock();
        let known = self.keys.iter().filter_map(|(id, key)| Some((id.clone(), cache.get(key)?)));
        self.results.extend(known);
    }

    async fn nodes(&mut self) -> Result<(), Stop> {
        let plan = plan(self.prompt, &self.results);
        for node in plan {
            match self.results.get(&node).cloned() {
                Some(output) => self.announce_cached(&node, &output),
                None => self.run_node(&node).await.map_err(|why| Stop { node, why })?,
            }
        }
        Ok(())
    }

    fn announce_cached(&mut self, node: &str, output: &NodeOutput) {
        // 0.27.0 forgets the output in history when no client listens (ComfyUI source; fixed by PR #14939).
        let remembered = self.prompt.client_id().is_some() || !self.sim.config.version.is_newer();
        if let Some(ui) = output.ui.as_ref().filter(|_| remembered) {
            self.report.executed(node, ui);
        }
        self.progress.finish_cached(self.life, node);
    }

    async fn run_node(&mut self, node: &str) -> Result<(), NodeFailure> {
        self.progress.start(self.life, node);
        self.report.tell("executing", json!({ "node": node, "display_node": node }));
        *self.life.current.lock() = self.prompt.client_id().map(|client_id| CurrentNode {
            client_id: client_id.to_owned(),
            node: node.to_owned(),
        });
        if self.executed.is_empty() {
            self.fail_on_demand(node).await?;
        }
        self.life.interrupt.check()?;
        let output = self.node(node, false).await?;
        if let Some(ui) = &output.ui {
            self.report.executed(node, ui);
        }
        self.keep(node, output);
        self.progress.finish(self.life, node);
        self.executed.push(node.to_owned());
        Ok(())
    }

    /// The faults that strike when the first node starts.
    async fn fail_on_demand(&mut self, node: &str) -> Result<(), NodeFailure> {
        if self.faults.socket_cut {
            self.life.hub.cut_all();
        }
        if self.faults.restart || self.faults.process_exit {
            self.life.end(if self.faults.restart { Ending::Restart } else { Ending::ForGood });
            std::future::pending::<()>().await;
        }
        wait(Duration::try_from_secs_f64(self.faults.silent_node_s).unwrap_or_default()).await;
        if self.faults.error_then_success {
            self.report.blocked(node, &self.executed);
        }
        if self.faults.device_error {
            self.life.poisoned.store(true, Ordering::SeqCst);
        }
        let raised = if self.life.poisoned.load(Ordering::SeqCst) {
            ("torch.AcceleratorError", "CUDA error: an illegal memory access was encountered\n")
        } else if self.faults.out_of_memory {
            (
                "torch.OutOfMemoryError",
                "Allocation on device 0 would exceed allowed memory. (out of memory)\n",
            )
        } else if self.faults.success_with_error {
            ("RuntimeError", "Simulated error\n")
        } else {
            return Ok(());
        };
        Err(NodeFailure::Raised(Raised {
            class: raised.0.to_owned(),
            message: raised.1.to_owned(),
        }))
    }

    async fn node(&mut self, node: &str, hurried: bool) -> Result<NodeOutput, NodeFailure> {
        let inputs = self.inputs(node);
        let class_type = self.prompt.node(node).map_or("", |(class_type, _)| class_type);
        let (sim, life, progress) = (self.sim, self.life, &mut self.progress);
        nodes::run(class_type, Job { sim, life, progress, node_id: node, inputs, hurried }).await
    }

    /// What a node is given; inputs that the graph leaves out have their defaults.
    fn inputs(&self, node: &str) -> Inputs {
        let mut inputs = Inputs::default();
        let Some((class_type, given)) = self.prompt.node(node) else { return inputs };
        for input in self.sim.catalog.class(class_type).into_iter().flat_map(nodes::Class::inputs) {
            if let Some(default) = input.option("default") {
                inputs.plain.insert(input.name.to_owned(), default.clone());
            }
        }
        for (name, value) in given {
            match link(value).and_then(|(source, index)| self.output(source, index)) {
                Some(output) => drop(inputs.linked.insert(name.clone(), output)),
                None => drop(inputs.plain.insert(name.clone(), value.clone())),
            }
        }
        inputs
    }

    fn output(&self, node: &str, index: u64) -> Option<Output> {
        self.results.get(node)?.values.get(usize::try_from(index).ok()?).cloned()
    }

    fn keep(&mut self, node: &str, output: NodeOutput) {
        let output = Arc::new(output);
        if let Some(key) = self.keys.get(node) {
            self.life.cache.lock().insert(*key, output.clone());
        }
        self.results.insert(node.to_owned(), output);
    }

    async fn clean_up(&mut self) {
        *self.life.current.lock() = None;
        let used: HashSet<Key> = self.keys.values().copied().collect();
        self.life.cache.lock().tidy(&used, self.sim.config.version.is_newer());
        if self.faults.file_gone {
            let files = self.report.files();
            files.iter().for_each(|file| {
                self.sim.folders.delete(&file.folder, &file.subfolder, &file.filename)
            });
        }
        wait(Duration::from_millis(self.faults.history_delay_ms)).await;
        self.sim.gate.pass().await;
    }
}

/// Waits; not at all for nothing, because a timer takes a millisecond at least.
async fn wait(length: Duration) {
    if !length.is_zero() {
        tokio::time::sleep(length).await;
    }
}
