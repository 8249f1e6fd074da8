use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;

pub(crate) use pointsman_comfyui::Folder as Root;

/// Prefixes whose last number is remembered; beyond that the folder is looked through again.
const MAX_REMEMBERED_PREFIXES: usize = 10_000;

/// The folders of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Folders(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: PathBuf,
    /// (folder, prefix) → the last number used.
    last_numbers: Mutex<HashMap<(PathBuf, String), u32>>,
    temp_tag: String,
    /// Deletes the folder when the last clone goes.
    _temporary: Option<TempDir>,
}

/// Where a file came to lie.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) filename: String,
    pub(crate) subfolder: String,
}

/// A path that leads out of its folder.
#[derive(Debug, thiserror::Error)]
#[error("outside the {0} folder is not allowed")]
pub(crate) struct Outside(Root);

impl Folders {
    /// Uses this folder, or a temporary one.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub(crate) fn new(base: Option<PathBuf>) -> io::Result<Self> {
        let temporary = base.is_none().then(TempDir::new).transpose()?;
        let base = base
            .or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()))
            .unwrap_or_default();
        for root in [Root::Input, Root::Output, Root::Temp] {
            fs::create_dir_all(base.join(root.as_str()))?;
        }
        let temp_tag = uuid::Uuid::new_v4().simple().to_string().chars().take(5).collect();
        Ok(Self(Arc::new(Inner {
            base,
            last_numbers: Mutex::default(),
            temp_tag,
            _temporary: temporary,
        })))
    }

    pub(crate) fn root(&self, root: Root) -> PathBuf {
        self.0.base.join(root.as_str())
    }

    /// Five letters that tell the previews of one process from those of another.
    pub(crate) fn temp_tag(&self) -> &str {
        &self.0.temp_tag
    }

    /// Empties the temp folder, as ComfyUI does when it starts.
    pub(crate) fn empty_temp(&self) {
        let temp = self.root(Root::Temp);
        if let Err(error) = fs::remove_dir_all(&temp).and_then(|()| fs::create_dir_all(&temp)) {
            tracing::warn!(%error, "temp folder not emptied");
        }
        self.0.last_numbers.lock().retain(|(folder, _), _| !folder.starts_with(&temp));
    }

    /// The path of a file, inside its root.
    pub(crate) fn resolve(
        &self,
        root: Root,
        subfolder: &str,
        filename: &str,
    ) -> Result<PathBuf, Outside> {
        let relative = Path::new(subfolder).join(filename);
        if relative
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        {
            Ok(self.root(root).join(relative))
        } else {
            Err(Outside(root))
        }
    }

    /// Writes a new file `{prefix}_{number}_.{extension}`; folders in the prefix are made.
    pub(crate) fn save(
        &self,
        root: Root,
        prefix: &str,
        extension: &str,
        bytes: &[u8],
    ) -> io::Result<Saved> {
        let (subfolder, name) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let folder = self.resolve(root, subfolder, "").map_err(io::Error::other)?;
        fs::create_dir_all(&folder)?;
        let filename = format!("{name}_{:05}_.{extension}", self.next_number(&folder, name));
        let path = self.resolve(root, subfolder, &filename).map_err(io::Error::other)?;
        fs::write(path, bytes)?;
        Ok(Saved { filename, subfolder: subfolder.to_owned() })
    }

    /// Puts an upload into `input`: an equal file of that name is reused, a different one gets another name.
    pub(crate) fn upload(
        &self,
        subfolder: &str,
        name: &str,
        bytes: &[u8],
        overwrite: bool,
    ) -> io::Result<String> {
        let path =
            |name: &str| self.resolve(Root::Input, subfolder, name).map_err(io::Error::other);
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let dot = if extension.is_empty() { "" } else { "." };
        let mut chosen = name.to_owned();
        let mut attempt = 1;
        while !overwrite && fs::read(path(&chosen)?).is_ok_and(|there| there != bytes) {
            chosen = format!("{stem} ({attempt}){dot}{extension}");
            attempt += 1;
        }
        let target = path(&chosen)?;
        fs::create_dir_all(target.parent().unwrap_or(&self.0.base))?;
        fs::write(target, bytes)?;
        Ok(chosen)
    }

    /// The names of the pictures in `input`.
    pub(crate) fn input_images(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root(Root::Input)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    /// Deletes a file; whether it was there does not matter.
    pub(crate) fn delete(&self, root: &str, subfolder: &str, filename: &str) {
        let path =
            Root::from_str(root).ok().and_then(|root| self.resolve(root, subfolder, filename).ok());
        if let Some(path) = path {
            let _ = fs::remove_file(path);
        }
    }

    fn next_number(&self, folder: &Path, name: &str) -> u32 {
        let mut last_numbers = self.0.last_numbers.lock();
        if last_numbers.len() >= MAX_REMEMBERED_PREFIXES {
            last_numbers.clear();
        }
        let last = last_numbers
            .entry((folder.to_owned(), name.to_owned()))
            .or_insert_with(|| highest_number(folder, name));
        *last += 1;
        *last
    }
}

/// The highest number that a file of this prefix has in a folder.
fn highest_number(folder: &Path, name: &str) -> u32 {
    let number = |file: String| {
        let rest = file.strip_prefix(name)?.strip_prefix('_')?;
        rest.split('_').next()?.parse().ok()
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| number(entry.file_name().into_string().ok()?)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
