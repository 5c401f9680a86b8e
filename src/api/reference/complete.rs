//! What holds for many operations, said once: ids in paths, headers, and the errors that follow from what an operation takes.

use std::collections::BTreeSet;

use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use super::examples::{self, Purpose, may_be_null};
use crate::idempotency::KEY_MAX_BYTES;
use crate::web::{
    ApiError, FieldError,
    error::Problem,
    json::{BATCH_BODY_MAX_BYTES, BODY_MAX_BYTES},
    rate_limit,
};

/// What stands in paths. One that an operation describes itself is left as it is.
const PATH_PARAMETERS: [(&str, &str, &str); 10] = [
    ("tenant_id", "TenantId", "The tenant."),
    ("key_id", "KeyId", "The key."),
    ("location_id", "LocationRef", "The location: its id or its `external_id`."),
    ("endpoint_id", "EndpointId", "The endpoint."),
    ("event_id", "EventId", "The event."),
    ("job_id", "JobId", "The job."),
    ("name", "EventTypeName", "The event type."),
    ("pattern", "EventTypePattern", "The subscription's pattern."),
    ("format", "FormatName", "The wire format."),
    ("preset", "PresetName", "The preset."),
];
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

pub fn complete(document: &mut Value) {
    name_generics(document);
    let schemas = document["components"]["schemas"].clone();
    let asked: BTreeSet<String> =
        bodies(document, "requestBody").iter().fold(BTreeSet::new(), |mut names, body| {
            reach(body, &schemas, &mut names);
            names
        });
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        for (_, schema) in schemas.iter_mut().filter(|(name, _)| !asked.contains(*name)) {
            require_what_is_always_there(schema);
        }
    }
    let schemas = document["components"]["schemas"].clone();
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if METHODS.contains(&method.as_str())
                && let Some(operation) = operation.as_object_mut()
            {
                Completion { path, method, operation, schemas: &schemas }.run();
            }
        }
    }
    let mut used = BTreeSet::new();
    each_object(&mut document["paths"], &mut |object| {
        used.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
    });
    let is_used = |status: &&u16| used.contains(&format!("#/components/responses/{}", name_of(**status)));
    let components = &mut document["components"];
    components["responses"] = PROBLEMS
        .iter()
        .filter(is_used)
        .map(|status| (name_of(*status).to_owned(), problem(*status, None)))
        .collect();
    components["headers"] = response_headers();
    components["parameters"] = json!({"Tenant": {
        "name": "Posthaste-Tenant",
        "in": "header",
        "required": false,
        "description": "The tenant that the operator acts for. A tenant's own key needs none; another tenant than the key's is a 403.",
        "schema": {"$ref": "#/components/schemas/TenantId"},
    }, "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "A key of your own that makes a repeat safe: the same request with the same key does nothing and gets the first \
            answer again, for at least 24 hours. What an answer shows once is repeated to the same API key, to keys with the scope \
            `secrets` and to the operator alone.",
        "schema": {"type": "string", "minLength": 1, "maxLength": KEY_MAX_BYTES, "pattern": "^[!-~]+$"},
        "example": "order-4821-paid",
    }});
}

/// `Page_Event` is read as `EventPage`, a page of what is described as an `Event`.
fn name_generics(document: &mut Value) {
    let split =
        |name: &str| name.split_once('_').map(|(outer, inner)| (format!("{inner}{outer}"), inner.to_owned()));
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        let named = std::mem::take(schemas).into_iter().map(|(name, mut schema)| match split(&name) {
            None => (name, schema),
            Some((turned, inner)) => {
                schema["properties"]["data"]["items"] =
                    json!({"$ref": format!("#/components/schemas/{inner}")});
                (turned, schema)
            }
        });
        *schemas = named.collect();
        schemas.sort_keys();
    }
    each_object(document, &mut |object| {
        if let Some(Value::String(path)) = object.get_mut("$ref")
            && let Some((folder, name)) = path.rsplit_once('/')
            && let Some((turned, _)) = split(name)
        {
            *path = format!("{folder}/{turned}");
        }
    });
}

fn each_object(value: &mut Value, act: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            act(object);
            object.values_mut().for_each(|member| each_object(member, act));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, act)),
        _ => {}
    }
}

/// The parts of this name of all operations.
fn bodies(document: &Value, part: &str) -> Vec<Value> {
    let items = document["paths"].as_object().into_iter().flatten();
    items
        .flat_map(|(_, item)| item.as_object().into_iter().flatten())
        .filter_map(|(_, operation)| operation.get(part).cloned())
        .collect()
}

/// Names of the schemas that a value refers to, directly or not.
fn reach(value: &Value, schemas: &Value, names: &mut BTreeSet<String>) {
    let mut copy = value.clone();
    let mut found = Vec::new();
    each_object(&mut copy, &mut |object| {
        let path = object.get("$ref").and_then(Value::as_str);
        found.extend(path.and_then(|path| path.rsplit('/').next()).map(str::to_owned));
    });
    for name in found {
        if names.insert(name.clone()) {
            reach(&schemas[&name], schemas, names);
        }
    }
}

/// In answers a field that may be null is there all the same.
fn require_what_is_always_there(schema: &mut Value) {
    each_object(schema, &mut |object| {
        let Some(properties) = object.get("properties").and_then(Value::as_object) else { return };
        let nullable: Vec<Value> = properties
            .iter()
            .filter(|(_, property)| may_be_null(property))
            .map(|(name, _)| name.as_str().into())
            .collect();
        if let Some(required) = object.entry("required").or_insert_with(|| json!([])).as_array_mut() {
            required.extend(nullable);
        }
    });
}

/// Who may call.
#[derive(PartialEq, Eq)]
enum Who {
    Everyone,
    Operator,
    /// A tenant's key, with a scope where it says one, or the operator.
    Key(Option<String>),
}

struct Completion<'a> {
    path: &'a str,
    method: &'a str,
    operation: &'a mut Map<String, Value>,
    schemas: &'a Value,
}

impl Completion<'_> {
    fn run(mut self) {
        let who = self.who();
        self.parameters(&who);
        let statuses = self.statuses(&who);
        self.security(&who);
        self.request_example();
        let limited = who != Who::Everyone && !rate_limit::is_exempt(self.method, self.path);
        self.responses(&statuses, limited);
    }

    fn who(&self) -> Who {
        match self.operation.get("security").and_then(|all| all.get(0)) {
            None => Who::Everyone,
            Some(one) if one.get("operator").is_some() => Who::Operator,
            Some(one) => Who::Key(one["key"].get(0).and_then(Value::as_str).map(str::to_owned)),
        }
    }

    /// The operator may do what any key may; which scope is needed is said in words too.
    fn security(&mut self, who: &Who) {
        let (security, told) = match who {
            Who::Everyone => (json!([]), None),
            Who::Operator => (json!([{"operator": []}]), Some("Needs the operator's key.".to_owned())),
            Who::Key(None) => {
                (json!([{"key": []}, {"operator": []}]), Some("Needs a key, with any scope.".to_owned()))
            }
            Who::Key(Some(scope)) => (
                json!([{"key": [scope]}, {"operator": []}]),
                Some(format!("Needs a key with the scope `{scope}`.")),
            ),
        };
        self.operation.insert("security".to_owned(), security);
        if let Some(told) = told {
            let before = self.operation.get("description").and_then(Value::as_str);
            let whole = before.map_or_else(|| told.clone(), |before| format!("{before}\n\n{told}"));
            self.operation.insert("description".to_owned(), whole.into());
        }
    }

    /// And so takes an Idempotency-Key.
    fn is_post(&self) -> bool {
        self.method == "post"
    }

    fn has_parameter(&self, place: &str, name: Option<&str>) -> bool {
        let all = self.operation.get("parameters").and_then(Value::as_array);
        all.into_iter().flatten().any(|one| one["in"] == place && name.is_none_or(|name| one["name"] == name))
    }

    fn parameters(&mut self, who: &Who) {
        let mut added = Vec::new();
        for name in self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let known = PATH_PARAMETERS.iter().find(|(known, ..)| *known == name);
            if let Some((_, schema, description)) = known.filter(|_| !self.has_parameter("path", Some(name)))
            {
                added.push(json!({
                    "name": name,
                    "in": "path",
                    "required": true,
                    "description": description,
                    "schema": {"$ref": format!("#/components/schemas/{schema}")},
                }));
            }
        }
        if matches!(who, Who::Key(_)) {
            added.push(json!({"$ref": "#/components/parameters/Tenant"}));
        }
        for own in self.operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            // A field whose schema is a function's keeps its description there.
            if own.get("description").is_none() {
                own["description"] = own["schema"]["description"].clone();
            }
        }
        if self.is_post() {
            added.push(json!({"$ref": "#/components/parameters/IdempotencyKey"}));
        }
        if let Some(all) = self.operation.entry("parameters").or_insert_with(|| json!([])).as_array_mut() {
            added.append(all);
            *all = added;
        }
    }

    fn statuses(&self, who: &Who) -> BTreeSet<u16> {
        let mut statuses = BTreeSet::new();
        let has_body = self.operation.contains_key("requestBody");
        if has_body {
            statuses.extend([400, 413, 415, 422]);
        }
        if self.is_post() {
            // A body is read even where none is needed.
            statuses.extend([400, 409, 413, 415, 422]);
        }
        if self.has_parameter("header", Some("If-Match")) {
            statuses.insert(412);
        }
        if self.path.contains('{') {
            statuses.insert(404);
        }
        if *who != Who::Everyone {
            // A query parameter that is not known, or not in form.
            statuses.extend([400, 401, 403, 429, 500, 503]);
        }
        if matches!(who, Who::Key(_)) {
            // What Posthaste-Tenant may be wrong about.
            statuses.insert(404);
        }
        statuses
    }

    fn request_example(&mut self) {
        let Some(body) = self.operation.get_mut("requestBody") else { return };
        let schema = &body["content"]["application/json"]["schema"];
        // A body that may be left out is not one that may be null.
        let schema = schema["oneOf"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["type"] != "null"))
            .unwrap_or(schema)
            .clone();
        body["content"]["application/json"] =
            json!({"example": examples::build(&schema, self.schemas, Purpose::Request), "schema": schema});
    }

    fn responses(&mut self, statuses: &BTreeSet<u16>, limited: bool) {
        let is_idempotent = self.is_post();
        let Some(responses) = self.operation.get_mut("responses").and_then(Value::as_object_mut) else {
            return;
        };
        for (status, response) in responses.iter_mut() {
            let status = status.parse().unwrap_or_default();
            if PROBLEMS.contains(&status) {
                let mut told = response["description"].as_str().unwrap_or_default().to_owned();
                if status == 409 && is_idempotent {
                    told.push_str(" Or a request with the same Idempotency-Key is in flight.");
                }
                *response = problem(status, Some(&told));
                continue;
            }
            let purpose = if status == 201 { Purpose::FirstAnswer } else { Purpose::Answer };
            for (_, content) in
                response.get_mut("content").and_then(Value::as_object_mut).into_iter().flatten()
            {
                content["example"] = examples::build(&content["schema"], self.schemas, purpose);
            }
            let mut headers = response["headers"].as_object().cloned().unwrap_or_default();
            for (_, header) in &mut headers {
                header["required"] = true.into();
            }
            headers.insert("X-Request-Id".to_owned(), header_ref("X-Request-Id"));
            if limited {
                headers.insert("RateLimit".to_owned(), header_ref("RateLimit"));
                headers.insert("RateLimit-Policy".to_owned(), header_ref("RateLimit-Policy"));
            }
            if is_idempotent {
                headers.insert("Idempotent-Replayed".to_owned(), header_ref("Idempotent-Replayed"));
            }
            response["headers"] = headers.into();
        }
        for status in statuses {
            let common = || json!({"$ref": format!("#/components/responses/{}", name_of(*status))});
            responses.entry(status.to_string()).or_insert_with(common);
        }
        responses.sort_keys();
    }
}

fn header_ref(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

fn response_headers() -> Value {
    let header = |required: bool, description: &str, kind: &str, example: Value| json!({"description": description, "required": required, "schema": {"type": kind}, "example": example});
    json!({
        "X-Request-Id": header(
            true,
            "Names this request in the logs and in the audit log: the one that was sent, if it is 1 to 128 visible ASCII characters, \
             else a new one.",
            "string",
            "req_0193a1b2-c3d4-7e5f-8a6b-0123456789ab".into(),
        ),
        "RateLimit": header(
            false,
            "What is left of the key's quota: `r` requests, full again in `t` seconds. Absent where there is no limit.",
            "string",
            "\"key\";r=999;t=2".into(),
        ),
        "RateLimit-Policy": header(
            false,
            "The key's quota: `q` requests in `w` seconds. Absent where there is no limit.",
            "string",
            "\"key\";q=1000;w=2".into(),
        ),
        "Idempotent-Replayed": header(
            false,
            "`true`: this is the answer to an earlier request with the same Idempotency-Key.",
            "string",
            "true".into(),
        ),
        "Retry-After": header(true, "Seconds to wait before trying again.", "integer", 1.into()),
        "WWW-Authenticate": header(true, "How to authenticate.", "string", "Bearer".into()),
    })
}

const PROBLEMS: [u16; 13] = [400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 429, 500, 503];

fn name_of(status: u16) -> &'static str {
    match status {
        400 => "Malformed",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        412 => "PreconditionFailed",
        413 => "TooLarge",
        415 => "UnsupportedMediaType",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "Internal",
        _ => "Unavailable",
    }
}

/// An error as the API itself would tell it, and when it does.
fn sample(status: u16) -> (ApiError, &'static str) {
    match status {
        400 => (
            ApiError::Malformed("limit must be between 1 and 250.".into()),
            "The body is not JSON, or a query parameter, a cursor or a header is not valid.",
        ),
        401 => (
            ApiError::Unauthorized("The API key is unknown, revoked or expired."),
            "The API key is missing, unknown, revoked or expired.",
        ),
        403 => (
            ApiError::Forbidden("This needs a key with the scope write.".to_owned()),
            "The key may not do this, or not for that tenant.",
        ),
        404 => (ApiError::NotFound, "There is no such thing, or it is another tenant's."),
        408 => (ApiError::TooSlow { limit_s: 30 }, "The body took too long to come."),
        409 => (ApiError::InFlight, "A request with the same Idempotency-Key is in flight."),
        412 => {
            (ApiError::PreconditionFailed, "The endpoint has changed since the version that If-Match names.")
        }
        413 => (
            ApiError::TooLarge { limit_bytes: BODY_MAX_BYTES },
            "The body is too large: more than 1 MiB, or 8 MiB for a batch.",
        ),
        415 => (ApiError::UnsupportedMediaType, "The body is not `application/json`."),
        422 => (
            ApiError::Invalid(vec![FieldError::new("/url", "must be https")]),
            "Fields are missing, unknown or not valid; or the Idempotency-Key was used with another request.",
        ),
        429 => (
            ApiError::TooManyRequests { retry_after_s: 1 },
            "The key asks too often, or too many requests from this address had no good key.",
        ),
        500 => (ApiError::internal(""), "Posthaste failed. Tell whoever runs it the request_id."),
        _ => (ApiError::Unavailable("".into()), "Posthaste can't answer right now; nothing was changed."),
    }
}

/// The response of an error; `described`: what it means for one operation.
fn problem(status: u16, described: Option<&str>) -> Value {
    const { assert!(BATCH_BODY_MAX_BYTES == 8 * BODY_MAX_BYTES, "as the description of 413 says") };
    let (error, usual) = sample(status);
    let error = match described {
        Some(detail) if status == 409 => ApiError::Conflict(detail.to_owned().into()),
        _ => error,
    };
    let mut problem =
        error.into_response().extensions_mut().remove::<Problem>().expect("every error has one");
    problem.request_id = "req_0193a1b2-c3d4-7e5f-8a6b-0123456789ab".to_owned();
    let mut headers = json!({"X-Request-Id": header_ref("X-Request-Id")});
    if status != 503 && status != 500 {
        headers["RateLimit"] = header_ref("RateLimit");
        headers["RateLimit-Policy"] = header_ref("RateLimit-Policy");
    }
    match status {
        401 => headers["WWW-Authenticate"] = header_ref("WWW-Authenticate"),
        429 | 503 => headers["Retry-After"] = header_ref("Retry-After"),
        _ => {}
    }
    json!({
        "description": described.unwrap_or(usual),
        "headers": headers,
        "content": {"application/problem+json": {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "example": problem,
        }},
    })
}
