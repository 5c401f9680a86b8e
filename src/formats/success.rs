//! Which status codes mean that a delivery has arrived.

use serde::{Deserialize, Serialize};
use utoipa::openapi::{ArrayBuilder, Object, Type, schema::AnyOfBuilder};

use crate::types::schema::described;

const ANY_2XX: &str = "2xx";
/// Longest list of codes.
const MAX_STATUSES: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "success is \"2xx\" or a list of 1 to {MAX_STATUSES} status codes from 200 to 599, without redirects (3xx)"
)]
pub struct SuccessError;

/// `"2xx"`, or a list like `[200]`. A redirect is never a success, and never followed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "SuccessText", into = "SuccessText")]
pub enum SuccessRule {
    #[default]
    Any2xx,
    Statuses(Box<[u16]>),
}

described!(
    SuccessRule,
    "SuccessRule",
    AnyOfBuilder::new()
        .description(Some(
            "Which answers mean that a delivery has arrived: `2xx`, or a list of status codes."
        ))
        .item(Object::builder().schema_type(Type::String).enum_values(Some([ANY_2XX])))
        .item(
            ArrayBuilder::new()
                .items(Object::builder().schema_type(Type::Integer).minimum(Some(200)).maximum(Some(599)))
                .min_items(Some(1))
                .max_items(Some(MAX_STATUSES)),
        )
        .examples([ANY_2XX])
);

impl SuccessRule {
    pub fn accepts(&self, status: u16) -> bool {
        match self {
            Self::Any2xx => (200..300).contains(&status),
            Self::Statuses(statuses) => statuses.contains(&status),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "success is \"2xx\" or a list of statuses")]
enum SuccessText {
    Word(String),
    Statuses(Vec<u16>),
}

impl TryFrom<SuccessText> for SuccessRule {
    type Error = SuccessError;

    fn try_from(text: SuccessText) -> Result<Self, SuccessError> {
        match text {
            SuccessText::Word(word) if word == ANY_2XX => Ok(Self::Any2xx),
            SuccessText::Statuses(statuses) if is_valid(&statuses) => Ok(Self::Statuses(statuses.into())),
            _ => Err(SuccessError),
        }
    }
}

impl From<SuccessRule> for SuccessText {
    fn from(rule: SuccessRule) -> Self {
        match rule {
            SuccessRule::Any2xx => Self::Word(ANY_2XX.to_owned()),
            SuccessRule::Statuses(statuses) => Self::Statuses(statuses.into()),
        }
    }
}

fn is_valid(statuses: &[u16]) -> bool {
    (1..=MAX_STATUSES).contains(&statuses.len())
        && statuses.iter().all(|status| matches!(status, 200..=299 | 400..=599))
}
