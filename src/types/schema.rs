//! How the small types look in the API's reference: their schema stands beside their rule, as its constants.

use utoipa::openapi::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};

/// Gives a type a schema of its own, under a name that the whole reference refers to.
macro_rules! described {
    ($type:ty, $name:expr, $schema:expr) => {
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $schema.into()
            }
        }
        impl utoipa::ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
        }
    };
}
pub(crate) use described;

/// A text with a description and an example.
pub fn text(description: &str, example: &str) -> ObjectBuilder {
    Object::builder().schema_type(Type::String).description(Some(description)).examples([example])
}

/// One of some words; the first is the example.
pub fn words<'a>(description: &str, words: impl IntoIterator<Item = &'a str>) -> Object {
    let words: Vec<&str> = words.into_iter().collect();
    Object::builder()
        .schema_type(Type::String)
        .description(Some(description))
        .examples(words.first().copied())
        .enum_values(Some(words))
        .build()
}

/// A time as callers give it.
pub struct GivenTime;

described!(
    GivenTime,
    "GivenTime",
    text(
        "A time of RFC 3339, with any offset, from 1970 on. Cut to milliseconds.",
        "2026-11-20T10:00:00.000Z"
    )
    .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
    .pattern(Some("^(19[7-9][0-9]|[2-9][0-9]{3})-"))
);
