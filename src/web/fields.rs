//! Gathers everything that is wrong with a body, so that a caller mends it in one go.

use serde_json::{Map, Value};

use super::{
    error::{ApiError, FieldError},
    json::Patch,
};
use crate::types::{ecma_json::pointer_token, schema::described};
use utoipa::openapi::{Object, Type, schema::AdditionalProperties};

/// Largest metadata, as JSON text.
pub const METADATA_MAX_BYTES: usize = 8 * 1024;
const METADATA_MAX_KEYS: usize = 50;

/// What callers keep with things of theirs.
pub struct Metadata;

described!(
    Metadata,
    "Metadata",
    Object::builder()
        .schema_type(Type::Object)
        .description(Some(format!(
            "Whatever you want to keep with it: at most {METADATA_MAX_BYTES} bytes as JSON text. A change merges (RFC 7396): a \
             key that is `null` is taken away."
        )))
        .max_properties(Some(METADATA_MAX_KEYS))
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .examples([serde_json::json!({"crm_id": "4821"})])
);

/// The errors so far, and the fields that a patch sets.
#[derive(Default)]
pub struct Fields {
    errors: Vec<FieldError>,
    set: Vec<&'static str>,
}

impl Fields {
    /// The value, or its error noted.
    pub fn take<T>(&mut self, pointer: impl Into<String>, result: Result<T, String>) -> Option<T> {
        result.map_err(|detail| self.errors.push(FieldError::new(pointer, detail))).ok()
    }

    pub fn wrong(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(FieldError::new(pointer, detail));
    }

    /// Of a patch: a field that can't be null.
    pub fn required<W, T>(
        &mut self,
        name: &'static str,
        patch: Patch<W>,
        parse: impl FnOnce(W) -> Result<T, String>,
    ) -> Option<T> {
        match patch {
            Patch::Absent => None,
            Patch::Null => {
                self.wrong(format!("/{name}"), "must not be null");
                None
            }
            Patch::Value(value) => {
                self.set.push(name);
                self.take(format!("/{name}"), parse(value))
            }
        }
    }

    /// Of a patch: a field that null takes away. `Some(None)` is that.
    pub fn optional<W, T>(
        &mut self,
        name: &'static str,
        patch: Patch<W>,
        parse: impl FnOnce(W) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match patch {
            Patch::Absent => None,
            Patch::Null => {
                self.set.push(name);
                Some(None)
            }
            Patch::Value(value) => {
                self.set.push(name);
                self.take(format!("/{name}"), parse(value)).map(Some)
            }
        }
    }

    /// Merges metadata as RFC 7396 says: a null takes a key away.
    pub fn patch_metadata(&mut self, patch: Patch<Map<String, Value>>, metadata: &mut Value) {
        match patch {
            Patch::Absent => return,
            Patch::Null => *metadata = Value::Object(Map::new()),
            Patch::Value(patch) => merge(metadata, Value::Object(patch)),
        }
        self.set.push("metadata");
        if let Value::Object(map) = metadata.take() {
            *metadata = self.metadata("/metadata", map).unwrap_or_default();
        }
    }

    pub fn metadata(&mut self, pointer: &str, map: Map<String, Value>) -> Option<Value> {
        if map.len() > METADATA_MAX_KEYS {
            self.wrong(pointer, format!("must have at most {METADATA_MAX_KEYS} keys"));
            return None;
        }
        let value = Value::Object(map);
        if value.to_string().len() > METADATA_MAX_BYTES {
            self.wrong(pointer, format!("must have at most {METADATA_MAX_BYTES} bytes as JSON"));
            return None;
        }
        if let Some(place) = nul_in(&value) {
            self.wrong(format!("{pointer}{place}"), "must not contain the character U+0000");
            return None;
        }
        Some(value)
    }

    /// The whole, if nothing is wrong. `build` gets what [`Fields::take`] gave.
    pub fn done<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, ApiError> {
        if self.errors.is_empty()
            && let Some(whole) = build()
        {
            return Ok(whole);
        }
        Err(ApiError::Invalid(self.errors))
    }

    /// The names of the fields that the patch set, if nothing is wrong.
    pub fn finish(self) -> Result<Vec<&'static str>, ApiError> {
        if self.errors.is_empty() { Ok(self.set) } else { Err(ApiError::Invalid(self.errors)) }
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    match patch {
        Value::Object(patch) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let Some(target) = target.as_object_mut() else { return };
            for (key, value) in patch {
                if value.is_null() {
                    target.shift_remove(&key);
                } else {
                    merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        other => *target = other,
    }
}

/// Where a text of this value holds a NUL, which Postgres can't store.
pub fn nul_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(at, item)| Some(format!("/{at}{}", nul_in(item)?)))
        }
        Value::Object(map) => map.iter().find_map(|(key, item)| {
            if key.contains('\0') {
                Some(String::new())
            } else {
                Some(format!("/{}{}", pointer_token(key), nul_in(item)?))
            }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_merges_and_is_bounded() {
        let mut metadata = json!({"a": 1, "b": {"c": 2, "d": 3}});
        let mut fields = Fields::default();
        let patch = json!({"a": null, "b": {"c": 4}, "e": [1]}).as_object().cloned().unwrap();
        fields.patch_metadata(Patch::Value(patch), &mut metadata);
        assert_eq!(metadata, json!({"b": {"c": 4, "d": 3}, "e": [1]}));
        assert_eq!(fields.finish().unwrap(), ["metadata"]);

        for (wrong, pointer) in [
            (json!({"a": {"b/c": ["x\u{0}"]}}), "/metadata/a/b~1c/0"),
            (json!({"a\u{0}": 1}), "/metadata"),
            (json!({"a": "x".repeat(METADATA_MAX_BYTES)}), "/metadata"),
        ] {
            let mut fields = Fields::default();
            assert!(fields.metadata("/metadata", wrong.as_object().cloned().unwrap()).is_none());
            match fields.finish() {
                Err(ApiError::Invalid(errors)) => assert_eq!(errors[0].pointer, pointer),
                other => panic!("{other:?}"),
            }
        }
    }
}
