//! Reading the fields of a hash, each value by itself.

use serde::{
    de::{Deserializer, Error as _, IntoDeserializer, Visitor, value::BorrowedStrDeserializer},
    forward_to_deserialize_any,
};
use serde_json::Error;

/// A value as it stands in a hash: a text as it is, or JSON.
#[derive(Debug, Clone, Copy)]
pub struct FieldValue<'a> {
    pub field: &'a str,
    pub value: &'a str,
    pub is_json: bool,
}

impl<'a> FieldValue<'a> {
    /// Reads all of it as JSON.
    fn json<T>(
        self,
        read: impl FnOnce(
            &mut serde_json::Deserializer<serde_json::de::StrRead<'a>>,
        ) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut json = serde_json::Deserializer::from_str(self.value);
        let found = read(&mut json).and_then(|found| json.end().map(|()| found));
        found.map_err(|error| self.wrong(&error))
    }

    fn wrong(self, error: &Error) -> Error {
        Error::custom(format!("{}: {error}", self.field))
    }
}

impl<'de> IntoDeserializer<'de, Error> for FieldValue<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for FieldValue<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_json {
            return self.json(|json| json.deserialize_any(visitor));
        }
        visitor.visit_borrowed_str(self.value).map_err(|error: Error| self.wrong(&error))
    }

    /// What has no value is not written.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_json {
            return self.json(|json| json.deserialize_option(visitor));
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.is_json {
            return self.json(|json| json.deserialize_newtype_struct(name, visitor));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.is_json {
            return self.json(|json| json.deserialize_enum(name, variants, visitor));
        }
        let text = BorrowedStrDeserializer::new(self.value);
        text.deserialize_enum(name, variants, visitor).map_err(|error: Error| self.wrong(&error))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
