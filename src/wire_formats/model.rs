//! What a wire format looks like, and what may be said of one.

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::queries::Stored;
use crate::{
    formats::{
        DEFAULT_RETRY_SCHEDULE_S, DEFAULT_TIMEOUT_MS, Envelope, Format, FormatName, FormatVersion,
        MAX_SIGNATURES, SuccessRule, check_retry_schedule_s, check_timeout_ms,
    },
    signing::{SignatureSpec, SpecText},
    types::Timestamp,
    web::{fields::Fields, json::Object},
};

/// A wire format, and where it is from.
#[derive(Serialize, ToSchema)]
#[schema(as = WireFormat)]
pub struct FormatView {
    #[serde(flatten)]
    #[schema(value_type = Format, inline)]
    pub format: Arc<Format>,
    /// Part of the program, the same for everybody, and not to be changed.
    pub built_in: bool,
    /// `null`: always there.
    pub created_at: Option<Timestamp>,
    /// When its current version was made.
    pub updated_at: Option<Timestamp>,
}

impl FormatView {
    pub fn built_in(format: &Arc<Format>) -> Self {
        Self { format: Arc::clone(format), built_in: true, created_at: None, updated_at: None }
    }

    pub fn own(format: Arc<Format>, stored: &Stored) -> Self {
        let (created_at, updated_at) = (Some(stored.created_at), Some(stored.updated_at));
        Self { format, built_in: false, created_at, updated_at }
    }
}

/// A wire format to be made, or to take the place of one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DefineWireFormat)]
pub struct Definition {
    /// What endpoints call it. Needed to make one; to replace one, it is in the path.
    #[schema(value_type = Option<FormatName>)]
    pub name: Option<String>,
    #[schema(value_type = Envelope)]
    envelope: Box<RawValue>,
    /// Signature headers that each request carries, each with a name of its own.
    #[schema(value_type = Vec<SpecText>, min_items = 1, max_items = 8)]
    signatures: Vec<Object<SpecText>>,
    /// Without it: `2xx`.
    success: Option<SuccessRule>,
    /// How long an attempt may take, in milliseconds.
    #[schema(minimum = 1000, maximum = 30000, default = 10000)]
    timeout_ms: Option<u32>,
    /// Seconds from each failure to the next attempt, 7 days together at most. Without it: 10, 60, 300.
    #[schema(max_items = 15, examples(10))]
    retry_schedule_s: Option<Vec<u32>>,
    /// Endpoints may have http:// URLs. Only the operator turns it on.
    #[schema(default = false)]
    allow_http: Option<bool>,
    /// 429 and 503 with Retry-After postpone the next attempt.
    #[schema(default = true)]
    honor_retry_after: Option<bool>,
    /// 410 disables the endpoint.
    #[schema(default = true)]
    disable_on_410: Option<bool>,
}

/// A format that is fit to be stored, but for its name and number.
pub struct Draft {
    envelope: Envelope,
    signatures: Vec<SignatureSpec>,
    success: SuccessRule,
    timeout_ms: u32,
    retry_schedule_s: Vec<u32>,
    pub allow_http: bool,
    honor_retry_after: bool,
    disable_on_410: bool,
}

impl Definition {
    /// Notes what is wrong below `at`, which is empty or a pointer such as `/format`.
    pub fn parse(self, fields: &mut Fields, at: &str) -> Option<Draft> {
        let envelope = match Envelope::parse(self.envelope.get()) {
            Ok(envelope) => Some(envelope),
            Err(error) => {
                fields.wrong(format!("{at}/envelope{}", error.pointer), error.detail);
                None
            }
        };
        let signatures = signatures(fields, at, self.signatures);
        let timeout_ms = self.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
        let timeout_ms = fields.take(
            format!("{at}/timeout_ms"),
            check_timeout_ms(timeout_ms).map(|()| timeout_ms).map_err(|_| "must be 1000 to 30000".into()),
        );
        let schedule_s = self.retry_schedule_s.unwrap_or_else(|| DEFAULT_RETRY_SCHEDULE_S.to_vec());
        let told = "must have at most 15 steps of 1 s or more, 7 days together";
        let schedule_s = fields.take(
            format!("{at}/retry_schedule_s"),
            check_retry_schedule_s(&schedule_s).map(|()| schedule_s).map_err(|_| told.into()),
        );
        Some(Draft {
            envelope: envelope?,
            signatures: signatures?,
            success: self.success.unwrap_or_default(),
            timeout_ms: timeout_ms?,
            retry_schedule_s: schedule_s?,
            allow_http: self.allow_http.unwrap_or(false),
            honor_retry_after: self.honor_retry_after.unwrap_or(true),
            disable_on_410: self.disable_on_410.unwrap_or(true),
        })
    }
}

fn signatures(fields: &mut Fields, at: &str, texts: Vec<Object<SpecText>>) -> Option<Vec<SignatureSpec>> {
    let count = texts.len();
    if !(1..=MAX_SIGNATURES).contains(&count) {
        fields.wrong(format!("{at}/signatures"), format!("must have 1 to {MAX_SIGNATURES} headers"));
        return None;
    }
    let (mut specs, mut headers) = (Vec::with_capacity(count), HashSet::new());
    for (place, Object(text)) in texts.into_iter().enumerate() {
        match SignatureSpec::parse(text) {
            Ok(spec) if !headers.insert(spec.header().clone()) => {
                fields.wrong(format!("{at}/signatures/{place}/header"), "is given twice");
            }
            Ok(spec) => specs.push(spec),
            Err(errors) => {
                for wrong in errors {
                    let pointer = format!("{at}/signatures/{place}/{}", wrong.field);
                    fields.wrong(pointer, format!("is not valid: {}", wrong.error));
                }
            }
        }
    }
    for (place, spec) in specs.iter().enumerate() {
        if spec.timestamp_header().is_some_and(|header| headers.contains(header)) {
            fields.wrong(
                format!("{at}/signatures/{place}/timestamp_header"),
                "is a signature's header already",
            );
        }
    }
    (specs.len() == count).then_some(specs)
}

impl Draft {
    pub fn into_format(self, name: String, version: FormatVersion) -> Format {
        Format {
            name,
            version,
            envelope: self.envelope,
            signatures: self.signatures,
            success: self.success,
            timeout_ms: self.timeout_ms,
            retry_schedule_s: self.retry_schedule_s,
            allow_http: self.allow_http,
            honor_retry_after: self.honor_retry_after,
            disable_on_410: self.disable_on_410,
        }
    }
}
