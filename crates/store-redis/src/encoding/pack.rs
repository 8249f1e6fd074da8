//! MessagePack, as Redis' `cmsgpack` reads it: what the functions get, and what they pack.

use std::io::Cursor;

/// Writes values one after the other.
#[derive(Debug, Default)]
pub struct Pack {
    bytes: Vec<u8>,
    values: usize,
}

// Writing to a `Vec` cannot fail.
impl Pack {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), values: 0 }
    }

    /// Begins a list of so many of the values that follow.
    pub fn list(&mut self, len: usize) -> &mut Self {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let _ = rmp::encode::write_array_len(&mut self.bytes, len);
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Lua knows one kind of text.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let _ = rmp::encode::write_str_len(&mut self.bytes, len);
        self.bytes.extend_from_slice(bytes);
        self.values += 1;
        self
    }

    pub fn int(&mut self, n: i64) -> &mut Self {
        let _ = rmp::encode::write_sint(&mut self.bytes, n);
        self.values += 1;
        self
    }

    pub fn len(&mut self, len: usize) -> &mut Self {
        self.int(i64::try_from(len).unwrap_or(i64::MAX))
    }

    pub fn flag(&mut self, flag: bool) -> &mut Self {
        let _ = rmp::encode::write_bool(&mut self.bytes, flag);
        self.values += 1;
        self
    }

    /// A text, or `false` where there is none.
    pub fn text_or_false(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.flag(false),
        }
    }

    pub fn texts<T: AsRef<str>>(&mut self, texts: &[T]) -> &mut Self {
        for text in texts {
            self.text(text.as_ref());
        }
        self
    }

    /// The values of another pack.
    pub fn pack(&mut self, other: &Self) -> &mut Self {
        self.bytes.extend_from_slice(&other.bytes);
        self.values += other.values;
        self
    }

    /// How many values there are.
    pub fn values(&self) -> usize {
        self.values
    }

    /// How many bytes they take.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn done(self) -> Vec<u8> {
        self.bytes
    }
}

/// The fields of a record as events of formats 1 and 2 carry it: one or more packed lists. Of two
/// values of one field the later one counts.
pub fn unpack_fields(packed: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut at = Cursor::new(packed);
    let mut fields: Vec<(&[u8], &[u8])> = Vec::with_capacity(32);
    while usize::try_from(at.position()).ok()? < packed.len() {
        let len = rmp::decode::read_array_len(&mut at).ok()?;
        for _ in 0..len / 2 {
            let (field, value) = (next(packed, &mut at)?, next(packed, &mut at)?);
            match fields.iter_mut().find(|(name, _)| *name == field) {
                Some(known) => known.1 = value,
                None => fields.push((field, value)),
            }
        }
    }
    Some(fields)
}

/// Packed texts, one behind the other.
pub fn unpack_texts(packed: &[u8]) -> Option<Vec<&[u8]>> {
    let mut at = Cursor::new(packed);
    let mut texts = Vec::new();
    while usize::try_from(at.position()).ok()? < packed.len() {
        texts.push(next(packed, &mut at)?);
    }
    Some(texts)
}

fn next<'a>(packed: &'a [u8], at: &mut Cursor<&'a [u8]>) -> Option<&'a [u8]> {
    let len = rmp::decode::read_str_len(at).ok()? as usize;
    let from = usize::try_from(at.position()).ok()?;
    at.set_position((from + len) as u64);
    packed.get(from..from + len)
}
