//! The fields of a hash, one behind the other in one text: a record has dozens, and is written and
//! compared with every command.

use std::{ops::Range, string::FromUtf8Error};

/// Names and values of fields in the order in which they are written.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    text: String,
    fields: Vec<(Range<usize>, Range<usize>)>,
}

impl Fields {
    pub const NONE: Self = Self { text: String::new(), fields: Vec::new() };

    pub fn with_capacity(bytes: usize, fields: usize) -> Self {
        Self { text: String::with_capacity(bytes), fields: Vec::with_capacity(fields) }
    }

    /// Bytes of all names and values, and more.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| (&self.text[name.clone()], &self.text[value.clone()]))
    }

    pub fn get(&self, field: &str) -> Option<&str> {
        self.iter().find_map(|(name, value)| (name == field).then_some(value))
    }

    pub fn push(&mut self, field: &str, value: &str) {
        let begin = self.text.len();
        self.text.push_str(field);
        let middle = self.text.len();
        self.text.push_str(value);
        self.fields.push((begin..middle, middle..self.text.len()));
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        let text = &self.text;
        self.fields.retain(|(name, value)| keep(&text[name.clone()], &text[value.clone()]));
    }
}

/// Fields while they are written.
pub struct Builder {
    /// What was written, whole; not all of it is part of a field.
    pub text: Vec<u8>,
    /// The name whose value comes next.
    pub name: Range<usize>,
    fields: Vec<(Range<usize>, Range<usize>)>,
}

impl Builder {
    pub fn for_fields(fields: usize) -> Self {
        Self {
            text: Vec::with_capacity(fields * 32),
            name: 0..0,
            fields: Vec::with_capacity(fields),
        }
    }

    pub fn name(&mut self, name: &str) {
        let begin = self.text.len();
        self.text.extend_from_slice(name.as_bytes());
        self.name = begin..self.text.len();
    }

    /// The value of the name stands here in the text.
    pub fn put(&mut self, begin: usize, end: usize) {
        self.fields.push((self.name.clone(), begin..end));
    }

    /// The name has no value worth writing.
    pub fn drop_name(&mut self) {
        self.text.truncate(self.name.start);
    }

    pub fn done(self) -> Result<Fields, FromUtf8Error> {
        Ok(Fields { text: String::from_utf8(self.text)?, fields: self.fields })
    }
}
