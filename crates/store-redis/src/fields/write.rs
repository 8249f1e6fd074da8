//! Writing the fields of a struct, each by itself.

use pointsman_core::RecordKind;
use serde::{
    Serialize,
    ser::{Error as _, Impossible, SerializeMap, SerializeStruct, Serializer},
};

use super::{Fields, USUAL, is_json, is_known, is_text, list::Builder};

/// Writes a record as the fields of its hash.
pub struct FieldWriter {
    pub kind: RecordKind,
}

pub struct Writing {
    kind: RecordKind,
    fields: Builder,
}

impl Writing {
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), serde_json::Error> {
        let Self { kind, fields } = self;
        let from = fields.text.len();
        value.serialize(&mut serde_json::Serializer::new(&mut fields.text))?;
        let (field, json) = (&fields.text[fields.name.clone()], &fields.text[from..]);
        let is_usual =
            |(name, usual): &(&str, &str)| name.as_bytes() == field && usual.as_bytes() == json;
        if json == b"null" || (*kind == RecordKind::Job && USUAL.iter().any(is_usual)) {
            fields.drop_name();
            return Ok(());
        }
        let field = std::str::from_utf8(field).map_err(serde_json::Error::custom)?;
        let (is_text, is_known) = (is_text(*kind, field), is_known(*kind, field));
        let is_quoted = json.first() == Some(&b'"');
        if is_quoted && (is_text || !is_known) {
            let is_plain = !json.contains(&b'\\');
            let plain = &json[1..json.len() - 1];
            // A text that this version does not know stands plain, unless it reads as JSON.
            if is_plain && (is_text || !is_json_bytes(plain)) {
                fields.put(from + 1, fields.text.len() - 1);
                return Ok(());
            }
            let text: String = serde_json::from_slice(json)?;
            if is_text || !is_json(&text) {
                fields.text.truncate(from);
                fields.text.extend_from_slice(text.as_bytes());
            }
        }
        fields.put(from, fields.text.len());
        Ok(())
    }
}

/// A name as operators know it, where that is another.
fn shown(kind: RecordKind, name: &[u8]) -> Option<&'static str> {
    (kind == RecordKind::Worker && name == b"id").then_some("worker_id")
}

fn is_json_bytes(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(is_json)
}

impl SerializeStruct for Writing {
    type Ok = Fields;
    type Error = serde_json::Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        field: &'static str,
        value: &T,
    ) -> Result<(), Self::Error> {
        self.fields.name(shown(self.kind, field.as_bytes()).unwrap_or(field));
        self.value(value)
    }

    fn end(self) -> Result<Fields, Self::Error> {
        self.fields.done().map_err(Self::Error::custom)
    }
}

impl SerializeMap for Writing {
    type Ok = Fields;
    type Error = serde_json::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Self::Error> {
        let Self { kind, fields } = self;
        let from = fields.text.len();
        key.serialize(&mut serde_json::Serializer::new(&mut fields.text))?;
        let json = &fields.text[from..];
        if json.contains(&b'\\') {
            let name: String = serde_json::from_slice(json)?;
            fields.name(&name);
        } else if let [b'"', name @ .., b'"'] = json
            && let Some(shown) = shown(*kind, name)
        {
            fields.name(shown);
        } else {
            fields.name = from + 1..fields.text.len() - 1;
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Self::Error> {
        self.value(value)
    }

    fn end(self) -> Result<Fields, Self::Error> {
        self.fields.done().map_err(Self::Error::custom)
    }
}

macro_rules! no_record {
    ($($method:ident($($arg:ty),*);)*) => {
        $(fn $method(self, $(_: $arg),*) -> Result<Fields, Self::Error> {
            Err(Self::Error::custom("a record is a struct"))
        })*
    };
}

impl Serializer for FieldWriter {
    type Ok = Fields;
    type Error = serde_json::Error;
    type SerializeSeq = Impossible<Fields, Self::Error>;
    type SerializeTuple = Impossible<Fields, Self::Error>;
    type SerializeTupleStruct = Impossible<Fields, Self::Error>;
    type SerializeTupleVariant = Impossible<Fields, Self::Error>;
    type SerializeMap = Writing;
    type SerializeStruct = Writing;
    type SerializeStructVariant = Impossible<Fields, Self::Error>;

    fn serialize_map(self, len: Option<usize>) -> Result<Writing, Self::Error> {
        Ok(Writing { kind: self.kind, fields: Builder::for_fields(len.unwrap_or(32)) })
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Writing, Self::Error> {
        self.serialize_map(Some(len))
    }

    no_record! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Fields, Self::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Fields, Self::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Fields, Self::Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Self::Error> {
        Err(Self::Error::custom("a record is a struct"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Self::Error> {
        Err(Self::Error::custom("a record is a struct"))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Self::Error> {
        Err(Self::Error::custom("a record is a struct"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Self::Error> {
        Err(Self::Error::custom("a record is a struct"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Self::Error> {
        Err(Self::Error::custom("a record is a struct"))
    }
}
