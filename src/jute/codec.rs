//! Jute as a serde data format, for every record that is not hot.
//!
//! | serde | jute |
//! |---|---|
//! | bool, i8, u8 | 1 byte |
//! | i32, i64 | 4, 8 bytes, big-endian |
//! | string, bytes | length, then the bytes |
//! | sequence | count, then the elements; a null one reads as empty |
//! | `None` of a string, bytes or sequence | -1 |
//! | struct, tuple | the fields in order |
//!
//! An owned `String` is read leniently (`decode::lenient`), a borrowed `&str` must be UTF-8; text
//! is written as UTF-8. An `Option` may stand around strings, bytes and sequences only: a number
//! cannot be told from null. Jute has no maps, enums, floats or other integers that ZooKeeper
//! uses; they are refused as unsupported.

use std::fmt;
use std::io;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, SeqAccess, Visitor};
use serde::ser::{self, Serialize};
use thiserror::Error;

use super::decode::{Cursor, DecodeError};

/// Why a record could not be written.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// The writer failed.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
    /// A string, buffer or vector longer than an int can say.
    #[error("{length} bytes or elements do not fit jute's length")]
    TooLong { length: usize },
    /// A Rust type that jute has no form for.
    #[error("jute has no form for {what}")]
    Unsupported { what: &'static str },
    /// A record's own `Serialize` refused its value.
    #[error("{reason}")]
    Refused { reason: Box<str> },
}

impl ser::Error for EncodeError {
    fn custom<T: fmt::Display>(reason: T) -> EncodeError {
        EncodeError::Refused { reason: reason.to_string().into() }
    }
}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(reason: T) -> DecodeError {
        DecodeError::Refused { reason: reason.to_string().into() }
    }
}

/// The bytes of `record`.
pub fn to_vec<T: Serialize + ?Sized>(record: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    to_writer(&mut bytes, record)?;
    Ok(bytes)
}

/// Writes `record` to `writer`; to a `&mut Vec<u8>` it is appended.
pub fn to_writer<W: io::Write, T: Serialize + ?Sized>(
    writer: W,
    record: &T,
) -> Result<(), EncodeError> {
    record.serialize(&mut Serializer { writer })
}

/// The record at the start of `bytes`. What is behind it is ignored, as ZooKeeper does with
/// requests.
pub fn from_slice<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    from_cursor(&mut Cursor::new(bytes))
}

/// The record at `cursor`, which is moved behind it; so records can be read one after another,
/// and with the cursor's limit.
pub fn from_cursor<'a, T: Deserialize<'a>>(cursor: &mut Cursor<'a>) -> Result<T, DecodeError> {
    T::deserialize(&mut Deserializer { cursor, field: "record" })
}

/// Writes what serde gives it as jute.
struct Serializer<W> {
    writer: W,
}

impl<W: io::Write> Serializer<W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        Ok(self.writer.write_all(bytes)?)
    }

    fn length(&mut self, length: usize) -> Result<(), EncodeError> {
        let short = i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
        self.put(&short.to_be_bytes())
    }
}

macro_rules! unsupported_ser {
    ($($name:ident($($argument:ty),*) $what:literal)*) => {$(
        fn $name(self, $(_: $argument),*) -> Result<Self::Ok, EncodeError> {
            Err(EncodeError::Unsupported { what: $what })
        }
    )*};
}

impl<W: io::Write> ser::Serializer for &mut Serializer<W> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = ser::Impossible<(), EncodeError>;
    type SerializeMap = ser::Impossible<(), EncodeError>;
    type SerializeStruct = Self;
    type SerializeStructVariant = ser::Impossible<(), EncodeError>;

    unsupported_ser! {
        serialize_i16(i16) "i16"
        serialize_u16(u16) "u16"
        serialize_u32(u32) "u32"
        serialize_u64(u64) "u64"
        serialize_f32(f32) "f32"
        serialize_f64(f64) "f64"
        serialize_char(char) "char"
        serialize_unit_variant(&'static str, u32, &'static str) "an enum"
    }

    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.put(&[value.into()])
    }

    fn serialize_i8(self, value: i8) -> Result<(), EncodeError> {
        self.put(&value.to_be_bytes())
    }

    fn serialize_u8(self, value: u8) -> Result<(), EncodeError> {
        self.put(&[value])
    }

    fn serialize_i32(self, value: i32) -> Result<(), EncodeError> {
        self.put(&value.to_be_bytes())
    }

    fn serialize_i64(self, value: i64) -> Result<(), EncodeError> {
        self.put(&value.to_be_bytes())
    }

    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        self.length(value.len())?;
        self.put(value)
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.put(&(-1_i32).to_be_bytes())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), EncodeError> {
        Err(EncodeError::Unsupported { what: "an enum" })
    }

    fn serialize_seq(self, count: Option<usize>) -> Result<Self, EncodeError> {
        let Some(count) = count else {
            return Err(EncodeError::Unsupported { what: "a sequence of unknown length" });
        };
        self.length(count)?;
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, EncodeError> {
        Err(EncodeError::Unsupported { what: "an enum" })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, EncodeError> {
        Err(EncodeError::Unsupported { what: "a map" })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, EncodeError> {
        Err(EncodeError::Unsupported { what: "an enum" })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! elements_in_order {
    ($($of:ident $element:ident($($name:ident: $argument:ty)?))*) => {$(
        impl<W: io::Write> ser::$of for &mut Serializer<W> {
            type Ok = ();
            type Error = EncodeError;

            fn $element<T: Serialize + ?Sized>(
                &mut self,
                $($name: $argument,)?
                value: &T,
            ) -> Result<(), EncodeError> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), EncodeError> {
                Ok(())
            }
        }
    )*};
}

elements_in_order! {
    SerializeSeq serialize_element()
    SerializeTuple serialize_element()
    SerializeTupleStruct serialize_field()
    SerializeStruct serialize_field(_name: &'static str)
}

/// Gives serde what a cursor holds. `field` is what an error will name.
struct Deserializer<'c, 'a> {
    cursor: &'c mut Cursor<'a>,
    field: &'static str,
}

macro_rules! unsupported_de {
    ($($name:ident $what:literal)*) => {$(
        fn $name<V: Visitor<'a>>(self, _: V) -> Result<V::Value, DecodeError> {
            Err(DecodeError::Unsupported { what: $what })
        }
    )*};
}

impl<'a> de::Deserializer<'a> for &mut Deserializer<'_, 'a> {
    type Error = DecodeError;

    unsupported_de! {
        deserialize_any "a value of unknown type"
        deserialize_ignored_any "a value of unknown type"
        deserialize_i16 "i16"
        deserialize_u16 "u16"
        deserialize_u32 "u32"
        deserialize_u64 "u64"
        deserialize_f32 "f32"
        deserialize_f64 "f64"
        deserialize_char "char"
        deserialize_map "a map"
        deserialize_identifier "an identifier"
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_bool(self.cursor.bool(self.field)?)
    }

    fn deserialize_i8<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_i8(self.cursor.byte(self.field)? as i8)
    }

    fn deserialize_u8<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_u8(self.cursor.byte(self.field)?)
    }

    fn deserialize_i32<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_i32(self.cursor.int(self.field)?)
    }

    fn deserialize_i64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_i64(self.cursor.long(self.field)?)
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_str(self.cursor.str(self.field)?)
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_string(self.cursor.text(self.field)?.into_owned())
    }

    fn deserialize_bytes<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let (field, at) = (self.field, self.cursor.at());
        let bytes = self.cursor.buffer(field)?.ok_or(DecodeError::Null { field, at })?;
        visitor.visit_borrowed_bytes(bytes)
    }

    fn deserialize_byte_buf<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let mut ahead = self.cursor.clone();
        if ahead.int(self.field)? == -1 {
            *self.cursor = ahead;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        // An element takes a byte at least, so a count above the bytes left cannot be true.
        let count = self.cursor.count(self.field, 1)?;
        visitor.visit_seq(Elements { of: self, names: &[], left: count })
    }

    fn deserialize_tuple<V: Visitor<'a>>(
        self,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(Elements { of: self, names: &[], left: count })
    }

    fn deserialize_tuple_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(count, visitor)
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(Elements { of: self, names, left: names.len() })
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, DecodeError> {
        Err(DecodeError::Unsupported { what: "an enum" })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence, or the named fields of a struct.
struct Elements<'d, 'c, 'a> {
    of: &'d mut Deserializer<'c, 'a>,
    names: &'static [&'static str],
    left: usize,
}

impl<'a> SeqAccess<'a> for Elements<'_, '_, 'a> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'a>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        if let Some(index) = self.names.len().checked_sub(self.left) {
            self.of.field = self.names[index];
        }
        self.left -= 1;
        seed.deserialize(&mut *self.of).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, Deserialize)]
    struct Borrowed<'a> {
        path: &'a str,
        #[serde(with = "serde_bytes")]
        data: &'a [u8],
        names: Option<Vec<&'a str>>,
    }

    #[test]
    fn strings_and_bytes_are_borrowed_where_the_record_borrows() {
        let bytes = b"\0\0\0\x02/a\0\0\0\x01x\0\0\0\x01\0\0\0\x01n";
        let record = Borrowed { path: "/a", data: b"x", names: Some(vec!["n"]) };
        assert_eq!(from_slice::<Borrowed<'_>>(bytes), Ok(record));
        let record = from_slice::<Borrowed<'_>>(bytes).unwrap();
        assert!(bytes.as_ptr_range().contains(&record.path.as_ptr()));
        assert_eq!(to_vec(&record).unwrap(), bytes);
    }

    #[test]
    fn null_is_none_or_an_empty_vector_or_an_error_that_names_the_field() {
        let null = [0xff; 4];
        assert_eq!(from_slice::<Option<String>>(&null), Ok(None));
        assert_eq!(from_slice::<Option<Vec<i32>>>(&null), Ok(None));
        assert_eq!(from_slice::<Vec<i32>>(&null), Ok(vec![]));
        assert_eq!(to_vec(&None::<String>).unwrap(), null);
        let bytes = [b"\0\0\0\x02/a".as_slice(), &null].concat();
        assert_eq!(
            from_slice::<Borrowed<'_>>(&bytes),
            Err(DecodeError::Null { field: "data", at: 6 })
        );
    }

    #[test]
    fn a_vector_longer_than_its_bytes_is_refused_before_it_is_reserved() {
        let bytes = [0x7f, 0xff, 0xff, 0xff, 0, 0];
        assert_eq!(
            from_slice::<Vec<String>>(&bytes),
            Err(DecodeError::PastEnd { field: "record", at: 0, want: 0x7fff_ffff, left: 2 })
        );
    }

    #[test]
    fn bytes_behind_a_record_are_left_to_the_cursor() {
        let mut cursor = Cursor::new(&[0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(from_cursor::<i32>(&mut cursor), Ok(1));
        assert_eq!(from_cursor::<i32>(&mut cursor), Ok(2));
        assert_eq!(from_slice::<i32>(&[0, 0, 0, 3, 9]), Ok(3));
    }

    #[test]
    fn any_byte_but_zero_is_true_and_true_is_written_as_one() {
        assert_eq!(from_slice::<(bool, bool)>(&[0, 9]), Ok((false, true)));
        assert_eq!(to_vec(&(false, true)).unwrap(), [0, 1]);
    }

    #[test]
    fn a_type_that_jute_lacks_is_refused_both_ways() {
        assert!(matches!(to_vec(&1_u64), Err(EncodeError::Unsupported { what: "u64" })));
        assert_eq!(from_slice::<u64>(&[0; 8]), Err(DecodeError::Unsupported { what: "u64" }));
    }
}
