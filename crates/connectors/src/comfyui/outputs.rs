use std::collections::{BTreeMap, BTreeSet};

use pointsman_comfyui::{HistoryEntry, OutputFile, RequestError, graph};
use pointsman_core::{
    Failure, FailureKind, LossReason,
    bounds::{self, MAX_ARTIFACTS, MAX_LABEL, MAX_NAME},
    hex,
    record::{Artifact, ArtifactType},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{fetched::Fetched, run::Run, watch::Done, written::short};
use crate::{Completion, HostError, NewArtifact, Report, RunEnd, SourceError, StopReason};

/// Bytes of the node's id in it at most.
const NODE_BYTES: usize = 60;
/// Hex digits that tell node ids apart which are alike in it.
const DIGITS: usize = 8;

/// What became of the files of a prompt.
pub(super) enum Collected {
    /// All are stored.
    All(Completion),
    /// One that ComfyUI names from its cache is not there any more.
    Gone(Gone),
}

/// A file that is not there.
pub(super) struct Gone(OutputFile);

impl Gone {
    pub(super) fn failure(&self) -> Failure {
        let message = format!("ComfyUI names the file {:?}, which is not there", self.0.filename);
        let node = Some(self.0.node_id.clone());
        Failure { node, ..Failure::new(FailureKind::ServiceFault, "output_gone", message) }
    }
}

impl Run<'_> {
    /// Fetches and stores every file of the prompt. Only then is it completed.
    pub(super) async fn collect(&self, done: Done) -> Result<Collected, RunEnd> {
        let Done { entry, mut files } = done;
        // What a job brought is no result of it.
        files.retain(|file| file.folder != "input");
        check_count(files.len())?;
        let names = names_of(&files, entry.file_tag.as_deref());
        let mut artifacts = Vec::with_capacity(files.len());
        for (file, name) in files.into_iter().zip(names) {
            if self.context.stop().reason() == Some(StopReason::Cancel) {
                return Err(RunEnd::Cancelled);
            }
            match self.store(&entry, &file, name).await {
                Ok(artifact) => artifacts.push(artifact),
                Err(HostError::Source(SourceError::Gone)) => {
                    let gone = Gone(file);
                    return match is_cached(&entry, &gone.0.node_id) {
                        true => Ok(Collected::Gone(gone)),
                        false => Err(gone.failure().into()),
                    };
                }
                Err(error) => return Err(self.not_stored(&file, error)),
            }
        }
        let message = self.dropped_but(entry.outputs_to_execute.as_deref());
        self.context.progress(Report { percent: Some(100.0), message, ..Report::default() });
        let cached = self.is_cached(&entry);
        let result = Some(Value::Object(entry.outputs));
        Ok(Collected::All(Completion { artifacts, cached, result }))
    }

    async fn store(
        &self,
        entry: &HistoryEntry,
        file: &OutputFile,
        name: String,
    ) -> Result<Artifact, HostError> {
        let artifact = NewArtifact {
            name,
            media_type: media_type(&file.filename).to_owned(),
            node: Some(shown(&file.node_id)),
            kind: match file.folder.as_str() {
                "temp" => ArtifactType::Temp,
                _ => ArtifactType::Output,
            },
            size: None,
        };
        let cached = is_cached(entry, &file.node_id);
        let source = Fetched::new(self, file, cached);
        self.context.put_artifact(artifact, &source).await
    }

    /// Whether nothing had to be worked out: every node that shows something came from the cache.
    fn is_cached(&self, entry: &HistoryEntry) -> bool {
        let cached = entry.cached_nodes();
        let mut shown: Vec<&str> = entry.outputs.keys().map(String::as_str).collect();
        if shown.is_empty() {
            shown = self
                .graph
                .as_object()
                .into_iter()
                .flat_map(|n| n.keys().map(String::as_str))
                .collect();
        }
        shown.iter().all(|node| cached.contains(node))
    }

    fn not_stored(&self, file: &OutputFile, error: HostError) -> RunEnd {
        let message = format!("output {:?}: {error}", file.filename);
        match error {
            HostError::Fenced => RunEnd::Cancelled,
            HostError::Source(SourceError::Refused(_)) => {
                self.unreadable(file, Failure::new(FailureKind::BadJob, "output_refused", message))
            }
            HostError::Source(SourceError::Stalled(_)) => {
                let kind = FailureKind::ServiceFault;
                self.unreadable(file, Failure::new(kind, "output_unreadable", message))
            }
            HostError::Refused(_) | HostError::NoSuchInput(_) => {
                Failure::new(FailureKind::ServiceFault, "output_not_stored", message).into()
            }
            HostError::Source(_) => RunEnd::gave_back(LossReason::ServiceLost, message),
        }
    }

    fn unreadable(&self, file: &OutputFile, failure: Failure) -> RunEnd {
        let node = self.graph.get(&file.node_id);
        let class = node.and_then(|node| node.get("class_type")).and_then(Value::as_str);
        let (node, node_type) = (Some(file.node_id.clone()), class.map(str::to_owned));
        Failure { node, node_type, ..failure }.into()
    }

    /// Makes ready for another run of the same prompt, in which ComfyUI writes its files anew: the
    /// first run leaves history, and the nodes that save get another prefix. It stays in the names of
    /// the artifacts: under those of the first run, files may be stored already.
    pub(super) async fn prepare_again(&mut self, gone: &Gone) -> Result<(), RunEnd> {
        tracing::info!(prompt = self.prompt_id, file = gone.0.filename, "cached file is gone");
        let short = short(&self.prompt_id);
        self.graph = graph::with_fresh_prefix(&self.graph, &format!("-{short}"));
        let client = &self.connector.client;
        let forgotten = self.context.ticking(client.forget(&[&self.prompt_id])).await;
        let lost =
            |error: RequestError| RunEnd::gave_back(LossReason::ServiceLost, error.to_string());
        forgotten.map_err(lost)?;
        let saves = graph::save_nodes(&self.graph);
        if !saves.iter().any(|node| node.node_id == gone.0.node_id) {
            // Its prefix cannot be changed: it has none, or a linked one. So ComfyUI must forget
            // what it knows as a whole.
            self.context.ticking(client.free(false, true)).await.map_err(lost)?;
        }
        Ok(())
    }
}

fn is_cached(entry: &HistoryEntry, node: &str) -> bool {
    entry.cached_nodes().contains(&node)
}

/// A run that made more files than a job may have fails; it would again.
fn check_count(files: usize) -> Result<(), RunEnd> {
    if files <= MAX_ARTIFACTS {
        return Ok(());
    }
    let message = format!(
        "the workflow made {files} files, and {MAX_ARTIFACTS} is the most a job may have: put \
         them together, or make fewer in a job"
    );
    Err(Failure::new(FailureKind::BadJob, "too_many_outputs", message).into())
}

/// A node's id as an artifact may have it: a graph's keys may be anything.
fn shown(node: &str) -> String {
    let mut node = node.replace(char::is_control, "_");
    bounds::cut(&mut node, MAX_LABEL);
    node
}

/// What the artifacts are called, each by a name of its own: ids of nodes may be alike once they are
/// safe. Of those the ones that were not safe get a digest of what they were, so that which node gets
/// which name does not depend on what came first.
fn names_of(files: &[OutputFile], tag: Option<&str>) -> Vec<String> {
    let mut alike: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for file in files {
        alike.entry(node_of(file)).or_default().insert(&file.node_id);
    }
    let names = files.iter().map(|file| match node_of(file) {
        node if alike[&node].len() > 1 && node != file.node_id => {
            let digest = hex::encode(Sha256::digest(&file.node_id));
            name_of(file, &format!("{node}-{}", &digest[..DIGITS]), tag)
        }
        node => name_of(file, &node, tag),
    });
    names.collect()
}

/// A node's id of characters that are safe, not beginning with a dot, and cut at its end.
fn node_of(file: &OutputFile) -> String {
    let mut node: String = file.node_id.chars().map(safe).collect();
    if node.starts_with('.') {
        node.replace_range(..1, "_");
    }
    node.truncate(node.floor_char_boundary(NODE_BYTES));
    node
}

fn safe(c: char) -> char {
    match c {
        c if c.is_alphanumeric() => c,
        '.' | '_' | '-' | ' ' | '(' | ')' => c,
        _ => '_',
    }
}

/// `{node}-{index}-{file}`, of characters that are safe in a path and a URL, without the tag. A file's
/// name that is too long is cut at its beginning, since its end says the type.
fn name_of(file: &OutputFile, node: &str, tag: Option<&str>) -> String {
    let filename = match tag {
        Some(tag) => file.filename.replacen(&format!("-{tag}"), "", 1),
        None => file.filename.clone(),
    };
    let head = format!("{node}-{}-", file.index);
    let name: String = filename.chars().map(safe).collect();
    let surplus = (head.len() + name.len()).saturating_sub(MAX_NAME);
    format!("{head}{}", &name[name.ceil_char_boundary(surplus)..])
}

fn media_type(filename: &str) -> &'static str {
    let ending = filename.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    match ending.as_deref() {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("gif") => "image/gif",
        Some("avif") => "image/avif",
        Some("svg") => "image/svg+xml",
        Some("mp4" | "m4v") => "video/mp4",
        Some("webm") => "video/webm",
        Some("mov") => "video/quicktime",
        Some("mkv") => "video/x-matroska",
        Some("wav") => "audio/wav",
        Some("mp3") => "audio/mpeg",
        Some("flac") => "audio/flac",
        Some("ogg" | "opus") => "audio/ogg",
        Some("glb") => "model/gltf-binary",
        Some("gltf") => "model/gltf+json",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_nodes_whose_ids_are_alike_once_they_are_safe_have_names_of_their_own() {
        let file = |node: &str, index: usize| OutputFile {
            node_id: node.into(),
            index,
            list: "images".into(),
            filename: "lake.png".into(),
            subfolder: node.into(),
            folder: "output".into(),
        };
        let long = |end: &str| "12:".repeat(40) + end;
        let files = ["9:1", "9_1", "9/1", "8:1", &long("1"), &long("2")].map(|node| file(node, 0));
        let names = names_of(&files, None);
        assert_eq!(names[1], "9_1-0-lake.png");
        assert_eq!(names[3], "8_1-0-lake.png", "what is like no other is as it was");
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), files.len(), "{names:?}");
        for (node, name) in [("9:1", &names[0]), ("9/1", &names[2])] {
            assert!(name.starts_with("9_1-") && name.ends_with("-0-lake.png"), "{node}: {name}");
        }
        let (mut turned, mut again) = (files, names);
        turned.reverse();
        again.reverse();
        assert_eq!(names_of(&turned, None), again, "whichever comes first");
    }

    #[test]
    fn an_artifacts_name_is_safe_and_unique_within_the_job() {
        let file = |node: &str, filename: &str| OutputFile {
            node_id: node.into(),
            index: 2,
            list: "images".into(),
            filename: filename.into(),
            subfolder: String::new(),
            folder: "output".into(),
        };
        let name_of = |file: &OutputFile, tag| name_of(file, &node_of(file), tag);
        assert_eq!(name_of(&file("9", "lake_00001_.png"), None), "9-2-lake_00001_.png");
        let tagged = file("9", "lake-1a2b3c4d_00001_.png");
        assert_eq!(name_of(&tagged, Some("1a2b3c4d")), "9-2-lake_00001_.png");
        assert_eq!(name_of(&tagged, Some("5e6f7a8b")), "9-2-lake-1a2b3c4d_00001_.png");
        assert_eq!(name_of(&file("9:1", "../../x\\y?.png"), None), "9_1-2-.._.._x_y_.png");
        assert_eq!(name_of(&file("9", "Bäume.png"), None), "9-2-Bäume.png");
        for (node, filename) in
            [("9", "x"), ("9", "湖"), ("9", "é"), ("9", "🌊"), ("node", "湖"), ("湖", "湖")]
        {
            let long = name_of(&file(&node.repeat(300), &(filename.repeat(500) + ".png")), None);
            assert!(long.len() <= 200 && long.ends_with(".png"), "{} {long}", long.len());
            assert!(long.contains("-2-"), "{long}");
        }
        let fits = name_of(&file("9", &("湖".repeat(64) + ".png")), None);
        assert_eq!(fits, format!("9-2-{}.png", "湖".repeat(64)), "nothing is cut for nothing");
    }
}
