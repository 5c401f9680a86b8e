//! Short texts that people give things: parsed once, valid for ever.

use serde::Serialize;

use super::schema::{described, text};

/// Longest name of a tenant, location, endpoint or key, in characters.
pub const NAME_MAX_CHARS: usize = 200;
/// Longest `external_id`, in bytes.
pub const EXTERNAL_ID_MAX_BYTES: usize = 200;

/// A name for people: trimmed by the sender, not empty, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(transparent)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    pub fn parse(text: String) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("must not be empty".into());
        }
        if text.chars().count() > NAME_MAX_CHARS {
            return Err(format!("must have at most {NAME_MAX_CHARS} characters"));
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".into());
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// At least one character that is no space, and no control characters.
const NAME_PATTERN: &str =
    r"^[^\u0000-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F][^\u0000-\u001F\u007F-\u009F]*$";

described!(
    Name,
    "Name",
    text("A name for people: not blank, without control characters.", "Bakery, Main Street")
        .min_length(Some(1))
        .max_length(Some(NAME_MAX_CHARS))
        .pattern(Some(NAME_PATTERN))
);

/// The caller's own id for a tenant or location.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type)]
#[sqlx(transparent)]
#[serde(transparent)]
pub struct ExternalId(String);

impl ExternalId {
    /// Visible ASCII, and nothing that could be taken for an id of ours, or that URLs drop from a path.
    pub fn parse(text: String) -> Result<Self, String> {
        if text.is_empty() || text.len() > EXTERNAL_ID_MAX_BYTES {
            return Err(format!("must have 1 to {EXTERNAL_ID_MAX_BYTES} characters"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be visible ASCII without spaces".into());
        }
        if text == "." || text == ".." {
            return Err("must not be . or .., which mean something else in paths".into());
        }
        if text.starts_with("loc_") || text.starts_with("ten_") {
            return Err("must not start with loc_ or ten_, which are Posthaste's own".into());
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

described!(
    ExternalId,
    "ExternalId",
    text(
        "Your own id: visible ASCII without spaces. One that begins with loc_ or ten_ is refused, and so are . and .. alone.",
        "store-17"
    )
    .min_length(Some(1))
    .max_length(Some(EXTERNAL_ID_MAX_BYTES))
    .pattern(Some("^(?!loc_|ten_|[.]{1,2}$)[!-~]+$"))
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_external_ids_are_bounded_and_printable() {
        assert!(Name::parse("Zoë's CRM sync ✓".into()).is_ok());
        for wrong in ["", "   ", "a\0b", "a\nb", "\u{7f}", &"x".repeat(NAME_MAX_CHARS + 1)] {
            assert!(Name::parse(wrong.to_owned()).is_err(), "{wrong:?}");
        }
        assert!(ExternalId::parse("store-17:main".into()).is_ok());
        for wrong in ["", "a b", "é", "loc_1", ".", "..", "a\0", &"x".repeat(EXTERNAL_ID_MAX_BYTES + 1)] {
            assert!(ExternalId::parse(wrong.to_owned()).is_err(), "{wrong:?}");
        }
    }
}
