//! Holds every answer that any test gets against the API's reference: its status is documented, its body is valid by the schema, and
//! has no field that the reference doesn't know.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use jsonschema::{Draft, Validator};
use posthaste::api::reference::document;
use reqwest::Method;
use serde_json::Value;

use super::client::Reply;

type Validators = Mutex<HashMap<(String, String), Arc<Validator>>>;
static VALIDATORS: LazyLock<Validators> = LazyLock::new(Mutex::default);

#[track_caller]
pub fn check(method: &Method, path: &str, reply: &Reply) {
    let path = path.split('?').next().unwrap_or_default();
    // A method that is not there has nothing to be held against, and a redirect was followed to somewhere else.
    let Some((template, operation)) = operation(method, path).filter(|_| path != "/docs") else { return };
    let place = format!("{method} {template}: {}", reply.status);
    let response = &operation["responses"][reply.status.to_string()];
    assert!(!response.is_null(), "{place} is not in the reference: {}", reply.text);
    let response = resolved(response);
    for name in
        response["headers"].as_object().into_iter().flatten().map(|(name, header)| (name, resolved(header)))
    {
        let (name, header) = name;
        let is_there = reply.headers.contains_key(name.to_lowercase());
        assert!(is_there || header["required"] != true, "{place} lacks the header {name}");
    }
    if reply.headers.contains_key("content-encoding") {
        return;
    }
    let kind = reply.headers.get("content-type").map_or("", |kind| kind.to_str().expect("ASCII"));
    let contents = response["content"].as_object();
    if contents.is_none_or(serde_json::Map::is_empty) {
        assert!(reply.text.is_empty(), "{place} has no body in the reference: {}", reply.text);
        return;
    }
    let content = &response["content"][kind];
    if !kind.ends_with("json") {
        return;
    }
    assert!(content.is_object(), "{place} is not {kind} in the reference");
    let body = reply.json();
    let found: Vec<String> = validator(&place, &content["schema"])
        .iter_errors(&body)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(found.is_empty(), "{place} is not as the reference says: {found:#?}\n{body:#}");
    if path != "/openapi.json" {
        unknown(&[&content["schema"]], &body, "", &place);
    }
}

/// The operation that answers at this path: one whose template has the most of it as it is.
fn operation(method: &Method, path: &str) -> Option<(&'static str, &'static Value)> {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let wanted: Vec<&str> = template.split('/').collect();
        let is_same =
            |(wanted, part): (&&str, &&str)| wanted == part || wanted.starts_with('{') && !part.is_empty();
        wanted.len() == parts.len() && wanted.iter().zip(&parts).all(is_same)
    };
    let paths = document()["paths"].as_object().expect("paths").iter();
    let (template, item) =
        paths.filter(|(template, _)| fits(template)).min_by_key(|(name, _)| name.matches('{').count())?;
    Some((template, item.get(method.as_str().to_lowercase())?))
}

fn resolved(value: &'static Value) -> &'static Value {
    let path = value["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
    path.map_or(value, |path| document().pointer(path).expect("a reference that leads somewhere"))
}

fn validator(place: &str, schema: &Value) -> Arc<Validator> {
    let key = (place.to_owned(), schema.to_string());
    let mut validators = VALIDATORS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let make = || {
        let mut whole = schema.clone();
        whole["components"] = document()["components"].clone();
        let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
        Arc::new(options.build(&whole).expect("a schema"))
    };
    Arc::clone(validators.entry(key).or_insert_with(make))
}

/// All schemas that say something of a value: those that are referred to, and the parts of those that are made of others.
fn flat(schemas: &[&'static Value]) -> Vec<&'static Value> {
    let mut all = Vec::new();
    let mut rest = schemas.to_vec();
    while let Some(schema) = rest.pop() {
        if schema.get("$ref").is_some() {
            rest.push(resolved(schema));
        }
        for word in ["allOf", "oneOf", "anyOf"] {
            rest.extend(schema[word].as_array().into_iter().flatten());
        }
        all.push(schema);
    }
    all
}

/// Fails on a field that no schema of its object names. One that says nothing of its fields takes all.
#[track_caller]
fn unknown(schemas: &[&'static Value], value: &Value, way: &str, place: &str) {
    let all = flat(schemas);
    match value {
        Value::Object(members) => {
            let named: Vec<&Value> = all.iter().filter_map(|schema| schema.get("properties")).collect();
            let is_open = named.is_empty()
                || all
                    .iter()
                    .any(|schema| schema.get("additionalProperties").is_some_and(|more| *more != false));
            for (name, member) in members {
                let of_member: Vec<&'static Value> =
                    all.iter().filter_map(|schema| schema.get("properties")?.get(name)).collect();
                assert!(is_open || !of_member.is_empty(), "{place}: the reference doesn't know {way}/{name}");
                unknown(&of_member, member, &format!("{way}/{name}"), place);
            }
        }
        Value::Array(items) => {
            let of_items: Vec<&'static Value> = all.iter().filter_map(|schema| schema.get("items")).collect();
            items.iter().for_each(|item| unknown(&of_items, item, &format!("{way}/-"), place));
        }
        _ => {}
    }
}
