use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pointsman_comfyui::graph::link;

use crate::nodes::NodeOutput;
use crate::queue::Prompt;

/// Which nodes to run, each after those it needs: what the outputs depend on, without what is cached. Cached outputs are
/// in it too, because their result is announced.
pub(super) fn plan(prompt: &Prompt, cached: &HashMap<String, Arc<NodeOutput>>) -> Vec<String> {
    let mut plan = Plan { prompt, cached, seen: HashSet::new(), order: Vec::new() };
    for output in &prompt.outputs {
        plan.visit(output);
    }
    plan.order
}

struct Plan<'a> {
    prompt: &'a Prompt,
    cached: &'a HashMap<String, Arc<NodeOutput>>,
    seen: HashSet<&'a str>,
    order: Vec<String>,
}

impl<'a> Plan<'a> {
    fn visit(&mut self, id: &'a str) {
        if !self.seen.insert(id) {
            return;
        }
        if !self.cached.contains_key(id) {
            let inputs = self.prompt.node(id).into_iter().flat_map(|(_, inputs)| inputs.values());
            let sources = inputs.filter_map(link).map(|(source, _)| source);
            for source in sources.filter(|source| !self.cached.contains_key(*source)) {
                self.visit(source);
            }
        }
        self.order.push(id.to_owned());
    }
}
