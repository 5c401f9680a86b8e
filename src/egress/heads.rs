//! Watches what an HTTP/1 receiver sends before its final response head: interim responses, counted and measured.
//!
//! It follows the bytes only until the status line of the final response, of which ten bytes are enough. How large that
//! head may be is hyper's to say.

use super::response::MAX_HEAD_BYTES;
use super::wire::Flood;

/// Interim responses (1xx) before the final one. Honest receivers send one or two.
pub(super) const MAX_INTERIM_RESPONSES: u32 = 32;

/// Where the first digit of the status is: after `HTTP/1.1 `.
const STATUS_AT: usize = 9;

#[derive(Debug, Default)]
pub(super) struct HeadWatch {
    at: At,
    interim: u32,
    bytes: usize,
}

#[derive(Debug)]
enum At {
    /// So many bytes of a status line have passed.
    StatusLine(usize),
    /// Within an interim response; so many of the line feeds that end it have passed.
    Interim { line_feeds: u8 },
    /// The final response.
    Final,
}

impl Default for At {
    fn default() -> At {
        At::StatusLine(0)
    }
}

impl HeadWatch {
    pub(super) fn see(&mut self, bytes: &[u8]) -> Option<Flood> {
        for &byte in bytes {
            self.at = match self.at {
                At::Final => return None,
                // Empty lines before a status line are let pass, as hyper does.
                At::StatusLine(0) if matches!(byte, b'\r' | b'\n') => At::StatusLine(0),
                At::StatusLine(STATUS_AT) if byte == b'1' => At::Interim { line_feeds: 0 },
                At::StatusLine(STATUS_AT) => At::Final,
                At::StatusLine(seen) => At::StatusLine(seen + 1),
                At::Interim { line_feeds } => match (byte, line_feeds) {
                    (b'\n', 1) => {
                        self.interim += 1;
                        At::StatusLine(0)
                    }
                    (b'\n', _) => At::Interim { line_feeds: 1 },
                    (b'\r', line_feeds) => At::Interim { line_feeds },
                    _ => At::Interim { line_feeds: 0 },
                },
            };
            self.bytes += 1;
            if self.interim > MAX_INTERIM_RESPONSES {
                return Some(Flood::Interim);
            }
            if self.bytes > MAX_HEAD_BYTES {
                return Some(if self.interim > 0 { Flood::Interim } else { Flood::Head });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";

    fn see_in_pieces(bytes: &[u8], piece: usize) -> Option<Flood> {
        let mut watch = HeadWatch::default();
        bytes.chunks(piece).find_map(|piece| watch.see(piece))
    }

    proptest! {
        #[test]
        fn a_few_interim_responses_pass_and_more_are_a_flood_however_they_are_cut(piece in 1..200_usize, more in 1..50_usize) {
            let few = HINT.repeat(MAX_INTERIM_RESPONSES as usize) + OK;
            let body = "1".repeat(2 * MAX_HEAD_BYTES);
            prop_assert_eq!(see_in_pieces((few + &body).as_bytes(), piece), None);
            let flood = HINT.repeat(MAX_INTERIM_RESPONSES as usize + more) + OK;
            prop_assert_eq!(see_in_pieces(flood.as_bytes(), piece), Some(Flood::Interim));
        }

        #[test]
        fn long_interim_responses_are_a_flood(size in MAX_HEAD_BYTES..2 * MAX_HEAD_BYTES, piece in 1..5_000_usize) {
            let long = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nlink: {}\r\n\r\n", "z".repeat(size));
            prop_assert_eq!(see_in_pieces(long.as_bytes(), piece), Some(Flood::Interim));
        }
    }

    #[test]
    fn empty_lines_without_end_are_a_flood() {
        assert_eq!(see_in_pieces(&b"\r\n".repeat(MAX_HEAD_BYTES), 1_000), Some(Flood::Head));
    }
}
