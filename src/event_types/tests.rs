//! What schemas are taken, what they cost, and how much they say.

use serde_json::{Value, json};

use super::{PayloadSchema, operational};
use crate::formats::presets;

fn refusal(schema: &Value) -> String {
    PayloadSchema::compile(schema).err().unwrap_or_else(|| panic!("is taken: {schema}"))
}

/// Each definition applies the one before it twice, by `join`.
fn doubling(levels: usize, join: impl Fn(Value) -> Value) -> Value {
    let mut definitions = json!({"n0": {"type": "integer"}});
    for level in 1..=levels {
        definitions[format!("n{level}")] = join(json!({"$ref": format!("#/$defs/n{}", level - 1)}));
    }
    json!({"$defs": definitions, "$ref": format!("#/$defs/n{levels}")})
}

#[test]
fn exponential_schemas_are_refused() {
    let twice = |keyword: &'static str| move |one: Value| json!({keyword: [one, one]});
    for keyword in ["anyOf", "allOf", "oneOf"] {
        assert!(refusal(&doubling(40, twice(keyword))).contains("10000 checks"), "{keyword}");
    }
    assert!(refusal(&doubling(14, twice("anyOf"))).contains("10000 checks"));
    for schema in [
        doubling(40, |one| json!({"not": one, "if": one})),
        doubling(40, |one| json!({"dependentSchemas": {"a": one, "b": one}})),
        doubling(40, |one| json!({"items": one, "contains": one})),
        doubling(40, |one| json!({"patternProperties": {"a": one, "b": one}})),
        doubling(40, |one| json!({"allOf": [one], "unevaluatedProperties": false})),
        // By way of itself, one level of the data at a time.
        json!({"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}),
        json!({"$dynamicAnchor": "t", "anyOf": [
            {"properties": {"a": {"$dynamicRef": "#t"}}}, {"additionalProperties": {"$dynamicRef": "#t"}}]}),
    ] {
        assert!(refusal(&schema).contains("10000 checks"), "{schema}");
    }
}

#[test]
fn references_must_lead_into_the_schema_and_down() {
    for (schema, why) in [
        (json!({"$ref": "#"}), "refers to itself"),
        (json!({"anyOf": [{"type": "null"}, {"$ref": "#"}]}), "refers to itself"),
        (
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}),
            "refers to itself",
        ),
        (json!({"$ref": "https://example.com/x"}), "must start with #"),
        (json!({"$ref": "#/$defs/none"}), "which it doesn't have"),
        (json!({"$ref": "#none"}), "which it doesn't have"),
        (json!({"$defs": {"a": {"$id": "https://example.com/a"}}}), "$id below its top"),
        (json!({"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}), "anchor twice"),
        (json!({"type": 5}), "is not a JSON Schema"),
    ] {
        assert!(refusal(&schema).contains(why), "{schema}: {}", refusal(&schema));
    }
}

#[test]
fn patterns_are_linear_small_and_few() {
    for pattern in ["^(?=(a+))(\\1|a)+b$", "(a)\\1", "((a{100}){100}){100}"] {
        assert!(refusal(&json!({"pattern": pattern})).contains("is not a JSON Schema"), "{pattern}");
    }
    let many: Vec<Value> = (0..101).map(|at| json!({"pattern": at.to_string()})).collect();
    assert!(refusal(&json!({"prefixItems": many})).contains("at most 100 patterns"));
    let linear = PayloadSchema::compile(&json!({"pattern": "^(a+)+$"})).expect("linear in this engine");
    assert_eq!(linear.broken_rules(&json!("a".repeat(30_000) + "!")).len(), 1);
    let ordinary = json!({"pattern": "^[\\w.+-]{1,64}@[\\w-]+(\\.[\\w-]+)+$"});
    assert_eq!(PayloadSchema::compile(&ordinary).expect("ordinary").broken_rules(&json!("a.b@c.de")), []);
}

#[test]
fn trees_and_lists_of_themselves_are_taken() {
    let node = json!({
        "type": "object", "required": ["name"], "additionalProperties": false,
        "properties": {"name": {"type": "string"}, "left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"},
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
    });
    let tree =
        PayloadSchema::compile(&json!({"$defs": {"node": node}, "$ref": "#/$defs/node"})).expect("a tree");
    let good =
        json!({"name": "a", "left": {"name": "b"}, "children": [{"name": "c", "right": {"name": "d"}}]});
    assert_eq!(tree.broken_rules(&good), []);
    let bad = json!({"name": "a", "children": [{"name": "c", "right": {"name": 1}}]});
    assert_eq!(tree.broken_rules(&bad)[0].0, "/children/0/right/name");
    for schema in [
        json!({"$anchor": "list", "properties": {"value": true, "next": {"anyOf": [{"type": "null"}, {"$ref": "#list"}]}}}),
        json!({"type": ["object", "array", "string"], "additionalProperties": {"$ref": "#"}, "items": {"$ref": "#"}}),
        json!({"$id": "https://example.com/order", "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$defs": {"a b": {"type": "string"}}, "properties": {"$id": {"$ref": "#/$defs/a%20b"}}}),
        json!(true),
    ] {
        assert!(PayloadSchema::compile(&schema).is_ok(), "{schema}");
    }
}

#[test]
fn the_schemas_of_all_presets_are_taken_and_far_from_the_bound() {
    let presets = presets::all().iter().flat_map(|preset| &preset.event_types);
    for known in presets.chain(operational::all()) {
        let schema = known.schema.as_ref().unwrap_or_else(|| panic!("{}: no schema", known.name));
        let compiled = PayloadSchema::compile(schema).unwrap_or_else(|why| panic!("{}: {why}", known.name));
        assert_eq!(compiled.broken_rules(&known.example), [], "{}", known.name);
    }
}

#[test]
fn at_most_twenty_errors_are_told_and_none_is_long() {
    let schema = json!({"items": {"const": "é".repeat(30_000)}});
    let broken = PayloadSchema::compile(&schema).expect("a schema").broken_rules(&json!(vec![1; 10_000]));
    assert_eq!((broken.len(), broken[0].0.as_str()), (20, "/0"));
    assert!(broken.iter().all(|(_, detail)| detail.chars().count() == 201 && detail.ends_with('…')));
}

#[test]
fn data_that_is_too_much_for_its_schema_is_refused_unseen() {
    let branches: Vec<Value> = (0..1_000).map(|at| json!({"const": at})).collect();
    let schema = PayloadSchema::compile(&json!({"items": {"anyOf": branches}})).expect("a schema");
    assert_eq!(schema.broken_rules(&json!([5, 999])), []);
    // Large: valid or not, without the places. Larger: not looked at.
    assert_eq!(schema.broken_rules(&json!(vec![5; 1_000])), []);
    assert!(schema.broken_rules(&json!(vec![-5; 1_000]))[0].1.contains("too large to say where"));
    assert!(schema.broken_rules(&json!(vec![5; 100_000]))[0].1.contains("too large or too deep"));
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    assert!(schema.broken_rules(&deep)[0].1.contains("too large or too deep"));
}
