//! What a receiver would get: the exact request for an event, signed with a secret that everybody knows.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema, Type, schema::AnyOfBuilder},
};
use uuid::{Uuid, uuid};

use super::model::Definition;
use crate::{
    auth::{Context, Tenant, scope},
    deliveries::readable,
    egress::{CustomHeaders, USER_AGENT},
    endpoints::target::{render, request_headers},
    events::PublishBody,
    format_book::FormatBook,
    formats::{Format, FormatVersion},
    idempotency::{Done, Once},
    queue::refill::EventBody,
    signing::{PublicKey, Signer},
    types::{EventId, LocationId, TenantId, Timestamp, secret::SigningSecret},
    web::{
        Answer, ApiError, FieldError,
        fields::Fields,
        json::{Body, Object, from_bytes},
    },
};

/// What previews are signed with: `whsec_` and base64 of 32 bytes that are no secret.
const SECRET: &str = "whsec_cG9zdGhhc3RlLXByZXZpZXctbm90LWEtc2VjcmV0LSE=";
/// When previews are sent, and happen where the event does not say.
const SENT_AT: &str = "2026-11-20T10:00:00.000Z";
const EVENT_ID: Uuid = uuid!("019aa0c9-1a00-7000-8000-000000000001");
const LOCATION_ID: Uuid = uuid!("019aa0c9-1a00-7000-8000-000000000001");

/// An event, and a wire format to show it in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PreviewWireFormat)]
struct PreviewBody<'a> {
    /// A name, or a format as it would be made.
    #[serde(borrow)]
    #[schema(schema_with = name_or_definition)]
    format: &'a RawValue,
    #[serde(borrow)]
    #[schema(value_type = PublishBody<'a>)]
    event: Object<PublishBody<'a>>,
}

fn name_or_definition() -> RefOr<Schema> {
    let either = AnyOfBuilder::new()
        .description(Some("A name, or a format as it would be made."))
        .item(utoipa::openapi::Object::builder().schema_type(Type::String))
        .item(Definition::schema())
        .examples([serde_json::json!("standard")]);
    RefOr::T(Schema::AnyOf(either.build()))
}

/// A request as a receiver would get it.
#[derive(Serialize, ToSchema)]
#[schema(as = WireFormatPreview)]
struct Preview {
    /// Always `POST`.
    #[schema(examples("POST"))]
    method: &'static str,
    /// By name, in lower case.
    #[schema(examples(json!({"content-type": "application/json"})))]
    headers: BTreeMap<String, String>,
    /// The exact text of the body.
    #[schema(examples("{\"text\":\"hello\"}"))]
    body: String,
    signed_with: SignedWith,
}

/// What a preview is signed with, so that a receiver's code can be tried on it.
#[derive(Serialize, ToSchema)]
struct SignedWith {
    /// A signing secret that everybody knows.
    secret: &'static str,
    /// Of the secret; `null` where the format has no ed25519 signature.
    #[schema(value_type = Option<PublicKey>)]
    public_key: Option<String>,
    /// When it would have been sent.
    #[schema(value_type = Timestamp)]
    at: &'static str,
}

/// Preview a wire format
///
/// The exact request that a receiver would get for an event. Nothing is sent.
#[utoipa::path(post, path = "/v1/formats/preview", operation_id = "preview_format", tag = "Wire formats",
    security(("key" = ["read"])), request_body = PreviewBody, responses(
        (status = 200, description = "The request.", body = Preview)))]
pub async fn preview(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Once { claim, body: Body(bytes) }: Once<Body>,
) -> Result<Done, ApiError> {
    let Object(body): Object<PreviewBody<'_>> = from_bytes(&bytes)?;
    let mut work = claim.begin(&context, tenant.id).await?;
    let mut fields = Fields::default();
    let format = format(&mut work, &context.formats, tenant.id, &mut fields, body.format).await?;
    let draft = body.event.0.parse(&mut fields, "/event");
    let (format, draft) = fields.done(|| Some((format?, draft?)))?;
    if format.requires_data_object() && !draft.data.starts_with('{') {
        return Err(ApiError::invalid("/event/data", "must be an object, for this wire format"));
    }
    let sent_at = Timestamp::parse(SENT_AT).ok_or_else(|| ApiError::internal("the preview's time"))?;
    let secret = SigningSecret::parse(SECRET).map_err(ApiError::internal)?;
    let public_key = format.public_key(&secret);
    let signer = Signer::new(&format.signatures, &[secret]).map_err(ApiError::internal)?;
    let event = EventBody {
        event_type: draft.event_type.as_str().to_owned(),
        occurred_at: draft.timestamp.unwrap_or(sent_at),
        channel: draft.channel.map(|channel| channel.as_str().to_owned()),
        api_version: draft.api_version,
        live_mode: draft.live_mode,
        data: draft.data.into(),
    };
    let event_id = EventId::from_uuid(EVENT_ID);
    let location = LocationId::from_uuid(LOCATION_ID).to_string();
    let body = render(&format, event_id, &event, &tenant.id.to_string(), &location);
    let first_attempt = 1;
    let custom = CustomHeaders::default();
    let mut headers = request_headers(&custom, &signer, event_id, first_attempt, sent_at, &body);
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    let preview = Preview {
        method: "POST",
        headers: readable(&headers),
        body: String::from_utf8(body.into()).map_err(ApiError::internal)?,
        signed_with: SignedWith { secret: SECRET, public_key, at: SENT_AT },
    };
    work.commit(&context, Answer::json(StatusCode::OK, &preview)?).await
}

async fn format(
    db: &mut PgConnection,
    formats: &FormatBook,
    tenant: TenantId,
    fields: &mut Fields,
    given: &RawValue,
) -> Result<Option<Arc<Format>>, ApiError> {
    /// Of a definition that has not been stored.
    const NO_VERSION: FormatVersion = FormatVersion(0);
    if let Ok(name) = serde_json::from_str::<String>(given.get()) {
        let known = formats.named(db, tenant, &name).await?;
        return Ok(fields.take("/format", known.ok_or_else(|| "is not a wire format".to_owned())));
    }
    match from_bytes::<Object<Definition>>(given.get().as_bytes()) {
        Ok(Object(definition)) => {
            let draft = definition.parse(fields, "/format");
            Ok(draft.map(|draft| Arc::new(draft.into_format("preview".to_owned(), NO_VERSION))))
        }
        Err(ApiError::Invalid(errors)) => {
            for FieldError { pointer, detail } in errors {
                fields.wrong(format!("/format{pointer}"), detail);
            }
            Ok(None)
        }
        Err(other) => Err(other),
    }
}
