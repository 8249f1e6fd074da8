//! Identifiers: one newtype a thing, so that a worker's id cannot stand where a machine's belongs.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// Why a text is not an identifier: what is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {rule}")]
pub struct IdError {
    pub what: &'static str,
    pub text: String,
    pub rule: &'static str,
}

impl IdError {
    pub(crate) fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), rule }
    }
}

const NAME_RULE: &str =
    "use 1 to 64 characters: a-z, 0-9, '.', '_' or '-', the first a letter or a digit";

fn check_name(what: &'static str, text: &str) -> Result<(), IdError> {
    let mut bytes = text.bytes();
    let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let tail = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    if head && tail && text.len() <= 64 { Ok(()) } else { Err(IdError::new(what, text, NAME_RULE)) }
}

fn check_label(what: &'static str, text: &str) -> Result<(), IdError> {
    let fine = !text.is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
    if fine {
        Ok(())
    } else {
        Err(IdError::new(what, text, "use 1 to 200 bytes of text without control characters"))
    }
}

/// In the OpenAPI document these types are strings, described by their comments' lines.
macro_rules! string_schema {
    ($name:ty, $($doc:literal),+) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::Type::String)
                    .description(Some(concat!($($doc),+).trim()))
                    .into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use string_schema;

/// In JSON these types are read as they are parsed.
macro_rules! read_from_text {
    ($name:ty) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use read_from_text;

macro_rules! text_id {
    ($(#[doc = $doc:literal])+ $name:ident, $what:literal, $check:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);
        string_schema!($name, $($doc),+);
        read_from_text!($name);

        impl $name {
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                $check($what, text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[doc = $doc:literal])+ $name:ident, $what:literal) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);
        string_schema!($name, $($doc),+);
        read_from_text!($name);

        impl $name {
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            /// Only the canonical lowercase form: an id has one spelling.
            fn from_str(text: &str) -> Result<Self, IdError> {
                let id = Uuid::try_parse(text).ok().filter(|id| {
                    let mut canonical = Uuid::encode_buffer();
                    *id.hyphenated().encode_lower(&mut canonical) == *text
                });
                let rule = "use a lowercase UUID such as 018f4e9e-7c1f-7000-8000-3c5a9e0b1d2f";
                id.map(Self).ok_or_else(|| IdError::new($what, text, rule))
            }
        }
    };
}

uuid_id! {
    /// One job, for all its runs and attempts. Version 7, so that ids sort by submission.
    JobId, "job id"
}
uuid_id! {
    /// One attempt's secret half of the fence; for ComfyUI also its `prompt_id` and `client_id`.
    Token, "token"
}
uuid_id! {
    /// One start of a worker's or a machine agent's process.
    Incarnation, "incarnation"
}
text_id! {
    /// A worker: one process (or task) that claims jobs.
    WorkerId, "worker id", check_name
}
text_id! {
    /// A machine: one host with its GPUs, services and workers.
    MachineId, "machine id", check_name
}
text_id! {
    /// The name of a kind of service that a connector drives, such as `comfyui`.
    ServiceName, "service", check_name
}
text_id! {
    /// Who a job belongs to.
    CustomerId, "customer_id", check_label
}
text_id! {
    /// A group of jobs that keep one place in the queue.
    WorkflowId, "workflow_id", check_label
}

/// A worker's connector to one of its services, written `{worker}:{service}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectorId {
    pub worker: WorkerId,
    pub service: ServiceName,
}

impl ConnectorId {
    pub fn new(worker: WorkerId, service: ServiceName) -> Self {
        Self { worker, service }
    }
}

string_schema!(
    ConnectorId,
    "A worker's connector to one of its services, written `{worker}:{service}`."
);
read_from_text!(ConnectorId);

impl fmt::Display for ConnectorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.worker, self.service)
    }
}

impl FromStr for ConnectorId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let rule = "use WORKER:SERVICE, such as gpu-box-7-worker-0:comfyui";
        let parts = text.split_once(':').ok_or_else(|| IdError::new("connector id", text, rule));
        let (worker, service) = parts?;
        Ok(Self::new(worker.parse()?, service.parse()?))
    }
}

impl Serialize for ConnectorId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_alphabet() {
        for good in ["a", "gpu-box-7.worker_0", "0"] {
            assert!(WorkerId::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(65);
        for bad in ["", "-a", "A", "a b", "../x", "a/b", "a:b", long.as_str()] {
            assert!(WorkerId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_uuid_has_one_spelling() {
        assert!("018f4e9e-7c1f-7000-8000-3c5a9e0b1d2f".parse::<Token>().is_ok());
        assert!("018F4E9E-7C1F-7000-8000-3C5A9E0B1D2F".parse::<Token>().is_err());
        assert!("018f4e9e7c1f700080003c5a9e0b1d2f".parse::<Token>().is_err());
    }
}
