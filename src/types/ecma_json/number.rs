//! JSON number literals to ECMAScript number text.

use super::{Fault, Refusal, Step};

/// Every integer of so many digits is below 2^53, and ECMAScript prints it as it stands.
const ALWAYS_EXACT_DIGITS: usize = 15;

/// How much of an offending literal is shown.
const MAX_SHOWN_CHARS: usize = 40;

/// A literal that the grammar has been checked on.
pub(super) struct Literal<'a> {
    pub text: &'a str,
    /// Digits of the integer part.
    pub integer_digits: usize,
    /// Neither fraction nor exponent.
    pub is_integer: bool,
}

pub(super) fn push_number(out: &mut Vec<u8>, literal: &Literal<'_>) -> Step {
    let text = literal.text;
    if literal.is_integer && literal.integer_digits <= ALWAYS_EXACT_DIGITS {
        // Negative zero is the one short integer that changes.
        out.extend_from_slice(if text == "-0" { b"0" } else { text.as_bytes() });
        return Ok(());
    }
    let value: f64 = text.parse().expect("JSON numbers are a subset of what f64 parses");
    if value.is_infinite() {
        let detail = format!("the number {} is too large for a double; send it as a string", shown(text));
        return Err(Fault::new(Refusal::NumberOverflow, detail));
    }
    // `{:.0}` prints every digit of the double's exact value.
    if literal.is_integer && format!("{value:.0}") != text {
        let detail = format!("a double can't hold the integer {} exactly; send it as a string", shown(text));
        return Err(Fault::new(Refusal::InexactInteger, detail));
    }
    out.extend_from_slice(ryu_js::Buffer::new().format_finite(value).as_bytes());
    Ok(())
}

fn shown(literal: &str) -> String {
    match literal.get(..MAX_SHOWN_CHARS) {
        Some(head) if literal.len() > MAX_SHOWN_CHARS => format!("{head}…"),
        _ => literal.to_owned(),
    }
}
