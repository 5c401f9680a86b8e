//! Event type names (`message.incoming`) and the patterns that subscribe to them (`message.*`).
//!
//! Parsed once, compared as text from then on. Whether a type is in the catalogue, or allowed for a tenant, is not
//! decided here.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::schema::{described, text};

/// Longest name, in bytes. A pattern may be two longer (`.*`).
pub const MAX_EVENT_TYPE_BYTES: usize = 128;

/// Types below this prefix are Posthaste's own messages about endpoints: nobody else can publish them, and `*` does not
/// subscribe to them.
pub const OPERATIONAL_PREFIX: &str = "posthaste.";

const EVERYTHING: &str = "*";
const PREFIX_SUFFIX: &str = ".*";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeError {
    #[error("an event type is dotted words of letters, digits and underscores, like \"message.incoming\"")]
    Name,
    #[error("a subscription is an event type, \"prefix.*\" or \"*\"")]
    Pattern,
    #[error("an event type has at most {MAX_EVENT_TYPE_BYTES} characters")]
    TooLong,
}

/// `[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+)*`, at most [`MAX_EVENT_TYPE_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(String);

impl EventType {
    pub fn parse(name: impl Into<String>) -> Result<Self, EventTypeError> {
        let name = name.into();
        check_name(&name)?;
        Ok(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One of Posthaste's own (`posthaste.*`).
    pub fn is_operational(&self) -> bool {
        is_operational(&self.0)
    }
}

/// Whether a name is one of Posthaste's own.
pub fn is_operational(name: &str) -> bool {
    name.starts_with(OPERATIONAL_PREFIX)
}

/// What a subscription asks for: a name, `prefix.*` or `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

impl Pattern {
    pub fn parse(pattern: impl Into<String>) -> Result<Self, EventTypeError> {
        let pattern = pattern.into();
        if pattern != EVERYTHING {
            let name = pattern.strip_suffix(PREFIX_SUFFIX).unwrap_or(&pattern);
            check_name(name).map_err(|error| match error {
                EventTypeError::TooLong => error,
                _ => EventTypeError::Pattern,
            })?;
        }
        Ok(Self(pattern))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Asks for some of Posthaste's own types (`posthaste.*`), by name or prefix.
    pub fn is_operational(&self) -> bool {
        self.0.starts_with(OPERATIONAL_PREFIX)
    }

    /// As [`Pattern::matches`], for a name that has been parsed before.
    pub fn matches_name(&self, name: &str) -> bool {
        EventType::parse(name).is_ok_and(|name| self.matches(&name))
    }

    /// `prefix.*` matches every level below `prefix`, not `prefix` itself; `*` matches all but operational types.
    pub fn matches(&self, event_type: &EventType) -> bool {
        if self.0 == EVERYTHING {
            return !event_type.is_operational();
        }
        match self.0.strip_suffix('*') {
            Some(prefix_and_dot) => event_type.0.starts_with(prefix_and_dot),
            None => self.0 == event_type.0,
        }
    }
}

fn check_name(name: &str) -> Result<(), EventTypeError> {
    if name.len() > MAX_EVENT_TYPE_BYTES {
        return Err(EventTypeError::TooLong);
    }
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if name.split('.').all(is_word) { Ok(()) } else { Err(EventTypeError::Name) }
}

macro_rules! text_conversions {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = EventTypeError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(text)
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
text_conversions!(EventType);
text_conversions!(Pattern);

described!(
    EventType,
    "EventTypeName",
    text("Dotted words of letters, digits and underscores.", "message.incoming")
        .min_length(Some(1))
        .max_length(Some(MAX_EVENT_TYPE_BYTES))
        .pattern(Some(r"^[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+)*$"))
);

described!(
    Pattern,
    "EventTypePattern",
    text(
        "An event type, `prefix.*` (every type below the prefix), or `*` (every type but Posthaste's own, `posthaste.*`).",
        "message.*"
    )
    .min_length(Some(1))
    .max_length(Some(MAX_EVENT_TYPE_BYTES + PREFIX_SUFFIX.len()))
    .pattern(Some(r"^(\*|[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+)*(\.\*)?)$"))
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    fn names_and_patterns_that_are_none(
        #[values(
            "", ".", "a.", ".a", "a..b", "a b", "a-b", "é", "a.*.b", "a*", "**", ".*", "*.a", "a.**", "a\0"
        )]
        text: &str,
    ) {
        assert_eq!(EventType::parse(text), Err(EventTypeError::Name));
        assert_eq!(Pattern::parse(text), Err(EventTypeError::Pattern));
    }

    #[test]
    fn length_is_limited() {
        let longest = "a".repeat(MAX_EVENT_TYPE_BYTES);
        assert!(EventType::parse(&*longest).is_ok());
        assert!(Pattern::parse(format!("{longest}.*")).is_ok());
        assert_eq!(EventType::parse(format!("{longest}a")), Err(EventTypeError::TooLong));
        assert_eq!(Pattern::parse(format!("{longest}a.*")), Err(EventTypeError::TooLong));
    }

    #[rstest]
    #[case("message.incoming", "message.incoming", true)]
    #[case("message.incoming", "message.incoming2", false)]
    #[case("message", "message.incoming", false)]
    #[case("message.*", "message.incoming", true)]
    #[case("message.*", "message.a.b.c", true)]
    #[case("message.*", "message", false)]
    #[case("message.*", "messages.incoming", false)]
    #[case("Message.*", "message.incoming", false)]
    #[case("*", "message", true)]
    #[case("*", "posthaste", true)]
    #[case("*", "posthaste.endpoint.disabled", false)]
    #[case("posthaste.*", "posthaste.endpoint.disabled", true)]
    #[case("posthaste.endpoint.disabled", "posthaste.endpoint.disabled", true)]
    fn matching(#[case] pattern: &str, #[case] name: &str, #[case] expected: bool) {
        let (pattern, name) = (Pattern::parse(pattern).expect(pattern), EventType::parse(name).expect(name));
        assert_eq!(pattern.matches(&name), expected);
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_its_prefixes_and_everything(name in "[a-z0-9_]{1,6}(\\.[a-zA-Z0-9_]{1,6}){0,4}") {
            let event_type = EventType::parse(&*name).expect("a name");
            prop_assert!(Pattern::parse(&*name).expect("a pattern").matches(&event_type));
            prop_assert!(Pattern::parse("*").expect("a pattern").matches(&event_type));
            for (dot, _) in name.match_indices('.') {
                let prefix = Pattern::parse(format!("{}.*", &name[..dot])).expect("a pattern");
                prop_assert!(prefix.matches(&event_type));
            }
        }
    }
}
