//! What a batch writes: each event once as a line of the log, and of each record only its last
//! state, which is a piece of that line.

use std::{collections::HashMap, io::Write as _, ops::Range, sync::Arc};

use pointsman_core::{
    Event, JobId, LogGroup, RecordKey, Seq, Timestamp,
    command::IdempotencyKey,
    decide::{KeptIdempotency, KeptResult, Side},
    matching::{Capabilities, CapabilitiesDigest},
};
use pointsman_store::transfer::Item;

/// Groups in one row of the log, and bytes after which a row is full: who reads a page of the log
/// reads whole rows.
const GROUPS_A_ROW: u64 = 256;
const BYTES_A_ROW: usize = 256 << 10;

/// A row of the log.
#[derive(Debug)]
pub(crate) struct LogRow {
    pub first: Seq,
    pub last: Seq,
    pub at: Timestamp,
    pub lines: Range<usize>,
}

/// Everything that one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// The log's text.
    pub text: Vec<u8>,
    pub log: Vec<LogRow>,
    /// The last state of each changed record: where it lies in `text`; `None` when removed.
    pub records: HashMap<RecordKey, Option<Range<usize>>>,
    pub payloads: Vec<(JobId, Arc<[u8]>)>,
    pub results: Vec<(JobId, KeptResult)>,
    /// The first result's number, where it does not follow from the log's end.
    pub first_result: Option<i64>,
    pub capabilities: Vec<(CapabilitiesDigest, Arc<Capabilities>)>,
    pub idempotency: Vec<(IdempotencyKey, KeptIdempotency)>,
    pub expired: Vec<IdempotencyKey>,
}

impl Writes {
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
            && self.capabilities.is_empty()
            && self.idempotency.is_empty()
            && self.expired.is_empty()
            && self.payloads.is_empty()
            && self.results.is_empty()
    }

    pub fn side(&mut self, side: Side) {
        match side {
            Side::Payload { job, payload } => self.payloads.push((job, payload)),
            Side::Result { job, result } => self.results.push((job, result)),
            Side::Capabilities { digest, capabilities } => {
                self.capabilities.push((digest, capabilities));
            }
            Side::Idempotency { key, kept } => self.idempotency.push((key, kept)),
        }
    }

    /// Writes an imported item, of which the log says nothing.
    pub fn item(&mut self, item: &Item) -> Result<(), serde_json::Error> {
        match item {
            Item::Record(record) => {
                let start = self.text.len();
                serde_json::to_writer(&mut self.text, record)?;
                self.records.insert(record.key(), Some(start..self.text.len()));
            }
            Item::Side(side) => self.side(side.clone()),
        }
        Ok(())
    }

    pub fn group(&mut self, group: &LogGroup) -> Result<(), serde_json::Error> {
        let start = self.text.len();
        let at = group.at.to_string();
        for event in &group.events {
            let record = self.line(event, group.seq, &at)?;
            self.records.insert(event.key.clone(), record);
        }
        let end = self.text.len();
        match self.log.last_mut() {
            Some(row) if !is_full(row) => {
                row.last = group.seq;
                row.at = group.at;
                row.lines.end = end;
            }
            _ => {
                let seq = group.seq;
                self.log.push(LogRow { first: seq, last: seq, at: group.at, lines: start..end });
            }
        }
        Ok(())
    }

    /// Writes one event; says where its record lies.
    fn line(
        &mut self,
        event: &Event,
        seq: Seq,
        at: &str,
    ) -> Result<Option<Range<usize>>, serde_json::Error> {
        let (name, kind) = (event.name.as_str(), event.key.kind().as_str());
        let head =
            format_args!(r#"{{"seq":{seq},"at":"{at}","event":"{name}","kind":"{kind}","id":"#);
        self.text.write_fmt(head).map_err(serde_json::Error::io)?;
        serde_json::to_writer(&mut self.text, &event.key.id())?;
        self.text.extend_from_slice(br#","record":"#);
        let start = self.text.len();
        serde_json::to_writer(&mut self.text, &event.record)?;
        let record = event.record.as_ref().map(|_| start..self.text.len());
        self.text.extend_from_slice(b"}\n");
        Ok(record)
    }
}

fn is_full(row: &LogRow) -> bool {
    row.last - row.first + 1 >= GROUPS_A_ROW || row.lines.len() >= BYTES_A_ROW
}
