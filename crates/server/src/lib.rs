//! The HTTP server.
mod files;
pub use files::{ByteStream, FileReader, Files, FilesError, MAX_FILE, StoredFile};
