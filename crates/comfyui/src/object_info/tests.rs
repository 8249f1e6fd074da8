use serde_json::json;

use super::*;

fn info() -> ObjectInfo {
    let reply = json!({
        "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["a.safetensors", "b.ckpt"], {"tooltip": "x"}]}}, "output_node": false},
        "NewLoader": {"input": {"required": {"name": ["COMBO", {"options": ["c.gguf", "baked in"]}]}, "optional": {"n": ["INT", {"default": 1}]}}},
        "KSampler": {"input": {"required": {"sampler_name": [["euler", "heun"]], "model": ["MODEL"]}, "hidden": {"prompt": "PROMPT"}}},
        "SaveImage": {"input": {"required": {"images": ["IMAGE"]}}, "output_node": true},
        "Odd": {}
    });
    ObjectInfo::parse(reply.to_string().as_bytes()).unwrap()
}

#[test]
fn classes_outputs_and_choices_are_known() {
    let info = info();
    assert_eq!(info.node_classes().len(), 5);
    assert!(info.has_class("Odd") && !info.has_class("odd"));
    assert!(
        info.is_output_node("SaveImage")
            && !info.is_output_node("KSampler")
            && !info.is_output_node("None")
    );
    assert_eq!(info.output_classes(), ["SaveImage".to_owned()].into());
    assert_eq!(info.choices("KSampler", "sampler_name").unwrap(), ["euler", "heun"]);
    assert_eq!(info.choices("KSampler", "model"), None);
}

#[test]
fn models_come_from_both_spellings_of_a_choice() {
    let info = info();
    let inputs: Vec<_> = info.model_inputs().map(|input| (input.class_type, input.input)).collect();
    assert_eq!(inputs, [("CheckpointLoaderSimple", "ckpt_name"), ("NewLoader", "name")]);
    assert_eq!(
        info.models().into_iter().collect::<Vec<_>>(),
        ["a.safetensors", "b.ckpt", "c.gguf"]
    );
}

#[test]
fn something_else_is_malformed() {
    assert!(ObjectInfo::parse(b"[]").is_err());
}
