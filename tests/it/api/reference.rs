//! The API's reference: whole, consistent, and true of itself. Whether the API does what it says, the other tests and the
//! property-based ones of CI say.

use std::collections::BTreeSet;

use posthaste::{api::reference::document, formats::presets};
use serde_json::{Map, Value, json};

use crate::helpers::spawn;

/// One operation, and where it stands.
struct Operation {
    place: String,
    path: String,
    value: &'static Map<String, Value>,
    is_webhook: bool,
}

fn operations() -> Vec<Operation> {
    let mut found = Vec::new();
    for (part, is_webhook) in [("paths", false), ("webhooks", true)] {
        for (path, item) in document()[part].as_object().unwrap() {
            for (method, value) in item.as_object().unwrap() {
                let place = format!("{method} {path}");
                let value = value.as_object().unwrap_or_else(|| panic!("{place} is no operation"));
                found.push(Operation { place, path: path.clone(), value, is_webhook });
            }
        }
    }
    assert!(found.len() > 80, "operations are found");
    found
}

/// What a reference leads to, or the value itself.
fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(path) => document()
            .pointer(path.strip_prefix('#').expect("within the document"))
            .unwrap_or_else(|| panic!("{path} leads nowhere")),
        None => value,
    }
}

fn is_told(value: &Value, what: &str) -> bool {
    value[what].as_str().is_some_and(|text| !text.trim().is_empty())
}

/// Every object of the document, with the way to it.
fn each_object(value: &'static Value, way: &str, act: &mut impl FnMut(&str, &'static Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            act(way, object);
            for (name, member) in object {
                // Samples are data, not parts of the document.
                if !["example", "examples", "default", "const"].contains(&name.as_str())
                    || way.ends_with("/properties")
                {
                    each_object(member, &format!("{way}/{name}"), act);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_object(item, &format!("{way}/-"), act)),
        _ => {}
    }
}

/// So that a change to the API shows itself in a review.
#[test]
fn the_committed_document_is_the_current_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let current = format!("{:#}\n", document());
    // Not compared by assert_eq!: nobody reads two such texts side by side.
    assert!(
        committed == current,
        "run `cargo run -- openapi > docs/openapi.json` and look at what has changed"
    );
}

#[test]
fn every_operation_tells_what_it_is() {
    let tags: BTreeSet<_> =
        document()["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let (mut ids, mut used) = (BTreeSet::new(), BTreeSet::new());
    for Operation { place, value, .. } in operations() {
        let id = value["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{place}: {id} is taken");
        let [tag] = value["tags"].as_array().unwrap().as_slice() else { panic!("{place}: one tag") };
        used.insert(tag.as_str().unwrap());
        let summary = value["summary"].as_str().unwrap_or_else(|| panic!("{place} has no summary"));
        assert!(!summary.is_empty() && !summary.ends_with('.') && summary.len() < 80, "{place}: {summary}");
    }
    assert_eq!(used, tags, "every tag is told of and used");
}

#[test]
fn every_parameter_is_described() {
    for Operation { place, path, value, .. } in operations() {
        let mut seen = BTreeSet::new();
        for parameter in value.get("parameters").and_then(Value::as_array).into_iter().flatten() {
            let parameter = resolved(parameter);
            let name = parameter["name"].as_str().unwrap();
            assert!(is_told(parameter, "description"), "{place}: {name} is not described");
            assert!(parameter["schema"].is_object(), "{place}: {name} has no schema");
            assert!(seen.insert((parameter["in"].as_str(), name)), "{place}: {name} comes twice");
            if parameter["in"] == "path" {
                assert!(path.contains(&format!("{{{name}}}")), "{place}: {name} is not in the path");
                assert_eq!(parameter["required"], true, "{place}: {name}");
            }
        }
        for name in path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
            assert!(seen.contains(&(Some("path"), name)), "{place}: {name} is not told of");
        }
    }
}

#[test]
fn every_answer_is_described_and_errors_are_problems() {
    for Operation { place, value, .. } in operations().into_iter().filter(|operation| !operation.is_webhook) {
        let responses = value["responses"].as_object().unwrap();
        let is_open = value["security"] == json!([]);
        assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{place} has no good answer");
        for (status, response) in responses {
            let response = resolved(response);
            assert!(is_told(response, "description"), "{place}: {status} is not described");
            assert!(
                response["headers"].get("X-Request-Id").is_some(),
                "{place}: {status} without X-Request-Id"
            );
            let kinds: Vec<_> = response["content"].as_object().into_iter().flatten().collect();
            match status.as_bytes()[0] {
                b'2' | b'3' => {
                    // A good answer has a body, or one of the statuses for those without.
                    let may_lack = ["202", "204", "303"].contains(&status.as_str());
                    assert!(may_lack || !kinds.is_empty(), "{place}: {status} has no body");
                    for (kind, content) in kinds {
                        assert!(is_open || kind == "application/json", "{place}: {status} as {kind}");
                        assert!(content["schema"].is_object(), "{place}: {status} has no schema");
                        assert!(content.get("example").is_some(), "{place}: {status} has no example");
                    }
                }
                _ => {
                    let [(kind, content)] = kinds.as_slice() else {
                        panic!("{place}: {status} is no problem")
                    };
                    assert_eq!(*kind, "application/problem+json", "{place}: {status}");
                    assert_eq!(
                        content["schema"]["$ref"], "#/components/schemas/Problem",
                        "{place}: {status}"
                    );
                    assert_eq!(content["example"]["status"].to_string(), *status, "{place}");
                }
            }
        }
        for status in ["401", "403", "429", "500", "503"] {
            let known = responses.contains_key(status);
            assert!(known != is_open || (status == "503" && is_open), "{place}: {status}");
        }
        if let Some(body) = value.get("requestBody") {
            let content = &body["content"]["application/json"];
            assert!(content["schema"].is_object() && content.get("example").is_some(), "{place}: its body");
            for status in ["400", "413", "415", "422"] {
                assert!(responses.contains_key(status), "{place}: {status}");
            }
        }
    }
}

#[test]
fn every_field_is_described() {
    let mut silent = Vec::new();
    for (name, schema) in document()["components"]["schemas"].as_object().unwrap() {
        assert!(!name.contains("Body") && !name.contains("View"), "{name} is a word of the program's");
        if !is_told(schema, "description") {
            silent.push(name.clone());
        }
    }
    each_object(&document()["components"]["schemas"], "", &mut |way, object| {
        for (name, property) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let parts = ["oneOf", "anyOf", "allOf"].iter().filter_map(|word| property[word].as_array());
            let mut all = parts.flatten().chain([property]).flat_map(|part| [part, resolved(part)]);
            if !all.any(|part| is_told(part, "description")) {
                silent.push(format!("{way}/{name}"));
            }
        }
    });
    assert_eq!(silent, Vec::<String>::new(), "these are not described");
}

#[test]
fn every_component_is_used_and_every_reference_leads_somewhere() {
    let mut used = BTreeSet::new();
    each_object(document(), "", &mut |way, object| {
        if let Some(path) = object.get("$ref").and_then(Value::as_str) {
            let pointer = path.strip_prefix('#').unwrap_or_else(|| panic!("{way} leaves the document"));
            assert!(document().pointer(pointer).is_some(), "{way}: {path} leads nowhere");
            used.insert(path.to_owned());
        }
        for (scheme, _) in object
            .get("security")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
            .flatten()
        {
            used.insert(format!("#/components/securitySchemes/{scheme}"));
        }
    });
    for (kind, components) in document()["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            assert!(
                used.contains(&format!("#/components/{kind}/{name}")),
                "{kind}/{name} is used by nothing"
            );
        }
    }
}

/// A validator of a schema of the document, its references included.
fn validator(schema: &Value) -> jsonschema::Validator {
    let mut whole = schema.clone();
    whole["components"] = document()["components"].clone();
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .build(&whole)
        .unwrap_or_else(|error| panic!("{schema}: {error}"))
}

#[test]
fn every_example_is_valid() {
    let mut checked = 0_u32;
    let mut check = |place: &str, content: &Value| {
        let errors: Vec<_> = validator(&content["schema"])
            .iter_errors(&content["example"])
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{place}: {errors:#?}\n{:#}", content["example"]);
        checked += 1;
    };
    for Operation { place, value, .. } in operations() {
        let responses = value["responses"].as_object().unwrap();
        let bodies = responses.iter().map(|(status, response)| (status.as_str(), resolved(response)));
        for (what, body) in bodies.chain(value.get("requestBody").map(|body| ("body", body))) {
            for (_, content) in body["content"].as_object().into_iter().flatten() {
                check(&format!("{place}, {what}"), content);
            }
        }
    }
    assert!(checked > 200, "{checked} examples");
    // And those of the types themselves.
    for (name, schema) in document()["components"]["schemas"].as_object().unwrap() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            let found = validator(schema).iter_errors(example).map(|error| error.to_string()).next();
            assert_eq!(found, None, "{name}: {example}");
        }
    }
}

#[test]
fn every_built_in_event_type_is_a_webhook() {
    let expected: BTreeSet<String> = presets::all()
        .iter()
        .flat_map(|preset| preset.event_types.iter().map(|known| format!("{}.{}", preset.name, known.name)))
        .collect();
    let webhooks = document()["webhooks"].as_object().unwrap();
    assert_eq!(webhooks.keys().cloned().collect::<BTreeSet<_>>(), expected);
    // Each with its payload, below whatever envelope.
    for preset in presets::all() {
        for known in &preset.event_types {
            let key = format!("{}.{}", preset.name, known.name);
            let body = &webhooks[&key]["post"]["requestBody"]["content"]["application/json"];
            let place = ["/data/object", "/data", ""]
                .into_iter()
                .find(|place| body["example"].pointer(place).is_some());
            let place = place.unwrap();
            assert_eq!(body["example"].pointer(place), Some(&known.example), "{key}");
            let schema = body["schema"].pointer(&place.replace('/', "/properties/")).unwrap();
            for (name, property) in
                known.schema.iter().flat_map(|schema| schema["properties"].as_object().unwrap())
            {
                assert_eq!(schema["properties"][name], *property, "{key}: {name}");
            }
        }
    }
    let standard = &webhooks["standard.message.incoming"]["post"];
    let names: Vec<_> =
        standard["parameters"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "webhook-id",
            "x-posthaste-attempt",
            "webhook-timestamp",
            "webhook-signature",
            "x-webhook-signature"
        ]
    );
    let body = &standard["requestBody"]["content"]["application/json"];
    assert_eq!(body["example"]["type"], "message.incoming");
    assert_eq!(body["schema"]["properties"]["type"]["const"], "message.incoming");
    // Whoever follows the reference finds the sample signed.
    let header = |name: &str| {
        let found = standard["parameters"].as_array().unwrap().iter().find(|one| one["name"] == name);
        found.unwrap()["example"].as_str().unwrap()
    };
    let sent = body["example"].to_string();
    let signed_at = header("webhook-timestamp").parse().unwrap();
    let webhook =
        standardwebhooks::Webhook::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDfAk2LmIHL7s=").unwrap();
    let signature = webhook.sign(header("webhook-id"), signed_at, sent.as_bytes()).unwrap();
    assert_eq!(signature, header("webhook-signature"));
}

#[tokio::test]
async fn it_is_served_to_everybody_with_a_page_that_needs_nothing_else() {
    let mut app = spawn().await;
    let client = app.anonymous();
    let served = client.get("/openapi.json").await;
    assert_eq!(served.headers["content-type"], "application/json");
    assert_eq!(served.expect(200), *document());
    let page = client.get("/docs/index.html").await;
    assert_eq!((page.status, page.headers["content-type"].to_str().unwrap()), (200, "text/html"));
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    let loaded: Vec<&str> = ["src=\"", "href=\""]
        .into_iter()
        .flat_map(|start| page.text.split(start).skip(1).map(|rest| rest.split('"').next().unwrap()))
        .collect();
    assert!(loaded.len() >= 5, "{loaded:?}");
    for file in loaded {
        assert!(!file.contains("//"), "{file} comes from elsewhere");
        let file = client.get(&format!("/docs/{}", file.trim_start_matches("./"))).await;
        assert!(file.status == 200 && !file.text.is_empty());
    }
    assert!(!page.text.contains("<script>"), "no script within the page, as its policy demands");
    let start = client.get("/docs/swagger-initializer.js").await.text;
    assert!(start.contains("\"/openapi.json\"") && !start.contains("//cdn"), "{start}");
    client.get("/docs/nothing.js").await.problem(404);
    app.stop().await;
}
