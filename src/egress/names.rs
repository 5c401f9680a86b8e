//! Which host names may be looked up at all.
//!
//! Names are only the first gate: what they resolve to is judged at every attempt. This one gives a
//! clear answer while an endpoint is being saved, and keeps names that mean something inside our own
//! network away from its resolver. `localhost` stays refused whatever the operator allows: it means
//! two addresses, and the literal (`127.0.0.1`) says which.

use super::url::UrlRefusal;

/// Longest name in DNS, without the final dot.
const MAX_NAME_BYTES: usize = 253;
/// Longest label in DNS.
const MAX_LABEL_BYTES: usize = 63;

/// Names, and everything below them, that mean "in here": reserved (RFC 6761, RFC 6762, RFC 8375, ICANN)
/// or common in private networks. Reserved names that resolve nowhere (`.invalid`, `.test`) are left to
/// DNS, which says so.
const INSIDE: &[&str] = &[
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
    "svc",
];

/// Judges a name as the URL parser leaves it: lower case, punycode.
pub(super) fn judge(name: &str) -> Result<(), UrlRefusal> {
    let bare = name.strip_suffix('.').unwrap_or(name);
    if is_inside(bare) {
        return Err(UrlRefusal::ReservedName);
    }
    if bare.len() != name.len() {
        return Err(UrlRefusal::TrailingDot);
    }
    if bare.len() > MAX_NAME_BYTES || !bare.split('.').all(is_label) {
        return Err(UrlRefusal::Malformed);
    }
    if !bare.contains('.') {
        return Err(UrlRefusal::SingleLabel);
    }
    Ok(())
}

fn is_inside(name: &str) -> bool {
    INSIDE.iter().any(|inside| match name.strip_suffix(inside) {
        Some(rest) => rest.is_empty() || rest.ends_with('.'),
        None => false,
    })
}

/// Letters, digits and inner hyphens; underscores occur in real host names.
fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}
