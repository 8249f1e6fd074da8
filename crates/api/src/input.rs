//! Where the files come from that a job brings.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use pointsman_core::{JobId, hex};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ErrorCode, Problem, check_file_name};

/// A SHA-256 in lowercase hex.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sha256Hex(String);

impl Sha256Hex {
    pub fn of(digest: [u8; 32]) -> Self {
        Self(hex::encode(digest))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Sha256Hex {
    type Err = Problem;
    fn from_str(text: &str) -> Result<Self, Problem> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(hex) {
            return Ok(Self(text.to_owned()));
        }
        Err(invalid("a SHA-256 has 64 lowercase hexadecimal digits"))
    }
}

/// An input's `from`, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSource {
    /// `sha256:…`: an uploaded file.
    Stored(Sha256Hex),
    /// `artifact:JOB/NAME`: a result of another job.
    Artifact { job: JobId, name: String },
    /// `data:TYPE;base64,…`: inline.
    Inline { bytes: Bytes },
}

impl FromStr for InputSource {
    type Err = Problem;

    fn from_str(from: &str) -> Result<Self, Problem> {
        let (scheme, rest) = from.split_once(':').ok_or_else(|| unknown_scheme(from))?;
        match scheme {
            "sha256" => Ok(Self::Stored(rest.parse()?)),
            "artifact" => artifact(rest),
            "data" => inline(rest),
            _ => Err(unknown_scheme(from)),
        }
    }
}

fn artifact(rest: &str) -> Result<InputSource, Problem> {
    let (job, name) = rest.split_once('/').ok_or_else(|| invalid("expected artifact:JOB/NAME"))?;
    let job = job.parse().map_err(|error| invalid(format!("{error}")))?;
    check_file_name(name)?;
    Ok(InputSource::Artifact { job, name: name.to_owned() })
}

fn inline(rest: &str) -> Result<InputSource, Problem> {
    let (head, data) = rest.split_once(',').ok_or_else(|| invalid("a data URL has a comma"))?;
    if !head.ends_with(";base64") {
        return Err(invalid("only base64 is taken in data URLs: data:TYPE;base64,…"));
    }
    let bytes = STANDARD.decode(data).map_err(|error| invalid(format!("not base64: {error}")))?;
    if bytes.is_empty() {
        return Err(invalid("the data URL has nothing after its comma: there is no file"));
    }
    Ok(InputSource::Inline { bytes: bytes.into() })
}

fn unknown_scheme(from: &str) -> Problem {
    let head: String = from.chars().take(40).collect();
    invalid(format!("{head:?} names no source"))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::InvalidInput, detail)
}

/// An uploaded file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputStored {
    /// `sha256:…`, to be named as `from` in a job's `inputs`.
    pub input: String,
    /// Bytes.
    pub size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_understood_or_refused() {
        let hash = "a".repeat(64);
        let stored: InputSource = format!("sha256:{hash}").parse().unwrap();
        assert_eq!(stored, InputSource::Stored(Sha256Hex(hash)));
        let inline: InputSource = "data:text/plain;base64,aGk=".parse().unwrap();
        assert_eq!(inline, InputSource::Inline { bytes: Bytes::from_static(b"hi") });
        let job = "018f4e9e-7c1f-7000-8000-3c5a9e0b1d2f";
        assert!(format!("artifact:{job}/9-0-a.png").parse::<InputSource>().is_ok());
        for (bad, code) in [
            ("cat.png", ErrorCode::InvalidInput),
            ("http://x/y", ErrorCode::InvalidInput),
            ("file:///etc/passwd", ErrorCode::InvalidInput),
            ("sha256:../../etc/passwd", ErrorCode::InvalidInput),
            ("sha256:ABC", ErrorCode::InvalidInput),
            ("data:text/plain,hi", ErrorCode::InvalidInput),
            ("data:text/plain;base64,%%", ErrorCode::InvalidInput),
            ("data:image/png;base64,", ErrorCode::InvalidInput),
            ("artifact:1/a", ErrorCode::InvalidInput),
            (&format!("artifact:{job}/../x"), ErrorCode::InvalidName),
        ] {
            assert!(bad.parse::<InputSource>().unwrap_err().is(code), "{bad}");
        }
    }
}
