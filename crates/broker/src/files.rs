//! What a server tells the broker of the place where it keeps files.

/// What is wrong with the place where a server keeps the files of jobs, with what it logs of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesTrouble {
    /// There is next to no room left in this directory.
    #[error("there is next to no room left for files in {0}")]
    Full(String),
    /// The directory is not there: not mounted any more, say.
    #[error("{0}")]
    Away(String),
}
