use bytes::Bytes;

use super::{FrameError, ImageFormat, Message, Preview, PreviewMetadata};

// The types of a binary frame (ComfyUI source: BinaryEventTypes). Type 2 never appears on the wire.
const PREVIEW: u32 = 1;
const TEXT: u32 = 3;
const PREVIEW_WITH_METADATA: u32 = 4;

/// Reads a frame that begins with its type as big-endian u32.
pub(super) fn parse(frame: &Bytes) -> Result<Message, FrameError> {
    let reader = Reader { frame, at: 0 };
    reader.message().map_err(|reason| FrameError::Binary { length: frame.len(), reason })
}

struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn message(mut self) -> Result<Message, &'static str> {
        match self.u32()? {
            PREVIEW => {
                let format = match self.u32()? {
                    1 => ImageFormat::Jpeg,
                    2 => ImageFormat::Png,
                    _ => ImageFormat::Other,
                };
                Ok(Message::Preview(Preview { format, image: self.rest(), metadata: None }))
            }
            PREVIEW_WITH_METADATA => self.preview_with_metadata(),
            TEXT => {
                let node = self.sized()?;
                let node = String::from_utf8_lossy(&node).into_owned();
                Ok(Message::Text { node, text: String::from_utf8_lossy(&self.rest()).into_owned() })
            }
            _ => Err("unknown type"),
        }
    }

    fn preview_with_metadata(mut self) -> Result<Message, &'static str> {
        let metadata: PreviewMetadata = serde_json::from_slice(&self.sized()?)
            .map_err(|_| "metadata is not the expected object")?;
        let format = match metadata.image_type.as_deref() {
            Some("image/jpeg") => ImageFormat::Jpeg,
            Some("image/png") => ImageFormat::Png,
            _ => ImageFormat::Other,
        };
        Ok(Message::Preview(Preview { format, image: self.rest(), metadata: Some(metadata) }))
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        let bytes = self.frame.get(self.at..self.at + 4).ok_or("cut off within its header")?;
        self.at += 4;
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    /// A part that is preceded by its length.
    fn sized(&mut self) -> Result<Bytes, &'static str> {
        let length = self.u32()? as usize;
        let end = self
            .at
            .checked_add(length)
            .filter(|end| *end <= self.frame.len())
            .ok_or("shorter than it says")?;
        let part = self.frame.slice(self.at..end);
        self.at = end;
        Ok(part)
    }

    fn rest(&self) -> Bytes {
        self.frame.slice(self.at..)
    }
}
