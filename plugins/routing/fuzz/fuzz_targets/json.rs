//! The scanner: no panic; any split gives the same events; what serde_json reads it reads alike.

#![no_main]

use std::fmt;

use libfuzzer_sys::fuzz_target;
use routing_fuzz::{Events, pieces};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

fuzz_target!(|document: &[u8]| {
    let whole = Events::of(std::iter::once(document));
    assert_eq!(whole, Events::of(document.chunks(1)), "byte by byte");
    assert_eq!(whole, Events::of(pieces(document, 64)), "in pieces");
    if let Some(expected) = read_by_serde(&without_lone_surrogates(document)) {
        // White space ends a number at the top.
        let (events, outcome, is_done) = Events::of([document, b" "].into_iter());
        assert_eq!((outcome, is_done), (Ok(()), true), "serde_json reads it");
        assert_eq!(tokens(&events), expected);
    }
});

/// A document, flat; a value of a text or a scalar is one token.
#[derive(Debug, PartialEq)]
enum Token {
    Mark(u8),
    Key(Vec<u8>),
    Value(Value),
}

fn tokens(events: &Events) -> Vec<Token> {
    let (mut tokens, mut text) = (Vec::new(), &b""[..]);
    for (kind, part) in events.iter() {
        match kind {
            b'k' | b's' | b'v' => text = part,
            b'K' => tokens.push(Token::Key(std::mem::take(&mut text).to_vec())),
            b'S' => tokens.push(Token::Value(string(std::mem::take(&mut text)))),
            b'V' => tokens.push(Token::Value(scalar(std::mem::take(&mut text)))),
            mark => tokens.push(Token::Mark(mark)),
        }
    }
    tokens
}

fn string(text: &[u8]) -> Value {
    Value::String(String::from_utf8(text.to_vec()).expect("serde_json's strings are UTF-8"))
}

fn scalar(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("serde_json has read it before")
}

/// Replaces escapes that are half a pair, which serde_json refuses and the scanner takes as U+FFFD.
fn without_lone_surrogates(mut document: &[u8]) -> Vec<u8> {
    let mut mended = Vec::with_capacity(document.len());
    while !document.is_empty() {
        let (kept, length): (&[u8], usize) =
            match (unit(document), unit(document.get(6..).unwrap_or_default())) {
                (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => (&document[..12], 12),
                (Some(0xD800..0xE000), _) => (b"\\ufffd", 6),
                _ if document[0] == b'\\' => {
                    (&document[..document.len().min(2)], document.len().min(2))
                }
                _ => (&document[..1], 1),
            };
        mended.extend_from_slice(kept);
        document = &document[length..];
    }
    mended
}

/// The unit of UTF-16 whose escape the document starts with.
fn unit(document: &[u8]) -> Option<u16> {
    let digits = document.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| !digits.starts_with('+'))?;
    u16::from_str_radix(digits, 16).ok()
}

fn read_by_serde(document: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(document);
    Flat(&mut tokens).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(tokens)
}

/// Reads a value into tokens. A `Value` would lose the order of keys and those that come twice.
struct Flat<'a>(&'a mut Vec<Token>);

impl Flat<'_> {
    fn scalar<E>(self, value: impl Into<Value>) -> Result<(), E> {
        self.0.push(Token::Value(value.into()));
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Flat<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Flat<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.scalar(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push(Token::Mark(b'['));
        while items.next_element_seed(Flat(self.0))?.is_some() {}
        self.0.push(Token::Mark(b']'));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.0.push(Token::Mark(b'{'));
        while let Some(key) = fields.next_key::<String>()? {
            self.0.push(Token::Key(key.into_bytes()));
            fields.next_value_seed(Flat(self.0))?;
        }
        self.0.push(Token::Mark(b'}'));
        Ok(())
    }
}
