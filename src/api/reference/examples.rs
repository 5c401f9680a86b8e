//! Examples of whole bodies, put together from those of their fields.

use serde_json::{Map, Value};

/// Deep enough for every body there is.
const DEPTH_MAX: u32 = 12;

/// What an example is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// What must be given, and what has an example of its own.
    Request,
    /// Everything that is always there.
    Answer,
    /// And what is in the answer to the request that made something alone.
    FirstAnswer,
}

/// Builds an example that is valid by the schema.
pub fn build(schema: &Value, schemas: &Value, purpose: Purpose) -> Value {
    value(schema, schemas, purpose, DEPTH_MAX)
}

/// What a reference leads to; the schema itself where it is none.
pub fn resolve<'a>(schema: &'a Value, schemas: &'a Value) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    name.map_or(schema, |name| &schemas[name])
}

fn own(schema: &Value) -> Option<&Value> {
    schema["examples"].get(0).or(schema.get("example")).or(schema.get("default"))
}

pub fn may_be_null(schema: &Value) -> bool {
    let is_null = |kind: &Value| kind == "null";
    is_null(&schema["type"])
        || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(is_null))
        || ["oneOf", "anyOf"]
            .iter()
            .any(|word| schema[word].as_array().is_some_and(|schemas| schemas.iter().any(may_be_null)))
}

fn value(schema: &Value, schemas: &Value, purpose: Purpose, depth: u32) -> Value {
    if let Some(example) = own(schema) {
        return example.clone();
    }
    if depth == 0 || may_be_null(schema) {
        return Value::Null;
    }
    let inner = |schema: &Value| value(schema, schemas, purpose, depth - 1);
    if schema.get("$ref").is_some() {
        return inner(resolve(schema, schemas));
    }
    if let Some(one) = schema.get("const").or(schema["enum"].get(0)) {
        return one.clone();
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let parts = parts.iter().filter_map(|part| inner(part).as_object().cloned());
        return Value::Object(parts.flatten().collect());
    }
    if let Some(first) = schema["oneOf"].get(0).or(schema["anyOf"].get(0)) {
        return inner(first);
    }
    match schema["type"].as_str() {
        Some("object") => object(schema, inner, purpose),
        Some("array") => Value::Array(vec![inner(&schema["items"])]),
        Some("string") => "text".into(),
        Some("boolean") => true.into(),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(0.into()),
        _ => Value::Object(Map::new()),
    }
}

fn object(schema: &Value, inner: impl Fn(&Value) -> Value, purpose: Purpose) -> Value {
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|names| names.iter().any(|known| known == name))
    };
    let wanted = |name: &str, property: &Value| match purpose {
        Purpose::Request => required(name) || property.get("examples").is_some(),
        Purpose::Answer => required(name),
        Purpose::FirstAnswer => true,
    };
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .filter(|(name, property)| wanted(name, property))
        .map(|(name, property)| (name.clone(), inner(property)))
        .collect::<Map<_, _>>()
        .into()
}
