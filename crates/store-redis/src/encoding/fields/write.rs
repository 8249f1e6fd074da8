//! Writing the fields of a struct, each by itself.

use pointsman_core::RecordKind;
use serde::{
    Serialize,
    ser::{Error as _, Impossible, SerializeMap, SerializeStruct, Serializer},
};

use super::{Fields, Form, USUAL, form, is_json, list::Builder};

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
        if json.first() == Some(&b'"') {
            let field = std::str::from_utf8(field).map_err(serde_json::Error::custom)?;
            let form = form(*kind, field);
            // A text that this version does not know stands plain, unless it reads as JSON.
            let stands_plain = |text: &str| form == Form::Text || !is_json(text);
            if form != Form::Json && !json.contains(&b'\\') {
                let plain = std::str::from_utf8(&json[1..json.len() - 1]);
                if stands_plain(plain.map_err(serde_json::Error::custom)?) {
                    fields.put(from + 1, fields.text.len() - 1);
                    return Ok(());
                }
            } else if form != Form::Json {
                let text: String = serde_json::from_slice(json)?;
                if stands_plain(&text) {
                    fields.text.truncate(from);
                    fields.text.extend_from_slice(text.as_bytes());
                }
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
        key.serialize(Name(&mut fields.text))?;
        match shown(*kind, &fields.text[from..]) {
            Some(shown) => {
                fields.text.truncate(from);
                fields.name(shown);
            }
            None => fields.name = from..fields.text.len(),
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

/// Of these methods each says that it is not what should be written.
macro_rules! refuse {
    ($why:literal: $($method:ident($($arg:ty),*) -> $ok:ident;)*) => {
        $(fn $method(self, $(_: $arg),*) -> Result<Self::$ok, Self::Error> {
            Err(Self::Error::custom($why))
        })*
    };
}

/// All that is neither a text, a map nor a struct, and stands in none of them.
macro_rules! refuse_values {
    ($why:literal) => {
        refuse! { $why:
            serialize_bool(bool) -> Ok;
            serialize_i8(i8) -> Ok;
            serialize_i16(i16) -> Ok;
            serialize_i32(i32) -> Ok;
            serialize_i64(i64) -> Ok;
            serialize_u8(u8) -> Ok;
            serialize_u16(u16) -> Ok;
            serialize_u32(u32) -> Ok;
            serialize_u64(u64) -> Ok;
            serialize_f32(f32) -> Ok;
            serialize_f64(f64) -> Ok;
            serialize_char(char) -> Ok;
            serialize_bytes(&[u8]) -> Ok;
            serialize_none() -> Ok;
            serialize_unit() -> Ok;
            serialize_unit_struct(&'static str) -> Ok;
            serialize_unit_variant(&'static str, u32, &'static str) -> Ok;
            serialize_seq(Option<usize>) -> SerializeSeq;
            serialize_tuple(usize) -> SerializeTuple;
            serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
            serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
            serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
        }

        fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Self::Ok, Self::Error> {
            value.serialize(self)
        }

        fn serialize_newtype_struct<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            value: &T,
        ) -> Result<Self::Ok, Self::Error> {
            value.serialize(self)
        }

        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            value: &T,
        ) -> Result<Self::Ok, Self::Error> {
            value.serialize(self)
        }
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

    refuse! { "a record is a struct": serialize_str(&str) -> Ok; }
    refuse_values! { "a record is a struct" }
}

/// Writes the name of a field.
struct Name<'a>(&'a mut Vec<u8>);

impl Serializer for Name<'_> {
    type Ok = ();
    type Error = serde_json::Error;
    type SerializeSeq = Impossible<(), Self::Error>;
    type SerializeTuple = Impossible<(), Self::Error>;
    type SerializeTupleStruct = Impossible<(), Self::Error>;
    type SerializeTupleVariant = Impossible<(), Self::Error>;
    type SerializeMap = Impossible<(), Self::Error>;
    type SerializeStruct = Impossible<(), Self::Error>;
    type SerializeStructVariant = Impossible<(), Self::Error>;

    fn serialize_str(self, name: &str) -> Result<(), Self::Error> {
        self.0.extend_from_slice(name.as_bytes());
        Ok(())
    }

    refuse! { "the name of a field is a text":
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
    }
    refuse_values! { "the name of a field is a text" }
}
