use serde_json::{Value, json};

use super::*;

#[track_caller]
fn refused(reply: Value) -> (FailureKind, String, Option<String>, Option<String>) {
    let Classified { kind, code, node_id, node_type, .. } =
        rejection(&serde_json::from_value(reply).unwrap());
    (kind, code, node_id, node_type)
}

fn of_node(class_type: &str, errors: Value) -> Value {
    json!({
        "error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": "", "extra_info": {}},
        "node_errors": {"4": {"errors": errors, "dependent_outputs": ["9"], "class_type": class_type}}
    })
}

fn not_in_list(input: &str, value: &str) -> Value {
    json!({"type": "value_not_in_list", "message": "Value not in list", "details": format!("{input}: '{value}' not in []"),
           "extra_info": {"input_name": input, "received_value": value}})
}

fn raised(class: &str, message: &str) -> (FailureKind, String) {
    let error = ExecutionError {
        exception_type: class.into(),
        exception_message: message.into(),
        ..Default::default()
    };
    let classified = execution_error(&error);
    (classified.kind, classified.code)
}

#[test]
fn a_missing_node_class_means_another_worker_on_either_version() {
    let newer = json!({"error": {"type": "missing_node_type", "message": "Node 'X' not found.", "details": "Node ID '#7'",
        "extra_info": {"node_id": "7", "class_type": "X", "node_title": "X"}}, "node_errors": {}});
    let older = json!({"error": {"type": "invalid_prompt", "message": "Cannot execute because node X does not exist.",
        "details": "Node ID '#7'", "extra_info": {}}, "node_errors": {}});
    let expected =
        (FailureKind::WrongWorker, "missing_node_type".into(), Some("7".into()), Some("X".into()));
    assert_eq!(refused(newer), expected);
    assert_eq!(refused(older), expected);
}

#[test]
fn a_node_without_a_class_is_the_jobs_own_fault() {
    let reply = json!({"error": {"type": "invalid_prompt", "message": "Cannot execute because a node is missing the class_type property.",
        "details": "Node ID '#7'", "extra_info": {}}, "node_errors": {}});
    assert_eq!(refused(reply), (FailureKind::BadJob, "invalid_prompt".into(), None, None));
}

#[test]
fn a_missing_model_means_another_worker() {
    let loader =
        of_node("CheckpointLoaderSimple", json!([not_in_list("ckpt_name", "gone.safetensors")]));
    let expected = (
        FailureKind::WrongWorker,
        "value_not_in_list".into(),
        Some("4".into()),
        Some("CheckpointLoaderSimple".into()),
    );
    assert_eq!(refused(loader), expected);
    let folder = of_node("DiffusersLoader", json!([not_in_list("model_path", "some-folder")]));
    assert_eq!(refused(folder).0, FailureKind::WrongWorker);
    let numbered = of_node("DualCLIPLoader", json!([not_in_list("clip_name2", "t5xxl")]));
    assert_eq!(refused(numbered).0, FailureKind::WrongWorker);
}

#[test]
fn a_wrong_choice_that_is_no_model_is_the_jobs_own_fault() {
    let sampler = of_node("KSampler", json!([not_in_list("sampler_name", "eulerr")]));
    assert_eq!(refused(sampler).0, FailureKind::BadJob);
    let kind = of_node("DualCLIPLoader", json!([not_in_list("type", "sdxxl")]));
    assert_eq!(refused(kind).0, FailureKind::BadJob);
}

#[test]
fn one_wrong_value_beside_a_missing_model_makes_it_a_bad_job() {
    let both = of_node(
        "CheckpointLoaderSimple",
        json!([not_in_list("ckpt_name", "gone.safetensors"), {"type": "required_input_missing", "message": "Required input is missing", "details": "x", "extra_info": {"input_name": "x"}}]),
    );
    let (kind, code, ..) = refused(both);
    assert_eq!((kind, code.as_str()), (FailureKind::BadJob, "required_input_missing"));
}

#[test]
fn what_the_accelerator_raises_is_the_services_fault() {
    let fault = |poisoned| FailureKind::ServiceFault { poisoned };
    assert_eq!(
        raised("torch.OutOfMemoryError", "Allocation on device 0"),
        (fault(false), "out_of_memory".into())
    );
    assert_eq!(raised("torch.cuda.OutOfMemoryError", ""), (fault(false), "out_of_memory".into()));
    assert_eq!(
        raised("RuntimeError", "CUDA error: out of memory"),
        (fault(false), "out_of_memory".into())
    );
    let illegal = "CUDA error: an illegal memory access was encountered";
    assert_eq!(raised("torch.AcceleratorError", illegal), (fault(true), "device_error".into()));
    assert_eq!(raised("RuntimeError", illegal), (fault(true), "device_error".into()));
    assert_eq!(
        raised("OSError", "[Errno 28] No space left on device"),
        (fault(false), "disk_full".into())
    );
}

#[test]
fn what_its_disk_or_its_memory_refuses_is_the_services_fault() {
    for (class, message, code) in [
        ("OSError", "[Errno 122] Disk quota exceeded: '/out/a.png'", "disk_full"),
        ("OSError", "[Errno 30] Read-only file system: '/out/a.png'", "disk_failed"),
        ("OSError", "[Errno 5] Input/output error", "disk_failed"),
        (
            "safetensors_rust.SafetensorError",
            "Error while serializing: I/O error: No space left on device (os error 28)",
            "disk_full",
        ),
        (
            "safetensors_rust.SafetensorError",
            "Error while serializing: I/O error: Read-only file system (os error 30)",
            "disk_failed",
        ),
        (
            "numpy._core._exceptions._ArrayMemoryError",
            "Unable to allocate 412. MiB",
            "out_of_memory",
        ),
        (
            "RuntimeError",
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you \
             tried to allocate 4398046511104 bytes.",
            "out_of_memory",
        ),
    ] {
        let fault = FailureKind::ServiceFault { poisoned: false };
        assert_eq!(raised(class, message), (fault, code.into()), "{message}");
    }
}

#[test]
fn what_a_node_raises_is_the_jobs_own_fault_unless_known_otherwise() {
    assert_eq!(
        raised("OSError", "[Errno 36] File name too long: '/out/a.png'"),
        (FailureKind::BadJob, "execution_error".into())
    );
    assert_eq!(
        raised(
            "RuntimeError",
            "PytorchStreamReader failed reading zip archive: failed finding central directory"
        ),
        (FailureKind::WrongWorker, "model_unreadable".into())
    );
    assert_eq!(raised("ValueError", "bad"), (FailureKind::BadJob, "execution_error".into()));
    assert_eq!(
        raised("ExecutionBlocked", "no mask"),
        (FailureKind::BadJob, "execution_blocked".into())
    );
    assert_eq!(
        raised("safetensors_rust.SafetensorError", "HeaderTooLarge"),
        (FailureKind::WrongWorker, "model_unreadable".into())
    );
}

/// As ComfyUI 0.3.64 and torch tell of a file that is cut off, empty, or a page that was saved as one.
#[test]
fn a_model_file_that_is_damaged_may_be_whole_on_another_worker() {
    let raised_in = |node_type: &str, class: &str, message: &str| {
        let error = ExecutionError {
            exception_type: class.into(),
            exception_message: message.into(),
            node_type: node_type.into(),
            ..Default::default()
        };
        execution_error(&error).code
    };
    let header = "Error while deserializing header: HeaderTooLarge\n\nFile path: /m/a.safetensors\n\n\
                  The safetensors file is corrupt or invalid. Make sure this is actually a safetensors file";
    let cut = "Error while deserializing header: MetadataIncompleteBuffer\n\nFile path: /m/a.sft\n\n\
               The safetensors file is corrupt/incomplete. Check the file size";
    let reader = "PytorchStreamReader failed reading zip archive: failed finding central directory";
    for (class, message) in [
        ("_pickle.UnpicklingError", "invalid load key, '<'."),
        ("EOFError", "Ran out of input"),
        ("ValueError", header),
        ("ValueError", cut),
        (
            "RuntimeError",
            "unexpected EOF, expected 180180 more bytes. The file might be corrupted.",
        ),
        (
            "RuntimeError",
            "Cannot use ``weights_only=True`` with files saved in the legacy .tar format. In PyTorch 2.6",
        ),
    ] {
        assert_eq!(raised_in("CheckpointLoaderSimple", class, message), "model_unreadable");
    }
    assert_eq!(raised_in("UNETLoader", "ValueError", "no such dtype"), "execution_error");
    // Nodes that fetch their models themselves: none is named in their inputs.
    let sft = "safetensors_rust.SafetensorError";
    for (node_type, class, message) in [
        ("Zoe-DepthMapPreprocessor", "RuntimeError", reader),
        ("DownloadAndLoadCogVideoModel", sft, "Error while deserializing header: HeaderTooSmall"),
    ] {
        assert_eq!(raised_in(node_type, class, message), "model_unreadable", "{node_type}");
    }
    // Of latents, which a job brings and saves.
    for (node_type, class, message) in [
        ("LoadLatent", "EOFError", "Ran out of input"),
        ("LoadLatent", "ValueError", header),
        ("LoadLatent", "RuntimeError", reader),
        ("LoadLatent", sft, "Error while deserializing header: HeaderTooLarge"),
        ("SaveLatent", sft, "Error while serializing: IoError"),
    ] {
        let code = raised_in(node_type, class, message);
        assert_eq!(code, "execution_error", "{node_type}: {class}: {message}");
    }
}

/// Frames as ComfyUI 0.3.64 on torch 2.15 tells of them for a file of random bytes.
const READING: [&str; 4] = [
    "  File \"ComfyUI/nodes.py\", line 588, in load_checkpoint\n    out = load(ckpt_path)\n",
    "  File \"ComfyUI/comfy/utils.py\", line 82, in load_torch_file\n    pl_sd = torch.load(ckpt)\n",
    "  File \"/venv/lib/python3.11/site-packages/torch/serialization.py\", line 1633, in load\n",
    "  File \"/venv/lib/python3.11/site-packages/torch/_weights_only_unpickler.py\", line 553, in load\n    self.append(self.memo[idx])\n",
];

fn raised_at(traceback: &[&str], node_type: &str, input: (&str, &str), class: &str) -> Classified {
    let (name, value) = input;
    execution_error(&ExecutionError {
        exception_type: class.into(),
        exception_message: "113".into(),
        node_id: "4".into(),
        node_type: node_type.into(),
        traceback: traceback.iter().map(|&frame| frame.to_owned()).collect(),
        current_inputs: json!({ "strength": [1.0], name: [value] }),
        ..Default::default()
    })
}

#[test]
fn whatever_its_reader_stumbles_over_in_a_model_file_the_file_is_damaged() {
    let windows = READING.map(|frame| frame.replace('/', "\\"));
    let windows = windows.each_ref().map(String::as_str);
    for class in [
        "KeyError",
        "IndexError",
        "UnicodeDecodeError",
        "EOFError",
        "struct.error",
        "ValueError",
        "AssertionError",
        "_pickle.UnpicklingError",
    ] {
        let model = ("model_name", "4x.pth");
        for traceback in [READING, windows] {
            let classified = raised_at(&traceback, "UpscaleWith", model, class);
            let (kind, code) = (classified.kind, &*classified.code);
            assert_eq!((kind, code), (FailureKind::WrongWorker, "model_unreadable"), "{class}");
        }
        // What a node raises once it has read its model, and of a file that the job brought.
        let after = raised_at(&READING[..2], "CheckpointLoaderSimple", model, class);
        let own = raised_at(&READING, "LoadLatent", ("latent", "a.latent"), class);
        let saving = raised_at(&READING, "SaveStyle", ("filename_prefix", "style.pt"), class);
        let may_be_read = !["EOFError", "_pickle.UnpicklingError"].contains(&class);
        for (classified, holds) in [(after, may_be_read), (own, true), (saving, true)] {
            assert_eq!(classified.code == "execution_error", holds, "{class}: {classified:?}");
        }
    }
    let model = ("ckpt_name", "a.ckpt");
    for class in ["FileNotFoundError", "PermissionError", "ModuleNotFoundError", "RuntimeError"] {
        let classified = raised_at(&READING, "CheckpointLoaderSimple", model, class);
        assert_eq!(classified.code, "execution_error", "{class} says nothing of what is in it");
    }
}

/// Torch 2.15 of an archive of something else, and of one whose record is shorter than it says.
#[test]
fn an_archive_that_is_no_model_is_damaged() {
    for message in [
        "Expected hasRecord(\"version\") to be true, but got false.  (Could this error message be \
         improved?  If so, please report an enhancement request to PyTorch.)",
        "record size (32 bytes) does not match expected size (64 bytes) of the storage",
    ] {
        let classified = execution_error(&ExecutionError {
            exception_type: "RuntimeError".into(),
            exception_message: message.into(),
            node_type: "UpscaleModelLoader".into(),
            traceback: READING.iter().map(|&frame| frame.to_owned()).collect(),
            ..Default::default()
        });
        assert_eq!(classified.code, "model_unreadable", "{classified:?}");
    }
}

#[test]
fn a_model_file_that_is_damaged_is_named_with_what_to_do() {
    let said = |input| raised_at(&READING, "CheckpointLoader", input, "KeyError").message;
    assert_eq!(
        said(("ckpt_name", "sd/v1.ckpt")),
        "node 4 (CheckpointLoader) cannot read a model file of its machine, ckpt_name \"sd/v1.ckpt\": \
         replace it there (KeyError: 113)"
    );
    assert_eq!(
        said(("which", "some")),
        "node 4 (CheckpointLoader) cannot read a model file of its machine: replace it there \
         (KeyError: 113)"
    );
    let several = execution_error(&ExecutionError {
        exception_type: "SafetensorError".into(),
        node_id: "7".into(),
        current_inputs: json!({"clip_name1": ["l"], "clip_name2": ["g.sft"], "type": ["sdxl"]}),
        ..Default::default()
    });
    let files = "node 7 cannot read a model file of its machine, clip_name1 \"l\" or clip_name2 \"g.sft\": ";
    assert!(several.message.starts_with(files), "{}", several.message);
}

/// Whether it is another file on that machine alone, or no file for this node on any, is not to be told. What torch says
/// of one may be longer than a message.
#[test]
fn a_model_file_that_does_not_fit_is_the_jobs_and_named_before_what_is_said_of_it() {
    let mismatch =
        "Error(s) in loading state_dict for RRDBNet:\n\tsize mismatch for conv_first.weight";
    for (class, message) in [
        ("RuntimeError", mismatch),
        ("spandrel.__helpers.registry.UnsupportedModelError", ""),
        ("KeyError", "'model.0.weight'"),
    ] {
        let classified = execution_error(&ExecutionError {
            exception_type: class.into(),
            exception_message: message.into(),
            node_type: "UpscaleModelLoader".into(),
            current_inputs: json!({ "model_name": ["4x.pth"] }),
            ..Default::default()
        });
        assert_eq!((classified.kind, &*classified.code), (FailureKind::BadJob, "execution_error"));
        let said = format!("model_name \"4x.pth\": {class}");
        assert!(classified.message.starts_with(&said), "{}", classified.message);
    }
}

/// As ComfyUI 0.3.64's `folder_paths.get_full_path_or_raise` says it.
#[test]
fn a_model_that_is_missed_only_as_it_is_loaded_may_be_on_another_worker() {
    let missing = "Model in folder 'upscale_models' with filename '4x.pth' not found.";
    let elsewhere = (FailureKind::WrongWorker, "model_missing".to_owned());
    assert_eq!(raised("FileNotFoundError", missing), elsewhere);
    let own = (FailureKind::BadJob, "execution_error".to_owned());
    let other = "[Errno 2] No such file or directory: '/in/a.png'";
    assert_eq!(raised("FileNotFoundError", other), own);
}

#[test]
fn words_that_only_look_like_the_accelerators_are_the_jobs_own_fault() {
    let own = (FailureKind::BadJob, "execution_error".to_owned());
    for (class, message) in [
        ("ValueError", "unknown relationship error: between the two masks"),
        ("RuntimeError", "unknown relationship error: between the two masks"),
        ("ValueError", "bad prompt: 'CUDA error: an illegal memory access was encountered'"),
        ("ValueError", "an old man who runs out of memory"),
        ("RuntimeError", "cannot parse hip errors"),
    ] {
        assert_eq!(raised(class, message), own, "{class}: {message}");
    }
    let triton = "Triton Error [CUDA]: an illegal memory access was encountered";
    assert_eq!(raised("RuntimeError", triton).1, "device_error");
    assert_eq!(raised("RuntimeError", "HIP error: invalid device function").1, "device_error");
}

#[test]
fn the_message_is_one_line_with_the_class() {
    let error = ExecutionError {
        exception_type: "RuntimeError".into(),
        exception_message: "Intentional\n".into(),
        node_id: "2".into(),
        ..Default::default()
    };
    let classified = execution_error(&error);
    assert_eq!(classified.message, "RuntimeError: Intentional");
    assert_eq!((classified.node_id.as_deref(), classified.node_type), (Some("2"), None));
    assert_eq!(
        execution_error(&ExecutionError::default()).message,
        "a node failed without saying why"
    );
}
