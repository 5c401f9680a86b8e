//! Timestamps as Posthaste writes them: RFC 3339, UTC, `Z`, with milliseconds or whole seconds.
//!
//! Digits by hand, since every rendered body and API answer has some. Finer parts are cut off, never rounded: a
//! rounded time could lie in the future. RFC 3339 knows the years 0 to 9999; what lies outside is clamped.

use time::{OffsetDateTime, UtcOffset};

pub const SECONDS_LEN: usize = "2026-11-20T10:00:00Z".len();
pub const MILLIS_LEN: usize = "2026-11-20T10:00:00.000Z".len();

/// Appends `2026-11-20T10:00:00Z`.
pub fn push_seconds(out: &mut Vec<u8>, at: OffsetDateTime) {
    out.extend_from_slice(&millis(at)[..SECONDS_LEN - 1]);
    out.push(b'Z');
}

/// Appends `2026-11-20T10:00:00.000Z`.
pub fn push_millis(out: &mut Vec<u8>, at: OffsetDateTime) {
    out.extend_from_slice(&millis(at));
}

fn millis(at: OffsetDateTime) -> [u8; MILLIS_LEN] {
    let Some(at) = at.checked_to_offset(UtcOffset::UTC) else {
        // Only the very last or first hours that an offset can reach.
        return if at.year() > 0 { *LAST } else { *FIRST };
    };
    match at.year() {
        ..0 => return *FIRST,
        10_000.. => return *LAST,
        _ => {}
    }
    let mut text = *b"0000-00-00T00:00:00.000Z";
    put(&mut text[0..4], at.year().unsigned_abs());
    put(&mut text[5..7], u32::from(u8::from(at.month())));
    put(&mut text[8..10], u32::from(at.day()));
    put(&mut text[11..13], u32::from(at.hour()));
    put(&mut text[14..16], u32::from(at.minute()));
    put(&mut text[17..19], u32::from(at.second()));
    put(&mut text[20..23], u32::from(at.millisecond()));
    text
}

const FIRST: &[u8; MILLIS_LEN] = b"0000-01-01T00:00:00.000Z";
const LAST: &[u8; MILLIS_LEN] = b"9999-12-31T23:59:59.999Z";

fn put(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::format_description::well_known::Rfc3339;
    use time::macros::datetime;

    use super::*;

    fn both(at: OffsetDateTime) -> (String, String) {
        let (mut with_millis, mut whole) = (Vec::new(), Vec::new());
        push_millis(&mut with_millis, at);
        push_seconds(&mut whole, at);
        let text = |bytes| String::from_utf8(bytes).expect("ASCII");
        (text(with_millis), text(whole))
    }

    #[test]
    fn is_utc_and_cut_off() {
        let (with_millis, whole) = both(datetime!(2026-11-20 12:00:09.987_999 +02:00));
        assert_eq!(with_millis, "2026-11-20T10:00:09.987Z");
        assert_eq!(whole, "2026-11-20T10:00:09Z");
    }

    #[test]
    fn is_clamped_to_four_digit_years() {
        assert_eq!(both(datetime!(9999-12-31 23:30:00 -01:00)).1, "9999-12-31T23:59:59Z");
        assert_eq!(both(datetime!(-0001-06-01 0:00 UTC)).0, "0000-01-01T00:00:00.000Z");
        assert_eq!(both(datetime!(-9999-01-01 0:30 +01:00)).0, "0000-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn agrees_with_the_time_crate(seconds in -62_167_219_200_i64..253_402_300_800, ms in 0_i64..1_000) {
            let at = OffsetDateTime::from_unix_timestamp(seconds).expect("in range");
            let at = at + time::Duration::milliseconds(ms);
            let parsed = OffsetDateTime::parse(&both(at).0, &Rfc3339).expect("RFC 3339");
            prop_assert_eq!(parsed, at);
        }
    }
}
