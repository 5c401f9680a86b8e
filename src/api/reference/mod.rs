//! The API's reference: an OpenAPI document made from the handlers and wire types, at `/openapi.json` and, for people, at `/docs`.
//!
//! A handler says what is its own: `#[utoipa::path]` with its scope, its body and its good answers. What holds for many is
//! added here, once, by what an operation takes (`complete.rs`); examples are put together from those of the fields
//! (`examples.rs`); what receivers get is told from the presets (`webhooks.rs`).

mod complete;
mod docs;
mod examples;
mod webhooks;

use std::sync::LazyLock;

use serde_json::{Value, json};
use utoipa::{PartialSchema, ToSchema};

pub use docs::router;

use crate::web::error::Problem;

/// What the reference is grouped by, in the order that a newcomer reads it.
const TAGS: [(&str, &str); 13] = [
    ("Events", "Publish what happened, and look at what was published."),
    ("Endpoints", "Where events go, how, and signed with what."),
    ("Deliveries", "One event to one endpoint: its state, its attempts, and a second chance."),
    ("Jobs", "Work that takes longer than a request: its progress, and its end before time."),
    (
        "Locations",
        "A tenant's sites, brands or numbers. Events are published to one; endpoints belong to one.",
    ),
    ("Event types", "What can be published: the catalogue of a preset, and a tenant's own types."),
    ("Wire formats", "How an event becomes a request: what is built in, and a tenant's own."),
    ("Keys", "API keys of a tenant."),
    ("Audit log", "Who did what."),
    ("WhatsAble", "WhatsAble's own webhook API, for tenants of that preset."),
    ("Tenants", "For the operator: the customer accounts of the platform, and their keys."),
    ("Service", "How the process is, and this reference. Needs no key."),
    ("Webhooks", "What a receiver gets."),
];

const DESCRIPTION: &str = "\
Posthaste delivers webhooks: publish an event to a location, and every endpoint that subscribes to it gets a signed POST, \
retried until it is taken or its retries run out.

- Errors are `application/problem+json` (RFC 9457) with a stable `type`; what is wrong with fields is told all at once, with JSON \
pointers.
- Lists come newest first, in pages: pass `next_cursor` on as `cursor`.
- Ids and names of another tenant are answered like those of nothing: 404.
- Answers may get more fields; ignore those that you don't know.
- The key is checked before the rest of the request, and the operator's key needs the header `Posthaste-Tenant` wherever a tenant's \
key would do.";

static DOCUMENT: LazyLock<Value> = LazyLock::new(build);

/// The whole document, OpenAPI 3.1.
pub fn document() -> &'static Value {
    &DOCUMENT
}

fn build() -> Value {
    let (_, mut collected) = super::routes();
    // The one that no handler names.
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    collected.components.get_or_insert_default().schemas.extend(schemas);
    let mut collected = serde_json::to_value(collected).expect("an OpenAPI document is JSON");
    complete::complete(&mut collected);
    let tags: Vec<Value> =
        TAGS.iter().map(|(name, description)| json!({"name": name, "description": description})).collect();
    let mut components = collected["components"].take();
    let webhooks = webhooks::all();
    components["securitySchemes"] = json!({
        "key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "ph_…",
            "description": "An API key of the tenant. What it may do is told by its scopes: `read`, `write`, `publish`, `secrets`.",
        },
        "operator": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "ph_…",
            "description": "The operator's key. It may do everything, for the tenant that the header `Posthaste-Tenant` names.",
        },
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Posthaste",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This server."}],
        "tags": tags,
        "paths": collected["paths"].take(),
        "webhooks": webhooks,
        "components": components,
    })
}
