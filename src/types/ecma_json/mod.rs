//! JSON text as ECMAScript would write it: `JSON.stringify(JSON.parse(text))`.
//!
//! Receivers exist that parse a body and serialise it again before they verify its signature. What Posthaste signs
//! must therefore survive that round trip unchanged, so `data` is normalised once, at publish.
//!
//! Guarantees: compact; numbers as ECMAScript prints them; array-index keys first and ascending, the others in the
//! order of their first appearance; of duplicate keys the last value in the first one's place; string escapes as
//! `JSON.stringify` chooses them (U+0000 survives). The text is valid UTF-8 and holds no lone surrogate.
//!
//! Refused, with a JSON pointer (RFC 6901), is what a double or UTF-8 would lose: an integer literal that no double
//! equals, a number beyond the largest double, a lone surrogate. A superseded duplicate is judged like any value.
//!
//! One literal reading to know of: from 2^54 on ECMAScript prints an integer with the fewest digits that lead back
//! to the same double (2^55 as 36028797018963970). The double is kept, the printed digits may be another integer's, and
//! a second pass over such text refuses it.
//!
//! Deliberately not here: building a tree. The text is written in one pass; an object is reordered only if it must be.

mod number;
mod object;
mod text;
mod writer;

#[cfg(test)]
mod tests;

pub use text::{push_quoted, quoted_len};

/// Levels of arrays and objects that may be nested. 127 is what serde_json's own parser goes down to: a text of
/// exactly this depth is legal here, but a `serde_json::Value` can't be made of it.
pub const MAX_DEPTH: usize = 128;

/// Why a text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not JSON.
    Syntax,
    /// More than [`MAX_DEPTH`] levels.
    TooDeep,
    /// An integer literal that no double equals.
    InexactInteger,
    /// A number beyond the largest double.
    NumberOverflow,
    /// Half of a surrogate pair, in a string or a key.
    LoneSurrogate,
    /// The normalised text passes the byte limit.
    TooLarge,
}

/// A text that can't be normalised, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} (at \"{pointer}\")")]
pub struct NormaliseError {
    pub reason: Refusal,
    /// RFC 6901, relative to the text: `""` is the whole.
    pub pointer: String,
    /// A sentence for whoever sent the text.
    pub detail: String,
}

/// Normalises without a limit on the output, for texts of our own.
pub fn normalise(raw: &str) -> Result<String, NormaliseError> {
    normalise_within(raw, usize::MAX)
}

/// Normalises, and stops with [`Refusal::TooLarge`] as soon as more than `max_bytes` have been written: `1e20` becomes
/// 21 bytes, so a limit on the input does not bound the output. Superseded duplicates count.
pub fn normalise_within(raw: &str, max_bytes: usize) -> Result<String, NormaliseError> {
    writer::Writer::new(raw, max_bytes).run()
}

/// A refusal on its way up; each enclosing array and object adds its own step of the pointer.
struct Fault {
    reason: Refusal,
    detail: String,
    /// Pointer tokens, innermost first, already escaped.
    path: Vec<String>,
}

/// Boxed, so that the happy path moves one word.
type Step = Result<(), Box<Fault>>;

impl Fault {
    fn new(reason: Refusal, detail: String) -> Box<Self> {
        Box::new(Self { reason, detail, path: Vec::new() })
    }

    fn inside(mut self: Box<Self>, token: &str) -> Box<Self> {
        self.path.push(pointer_token(token));
        self
    }

    fn into_error(self) -> NormaliseError {
        let pointer = self.path.iter().rev().fold(String::new(), |pointer, token| pointer + "/" + token);
        NormaliseError { reason: self.reason, pointer, detail: self.detail }
    }
}

/// One reference token of a JSON pointer, escaped.
pub fn pointer_token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
