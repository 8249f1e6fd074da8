//! How far a prompt is, from its messages. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_comfyui::{Message, NodeProgress, NodeState, graph};
use serde_json::Value;

use crate::Report;

/// Until every file is stored a job is not quite done.
const ALMOST: f32 = 99.0;

/// Follows the nodes of one prompt.
#[derive(Debug)]
pub(super) struct Tracker {
    /// Node id → what to call it.
    nodes: BTreeMap<String, String>,
    /// The nodes that run, unless they are cached: the others lead to no output.
    to_run: BTreeSet<String>,
    /// The nodes whose results came from the cache; they never run.
    cached: BTreeSet<String>,
    done: BTreeSet<String>,
    now: Option<String>,
    /// Nodes that others made while they ran, and which node of the graph each is a part of.
    parts: BTreeMap<String, String>,
    /// Steps done of the node that runs, and how many it has.
    steps: Option<(f64, f64)>,
    note: Option<String>,
    /// The most that was reported; none while it is not known at all. Messages may be missing, but a
    /// bar does not go back.
    most: Option<f32>,
}

impl Tracker {
    /// Of an `adopted` prompt nobody knows what it did before. Where the classes that are `outputs` are not
    /// known, every node counts.
    pub(super) fn new(graph: &Value, outputs: &BTreeSet<String>, adopted: bool) -> Self {
        let nodes = graph.as_object().into_iter().flatten();
        let nodes: BTreeMap<_, _> = nodes.map(|(id, node)| (id.clone(), name_of(node))).collect();
        let mut to_run = leading_to(graph, graph::nodes_of(graph, outputs));
        if to_run.is_empty() {
            to_run = nodes.keys().cloned().collect();
        }
        Self {
            nodes,
            to_run,
            cached: BTreeSet::new(),
            done: BTreeSet::new(),
            now: None,
            parts: BTreeMap::new(),
            steps: None,
            note: None,
            most: (!adopted).then_some(0.0),
        }
    }

    /// These outputs alone run: the service dropped the others.
    pub(super) fn only(&mut self, graph: &Value, outputs: &[String]) {
        self.to_run = leading_to(graph, outputs.iter().map(String::as_str).collect());
    }

    /// Takes in a message of this prompt; true when it changed what there is to report.
    pub(super) fn hear(&mut self, message: &Message) -> bool {
        match message {
            Message::ExecutionStart { .. } => self.note = None,
            Message::ExecutionCached { nodes, .. } => self.cached.extend(nodes.iter().cloned()),
            Message::ProgressState { nodes, .. } => {
                nodes.iter().for_each(|(id, node)| self.state(id, node))
            }
            Message::Executing { node: Some(node), display_node, .. } => {
                self.begin(node, display_node.as_deref());
            }
            Message::Progress { value, max, node, .. } => {
                if let Some(node) = node {
                    self.begin(node, None);
                }
                self.steps = Some((*value, *max));
            }
            Message::Executed { node, .. } => drop(self.done.insert(node.clone())),
            Message::Text { text, .. } => self.note = Some(text.clone()),
            _ => return false,
        }
        true
    }

    /// What to say beside the node that runs.
    pub(super) fn note(&mut self, note: Option<String>) -> bool {
        let changed = self.note != note;
        self.note = note;
        changed
    }

    pub(super) fn report(&mut self) -> Report {
        let percent = self.percent();
        if percent > 0.0 || self.most.is_some() {
            self.most = Some(self.most.unwrap_or(0.0).max(percent));
        }
        let steps = self.steps.filter(|(_, max)| *max >= 1.0);
        let node = self.shown().cloned();
        let class = node.as_ref().and_then(|id| self.nodes.get(id)).cloned();
        Report {
            percent: self.most,
            node,
            step: steps.map(|(value, _)| value as u32),
            steps: steps.map(|(_, max)| max as u32),
            message: self.note.clone().or(class),
        }
    }

    /// Nodes done, and the part of the one that runs, of those that are to run.
    fn percent(&self) -> f32 {
        let known = |id: &&String| self.to_run.contains(*id);
        let cached = self.cached.iter().filter(known).count();
        let to_run = self.to_run.len().saturating_sub(cached).max(1);
        let done = self.done.iter().filter(known).filter(|id| !self.cached.contains(*id)).count();
        // How many parts a node has that makes them while it runs is not known.
        let begun = self.now.as_ref().filter(known).is_some_and(|id| !self.done.contains(id));
        let part = match self.steps {
            Some((value, max)) if begun && max >= 1.0 => (value / max).clamp(0.0, 1.0),
            _ => 0.0,
        };
        ((100.0 * (done as f64 + part) / to_run as f64) as f32).min(ALMOST)
    }

    /// A node runs; `of` is the one of the graph that it is a part of, where that is said.
    fn begin(&mut self, id: &str, of: Option<&str>) {
        self.part(id, of);
        if self.now.as_deref() != Some(id) {
            self.now = Some(id.to_owned());
            self.steps = None;
        }
    }

    fn state(&mut self, id: &str, node: &NodeProgress) {
        let of = node.real_node_id.as_ref().or(node.display_node_id.as_ref());
        match node.state {
            NodeState::Running => {
                self.begin(id, of.map(String::as_str));
                self.steps = Some((node.value, node.max));
            }
            // What is a part of another is not that one.
            NodeState::Finished => drop(self.done.insert(id.to_owned())),
            NodeState::Other => {}
        }
    }

    fn part(&mut self, id: &str, of: Option<&str>) {
        if let Some(of) = of.filter(|of| *of != id && !self.nodes.contains_key(id)) {
            self.parts.entry(id.to_owned()).or_insert_with(|| of.to_owned());
        }
    }

    /// The node of the graph that runs.
    fn shown(&self) -> Option<&String> {
        let now = self.now.as_ref()?;
        Some(self.parts.get(now).unwrap_or(now))
    }
}

fn leading_to(graph: &Value, outputs: Vec<&str>) -> BTreeSet<String> {
    graph::leading_to(graph, outputs).into_iter().map(str::to_owned).collect()
}

/// The title that its author gave a node, or its class.
fn name_of(node: &Value) -> String {
    let title = node.pointer("/_meta/title").or_else(|| node.get("class_type"));
    title.and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tracker() -> Tracker {
        Tracker::new(
            &json!({
                "1": {"class_type": "Loader", "inputs": {}},
                "2": {"class_type": "KSampler", "inputs": {}},
                "3": {"class_type": "SaveImage", "inputs": {}, "_meta": {"title": "The picture"}},
            }),
            &BTreeSet::new(),
            false,
        )
    }

    fn hear(tracker: &mut Tracker, message: Value) -> Report {
        assert!(tracker.hear(&Message::from_text(&message.to_string()).unwrap()));
        tracker.report()
    }

    #[test]
    fn percent_counts_what_runs_and_not_what_is_cached() {
        let mut tracker = tracker();
        let cached =
            json!({"type": "execution_cached", "data": {"prompt_id": "p", "nodes": ["1"]}});
        assert_eq!(hear(&mut tracker, cached).percent, Some(0.0));
        // It is said to be finished all the same.
        let state = json!({"type": "progress_state", "data": {"prompt_id": "p", "nodes": {
            "1": {"value": 1, "max": 1, "state": "finished", "real_node_id": "1"}}}});
        assert_eq!(hear(&mut tracker, state).percent, Some(0.0));
        let executing = json!({"type": "executing", "data": {"prompt_id": "p", "node": "2"}});
        let report = hear(&mut tracker, executing);
        assert_eq!(report.node.as_deref(), Some("2"));
        assert_eq!(report.message.as_deref(), Some("KSampler"));
        let step = json!({"type": "progress",
            "data": {"prompt_id": "p", "node": "2", "value": 5, "max": 20}});
        let report = hear(&mut tracker, step);
        assert_eq!((report.step, report.steps), (Some(5), Some(20)));
        assert_eq!(report.percent, Some(12.5));
        let state = json!({"type": "progress_state", "data": {"prompt_id": "p", "nodes": {
            "2": {"value": 20, "max": 20, "state": "finished", "real_node_id": "2"},
            "3": {"value": 0, "max": 1, "state": "running", "real_node_id": "3"}}}});
        let report = hear(&mut tracker, state);
        assert_eq!(report.percent, Some(50.0));
        assert_eq!(report.message.as_deref(), Some("The picture"));
        let executed = json!({"type": "executed",
            "data": {"prompt_id": "p", "node": "3", "output": {}}});
        assert_eq!(
            hear(&mut tracker, executed).percent,
            Some(99.0),
            "done is said by the end alone"
        );
    }

    #[test]
    fn percent_counts_only_what_leads_to_an_output() {
        let graph = json!({
            "1": {"class_type": "Loader", "inputs": {}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
            "3": {"class_type": "Unused", "inputs": {"images": ["1", 0]}},
            "4": {"class_type": "Unused", "inputs": {}},
        });
        let mut tracker = Tracker::new(&graph, &["SaveImage".to_owned()].into(), false);
        let executing = json!({"type": "executing", "data": {"prompt_id": "p", "node": "1"}});
        hear(&mut tracker, executing);
        let state = json!({"type": "progress_state", "data": {"prompt_id": "p", "nodes": {
            "1": {"value": 1, "max": 1, "state": "finished", "real_node_id": "1"}}}});
        assert_eq!(hear(&mut tracker, state).percent, Some(50.0));
    }

    /// As ComfyUI 0.3.64 tells of a node that expands, and as graphs with subgraphs name their nodes.
    #[test]
    fn a_part_of_a_node_is_shown_as_that_node_and_does_not_end_it() {
        let node = json!({"class_type": "ForLoop", "inputs": {}});
        let mut tracker =
            Tracker::new(&json!({"12:3": node, "12:4": node}), &BTreeSet::new(), false);
        let executing = json!({"type": "executing",
            "data": {"prompt_id": "p", "node": "12:3.0.0.1", "display_node": "12:3"}});
        let report = hear(&mut tracker, executing);
        assert_eq!((report.node.as_deref(), report.percent), (Some("12:3"), Some(0.0)));
        assert_eq!(report.message.as_deref(), Some("ForLoop"));
        let state = |real: &str| {
            json!({"type": "progress_state", "data": {"prompt_id": "p", "nodes": {
                "12:3": {"value": 0, "max": 1, "state": real, "real_node_id": "12:3"},
                "12:3.0.0.1": {"value": 1, "max": 1, "state": "finished", "real_node_id": "12:3"},
                "12:3.0.0.2": {"value": 3, "max": 4, "state": "running", "real_node_id": "12:3"}}}})
        };
        let report = hear(&mut tracker, state("running"));
        assert_eq!((report.node.as_deref(), report.percent), (Some("12:3"), Some(0.0)));
        let step = json!({"type": "progress",
            "data": {"prompt_id": "p", "node": "12:3.0.0.2", "value": 4, "max": 4}});
        let report = hear(&mut tracker, step);
        assert_eq!((report.node.as_deref(), report.percent), (Some("12:3"), Some(0.0)));
        assert_eq!((report.step, report.steps), (Some(4), Some(4)));
        assert_eq!(hear(&mut tracker, state("finished")).percent, Some(50.0));
    }

    #[test]
    fn how_far_an_adopted_prompt_is_is_not_known_until_it_is_said() {
        let mut tracker = Tracker { most: None, ..tracker() };
        tracker.note(Some("silent for 40 s".into()));
        assert_eq!(tracker.report().percent, None);
        let greeting = json!({"type": "executing", "data": {"node": "2"}});
        let report = hear(&mut tracker, greeting);
        assert_eq!((report.percent, report.node.as_deref()), (None, Some("2")));
        let step = json!({"type": "progress",
            "data": {"prompt_id": "p", "node": "2", "value": 10, "max": 20}});
        assert_eq!(hear(&mut tracker, step).percent.map(f32::round), Some(17.0));
    }

    #[test]
    fn a_node_that_says_nothing_of_its_steps_has_none() {
        let mut tracker = tracker();
        let step = json!({"type": "progress",
            "data": {"prompt_id": "p", "node": "2", "value": 5, "max": 20}});
        hear(&mut tracker, step);
        let executing = json!({"type": "executing", "data": {"prompt_id": "p", "node": "3"}});
        let report = hear(&mut tracker, executing);
        assert_eq!((report.node.as_deref(), report.step, report.steps), (Some("3"), None, None));
    }

    #[test]
    fn a_note_stands_before_the_nodes_name() {
        let mut tracker = tracker();
        assert!(tracker.note(Some("silent for 40 s".into())));
        assert!(!tracker.note(Some("silent for 40 s".into())));
        assert_eq!(tracker.report().message.as_deref(), Some("silent for 40 s"));
    }
}
