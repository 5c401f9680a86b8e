//! Typed identifiers: a prefix and a hyphenated UUIDv7.
//!
//! Guarantees: an id of one kind can't be passed where another is wanted; only the canonical spelling parses (lower
//! case, hyphenated), so that one resource has one name. The last 12 bits of everything minted inside a location are the
//! location's [`Shard`], so the shard of an id is known without a look-up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::openapi::ObjectBuilder;
use uuid::Uuid;

use super::schema::{described, text};

/// Shards in a deployment, fixed for ever: ids carry theirs.
pub const SHARD_COUNT: u16 = 4096;

/// The unit of ownership: everything hot of a location lives in one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u16);

impl Shard {
    /// The shard that an id carries.
    pub fn of(id: Uuid) -> Self {
        let bytes = id.as_bytes();
        Self(u16::from_be_bytes([bytes[14], bytes[15]]) % SHARD_COUNT)
    }

    /// As Postgres stores it.
    pub fn column(self) -> i32 {
        i32::from(self.0)
    }

    /// From a column of ours; the migrations hold the range.
    pub fn from_column(column: i32) -> Self {
        Self(u16::try_from(column).unwrap_or_default() % SHARD_COUNT)
    }

    /// For tables of per-shard state.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(crate) fn bits(self) -> u16 {
        self.0
    }
}

/// Why a text is not an id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an id of the form {prefix}<uuid>")]
pub struct IdError {
    prefix: &'static str,
}

fn parse(prefix: &'static str, text: &str) -> Result<Uuid, IdError> {
    const HYPHENATED_CHARS: usize = 36;
    let rest =
        text.strip_prefix(prefix).filter(|rest| rest.len() == HYPHENATED_CHARS).ok_or(IdError { prefix })?;
    let id = Uuid::try_parse(rest).map_err(|_| IdError { prefix })?;
    let mut canonical = Uuid::encode_buffer();
    if id.hyphenated().encode_lower(&mut canonical) == rest { Ok(id) } else { Err(IdError { prefix }) }
}

/// `whose`: what such an id names.
fn id_schema(prefix: &str, whose: &str) -> ObjectBuilder {
    const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    let example = format!("{prefix}0193a1b2-c3d4-7e5f-8a6b-0123456789ab");
    text(&format!("Id. {}", whose.trim()), &example).pattern(Some(format!("^{prefix}{UUID}$")))
}

macro_rules! ids {
    ($(#[doc = $doc:literal] $name:ident = $prefix:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
        #[sqlx(transparent)]
        pub struct $name(Uuid);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            pub const fn uuid(self) -> Uuid {
                self.0
            }

            pub fn shard(self) -> Shard {
                Shard::of(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.hyphenated())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse($prefix, text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        described!($name, stringify!($name), id_schema($prefix, $doc));

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )*};
}

ids! {
    /// A customer account of the platform.
    TenantId = "ten_";
    /// A tenant's site, brand or number.
    LocationId = "loc_";
    /// A destination URL within one location.
    EndpointId = "ep_";
    /// An immutable fact published to a location.
    EventId = "evt_";
    /// One HTTP POST of a delivery.
    AttemptId = "att_";
    /// An API key.
    KeyId = "key_";
    /// Work that takes longer than a request.
    JobId = "job_";
    /// An entry of the audit log.
    AuditId = "aud_";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_parses() {
        let text = "evt_0193a1b2-c3d4-7e5f-8a6b-0123456789ab";
        let id: EventId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.shard(), Shard::from_column(0x9ab));
        for wrong in [
            "",
            "evt_",
            "0193a1b2-c3d4-7e5f-8a6b-0123456789ab",
            "ep_0193a1b2-c3d4-7e5f-8a6b-0123456789ab",
            "evt_0193A1B2-c3d4-7e5f-8a6b-0123456789ab",
            "evt_0193a1b2c3d47e5f8a6b0123456789ab",
            "evt_{0193a1b2-c3d4-7e5f-8a6b-01234567}",
            "evt_0193a1b2-c3d4-7e5f-8a6b-0123456789abc",
            "evt_0193a1b2-c3d4-7e5f-8a6b-0123456789a\u{0}",
        ] {
            assert!(wrong.parse::<EventId>().is_err(), "{wrong:?}");
        }
    }
}
