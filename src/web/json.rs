//! Request bodies: strict JSON into a type, with a pointer to what is wrong.
//!
//! Unknown and repeated fields are refused by the types (`deny_unknown_fields`), wrong types by serde; both become a 422
//! that names the field. What is repeated inside a value of free form is looked for apart (`strict`). What is not JSON at all
//! is a 400.

use std::{fmt, marker::PhantomData};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    entries::GIVEN_TWICE,
    error::{ApiError, FieldError},
};
use crate::types::{duplicates::duplicate_key, ecma_json::pointer_token};

/// Largest body of a request, but for batches.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;
/// Largest body of a batch.
pub const BATCH_BODY_MAX_BYTES: usize = 8 * 1024 * 1024;

/// A JSON body in, a JSON body out.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body: Body = Body::from_request(request, state).await?;
        strict::<Object<T>>(&body.0).map(|object| Self(object.0))
    }
}

/// A JSON array of objects in.
pub struct JsonList<T>(pub Vec<T>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonList<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body: Body = Body::from_request(request, state).await?;
        let list: Vec<Object<T>> = strict(&body.0)?;
        Ok(Self(list.into_iter().map(|object| object.0).collect()))
    }
}

/// A value that must be written as an object: serde takes an array of its fields as well.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// A JSON body that may be left out: then everything is at its default.
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_readable = readable(request.headers());
        let bytes = read_bytes(request, state, BODY_MAX_BYTES).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        is_readable?;
        strict::<Object<T>>(&bytes).map(|object| Self(object.0))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The bytes of a JSON body, for handlers that borrow from them or need them exactly. `LIMIT_BYTES` is what the route's layer
/// allows.
pub struct Body<const LIMIT_BYTES: usize = BODY_MAX_BYTES>(pub Bytes);

impl<S: Send + Sync, const LIMIT_BYTES: usize> FromRequest<S> for Body<LIMIT_BYTES> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        readable(request.headers())?;
        read_bytes(request, state, LIMIT_BYTES).await.map(Self)
    }
}

async fn read_bytes<S: Send + Sync>(
    request: Request,
    state: &S,
    limit_bytes: usize,
) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection| unread(rejection, limit_bytes))
}

/// Why the bytes of a body are not to be had.
pub fn unread(rejection: BytesRejection, limit_bytes: usize) -> ApiError {
    cut_short(rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE, limit_bytes)
}

/// A body that is longer than it may be, or that broke off.
pub fn cut_short(is_too_large: bool, limit_bytes: usize) -> ApiError {
    if is_too_large {
        ApiError::TooLarge { limit_bytes }
    } else {
        ApiError::Malformed("The body could not be read.".into())
    }
}

/// What a route takes that has no use for a body: nothing, or an object without fields.
pub struct NoBody;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        OptionalJson::<Nothing>::from_request(request, state).await.map(|_| Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
}

/// Refuses what is not JSON, or encoded in a way that the outer layer, which reads gzip, does not know.
pub fn readable(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    if is_json(headers) && !is_encoded { Ok(()) } else { Err(ApiError::UnsupportedMediaType) }
}

/// Reads a body in which no object, however deep, has a field twice.
fn strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let value = from_bytes(bytes)?;
    match duplicate_key(bytes) {
        Some(pointer) => Err(ApiError::Invalid(vec![FieldError::new(pointer, GIVEN_TWICE)])),
        None => Ok(value),
    }
}

/// Reads a body that may borrow from its bytes. What is repeated inside a `RawValue` or a map is not noticed.
pub fn from_bytes<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ApiError> {
    // The plain way first: paths cost time on the way to every publish, and only errors need them.
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        Err(_) => Err(explain::<T>(bytes)),
    }
}

fn explain<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> ApiError {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let error = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => return ApiError::Malformed("The body has text after its JSON value.".into()),
        Err(error) => error,
    };
    let mut pointer = pointer_of(error.path());
    let inner = error.into_inner();
    // What is wrong with a field is of no interest in a text that turns out not to be JSON.
    if std::str::from_utf8(bytes).is_err() {
        return ApiError::Malformed("The body is not valid UTF-8.".into());
    }
    if let Err(syntax) = serde_json::from_slice::<IgnoredAny>(bytes) {
        return ApiError::Malformed(format!("The body is not valid JSON: {syntax}.").into());
    }
    // It is JSON, so what can't be read of it is one field's: half a character, a number beyond all bounds, lists in lists.
    let text = inner.to_string();
    // serde_json adds the place in the text; the pointer says it better.
    let detail = text.rsplit_once(" at line ").map_or(&*text, |(detail, _)| detail);
    // For these the path may stop at the object; the message names the field.
    for (start, plain) in [
        ("unknown field `", "is not a known field"),
        ("duplicate field `", GIVEN_TWICE),
        ("missing field `", "is required"),
    ] {
        if let Some(name) = detail.strip_prefix(start).and_then(|rest| rest.split('`').next()) {
            let segment = format!("/{}", pointer_token(name));
            if !pointer.ends_with(&segment) || plain == "is required" {
                pointer.push_str(&segment);
            }
            return ApiError::Invalid(vec![FieldError::new(pointer, plain)]);
        }
    }
    ApiError::Invalid(vec![FieldError::new(pointer, plain(detail))])
}

/// What serde says of a value, in words of JSON rather than of Rust, and without the caller's own text, which may be a secret in
/// the wrong place.
fn plain(detail: &str) -> String {
    if detail == GIVEN_TWICE {
        return detail.to_owned();
    }
    let is_of_value = ["invalid type: ", "invalid value: ", "unknown variant `"]
        .iter()
        .any(|start| detail.starts_with(start));
    if !is_of_value {
        return format!("is not valid: {detail}");
    }
    // The last one: the first may be in the text.
    let Some((_, expected)) = detail.rsplit_once(", expected ") else { return "is not valid".into() };
    let is_integer = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "usize"].contains(&expected);
    match expected {
        _ if is_integer && detail.starts_with("invalid value: ") => "is out of range".into(),
        _ if is_integer => "must be a whole number".into(),
        "a boolean" => "must be true or false".into(),
        "a sequence" => "must be an array".into(),
        "a map" => "must be an object".into(),
        // Of an enum's words.
        "string or map" => "must be a string".into(),
        other => format!("must be {other}"),
    }
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", pointer_token(key))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// A field of a merge patch (RFC 7396): left out, set to null, or set.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}

/// Ids and words in the path. One that does not parse names nothing: 404.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(value)| Self(value)).map_err(|_| ApiError::NotFound)
    }
}

/// Query parameters. Unknown or ill-formed ones are a 400.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|axum::extract::Query(value)| Self(value)).map_err(|rejection| {
            ApiError::Malformed(format!("A query parameter is not valid: {}.", rejection.body_text()).into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only parsed")]
        n: u8,
        #[expect(dead_code, reason = "only parsed")]
        word: Option<Word>,
    }

    #[derive(Deserialize)]
    enum Word {
        A,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer<'a> {
        #[expect(dead_code, reason = "only parsed")]
        name: String,
        #[expect(dead_code, reason = "only parsed")]
        list: Vec<Object<Inner>>,
        #[serde(borrow)]
        data: Option<&'a serde_json::value::RawValue>,
    }

    fn pointer(body: &str) -> (String, String) {
        match from_bytes::<Object<Outer<'_>>>(body.as_bytes()).map(|object| object.0) {
            Err(ApiError::Invalid(errors)) => (errors[0].pointer.clone(), errors[0].detail.clone()),
            other => panic!("{body}: {:?}", other.err()),
        }
    }

    #[test]
    fn every_refusal_points_at_its_field() {
        for (body, expected) in [
            (r#"{"name":1,"list":[]}"#, "/name"),
            (r#"{"list":[]}"#, "/name"),
            (r#"{"name":"a","list":[{"n":1},{"n":256}]}"#, "/list/1/n"),
            (r#"{"name":"a","list":[{}]}"#, "/list/0/n"),
            (r#"{"name":"a","list":[{"n":1,"m/n":2}]}"#, "/list/0/m~1n"),
            (r#"{"name":"a","nome":"b","list":[]}"#, "/nome"),
            (r#"{"name":"a","name":"b","list":[]}"#, "/name"),
            (r#"{"name":"a","list":[{"n":1,"word":{"B":1}}]}"#, "/list/0/word"),
            (r#"{"name":"a","list":[{"n":1,"word":1}]}"#, "/list/0/word"),
            (r#"{"name":"a","list":{}}"#, "/list"),
            (r#"["a",[]]"#, ""),
            (r#"{"name":"a","list":[[1]]}"#, "/list/0"),
            (r#""text""#, ""),
        ] {
            assert_eq!(pointer(body).0, expected, "{body}: {}", pointer(body).1);
        }
    }

    #[test]
    fn a_refusal_speaks_json() {
        for (body, expected) in [
            (r#"{"name":1,"list":[]}"#, "must be a string"),
            (r#"{"name":null,"list":[]}"#, "must be a string"),
            (r#"{"name":"a","list":{}}"#, "must be an array"),
            (r#"{"name":"a","list":[1]}"#, "must be an object"),
            (r#"{"name":"a","list":[{"n":", expected u9"}]}"#, "must be a whole number"),
            (r#"{"name":"a","list":[{"n":", expected u9 at line 5"}]}"#, "must be a whole number"),
            (r#"{"name":"a","list":[{"n":1.5}]}"#, "must be a whole number"),
            (r#"{"name":"a","list":[{"n":256}]}"#, "is out of range"),
            (r#"{"name":"a","list":[{"n":1,"word":"B"}]}"#, "must be `A`"),
        ] {
            assert_eq!(pointer(body).1, expected, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in [
            "",
            "{",
            "nope",
            "{\"name\":\"a\",\"list\":[]} x",
            "{\"name\":1} x",
            "{\"nome\":1",
            "{\"name\":\"\u{1}\",\"list\":[]}",
        ] {
            let error = from_bytes::<Object<Outer<'_>>>(body.as_bytes()).err().unwrap();
            assert!(matches!(error, ApiError::Malformed(_)), "{body}: {error:?}");
        }
    }

    #[test]
    fn raw_data_is_borrowed_as_it_is() {
        let body = br#"{"name":"a","list":[],"data":{"b": 1e3, "a":[ ]}}"#;
        let Object(outer): Object<Outer<'_>> = from_bytes(body).ok().unwrap();
        assert_eq!(outer.data.map(serde_json::value::RawValue::get), Some(r#"{"b": 1e3, "a":[ ]}"#));
    }
}
