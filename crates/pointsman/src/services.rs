//! What the command line says about services and places for files.

use std::{path::PathBuf, str::FromStr};

use pointsman_core::ServiceName;

/// `NAME[:SLOTS][=URL]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceArg {
    pub name: ServiceName,
    pub slots: u32,
    pub url: Option<String>,
}

impl FromStr for ServiceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (head, url) = match text.split_once('=') {
            Some((head, url)) => (head, Some(url.to_owned())),
            None => (text, None),
        };
        let (name, slots) = match head.split_once(':') {
            Some((name, slots)) => {
                let wrong = |_| format!("{slots:?} is not a number of slots: use 1 to 1024");
                (name, slots.parse().map_err(wrong)?)
            }
            None => (head, 1),
        };
        if !(1..=1024).contains(&slots) {
            return Err(format!("{slots} slots: use 1 to 1024"));
        }
        let name = ServiceName::new(name).map_err(|error| error.to_string())?;
        Ok(Self { name, slots, url })
    }
}

/// Where the files of jobs lie, for a worker that does not reach the store through a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactsArg {
    /// A directory that servers and workers share.
    Directory(PathBuf),
    /// The address of a server.
    Server(String),
}

impl FromStr for ArtifactsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("http" | "https", server)) if !server.is_empty() => {
                Ok(Self::Server(text.to_owned()))
            }
            None if !text.is_empty() => Ok(Self::Directory(text.into())),
            _ => Err(format!("{text:?} is no place for files: use DIR or http://SERVER")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_with_slots_and_address() {
        let parsed = |text: &str| text.parse::<ServiceArg>();
        let full = parsed("comfyui:2=http://127.0.0.1:8188").unwrap();
        assert_eq!((full.name.as_str(), full.slots), ("comfyui", 2));
        assert_eq!(full.url.as_deref(), Some("http://127.0.0.1:8188"));
        assert_eq!(parsed("simulation").unwrap().slots, 1);
        for wrong in ["", "a b", "simulation:0", "simulation:x", "simulation:1025"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_go_to_a_directory_or_a_server() {
        let parsed = |text: &str| text.parse::<ArtifactsArg>();
        for dir in ["/mnt/files", "files", "./http"] {
            assert_eq!(parsed(dir), Ok(ArtifactsArg::Directory(dir.into())));
        }
        for server in ["http://10.0.0.1:7780", "https://pointsman.example"] {
            assert_eq!(parsed(server), Ok(ArtifactsArg::Server(server.to_owned())));
        }
        for wrong in ["", "http://", "s3://bucket", "redis://x", "://x"] {
            let refused = parsed(wrong).unwrap_err();
            assert!(refused.contains("DIR or http://SERVER"), "{refused}");
        }
    }
}
