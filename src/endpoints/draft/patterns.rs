//! Which subscriptions an endpoint may have.

use crate::{endpoints::queries::TenantSettings, types::event_type::Pattern, web::fields::Fields};

/// Patterns of one endpoint.
pub const EVENT_TYPES_MAX: usize = 100;

/// A set of subscriptions: at least one, none twice, each of something that the tenant can get. `member` follows the index
/// in the pointer of a wrong one.
pub fn check_patterns(
    fields: &mut Fields,
    (pointer, member): (&str, &str),
    texts: &[String],
    // Subscriptions that the endpoint has: they stay good when their type is archived.
    already: &[String],
    tenant: &TenantSettings,
) -> Option<Vec<Pattern>> {
    if texts.is_empty() {
        fields.wrong(pointer, "must name at least one event type");
        return None;
    }
    if texts.len() > EVENT_TYPES_MAX {
        fields.wrong(pointer, format!("must name at most {EVENT_TYPES_MAX} event types"));
        return None;
    }
    let mut patterns: Vec<Pattern> = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let pattern = Pattern::parse(text.as_str()).map_err(|error| error.to_string()).and_then(|pattern| {
            if patterns.contains(&pattern) {
                Err("is given twice".to_owned())
            } else if already.contains(text) {
                Ok(pattern)
            } else {
                check_new_pattern(&pattern, tenant).map(|()| pattern)
            }
        });
        patterns.extend(fields.take(format!("{pointer}/{at}{member}"), pattern));
    }
    (patterns.len() == texts.len()).then_some(patterns)
}

/// Whether the tenant can get anything by a new subscription to this pattern.
pub fn check_new_pattern(pattern: &Pattern, tenant: &TenantSettings) -> Result<(), String> {
    if tenant.catalogue.is_archived(pattern.as_str()) {
        return Err("is archived, and takes no new subscriptions".to_owned());
    }
    let is_free = tenant.allow_unknown_event_types && !pattern.is_operational();
    if is_free || tenant.catalogue.offers(pattern) {
        Ok(())
    } else {
        Err("is not an event type of this tenant".to_owned())
    }
}
