//! The small templates of a signature: what is signed, how a signature is written, and what stands before and between.

use std::fmt;

/// Longest template, in bytes: they end up in every signature or header.
const MAX_TEMPLATE_BYTES: usize = 256;
const MAX_SEPARATOR_BYTES: usize = 2;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a signature template has at most {MAX_TEMPLATE_BYTES} bytes")]
    TooLong,
    #[error(
        "unknown slot in \"{0}\": content has {{{{id}}}}, {{{{timestamp}}}} and {{{{body}}}}, value has {{{{signature}}}}"
    )]
    UnknownSlot(String),
    #[error("what is signed must contain {{{{body}}}} exactly once")]
    WithoutBody,
    #[error("a signature's value must contain {{{{signature}}}} exactly once")]
    WithoutSignature,
    #[error(
        "a signature's value and prefix have visible ASCII characters only, and spaces but at the ends of a header"
    )]
    Characters,
    #[error("a prefix has {{{{id}}}} and {{{{timestamp}}}} for slots, and not \"{0}\"")]
    UnknownPrefixSlot(String),
    #[error("a separator is 1 or 2 visible ASCII characters or spaces")]
    Separator,
    #[error("the timestamp that it tells is not signed: the content lacks {{{{timestamp}}}}")]
    UnsignedTimestamp,
    #[error(
        "ed25519 needs base64: the public key of a text that somebody has made up would let everybody guess it"
    )]
    GuessableKey,
    #[error("\"{0}\" can't carry a signature: it is not a header name, or one that is spoken for")]
    Header(String),
}

/// A piece of what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Id,
    Timestamp,
    Body,
}

/// What is signed, for example `{{id}}.{{timestamp}}.{{body}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content(pub Vec<Part>);

impl Content {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let parts = pieces(text)?
            .into_iter()
            .map(|piece| match piece {
                Piece::Literal(text) => Ok(Part::Literal(text.to_owned())),
                Piece::Slot("id") => Ok(Part::Id),
                Piece::Slot("timestamp") => Ok(Part::Timestamp),
                Piece::Slot("body") => Ok(Part::Body),
                Piece::Slot(_) => Err(TemplateError::UnknownSlot(text.to_owned())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if parts.iter().filter(|part| **part == Part::Body).count() != 1 {
            return Err(TemplateError::WithoutBody);
        }
        Ok(Self(parts))
    }

    pub fn has_timestamp(&self) -> bool {
        self.0.contains(&Part::Timestamp)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Literal(text) => text,
            Self::Id => "{{id}}",
            Self::Timestamp => "{{timestamp}}",
            Self::Body => "{{body}}",
        })
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| part.fmt(f))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| part.fmt(f))
    }
}

/// What stands before the first signature, once, for example `t={{timestamp}},`. May be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix(Vec<Part>);

impl Prefix {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        // A signature follows, so that it may end with a space.
        if text.starts_with(' ') {
            return Err(TemplateError::Characters);
        }
        let parts = pieces(text)?.into_iter().map(|piece| match piece {
            Piece::Literal(text) if !is_plain(text) => Err(TemplateError::Characters),
            Piece::Literal(text) => Ok(Part::Literal(text.to_owned())),
            Piece::Slot("id") => Ok(Part::Id),
            Piece::Slot("timestamp") => Ok(Part::Timestamp),
            Piece::Slot(_) => Err(TemplateError::UnknownPrefixSlot(text.to_owned())),
        });
        parts.collect::<Result<_, _>>().map(Self)
    }

    pub fn has_timestamp(&self) -> bool {
        self.0.contains(&Part::Timestamp)
    }

    pub fn push(&self, out: &mut String, event_id: &str, timestamp: &str) {
        for part in &self.0 {
            out.push_str(match part {
                Part::Literal(text) => text,
                Part::Id => event_id,
                Part::Timestamp => timestamp,
                Part::Body => "",
            });
        }
    }
}

/// What stands between signatures, where a header has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Separator(pub String);

impl Separator {
    pub fn parse(text: String) -> Result<Self, TemplateError> {
        if is_plain(&text) && (1..=MAX_SEPARATOR_BYTES).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(TemplateError::Separator)
        }
    }
}

/// How a signature is written, for example `v1,{{signature}}`. No spaces: those mostly stand between signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValueTemplate {
    pub before: String,
    pub after: String,
}

impl ValueTemplate {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut before, mut after, mut signatures) = (String::new(), String::new(), 0);
        for piece in pieces(text)? {
            match piece {
                Piece::Slot("signature") => signatures += 1,
                Piece::Slot(_) => return Err(TemplateError::UnknownSlot(text.to_owned())),
                Piece::Literal(text) if signatures == 0 => before.push_str(text),
                Piece::Literal(text) => after.push_str(text),
            }
        }
        if signatures != 1 {
            return Err(TemplateError::WithoutSignature);
        }
        if !is_plain(text) || text.starts_with(' ') || text.ends_with(' ') {
            return Err(TemplateError::Characters);
        }
        Ok(Self { before, after })
    }
}

impl fmt::Display for ValueTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{{{signature}}}}{}", self.before, self.after)
    }
}

/// What may stand in a header; a space at either end of its value would be lost on the way.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

enum Piece<'a> {
    Literal(&'a str),
    Slot(&'a str),
}

/// Cuts a template at its `{{slots}}`; a brace pair that opens or closes nothing is a mistake.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    if text.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateError::TooLong);
    }
    let mistake = || TemplateError::UnknownSlot(text.to_owned());
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((literal, opened)) = rest.split_once("{{") {
        let (name, after) = opened.split_once("}}").ok_or_else(mistake)?;
        if literal.contains("}}") {
            return Err(mistake());
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        pieces.push(Piece::Slot(name));
        rest = after;
    }
    if rest.contains("}}") {
        return Err(mistake());
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest));
    }
    Ok(pieces)
}
