//! What is known of a ComfyUI job before any ComfyUI sees it: whether its workflow has the right
//! form, and what it needs. (The rules on graphs are pure functions of the ComfyUI crate.)

use std::{collections::BTreeMap, fmt, sync::Arc};

use pointsman_api::{ErrorCode, Problem, ValidSubmission, read_json};
use pointsman_comfyui::graph;
use pointsman_core::{matching::complete_from_graph, pointer_token};
use serde::{
    Deserializer as _,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// The service whose payloads these are.
pub(crate) const COMFYUI: &str = "comfyui";
const PLACE: &str = "/payload/workflow";
/// Nodes of a workflow at most.
const MAX_NODES: usize = 10_000;

/// Checks the workflow, and completes the requirements from it.
pub(crate) fn complete(valid: &mut ValidSubmission) -> Result<(), Problem> {
    check_nodes(&valid.payload)?;
    let payload: Value = read_json(&valid.payload).map_err(|problem| problem.within("/payload"))?;
    let workflow = payload.get("workflow").ok_or_else(|| no_workflow(&payload))?;
    check_options(&payload)?;
    check(workflow)?;
    check_inputs(valid, workflow)?;
    let inputs = &valid.spec.inputs;
    let replaced =
        |node: &str, field: &str| inputs.iter().any(|i| i.node == node && i.field == field);
    let (classes, models) = (graph::class_types(workflow), graph::model_files(workflow, replaced));
    let brought = valid.brought_files();
    let requirements = Arc::make_mut(&mut valid.spec.requirements);
    complete_from_graph(requirements, classes, models, &brought);
    valid.check_requirements()
}

/// Refuses a workflow of too many nodes before anything is made of them: that takes many times the
/// bytes of their text. What else is wrong is told where it is.
fn check_nodes(payload: &[u8]) -> Result<(), Problem> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(payload).unwrap_or_default();
    match fields.get("workflow").map_or(0, |workflow| nodes(workflow.get())) {
        0..=MAX_NODES => Ok(()),
        _ => {
            let detail = format!("the workflow has more than {MAX_NODES} nodes");
            Err(Problem::new(ErrorCode::TooLong, detail).at(PLACE))
        }
    }
}

/// How many nodes a workflow has; those beyond one too many are not read.
fn nodes(workflow: &str) -> usize {
    struct Nodes<'a>(&'a mut usize);
    impl<'de> Visitor<'de> for Nodes<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("nodes")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut nodes: A) -> Result<(), A::Error> {
            while nodes.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                *self.0 += 1;
                if *self.0 > MAX_NODES {
                    return Err(A::Error::custom("too many nodes"));
                }
            }
            Ok(())
        }
    }
    let mut nodes = 0;
    // It counts as far as it reads.
    let _ = serde_json::Deserializer::from_str(workflow).deserialize_map(Nodes(&mut nodes));
    nodes
}

fn no_workflow(payload: &Value) -> Problem {
    if graph::is_ui_format(payload) {
        return ui_format("/payload");
    }
    let problem = Problem::new(ErrorCode::MissingField, "payload has no workflow").at(PLACE);
    if graph::validate_api_format(payload).is_ok() {
        return problem.cure("put the workflow one level deeper: {\"workflow\": …}");
    }
    problem.cure("send {\"workflow\": …} with what ComfyUI's \"Export (API)\" wrote")
}

/// What else a payload may say: `extra_data`, handed to ComfyUI as it is, and `allow_partial`.
fn check_options(payload: &Value) -> Result<(), Problem> {
    for (name, value) in payload.as_object().into_iter().flatten() {
        let (fine, expected) = match name.as_str() {
            "workflow" => (true, ""),
            "extra_data" => (value.is_object(), "an object"),
            "allow_partial" => (value.is_boolean(), "true or false"),
            _ => {
                let known = "workflow, extra_data, allow_partial";
                let detail = format!("the payload of a ComfyUI job has {known}, and no {name:?}");
                let place = format!("/payload/{}", pointer_token(name));
                return Err(Problem::new(ErrorCode::UnknownField, detail).at(place));
            }
        };
        if !fine {
            let detail = format!("{name} is not {expected}");
            return Err(Problem::new(ErrorCode::WrongType, detail).at(format!("/payload/{name}")));
        }
    }
    Ok(())
}

fn check(workflow: &Value) -> Result<(), Problem> {
    if graph::is_ui_format(workflow) {
        return Err(ui_format(PLACE));
    }
    graph::validate_api_format(workflow).map_err(|error| {
        let place = format!("{PLACE}{}", error.pointer);
        Problem::new(ErrorCode::InvalidWorkflow, error.reason).at(place)
    })
}

fn ui_format(place: &str) -> Problem {
    let detail = "this is what the editor saves (with nodes and links), not what the API takes";
    Problem::new(ErrorCode::UiFormatWorkflow, detail).at(place)
}

/// Every input goes to a node that the workflow has.
fn check_inputs(valid: &ValidSubmission, workflow: &Value) -> Result<(), Problem> {
    for (index, input) in valid.spec.inputs.iter().enumerate() {
        if workflow.get(&input.node).is_none() {
            let detail = format!("the workflow has no node {:?}", input.node);
            return Err(Problem::new(ErrorCode::InvalidInput, detail)
                .at(format!("/inputs/{index}/node"))
                .cure("name the node by its id in the workflow, such as \"10\""));
        }
        if let Some(folder) = graph::folder_annotation(&input.name) {
            let detail = format!(
                "{:?} ends in {folder}, by which ComfyUI looks in its folder of that name, and not \
                 where the file is brought",
                input.name
            );
            return Err(Problem::new(ErrorCode::InvalidInput, detail)
                .at(format!("/inputs/{index}/name"))
                .cure("leave it out"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_counted_up_to_one_too_many_and_not_read_beyond() {
        let node = |n: usize| format!(r#""{n}":{{"class_type":"C","inputs":{{"a":[1,{{}}]}}}}"#);
        let all = |nodes: usize| (0..nodes).map(node).collect::<Vec<_>>().join(",");
        for (workflow, counted) in [
            ("[]".to_owned(), 0),
            ("{}".to_owned(), 0),
            (format!("{{{}}}", all(3)), 3),
            (format!("{{{}}}", all(MAX_NODES)), MAX_NODES),
            (format!("{{{},and this is not even JSON", all(MAX_NODES + 1)), MAX_NODES + 1),
        ] {
            assert_eq!(nodes(&workflow), counted);
        }
    }

    #[test]
    fn of_two_workflows_the_last_counts_as_it_is_the_one_that_is_read() {
        let many: Vec<_> = (0..=MAX_NODES).map(|n| format!("\"{n}\":0")).collect();
        let payload = format!(r#"{{"workflow":{{}},"workflow":{{{}}}}}"#, many.join(","));
        let refused = check_nodes(payload.as_bytes()).unwrap_err();
        assert!(refused.is(ErrorCode::TooLong) && refused.detail.contains("10000"), "{refused}");
    }
}
