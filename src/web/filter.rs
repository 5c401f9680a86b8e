//! What lists are filtered by: periods and event types.
//!
//! `since` and `until` go by when Posthaste received an event. Ids carry that time, so a period is a range of ids.

use uuid::Uuid;

use super::error::ApiError;
use crate::types::{Timestamp, event_type::Pattern};

/// From `since` on, up to `until` and not at it. Either may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// Ids above `after` and below `before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    pub after: Uuid,
    pub before: Uuid,
}

impl Period {
    pub fn parse(since: Option<&str>, until: Option<&str>) -> Result<Self, ApiError> {
        let read = |name: &str, text: Option<&str>| {
            let wrong = || {
                ApiError::Malformed(
                    format!("{name} must be a time as in RFC 3339, such as 2026-11-20T10:00:00Z.").into(),
                )
            };
            text.map(|text| Timestamp::parse(text).ok_or_else(wrong)).transpose()
        };
        let period = Self { since: read("since", since)?, until: read("until", until)? };
        match (period.since, period.until) {
            (Some(since), Some(until)) if since > until => {
                Err(ApiError::Malformed("since must not be later than until.".into()))
            }
            _ => Ok(period),
        }
    }

    pub fn ids(self) -> IdRange {
        IdRange {
            after: self.since.map_or(Uuid::nil(), |since| below(since.lowest_id())),
            before: self.until.map_or(Uuid::max(), Timestamp::lowest_id),
        }
    }

    /// For [`super::page::Scope`].
    pub fn told(self) -> [String; 2] {
        [self.since, self.until].map(|at| at.map(|at| at.to_string()).unwrap_or_default())
    }
}

impl IdRange {
    /// Whether no id lies in it.
    pub fn is_empty(self) -> bool {
        above(self.after) >= self.before
    }
}

/// The next lower id.
pub fn below(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_sub(1))
}

/// The next higher id.
pub fn above(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

/// `event_type`: a name, `prefix.*` or `*`.
pub fn event_type(text: Option<String>) -> Result<Option<Pattern>, ApiError> {
    text.map(Pattern::parse).transpose().map_err(|_| {
        ApiError::Malformed("event_type must be the name of an event type, prefix.* or *.".into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_the_ids_of_its_milliseconds() {
        let period = Period::parse(Some("2026-11-20T10:00:00Z"), Some("2026-11-20T12:00:01+02:00")).unwrap();
        let ids = period.ids();
        let holds = |text: &str| {
            let id = Timestamp::parse(text).unwrap().lowest_id();
            ids.after < id && id < ids.before
        };
        assert!(holds("2026-11-20T10:00:00.000Z") && holds("2026-11-20T10:00:00.999Z"));
        assert!(!holds("2026-11-20T09:59:59.999Z") && !holds("2026-11-20T10:00:01.000Z"));
        assert!(!ids.is_empty());
        let instant = Period { since: period.since, until: period.since };
        assert!(instant.ids().is_empty());
        let always = Period::default().ids();
        assert_eq!((always.after, always.before), (Uuid::nil(), Uuid::max()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (since, until, named) in [
            (Some("yesterday"), None, "since must"),
            (None, Some("2026-11-20"), "until must"),
            (Some("2026-11-20T10:00:01Z"), Some("2026-11-20T10:00:00Z"), "since must not be later"),
        ] {
            match Period::parse(since, until) {
                Err(ApiError::Malformed(detail)) => assert!(detail.starts_with(named), "{detail}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
