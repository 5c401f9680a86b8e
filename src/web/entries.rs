//! Objects whose fields are the caller's own names: none is given twice, where a map alone would keep the last one silently.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    marker::PhantomData,
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};

/// What is told of a name that comes for the second time.
pub const GIVEN_TWICE: &str = "is given twice";

/// Names and what they stand for. With `ANY_CASE`, names that differ only in the case of ASCII letters are the same.
pub struct Entries<V, const ANY_CASE: bool = false>(pub BTreeMap<String, V>);

/// Headers: their names are the same whatever their case.
pub type HeaderEntries<V> = Entries<V, true>;

impl<V, const ANY_CASE: bool> Default for Entries<V, ANY_CASE> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>, const ANY_CASE: bool> Deserialize<'de> for Entries<V, ANY_CASE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<V, const ANY_CASE: bool>(PhantomData<V>);

impl<'de, V: Deserialize<'de>, const ANY_CASE: bool> Visitor<'de> for EntriesVisitor<V, ANY_CASE> {
    type Value = Entries<V, ANY_CASE>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut entries, mut seen) = (BTreeMap::new(), BTreeSet::new());
        while let Some(name) = map.next_key::<String>()? {
            let same = if ANY_CASE { name.to_ascii_lowercase() } else { name.clone() };
            if !seen.insert(same) {
                // As an error of the value, so that the path ends in its name.
                map.next_value_seed(Refused)?;
            }
            entries.insert(name, map.next_value()?);
        }
        Ok(Entries(entries))
    }
}

/// A value that must not be there.
struct Refused;

impl<'de> DeserializeSeed<'de> for Refused {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, _: D) -> Result<(), D::Error> {
        Err(D::Error::custom(GIVEN_TWICE))
    }
}
