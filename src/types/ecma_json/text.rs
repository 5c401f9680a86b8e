//! String escapes, exactly those of `JSON.stringify`: quote, backslash and what is below U+0020; all else as UTF-8.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Whether a byte stands for itself inside a JSON string.
pub(super) const fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Appends `text` as a JSON string, quotes included.
pub fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(special) = rest.iter().position(|&byte| !is_plain(byte)) {
        out.extend_from_slice(&rest[..special]);
        push_escaped(out, rest[special]);
        rest = &rest[special + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// How many bytes [`push_quoted`] appends.
pub fn quoted_len(text: &str) -> usize {
    text.bytes().map(escaped_len).sum::<usize>() + 2
}

/// Appends one character of a string's value.
pub(super) fn push_char(out: &mut Vec<u8>, character: char) {
    match u8::try_from(character) {
        Ok(byte) if !is_plain(byte) => push_escaped(out, byte),
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// The letter of a two-character escape.
const fn short_escape(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        0x08 => Some(b'b'),
        b'\t' => Some(b't'),
        b'\n' => Some(b'n'),
        0x0c => Some(b'f'),
        b'\r' => Some(b'r'),
        _ => None,
    }
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    match short_escape(byte) {
        Some(letter) => out.extend_from_slice(&[b'\\', letter]),
        None => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    }
}

fn escaped_len(byte: u8) -> usize {
    match byte {
        _ if is_plain(byte) => 1,
        _ if short_escape(byte).is_some() => 2,
        _ => 6,
    }
}
