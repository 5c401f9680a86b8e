//! Fuzz: whatever refers to whatever, a schema is refused or its validation takes no more steps than were counted.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::PayloadSchema;
use crate::types::hostile::cases;

const DEFINITIONS: usize = 6;
/// Where the reference count gives up: what is taken stays far below, with data as small as here.
const STEPS_MAX: u64 = 5_000_000;

fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => (0..DEFINITIONS).prop_map(|at| json!({"$ref": format!("#/$defs/d{at}")})),
        1 => Just(json!({"$ref": "#"})),
        1 => Just(json!({"$dynamicRef": "#d0"})),
        2 => Just(json!({"type": "integer"})),
        1 => any::<bool>().prop_map(Value::from),
    ];
    let one = leaf.prop_recursive(3, 24, 4, |inner| {
        let some = vec(inner.clone(), 1..4);
        let (a, b) = (inner.clone(), inner.clone());
        prop_oneof![
            (prop::sample::select(vec!["allOf", "anyOf", "oneOf", "prefixItems"]), some)
                .prop_map(|(keyword, list)| json!({keyword: list})),
            (
                prop::sample::select(vec![
                    "not",
                    "items",
                    "contains",
                    "additionalProperties",
                    "propertyNames",
                    "unevaluatedItems",
                    "unevaluatedProperties",
                ]),
                inner.clone()
            )
                .prop_map(|(keyword, one)| json!({keyword: one})),
            (a, b).prop_map(|(a, b)| json!({"if": a, "then": b})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"properties": {"a": a, "b": b}})),
            (inner.clone(), inner).prop_map(|(a, b)| json!({"items": a, "patternProperties": {"a|b": b}})),
        ]
    });
    vec(one, DEFINITIONS + 1).prop_map(|mut all| {
        let mut root = all.pop().filter(Value::is_object).unwrap_or_else(|| json!({"$ref": "#/$defs/d1"}));
        if let Some(first) = all[0].as_object_mut() {
            first.insert("$dynamicAnchor".into(), "d0".into());
        }
        let named = all.into_iter().enumerate().map(|(at, one)| (format!("d{at}"), one));
        root["$defs"] = Value::Object(named.collect());
        root
    })
}

fn data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![any::<i8>().prop_map(Value::from), Just(Value::Null), Just(json!("a"))];
    leaf.prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            (inner.clone(), inner).prop_map(|(a, b)| json!({"a": a, "b": b})),
        ]
    })
}

/// Applications, by doing as the words of the specification say, without stopping early.
fn steps(root: &Value, schema: &Value, data: &Value, taken: &mut u64) {
    *taken += 1;
    let Some(map) = schema.as_object().filter(|_| *taken < STEPS_MAX) else { return };
    let (items, fields) = (data.as_array(), data.as_object());
    for (keyword, inner) in map {
        let list = inner.as_array().map_or(std::slice::from_ref(inner), Vec::as_slice);
        match keyword.as_str() {
            "$ref" | "$dynamicRef" => {
                let pointer = inner.as_str().unwrap_or_default().replace("#d0", "#/$defs/d0");
                steps(root, root.pointer(&pointer[1..]).expect("a definition"), data, taken);
            }
            "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" => {
                list.iter().for_each(|one| steps(root, one, data, taken));
            }
            "prefixItems" => {
                list.iter()
                    .zip(items.into_iter().flatten())
                    .for_each(|(one, item)| steps(root, one, item, taken));
            }
            "items" | "contains" | "unevaluatedItems" => {
                items.into_iter().flatten().for_each(|item| steps(root, inner, item, taken));
            }
            "additionalProperties" | "unevaluatedProperties" => {
                fields.into_iter().flatten().for_each(|(_, field)| steps(root, inner, field, taken));
            }
            "propertyNames" => {
                let names = fields.into_iter().flatten();
                names.for_each(|(name, _)| steps(root, inner, &json!(name), taken));
            }
            "properties" => {
                for (name, field) in fields.into_iter().flatten() {
                    inner.get(name).into_iter().for_each(|one| steps(root, one, field, taken));
                }
            }
            "patternProperties" => {
                fields.into_iter().flatten().for_each(|(_, field)| steps(root, &inner["a|b"], field, taken));
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_schema_is_refused_or_takes_no_more_steps_than_were_counted(schema in schemas(), data in data()) {
        if let Ok(taken) = PayloadSchema::compile(&schema) {
            let most = taken.work(&data).expect("data that is not deep");
            let mut counted = 0;
            steps(&schema, &schema, &data, &mut counted);
            prop_assert!(counted <= most, "{counted} steps, not {most}");
            prop_assert!(taken.broken_rules(&data).len() <= 20);
        }
    }
}
