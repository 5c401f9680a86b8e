//! The places in an envelope that an event fills: `"{{id}}"` and its kin, always a whole value.

use std::io::Write as _;

use super::EventView;
use crate::types::ecma_json::{push_quoted, quoted_len};
use crate::types::rfc3339;

const NULL: &[u8] = b"null";
const QUOTES: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Type,
    /// RFC 3339 with milliseconds.
    Timestamp,
    /// RFC 3339, whole seconds.
    TimestampS,
    /// Unix seconds, a number.
    CreatedAt,
    Data,
    LocationId,
    TenantId,
    Channel,
    ApiVersion,
    /// A boolean.
    LiveMode,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub field: Field,
    /// What stands in for a missing value, instead of null: `"{{api_version|2026-02-04}}"`.
    fallback: Option<Box<str>>,
}

impl Slot {
    /// The slot of a name as written between the braces, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, fallback) = match text.split_once('|') {
            Some((name, fallback)) => (name, Some(fallback)),
            None => (text, None),
        };
        let field = match name {
            "id" => Field::Id,
            "type" => Field::Type,
            "timestamp" => Field::Timestamp,
            "timestamp_s" => Field::TimestampS,
            "created_at" => Field::CreatedAt,
            "data" => Field::Data,
            "location_id" => Field::LocationId,
            "tenant_id" => Field::TenantId,
            "channel" => Field::Channel,
            "api_version" => Field::ApiVersion,
            "live_mode" => Field::LiveMode,
            _ => return None,
        };
        let can_be_missing = matches!(field, Field::Channel | Field::ApiVersion);
        if fallback.is_some_and(|text| !can_be_missing || text.is_empty()) {
            return None;
        }
        Some(Self { field, fallback: fallback.map(Box::from) })
    }

    pub fn push(&self, out: &mut Vec<u8>, event: &EventView<'_>) {
        match self.value(event) {
            Value::Text(text) => push_quoted(out, text),
            Value::Raw(json) => out.extend_from_slice(json),
            Value::Number(number) => {
                write!(out, "{number}").expect("a Vec takes whatever is written");
            }
            Value::Time(push, _) => {
                out.push(b'"');
                push(out, event.occurred_at);
                out.push(b'"');
            }
        }
    }

    /// How many bytes [`Slot::push`] appends.
    pub fn len(&self, event: &EventView<'_>) -> usize {
        match self.value(event) {
            Value::Text(text) => quoted_len(text),
            Value::Raw(json) => json.len(),
            Value::Number(number) => {
                let digits = number.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
                usize::from(number < 0) + digits
            }
            Value::Time(_, len) => len + QUOTES,
        }
    }

    fn value<'a>(&'a self, event: &EventView<'a>) -> Value<'a> {
        match self.field {
            Field::Id => Value::Text(event.id),
            Field::Type => Value::Text(event.event_type),
            Field::Timestamp => Value::Time(rfc3339::push_millis, rfc3339::MILLIS_LEN),
            Field::TimestampS => Value::Time(rfc3339::push_seconds, rfc3339::SECONDS_LEN),
            Field::CreatedAt => Value::Number(event.occurred_at.unix_timestamp()),
            Field::Data => Value::Raw(event.data),
            Field::LocationId => Value::Text(event.location_id),
            Field::TenantId => Value::Text(event.tenant_id),
            Field::Channel => self.or_fallback(event.channel),
            Field::ApiVersion => self.or_fallback(event.api_version),
            Field::LiveMode => Value::Raw(if event.live_mode { b"true" } else { b"false" }),
        }
    }

    fn or_fallback<'a>(&'a self, text: Option<&'a str>) -> Value<'a> {
        text.or(self.fallback.as_deref()).map_or(Value::Raw(NULL), Value::Text)
    }
}

enum Value<'a> {
    Text(&'a str),
    Raw(&'a [u8]),
    Number(i64),
    /// How a timestamp is written, and its length.
    Time(fn(&mut Vec<u8>, time::OffsetDateTime), usize),
}
