//! Keys that an object has twice: JSON parsers keep one of them, silently, and not all the same one.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::ecma_json::pointer_token;

/// Where a key comes for the second time in its object, as a pointer. `None` also for what is not JSON.
pub fn duplicate_key(text: &[u8]) -> Option<String> {
    let mut found = None;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    // An error is told by whoever parses the text.
    let _ = Walk { pointer: "", found: &mut found }.deserialize(&mut deserializer);
    found
}

/// Looks through one value.
struct Walk<'a> {
    pointer: &'a str,
    found: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! nothing_to_see {
    ($($visit:ident($type:ty)),*) => {$(
        fn $visit<E>(self, _: $type) -> Result<(), E> {
            Ok(())
        }
    )*};
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let pointer = format!("{}/{}", self.pointer, pointer_token(&key));
            if !keys.insert(key) {
                self.found.get_or_insert_with(|| pointer.clone());
            }
            map.next_value_seed(Walk { pointer: &pointer, found: &mut *self.found })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for place in 0_usize.. {
            let pointer = format!("{}/{place}", self.pointer);
            if items.next_element_seed(Walk { pointer: &pointer, found: &mut *self.found })?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    nothing_to_see!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));
}
