//! JSON that is kept as text, for somebody else to read: whether it can be read at all.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use crate::{Problem, read_json};

/// Refuses JSON text that has the form of JSON and yet is of no value, such as `1e400`.
///
/// # Errors
/// A problem with the place, behind `place`, of the first such thing.
pub(crate) fn check_legible(json: &str, place: &str) -> Result<(), Problem> {
    read_json::<Seen>(json.as_bytes()).map(|_| ()).map_err(|problem| problem.within(place))
}

/// A value that is read, and of which nothing is kept.
struct Seen;

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Seen {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_is_taken_and_what_cannot_is_named_with_its_place() {
        let all = r#"{"a":[null,true,-1,18446744073709551615,1.5e300,"\u00e9",{}],"b\n":{}}"#;
        assert_eq!(check_legible(all, "/payload"), Ok(()));
        for (json, code, pointer) in [
            (r#"{"a":{"b/c":[1,-1e400]}}"#, "out_of_range", "/payload/a/b~1c/1"),
            (r#"{"a":"\ud800"}"#, "invalid_json", "/payload"),
        ] {
            let problem = check_legible(json, "/payload").unwrap_err();
            assert_eq!(
                (&*problem.code, problem.pointer.as_deref()),
                (code, Some(pointer)),
                "{json}"
            );
        }
    }
}
