//! Server-sent events out of bytes.

/// Bytes of one event at most: a snapshot of a large fleet.
const MAX_EVENT: usize = 256 << 20;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Where to resume: only on the last event of a group, and on a snapshot.
    pub id: Option<String>,
    /// Such as `job_started`, `full_state_snapshot`, `bookmark`, `progress`.
    pub name: String,
    /// One JSON value; its lines are joined.
    pub data: String,
}

/// The stream is not one of server-sent events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    #[error("an event is larger than {MAX_EVENT} bytes")]
    TooLarge,
    #[error("an event is not UTF-8")]
    NotUtf8,
}

/// Takes bytes in pieces of any size and gives back whole events.
#[derive(Debug, Default)]
pub struct SseParser {
    /// Bytes after the last line break.
    rest: Vec<u8>,
    current: Event,
    has_data: bool,
}

impl SseParser {
    /// Takes the next piece; returns the events that it completes, oldest first.
    ///
    /// # Errors
    /// [`SseError`]; the stream is then of no more use.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Event>, SseError> {
        let mut events = Vec::new();
        let mut piece = piece;
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, after) = piece.split_at(end);
            self.rest.extend_from_slice(line);
            piece = after.get(1..).unwrap_or_default();
            let line = std::mem::take(&mut self.rest);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            let line = std::str::from_utf8(line).map_err(|_| SseError::NotUtf8)?;
            events.extend(self.line(line));
        }
        self.rest.extend_from_slice(piece);
        if self.rest.len() + self.current.data.len() > MAX_EVENT {
            return Err(SseError::TooLarge);
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.current);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.current.name),
            "id" => self.current.id = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.current.data.push('\n');
                }
                self.current.data.push_str(value);
            }
            // Comments keep the connection alive; unknown fields are for later versions.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_the_bytes_are_cut() {
        let stream = "event: bookmark\ndata: {\"a\":\ndata: 1}\n\n: alive\n\nid: e.7\r\nevent: x\r\ndata: ü\r\n\r\n";
        let expected = [
            Event { id: None, name: "bookmark".into(), data: "{\"a\":\n1}".into() },
            Event { id: Some("e.7".into()), name: "x".into(), data: "ü".into() },
        ];
        for size in 1..=stream.len() {
            let mut parser = SseParser::default();
            let pieces = stream.as_bytes().chunks(size);
            let events: Vec<_> = pieces.flat_map(|piece| parser.push(piece).unwrap()).collect();
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }
}
