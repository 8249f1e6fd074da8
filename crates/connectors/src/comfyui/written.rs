//! Which files the prompts of this run of the connector have written, and what tells them from
//! those of anybody else.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;
use pointsman_comfyui::OutputFile;
use uuid::Uuid;

/// Files that are remembered; the ones used longest ago go first.
const MOST: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The files of one run of a connector.
pub(super) struct Written {
    /// Stands behind the prefix of every file that is saved, so that ComfyUIs that share a folder
    /// do not write the same names. The same for the whole run, because a node with another prefix
    /// is another node to ComfyUI's cache.
    pub(super) tag: String,
    files: Mutex<LruCache<Place, Kept>>,
}

/// What is known of a file.
#[derive(PartialEq)]
enum Kept {
    /// One prompt wrote it, and this was its version then.
    Once(Option<String>),
    /// Several did, each its own; a node that names it from the cache may mean any of them.
    Again,
}

type Place = (String, String, String);

impl Written {
    pub(super) fn new() -> Self {
        let tag = short(&Uuid::new_v4().to_string());
        Self { tag, files: Mutex::new(LruCache::new(MOST)) }
    }

    /// A prompt that really ran wrote it, and it is this version of it.
    pub(super) fn note(&self, file: &OutputFile, version: Option<&str>) {
        let now = Kept::Once(version.map(str::to_owned));
        let mut files = self.files.lock();
        let kept = files.get_or_insert_mut(place(file), || Kept::Once(version.map(str::to_owned)));
        if *kept != now {
            *kept = Kept::Again;
        }
    }

    /// Whether a file that ComfyUI names from its cache is, as far as can be known, still what the
    /// node wrote: a folder that is emptied has its names given away again. What has the tag and is
    /// not remembered may be anything; what is without it is another's, and taken as it is.
    pub(super) fn is_as_written(&self, file: &OutputFile, version: Option<&str>) -> bool {
        match self.files.lock().get(&place(file)) {
            Some(Kept::Once(written)) => written.as_deref() == version,
            Some(Kept::Again) => false,
            None => !file.filename.contains(&self.tag),
        }
    }
}

/// Eight characters that tell one id from another.
pub(super) fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

fn place(file: &OutputFile) -> Place {
    (file.folder.clone(), file.subfolder.clone(), file.filename.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_file_counts_while_it_is_what_was_written() {
        let written = Written::new();
        let file = |filename: String| OutputFile {
            node_id: "7".into(),
            index: 0,
            list: "images".into(),
            filename,
            subfolder: String::new(),
            folder: "output".into(),
        };
        let own = file(format!("lake-{}_00001_.png", written.tag));
        assert!(!written.is_as_written(&own, Some("a")), "nobody knows whose it is");
        written.note(&own, Some("a"));
        assert!(written.is_as_written(&own, Some("a")));
        assert!(!written.is_as_written(&own, Some("b")));
        written.note(&own, Some("b"));
        assert!(!written.is_as_written(&own, Some("b")), "it may be either's");
        let linked = file("lake_00001_.png".into());
        assert!(written.is_as_written(&linked, Some("a")));
        written.note(&linked, Some("a"));
        assert!(!written.is_as_written(&linked, Some("b")));
    }
}
