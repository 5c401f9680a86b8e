//! The body's shape: a JSON object of literals and slots, compiled once, rendered by concatenation.
//!
//! A slot is a whole string value, `"{{id}}"`; a string that merely contains brace pairs is refused rather than sent as it
//! is. Literals are brought into ECMAScript's normal form, so that the whole body is in it whenever the data is. A slot
//! whose value the event lacks renders as null, or as its fallback (`"{{api_version|2026-02-04}}"`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::{Object, Type, schema::AnyOfBuilder};

use super::EventView;
use super::slot::{Field, Slot};
use crate::types::duplicates::duplicate_key;
use crate::types::ecma_json::{self, NormaliseError, normalise_within, pointer_token, push_quoted};
use crate::types::schema::described;

/// Largest envelope, as compact JSON: it is sent with every event.
const MAX_ENVELOPE_BYTES: usize = 16 * 1024;
/// Objects and arrays inside each other.
const MAX_ENVELOPE_DEPTH: usize = 16;
/// Slots of one envelope. `{{data}}` comes at most once: bodies would be a multiple of what was published.
const MAX_SLOTS: usize = 64;

/// The envelope that is none: the body is the data.
const BARE: &str = "{{data}}";

/// The key under which receivers expect an object, as the `whatsapp_platform` page has it (`data.object`).
const OBJECT_KEY: &str = "object";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} (at \"{pointer}\")")]
pub struct EnvelopeError {
    /// RFC 6901, relative to the envelope.
    pub pointer: String,
    pub detail: String,
}

/// A compiled envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Envelope {
    source: Value,
    pieces: Vec<Piece>,
    requires_data_object: bool,
}

described!(
    Envelope,
    "Envelope",
    AnyOfBuilder::new()
        .description(Some(
            "The shape of the body: an object whose values are literals or slots, such as `\"{{id}}\"`, `\"{{type}}\"`, \
             `\"{{timestamp}}\"` and `\"{{data}}\"`; or `\"{{data}}\"` alone, for the data without an envelope.",
        ))
        .item(Object::builder().schema_type(Type::Object))
        .item(Object::builder().schema_type(Type::String).enum_values(Some([BARE])))
        .examples([serde_json::json!({"id": "{{id}}", "type": "{{type}}", "timestamp": "{{timestamp}}", "data": "{{data}}"})])
);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Literal(Box<[u8]>),
    Slot(Slot),
}

impl Envelope {
    /// From JSON text, in which no object may have a key twice.
    pub fn parse(text: &str) -> Result<Self, EnvelopeError> {
        normalise_within(text, MAX_ENVELOPE_BYTES)?;
        if let Some(pointer) = duplicate_key(text.as_bytes()) {
            return Err(error(&pointer, "is given twice"));
        }
        let source = serde_json::from_str(text)
            .map_err(|_| error("", &format!("is nested deeper than {MAX_ENVELOPE_DEPTH} levels")))?;
        Self::compile(&source)
    }

    pub fn compile(source: &Value) -> Result<Self, EnvelopeError> {
        let text = normalise_within(&source.to_string(), MAX_ENVELOPE_BYTES)?;
        let normal: Value = serde_json::from_str(&text).expect("normalised text is JSON");
        let is_bare = normal == BARE;
        if !(is_bare || normal.is_object()) {
            return Err(error("", "an envelope is an object, or the single string \"{{data}}\""));
        }
        let mut compiler = Compiler { requires_data_object: is_bare, ..Compiler::default() };
        compiler.value("", "", &normal, 0)?;
        compiler.end_literal();
        let Compiler { pieces, requires_data_object, .. } = compiler;
        Ok(Self { source: source.clone(), pieces, requires_data_object })
    }

    /// The body for an event, in a buffer of exactly its size.
    pub fn render(&self, event: &EventView<'_>) -> Bytes {
        let len = self.pieces.iter().map(|piece| piece.len(event)).sum();
        let mut body = Vec::with_capacity(len);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => body.extend_from_slice(bytes),
                Piece::Slot(slot) => slot.push(&mut body, event),
            }
        }
        debug_assert_eq!(body.len(), len);
        Bytes::from(body)
    }

    /// Receivers rely on the data being an object: the body is the bare data, or has it under a key `object`.
    pub fn requires_data_object(&self) -> bool {
        self.requires_data_object
    }
}

impl Piece {
    fn len(&self, event: &EventView<'_>) -> usize {
        match self {
            Self::Literal(bytes) => bytes.len(),
            Self::Slot(slot) => slot.len(event),
        }
    }
}

impl TryFrom<Value> for Envelope {
    type Error = EnvelopeError;

    fn try_from(source: Value) -> Result<Self, EnvelopeError> {
        Self::compile(&source)
    }
}

impl From<Envelope> for Value {
    fn from(envelope: Envelope) -> Self {
        envelope.source
    }
}

impl From<NormaliseError> for EnvelopeError {
    fn from(error: NormaliseError) -> Self {
        Self { pointer: error.pointer, detail: error.detail }
    }
}

/// Walks the normalised source: literal text gathers until a slot ends it.
#[derive(Default)]
struct Compiler {
    pieces: Vec<Piece>,
    literal: Vec<u8>,
    requires_data_object: bool,
    slots: usize,
    has_data: bool,
}

impl Compiler {
    /// `key` is the member's name in the object around, if any; `depth` counts what is around.
    fn value(&mut self, pointer: &str, key: &str, value: &Value, depth: usize) -> Result<(), EnvelopeError> {
        if depth > MAX_ENVELOPE_DEPTH {
            return Err(error(pointer, &format!("is nested deeper than {MAX_ENVELOPE_DEPTH} levels")));
        }
        match value {
            Value::String(text) => self.string(pointer, key, text)?,
            Value::Object(members) => {
                self.literal.push(b'{');
                for (position, (name, member)) in members.iter().enumerate() {
                    let pointer = format!("{pointer}/{}", pointer_token(name));
                    if has_braces(name) {
                        return Err(error(&pointer, "a key can't be a slot"));
                    }
                    self.comma(position);
                    push_quoted(&mut self.literal, name);
                    self.literal.push(b':');
                    self.value(&pointer, name, member, depth + 1)?;
                }
                self.literal.push(b'}');
            }
            Value::Array(items) => {
                self.literal.push(b'[');
                for (position, item) in items.iter().enumerate() {
                    self.comma(position);
                    self.value(&format!("{pointer}/{position}"), "", item, depth + 1)?;
                }
                self.literal.push(b']');
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                // Not serde_json's number text but ECMAScript's: 1, not 1.0.
                let text = ecma_json::normalise(&value.to_string())?;
                self.literal.extend_from_slice(text.as_bytes());
            }
        }
        Ok(())
    }

    fn string(&mut self, pointer: &str, key: &str, text: &str) -> Result<(), EnvelopeError> {
        if !has_braces(text) {
            push_quoted(&mut self.literal, text);
            return Ok(());
        }
        let slot = text
            .strip_prefix("{{")
            .and_then(|rest| rest.strip_suffix("}}"))
            .filter(|name| !has_braces(name))
            .ok_or_else(|| error(pointer, "a slot is a whole value, like \"{{id}}\""))?;
        let slot =
            Slot::parse(slot).ok_or_else(|| error(pointer, &format!("there is no slot \"{text}\"")))?;
        self.slots += 1;
        if self.slots > MAX_SLOTS {
            return Err(error(pointer, &format!("is one slot too many: at most {MAX_SLOTS}")));
        }
        if slot.field == Field::Data && std::mem::replace(&mut self.has_data, true) {
            return Err(error(pointer, "is the second place of the data, which may be sent once"));
        }
        self.requires_data_object |= slot.field == Field::Data && key == OBJECT_KEY;
        self.end_literal();
        self.pieces.push(Piece::Slot(slot));
        Ok(())
    }

    fn comma(&mut self, position: usize) {
        if position > 0 {
            self.literal.push(b',');
        }
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            self.pieces.push(Piece::Literal(std::mem::take(&mut self.literal).into_boxed_slice()));
        }
    }
}

fn has_braces(text: &str) -> bool {
    text.contains("{{") || text.contains("}}")
}

fn error(pointer: &str, detail: &str) -> EnvelopeError {
    EnvelopeError { pointer: pointer.to_owned(), detail: detail.to_owned() }
}
