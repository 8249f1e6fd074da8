//! Whose fault a failure is. Pure; structured codes first, words of a message only where ComfyUI has no code.

use serde_json::Value;

use crate::graph::{PREFIX, can_be_file_name, is_model_file};
use crate::{ExecutionError, NodeError, Rejection, ValidationError};

/// The code of a failure for want of space on the service's disk.
pub const DISK_FULL: &str = "disk_full";
/// The code of a failure of the service's disk itself: it is broken, or mounted read-only.
pub const DISK_FAILED: &str = "disk_failed";

/// The code of a failure for want of a model file that can be read on that machine.
const MODEL_UNREADABLE: &str = "model_unreadable";
/// The code of whatever else a node raised.
const EXECUTION_ERROR: &str = "execution_error";

/// Whose fault a failure is, and so what may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// A node or a model is missing **on this machine**. Another one may be able to run it.
    WrongWorker,
    /// The graph or its inputs are wrong. No machine can run it.
    BadJob,
    /// The service, the accelerator or the machine failed.
    ServiceFault {
        /// Whether the process can do nothing right any more and must be restarted.
        poisoned: bool,
    },
}

/// A failure, in one line and with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// Whose fault it is.
    pub kind: FailureKind,
    /// Stable name: ComfyUI's own type where it has one, else one of `out_of_memory`, `device_error`, `disk_full`,
    /// `disk_failed`, `model_unreadable`, `model_missing`, `execution_blocked`, `execution_error`.
    pub code: String,
    /// For people.
    pub message: String,
    /// The node it is about.
    pub node_id: Option<String>,
    /// That node's class.
    pub node_type: Option<String>,
}

/// Classifies a refusal of `POST /prompt`.
///
/// It is the wrong worker only if **everything** that is wrong is missing on this machine: one wrong value makes the
/// graph invalid everywhere.
#[must_use]
pub fn rejection(rejection: &Rejection) -> Classified {
    if let Some(missing) = missing_node_class(&rejection.error) {
        return missing;
    }
    let errors = || {
        rejection
            .node_errors
            .iter()
            .flat_map(|(id, node)| node.errors.iter().map(move |error| (id, node, error)))
    };
    let bad = errors().find(|(_, node, error)| !is_missing_model(node, error));
    match bad.or_else(|| errors().next()) {
        Some((id, node, error)) => {
            let kind = if bad.is_some() { FailureKind::BadJob } else { FailureKind::WrongWorker };
            node_failure(kind, id, node, error)
        }
        None => Classified {
            kind: FailureKind::BadJob,
            code: rejection.error.kind.clone(),
            message: line(&rejection.error),
            node_id: None,
            node_type: None,
        },
    }
}

/// Classifies what a node raised.
#[must_use]
pub fn execution_error(error: &ExecutionError) -> Classified {
    let (kind, code) = raised(error);
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let message = match (error.exception_type.as_str(), error.exception_message.trim()) {
        ("", "") => "a node failed without saying why".to_owned(),
        ("", message) => message.to_owned(),
        (raised, "") => raised.to_owned(),
        (raised, message) => format!("{raised}: {message}"),
    };
    Classified {
        kind,
        code: code.to_owned(),
        message: match (code, named_models(error)) {
            (MODEL_UNREADABLE, files) => {
                format!("{} ({message})", what_to_replace(error, &files))
            }
            (EXECUTION_ERROR, files) if !files.is_empty() => format!("{files}: {message}"),
            _ => message,
        },
        node_id: some(&error.node_id),
        node_type: some(&error.node_type),
    }
}

fn node_failure(
    kind: FailureKind,
    id: &str,
    node: &NodeError,
    error: &ValidationError,
) -> Classified {
    Classified {
        kind,
        code: error.kind.clone(),
        message: line(error),
        node_id: Some(id.to_owned()),
        node_type: Some(node.class_type.clone()),
    }
}

/// A node class that is not installed: `missing_node_type` since about 0.3.70; before that `invalid_prompt`, told from
/// its other uses by the message alone (recording rejected.json of both versions).
fn missing_node_class(error: &ValidationError) -> Option<Classified> {
    let text = |field: &str| {
        error.extra_info.get(field).and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    let (node_id, node_type) = match error.kind.as_str() {
        "missing_node_type" if text("class_type").is_some() => {
            (text("node_id"), text("class_type"))
        }
        "invalid_prompt" => {
            let class = error
                .message
                .strip_prefix("Cannot execute because node ")?
                .strip_suffix(" does not exist.")?;
            let id =
                error.details.strip_prefix("Node ID '#").and_then(|rest| rest.strip_suffix('\''));
            (id.map(str::to_owned), Some(class.to_owned()))
        }
        _ => return None,
    };
    let kind = FailureKind::WrongWorker;
    let code = "missing_node_type".to_owned();
    Some(Classified { kind, code, message: error.message.clone(), node_id, node_type })
}

/// Whether a value was refused because this machine does not have that model file.
fn is_missing_model(node: &NodeError, error: &ValidationError) -> bool {
    error.kind == "value_not_in_list"
        && (error.received_value().and_then(serde_json::Value::as_str).is_some_and(is_model_file)
            || (node.class_type.contains("Loader")
                && error.input_name().is_some_and(is_model_input)))
}

/// Inputs by which ComfyUI's own loaders name a file, or a folder of files that has no telling ending.
fn is_model_input(name: &str) -> bool {
    const FILE_INPUTS: [&str; 3] = ["model_path", "bbox_detector", "audio_encoder_name"];
    const STEMS: [&str; 13] = [
        "ckpt",
        "unet",
        "vae",
        "lora",
        "clip",
        "control_net",
        "model",
        "style_model",
        "gligen",
        "hypernetwork",
        "upscale_model",
        "embedding",
        "config",
    ];
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    FILE_INPUTS.contains(&name)
        || stem.strip_suffix("_name").is_some_and(|stem| STEMS.contains(&stem))
}

fn raised(error: &ExecutionError) -> (FailureKind, &'static str) {
    const FAULT: FailureKind = FailureKind::ServiceFault { poisoned: false };
    const POISONED: FailureKind = FailureKind::ServiceFault { poisoned: true };
    const UNREADABLE: (FailureKind, &str) = (FailureKind::WrongWorker, MODEL_UNREADABLE);
    if error.is_blocked() {
        return (FailureKind::BadJob, "execution_blocked");
    }
    let class = error.exception_type.rsplit('.').next().unwrap_or_default();
    let message = error.exception_message.trim().to_ascii_lowercase();
    // Of any other class are errors that nodes make up, and they may quote anything.
    let is_torchs = class == "RuntimeError" || error.exception_type.starts_with("torch.");
    let says = |words: &[&str]| is_torchs && words.iter().any(|words| has_words(&message, words));
    // ComfyUI unloads all models after an out-of-memory error and goes on (ComfyUI source).
    // NumPy's error has a class of its own; torch's allocator of host memory has words of its own.
    if matches!(class, "OutOfMemoryError" | "MemoryError" | "_ArrayMemoryError")
        || says(&["out of memory", "can't allocate memory", "cublas_status_alloc_failed"])
    {
        return (FAULT, "out_of_memory");
    }
    // After one of these every later kernel of the process fails (issues 12524, 14703 and 14756 of ComfyUI).
    if class == "AcceleratorError"
        || says(&[
            "cuda error:",
            "hip error:",
            "an illegal memory access was encountered",
            "device-side assert triggered",
        ])
    {
        return (POISONED, "device_error");
    }
    // Linux' `EDQUOT`, `EIO` and `EROFS`, as Python and, of safetensors, Rust writes them.
    let is_errno = |errno: u8| match class {
        "OSError" => message.starts_with(&format!("[errno {errno}]")),
        "SafetensorError" => message.contains(&format!("(os error {errno})")),
        _ => false,
    };
    let may_be_models = !reads_latent(error);
    match class {
        // Before what is said of the file itself: safetensors are written, too.
        _ if message.contains("no space left on device") || is_errno(122) => (FAULT, DISK_FULL),
        _ if is_errno(5) || is_errno(30) => (FAULT, DISK_FAILED),
        // Nodes that fetch their models themselves name none in their inputs.
        "SafetensorError" if may_be_models && !message.contains("while serializing") => UNREADABLE,
        // In what words ComfyUI passes it on where the header is wrong.
        "ValueError" if may_be_models && message.contains("the safetensors file is corrupt") => {
            UNREADABLE
        }
        // A pickled model that is empty, or is none, such as a page that was saved in its place.
        "UnpicklingError" | "EOFError" if error.node_type.contains("Loader") => UNREADABLE,
        class if is_of_its_bytes(class, &message) && reads_model(error) => UNREADABLE,
        // What a download that broke off leaves of a pickled model, in torch's newer and older format, and one
        // whose bytes were never written.
        _ if may_be_models
            && says(&[
                "pytorchstreamreader failed",
                "unexpected eof, expected",
                "files saved in the legacy .tar format",
            ]) =>
        {
            UNREADABLE
        }
        // A name in a `COMBO` of a node of ComfyUI's newer kind is not checked before it runs (ComfyUI source).
        "FileNotFoundError"
            if message.starts_with("model in folder '") && message.ends_with("not found.") =>
        {
            (FailureKind::WrongWorker, "model_missing")
        }
        // Of a file that is read and does not fit it is not to be told whether another machine has a better one.
        _ => (FailureKind::BadJob, EXECUTION_ERROR),
    }
}

/// What a reader of models raises over bytes that are none: seen with torch 2.15 and ones that were changed, cut off or
/// made up.
fn is_of_its_bytes(class: &str, message: &str) -> bool {
    const CLASSES: [&str; 8] = [
        "UnpicklingError",
        "EOFError",
        "UnicodeDecodeError",
        "IndexError",
        "KeyError",
        "ValueError",
        "AssertionError",
        "error",
    ];
    const WORDS: [&str; 5] = [
        // An archive that is none of torch's, and one that lacks what it names.
        "expected hasrecord(",
        "record size (",
        "invalid magic number",
        "storage has wrong byte size",
        "trying to resize storage that is not resizable",
    ];
    match class {
        "RuntimeError" => WORDS.iter().any(|words| message.starts_with(words)),
        "OSError" => message.starts_with("[errno 22]"),
        class => CLASSES.contains(&class),
    }
}

/// Whether it was raised while a model file was read, and not over what a node made of it, or of a file that a job
/// brought.
fn reads_model(error: &ExecutionError) -> bool {
    const READERS: [&str; 4] = [
        "/torch/serialization.py",
        "/torch/_weights_only_unpickler.py",
        "/safetensors/torch.py",
        "/pickle.py",
    ];
    let mut files = error.traceback.iter().filter_map(|frame| frame.split('"').nth(1));
    let reads = files.any(|file| {
        let file = file.replace('\\', "/");
        READERS.iter().any(|reader| file.ends_with(reader))
    });
    reads && (error.node_type.contains("Loader") || !models_of(error).is_empty())
}

/// Whether it was raised by a node that reads latents: they are safetensors, too, and a job brings its own, under any
/// name.
fn reads_latent(error: &ExecutionError) -> bool {
    error.node_type.contains("LoadLatent")
}

/// The inputs by which a node was given model files, and their names.
fn models_of(error: &ExecutionError) -> Vec<(&str, &str)> {
    let inputs = error.current_inputs.as_object().into_iter().flatten();
    let values = inputs.flat_map(|(input, values)| {
        let values = values.as_array().into_iter().flatten();
        values.filter_map(Value::as_str).map(|value| (input.as_str(), value))
    });
    let names_model = |input, value| {
        is_model_input(input) || input != PREFIX && is_model_file(value) && can_be_file_name(value)
    };
    values.filter(|(input, value)| names_model(input, value)).collect()
}

/// The model files that a node was given, for people.
fn named_models(error: &ExecutionError) -> String {
    let models = models_of(error).into_iter().map(|(input, file)| format!("{input} {file:?}"));
    models.collect::<Vec<_>>().join(" or ")
}

/// What to do about a model file that cannot be read, one of these.
fn what_to_replace(error: &ExecutionError, files: &str) -> String {
    let ExecutionError { node_id, node_type, .. } = error;
    let class = if node_type.is_empty() { String::new() } else { format!(" ({node_type})") };
    let files = if files.is_empty() { String::new() } else { format!(", {files}") };
    format!(
        "node {node_id}{class} cannot read a model file of its machine{files}: replace it there"
    )
}

/// Whether a text has these words, and they begin as a word does.
fn has_words(text: &str, words: &str) -> bool {
    let before = |at: usize| text[..at].chars().next_back();
    text.match_indices(words).any(|(at, _)| before(at).is_none_or(|c| !c.is_alphanumeric()))
}

/// An error in one line: what, and where.
fn line(error: &ValidationError) -> String {
    if error.details.is_empty() {
        error.message.clone()
    } else {
        format!("{}: {}", error.message, error.details)
    }
}

#[cfg(test)]
mod tests;
