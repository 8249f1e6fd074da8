//! A file that is written whole or not at all.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use tokio::fs::{File, OpenOptions};

/// A file under the name that was asked for is whole, or it is what it was before: it is written
/// beside that, and takes its place at the end; dropped before, it is removed. A device or a pipe is
/// written as it is.
pub struct Out {
    pub file: File,
    part: Option<Part>,
}

struct Part {
    path: PathBuf,
    whole: PathBuf,
}

impl Drop for Part {
    fn drop(&mut self) {
        // Once it has its place it is not there. What cannot be removed is not taken for whole.
        let _ = fs::remove_file(&self.path);
    }
}

impl Out {
    pub async fn create(name: &Path) -> Result<Self, String> {
        Self::with_mode(name, 0o666).await
    }

    /// A file that nobody but its owner reads.
    pub async fn create_private(name: &Path) -> Result<Self, String> {
        Self::with_mode(name, 0o600).await
    }

    /// `mode`: of a new file, before the umask.
    async fn with_mode(name: &Path, mode: u32) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("cannot write {}: {error}", name.display());
        match fs::metadata(name) {
            Ok(there) if there.is_dir() => {
                Err(format!("{} is a directory: name a file", name.display()))
            }
            Ok(there) if !there.is_file() => {
                let file = OpenOptions::new().write(true).open(name).await;
                Ok(Self { file: file.map_err(cannot)?, part: None })
            }
            _ => Self::beside(target(name).map_err(cannot)?, mode).await,
        }
    }

    /// Under a name that nobody else takes.
    async fn beside(whole: PathBuf, mode: u32) -> Result<Self, String> {
        let mut path = OsString::from(&whole);
        path.push(format!(".{}.part", uuid::Uuid::new_v4().simple()));
        let path = PathBuf::from(path);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).await;
        let file = file.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self { file, part: Some(Part { path, whole }) })
    }

    /// All of it is written.
    pub async fn finish(&self) -> io::Result<()> {
        sync(&self.file).await?;
        let Some(Part { path, whole }) = &self.part else { return Ok(()) };
        tokio::fs::rename(path, whole).await?;
        // The name is on the disk once its directory is.
        let dir = whole.parent().filter(|dir| !dir.as_os_str().is_empty());
        sync(&File::open(dir.unwrap_or(Path::new("."))).await?).await
    }
}

/// What has nothing to flush, such as a pipe, answers that the call is invalid.
async fn sync(file: &File) -> io::Result<()> {
    match file.sync_all().await {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// The file that a name leads to over links, whether it is there or not.
fn target(name: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(name) {
            Ok(link) => target(&name.parent().unwrap_or(Path::new("")).join(link)),
            Err(_) => Ok(name.to_owned()),
        },
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn put(out: &mut Out, text: &str) {
        out.file.write_all(text.as_bytes()).await.unwrap();
        out.file.flush().await.unwrap();
    }

    #[tokio::test]
    async fn of_two_exports_to_one_name_each_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("out");
        let (mut first, mut second) =
            (Out::create(&name).await.unwrap(), Out::create(&name).await.unwrap());
        put(&mut first, "the first").await;
        put(&mut second, "the second").await;
        first.finish().await.unwrap();
        assert_eq!(fs::read_to_string(&name).unwrap(), "the first");
        second.finish().await.unwrap();
        assert_eq!(fs::read_to_string(&name).unwrap(), "the second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_is_private_nobody_else_reads() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("out");
        fs::write(&name, "old").unwrap();
        fs::set_permissions(&name, fs::Permissions::from_mode(0o644)).unwrap();
        let mut out = Out::create_private(&name).await.unwrap();
        put(&mut out, "payloads").await;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&out.part.as_ref().unwrap().path), 0o600, "from the first byte on");
        out.finish().await.unwrap();
        assert_eq!(mode(&name), 0o600);
    }

    #[tokio::test]
    async fn what_is_there_stays_until_the_new_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("out");
        fs::write(&name, "old").unwrap();
        let mut out = Out::create(&name).await.unwrap();
        put(&mut out, "half").await;
        assert_eq!(fs::read_to_string(&name).unwrap(), "old");
        drop(out);
        assert_eq!(fs::read_to_string(&name).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_link_stays_and_what_it_leads_to_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("elsewhere")).unwrap();
        std::os::unix::fs::symlink("link", at("outer")).unwrap();
        std::os::unix::fs::symlink("elsewhere/out", at("link")).unwrap();
        // At first the link leads to nothing, then to a file.
        for text in ["new", "newer"] {
            let mut out = Out::create(&at("outer")).await.unwrap();
            put(&mut out, text).await;
            out.finish().await.unwrap();
            assert_eq!(fs::read_to_string(at("elsewhere/out")).unwrap(), text);
            assert_eq!(fs::read_link(at("outer")).unwrap(), Path::new("link"));
            assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("elsewhere/out"));
        }
        std::os::unix::fs::symlink("round", at("round")).unwrap();
        let why = Out::create(&at("round")).await.err().unwrap();
        assert!(why.contains("round"), "{why}");
    }
}
