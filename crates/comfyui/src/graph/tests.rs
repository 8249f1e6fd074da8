use serde_json::json;

use super::*;

fn picture() -> Value {
    json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl/base.safetensors"}},
        "2": {"class_type": "LoraLoader", "inputs": {"lora_name": "Fine.SFT", "model": ["1", 0], "strength_model": 0.5}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "cat"}}
    })
}

#[track_caller]
fn assert_invalid(graph: Value, pointer: &str) {
    assert_eq!(validate_api_format(&graph).unwrap_err().pointer, pointer, "{graph}");
}

#[test]
fn a_graph_in_api_format_is_valid() {
    assert_eq!(validate_api_format(&picture()), Ok(()));
}

#[test]
fn the_pointer_names_the_first_thing_that_is_wrong() {
    assert_invalid(json!([]), "");
    assert_invalid(json!({}), "");
    assert_invalid(json!({"1": 5}), "/1");
    assert_invalid(json!({"1": {"inputs": {}}}), "/1/class_type");
    assert_invalid(json!({"a/b~c": {"class_type": "X"}}), "/a~1b~0c/inputs");
    assert_invalid(
        json!({"1": {"class_type": "X", "inputs": {"image": ["9", 0]}}}),
        "/1/inputs/image",
    );
    assert_invalid(json!({"nodes": [], "links": []}), "");
}

#[test]
fn a_list_that_is_no_link_is_a_plain_value() {
    let graph =
        json!({"1": {"class_type": "X", "inputs": {"points": [1, 2], "names": ["a", "b", "c"]}}});
    assert_eq!(validate_api_format(&graph), Ok(()));
}

#[test]
fn the_editors_own_format_is_told_apart() {
    assert!(is_ui_format(&json!({"nodes": [], "links": [], "version": 0.4})));
    assert!(!is_ui_format(&picture()));
    assert!(!is_ui_format(&json!({"nodes": {"class_type": "X", "inputs": {}}, "links": 1})));
}

#[test]
fn classes_and_models_are_found() {
    let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
    assert_eq!(
        names(class_types(&picture())),
        ["CheckpointLoaderSimple", "LoraLoader", "SaveImage"]
    );
    assert_eq!(names(model_files(&picture(), |_, _| false)), ["Fine.SFT", "sdxl/base.safetensors"]);
    assert_eq!(nodes_of(&picture(), &["SaveImage".to_owned()].into()).len(), 1);
    assert!(!is_model_file(".pt"));
    assert!(!is_model_file("script"));
}

#[test]
fn only_what_can_be_a_file_name_is_a_model() {
    let long = format!("{}.safetensors", "a".repeat(200));
    let texts = [
        "bad hands, embedding:EasyNegative.safetensors",
        "embedding:EasyNegative.safetensors",
        "a lake\nin the style of lake.safetensors",
        "https://models.example/x.safetensors",
        &long,
    ];
    for text in texts {
        let graph = json!({"1": {"class_type": "X", "inputs": {"text": text}}});
        assert!(model_files(&graph, |_, _| false).is_empty(), "{text:?}");
    }
}

#[test]
fn a_lora_that_is_on_is_found_where_it_is_nested() {
    let lora = |on: bool, lora: &str| json!({"on": on, "lora": lora, "strength": 1.0});
    let graph = json!({"1": {"class_type": "Power Lora Loader (rgthree)", "inputs": {
        "lora_1": lora(true, "on.safetensors"), "lora_2": lora(false, "off.safetensors"),
        "lora_3": lora(true, "None"), "PowerLoraLoaderHeaderWidget": {"type": "header"}}}});
    assert_eq!(model_files(&graph, |_, _| false), ["on.safetensors".to_owned()].into());
}

#[test]
fn what_is_replaced_is_not_needed() {
    let models = model_files(&picture(), |node, field| (node, field) == ("2", "lora_name"));
    assert_eq!(models, ["sdxl/base.safetensors".to_owned()].into());
}

#[test]
fn what_a_node_shall_save_is_no_model_that_is_needed() {
    let graph = json!({"3": {"class_type": "SaveLatent",
        "inputs": {"filename_prefix": "out/style.bin"}}});
    assert!(model_files(&graph, |_, _| false).is_empty());
}

#[test]
fn what_leads_to_an_output_is_told_from_what_does_not() {
    let mut graph = picture();
    graph["4"] = json!({"class_type": "LoraLoader", "inputs": {"model": ["1", 0]}});
    graph["5"] = json!({"class_type": "Unused", "inputs": {"image": ["3", 0]}});
    let outputs = nodes_of(&graph, &["SaveImage".to_owned()].into());
    let leading: Vec<_> = leading_to(&graph, outputs).into_iter().collect();
    assert_eq!(leading, ["1", "2", "3"]);
    assert!(leading_to(&graph, Vec::new()).is_empty());
}

#[test]
fn a_fresh_prefix_changes_the_save_nodes_alone() {
    let fresh = with_fresh_prefix(&picture(), "-7f");
    assert_eq!(fresh["3"]["inputs"]["filename_prefix"], "cat-7f");
    assert_eq!((&fresh["1"], &fresh["2"]), (&picture()["1"], &picture()["2"]));
    let saves = save_nodes(&fresh);
    assert_eq!(
        saves,
        [SaveNode { node_id: "3", class_type: "SaveImage", filename_prefix: "cat-7f" }]
    );
}

/// ComfyUI writes it, and then drops the connection of whoever asks for it (seen on 0.3.64).
#[test]
fn a_prefix_whose_file_nobody_can_fetch_is_invalid() {
    let saving = |prefix: &str| json!({"3": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix}}});
    for prefix in ["a\nb", "a\rb", "dir/a\u{1}b", "nul\0", "del\u{7f}"] {
        assert_invalid(saving(prefix), "/3/inputs/filename_prefix");
    }
    for prefix in ["di\nr/a", "tab\tb", "湖", "%date:yyyy%", ""] {
        assert_eq!(validate_api_format(&saving(prefix)), Ok(()), "{prefix:?}");
    }
}

#[test]
fn a_long_prefix_is_cut_at_the_beginning_of_its_name_so_that_files_can_be_named_by_it() {
    let prefix = |prefix: &str| {
        let graph =
            json!({"3": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix}}});
        let fresh = with_fresh_prefix(&with_fresh_prefix(&graph, "-1a2b3c4d"), "-5e6f7a8b");
        fresh["3"]["inputs"]["filename_prefix"].as_str().unwrap().to_owned()
    };
    let tags = "-1a2b3c4d-5e6f7a8b";
    let fits = "x".repeat(200);
    assert_eq!(prefix(&format!("deep/{fits}")), format!("deep/{fits}{tags}"));
    for name in ["湖".repeat(81), format!("{}é", "x".repeat(242)), "y".repeat(236)] {
        for folder in ["", "deep/er/"] {
            let long = prefix(&format!("{folder}{name}"));
            let (cut_folder, cut) = long.split_at(folder.len());
            assert_eq!(cut_folder, folder);
            assert!(format!("{cut}_00001_.safetensors").len() <= 255, "{cut}");
            let end = cut.strip_suffix(tags).unwrap();
            assert!(end.len() > 200 && name.ends_with(end), "{cut}");
        }
    }
}

#[test]
fn a_linked_prefix_is_left_alone() {
    let graph = json!({"3": {"class_type": "SaveImage", "inputs": {"filename_prefix": ["2", 0]}}});
    assert_eq!(with_fresh_prefix(&graph, "-7f"), graph);
    assert_eq!(save_nodes(&graph), []);
}

#[test]
fn inputs_are_set_only_on_nodes_that_exist() {
    let mut graph = picture();
    set_input(&mut graph, "2", "strength_model", json!(0.9)).unwrap();
    assert_eq!(graph["2"]["inputs"]["strength_model"], 0.9);
    assert_eq!(set_input(&mut graph, "9", "x", json!(1)), Err(NoSuchNode("9".into())));
}
