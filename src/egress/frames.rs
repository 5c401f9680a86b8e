//! Watches the frames of an HTTP/2 receiver: header blocks that don't end, or are too many.
//!
//! Blocks aren't decoded, so an interim response can't be told from a final one. But each request gets one final head and
//! at most one block of trailers: whatever comes beyond that is interim.

use super::heads::MAX_INTERIM_RESPONSES;
use super::response::MAX_HEAD_BYTES;
use super::wire::Flood;

const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;
/// A final head and trailers.
const BLOCKS_PER_REQUEST: u32 = 2;

#[derive(Debug, Default)]
pub(super) struct FrameWatch {
    header: [u8; FRAME_HEADER_BYTES],
    /// Bytes of the frame's header that have come.
    have: usize,
    /// Bytes of the frame's payload to come.
    left: usize,
    /// Of the header block under way; 0: there is none.
    block_bytes: usize,
    blocks: u32,
}

impl FrameWatch {
    /// Whether a header block has begun and not ended.
    pub(super) fn in_head(&self) -> bool {
        self.block_bytes > 0
    }

    /// `requests`: as many as were sent on this connection.
    pub(super) fn see(&mut self, mut bytes: &[u8], requests: u32) -> Option<Flood> {
        while !bytes.is_empty() {
            if self.have < FRAME_HEADER_BYTES {
                let wanted = (FRAME_HEADER_BYTES - self.have).min(bytes.len());
                self.header[self.have..self.have + wanted].copy_from_slice(&bytes[..wanted]);
                self.have += wanted;
                bytes = &bytes[wanted..];
                if self.have < FRAME_HEADER_BYTES {
                    return None;
                }
                let [a, b, c, kind, ..] = self.header;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                if kind == HEADERS {
                    self.blocks += 1;
                }
                if self.carries_headers() {
                    self.block_bytes += FRAME_HEADER_BYTES + self.left;
                }
            }
            let payload = self.left.min(bytes.len());
            self.left -= payload;
            bytes = &bytes[payload..];
            if self.left == 0 {
                if self.carries_headers() && self.header[4] & END_HEADERS != 0 {
                    self.block_bytes = 0;
                }
                self.have = 0;
            }
            if self.block_bytes > MAX_HEAD_BYTES {
                return Some(Flood::Head);
            }
            if self.blocks > requests.saturating_mul(BLOCKS_PER_REQUEST).saturating_add(MAX_INTERIM_RESPONSES)
            {
                return Some(Flood::Interim);
            }
        }
        None
    }

    fn carries_headers(&self) -> bool {
        matches!(self.header[3], HEADERS | CONTINUATION)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(payload).expect("short").to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        frame.resize(FRAME_HEADER_BYTES + payload, 1);
        frame
    }

    proptest! {
        #[test]
        fn heads_begin_and_end_however_the_bytes_are_cut(piece in 1..50_usize, payload in 0..100_usize) {
            let mut watch = FrameWatch::default();
            let mut see = |bytes: Vec<u8>| {
                let flood = bytes.chunks(piece).find_map(|piece| watch.see(piece, 1));
                (flood, watch.in_head())
            };
            prop_assert_eq!(see(frame(4, 0, payload)), (None, false));
            prop_assert_eq!(see(frame(HEADERS, 0, payload)), (None, true));
            prop_assert_eq!(see(frame(CONTINUATION, 0, payload)), (None, true));
            prop_assert_eq!(see(frame(CONTINUATION, END_HEADERS, payload)), (None, false));
            prop_assert_eq!(see(frame(0, 1, payload)), (None, false));
            prop_assert_eq!(see(frame(HEADERS, END_HEADERS, payload + 1)[..FRAME_HEADER_BYTES].to_vec()), (None, true));
        }
    }

    #[test]
    fn blocks_without_end_and_too_many_are_floods() {
        let mut watch = FrameWatch::default();
        assert_eq!(watch.see(&frame(HEADERS, 0, 10_000), 1), None);
        let endless = (0..10).find_map(|_| watch.see(&frame(CONTINUATION, 0, 10_000), 1));
        assert_eq!(endless, Some(Flood::Head));

        let mut watch = FrameWatch::default();
        let honest = MAX_INTERIM_RESPONSES + BLOCKS_PER_REQUEST;
        assert!((0..honest).all(|_| watch.see(&frame(HEADERS, END_HEADERS, 1), 1).is_none()));
        assert_eq!(watch.see(&frame(HEADERS, END_HEADERS, 1), 1), Some(Flood::Interim));
    }
}
