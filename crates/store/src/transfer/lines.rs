//! The lines of the stream: one JSON object each, with one field that names the line's kind.
//!
//! Payloads and results are JSON text already. Where that text can stand in a line as it is, byte
//! for byte, it does; else (it spans lines, say) it is Base64.

use std::{borrow::Cow, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pointsman_core::{
    CustomerId, JobId, Record, RecordKind, Timestamp, Token,
    command::IdempotencyKey,
    decide::{KeptIdempotency, KeptResult, Side},
    hex,
    matching::{Capabilities, CapabilitiesDigest},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Footer, Header, Item};

/// A line as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    Header(Header),
    Record {
        kind: RecordKind,
        #[serde(borrow)]
        record: &'a RawValue,
    },
    Payload {
        job: JobId,
        #[serde(borrow)]
        payload: Text<'a>,
    },
    Result {
        job: JobId,
        attempt: u32,
        token: Token,
        late: bool,
        #[serde(borrow)]
        result: Text<'a>,
    },
    Capabilities {
        digest: CapabilitiesDigest,
        capabilities: Arc<Capabilities>,
    },
    Idempotency {
        customer: Option<CustomerId>,
        key: String,
        job: JobId,
        body: Body,
        until: Timestamp,
    },
    Footer(Footer),
}

/// A line as it is written.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Written<'a> {
    Header(&'a Header),
    Record {
        kind: RecordKind,
        record: &'a Record,
    },
    Payload {
        job: JobId,
        payload: Text<'a>,
    },
    Result {
        job: JobId,
        attempt: u32,
        token: Token,
        late: bool,
        result: Text<'a>,
    },
    Capabilities {
        digest: CapabilitiesDigest,
        capabilities: &'a Capabilities,
    },
    Idempotency {
        customer: Option<&'a CustomerId>,
        key: &'a str,
        job: JobId,
        body: Body,
        until: Timestamp,
    },
    Footer(&'a Footer),
}

/// JSON text, byte for byte.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Text<'a> {
    #[serde(borrow)]
    Json(&'a RawValue),
    Base64(Cow<'a, str>),
}

impl<'a> Text<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let in_one_line = !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
        let raw = std::str::from_utf8(bytes).ok().filter(|_| in_one_line);
        let raw = raw.and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        match raw.filter(|raw| raw.get().len() == bytes.len()) {
            Some(raw) => Self::Json(raw),
            None => Self::Base64(BASE64_STANDARD.encode(bytes).into()),
        }
    }

    fn bytes(&self) -> Result<Arc<[u8]>, String> {
        match self {
            Self::Json(raw) => Ok(raw.get().as_bytes().into()),
            Self::Base64(text) => {
                let bytes = BASE64_STANDARD.decode(text.as_bytes());
                Ok(bytes.map_err(|error| error.to_string())?.into())
            }
        }
    }
}

/// A SHA-256 in lowercase hex.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct Body([u8; 32]);

impl From<Body> for String {
    fn from(body: Body) -> Self {
        hex::encode(body.0)
    }
}

impl TryFrom<String> for Body {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "not a SHA-256: use 64 hexadecimal digits";
        hex::decode(&text).map(Self).ok_or(WRONG)
    }
}

impl Line<'_> {
    /// The item that the line is; none for header and footer.
    pub fn item(self) -> Result<Option<Item>, String> {
        Ok(Some(match self {
            Self::Header(_) | Self::Footer(_) => return Ok(None),
            Self::Record { kind, record } => {
                let record = Record::from_json(kind, record.get());
                Item::Record(record.map_err(|error| error.to_string())?)
            }
            Self::Payload { job, payload } => {
                Item::Side(Side::Payload { job, payload: payload.bytes()? })
            }
            Self::Result { job, attempt, token, late, result } => {
                let result = KeptResult { attempt, token, late, json: result.bytes()? };
                Item::Side(Side::Result { job, result })
            }
            Self::Capabilities { digest, capabilities } => {
                Item::Side(Side::Capabilities { digest, capabilities })
            }
            Self::Idempotency { customer, key, job, body, until } => {
                let key = IdempotencyKey { customer, key };
                let kept = KeptIdempotency { job, body: body.0, until };
                Item::Side(Side::Idempotency { key, kept })
            }
        }))
    }
}

fn line(written: &Written<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(written)?;
    line.push(b'\n');
    Ok(line)
}

pub(super) fn header_line(header: &Header) -> Result<Vec<u8>, serde_json::Error> {
    line(&Written::Header(header))
}

pub(super) fn footer_line(footer: &Footer) -> Result<Vec<u8>, serde_json::Error> {
    line(&Written::Footer(footer))
}

pub(super) fn item_line(item: &Item) -> Result<Vec<u8>, serde_json::Error> {
    line(&match item {
        Item::Record(record) => Written::Record { kind: record.key().kind(), record },
        Item::Side(Side::Payload { job, payload }) => {
            Written::Payload { job: *job, payload: Text::of(payload) }
        }
        Item::Side(Side::Result { job, result }) => Written::Result {
            job: *job,
            attempt: result.attempt,
            token: result.token,
            late: result.late,
            result: Text::of(&result.json),
        },
        Item::Side(Side::Capabilities { digest, capabilities }) => {
            Written::Capabilities { digest: *digest, capabilities }
        }
        Item::Side(Side::Idempotency { key, kept }) => Written::Idempotency {
            customer: key.customer.as_ref(),
            key: &key.key,
            job: kept.job,
            body: Body(kept.body),
            until: kept.until,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_keep_every_byte() {
        let job = JobId::from_uuid(uuid::Uuid::from_u128(7));
        let texts: [&[u8]; 7] =
            [b"{}", b"{\"a\": 1.50, \"a\":2}", b" {}", b"{\n}", b"", b"\xff\xfe", b"{}\n"];
        for text in texts {
            let item = Item::Side(Side::Payload { job, payload: text.into() });
            let line = item_line(&item).unwrap();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "{text:?}");
            let read: Line<'_> = serde_json::from_slice(&line).unwrap();
            assert_eq!(read.item().unwrap(), Some(item));
        }
    }
}
