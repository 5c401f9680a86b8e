//! What is kept of a response: status, some headers, the beginning of the body.
//!
//! The status line decides about a delivery. Once it is here nothing that the receiver does with its body is
//! an error: one that stalls, breaks off or never ends is an excerpt with `truncated` set. Bodies are raw
//! bytes as received: compression is neither asked for nor undone.

use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::failure::{self, SendError};

/// Body bytes kept. The connection is dropped when there are more.
pub const MAX_EXCERPT_BYTES: usize = 16 * 1024;
/// Response headers, names and values together, above which the response is refused.
pub const MAX_HEAD_BYTES: u32 = 64 * 1024;
/// Response headers kept.
pub const MAX_KEPT_HEADERS: usize = 64;
/// Bytes of response headers kept, names and values together.
pub const MAX_KEPT_HEADER_BYTES: usize = 8 * 1024;

/// Any HTTP response, redirects and server errors included.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// At most [`MAX_KEPT_HEADERS`] and [`MAX_KEPT_HEADER_BYTES`]; what doesn't fit is left out.
    pub headers: HeaderMap,
    /// At most [`MAX_EXCERPT_BYTES`].
    pub body: Bytes,
    /// The receiver's body was longer, or its end never came.
    pub truncated: bool,
}

impl Response {
    /// Reads what is kept, until `deadline` at the latest. Dropping the rest ends the connection (h1) or
    /// the stream (h2).
    pub(super) async fn read(mut from: reqwest::Response, deadline: Instant) -> Result<Response, SendError> {
        let status = from.status().as_u16();
        let headers = keep_headers(std::mem::take(from.headers_mut()))?;
        let mut excerpt = Excerpt::default();
        let truncated = loop {
            match timeout_at(deadline, from.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    if !excerpt.push(chunk) {
                        break true;
                    }
                }
                Ok(Ok(None)) => break false,
                Ok(Err(_)) | Err(_) => break true,
            }
        };
        Ok(Response { status, headers, body: excerpt.finish(), truncated })
    }
}

/// The usual response is one small chunk: it is kept as it came, without a copy.
#[derive(Default)]
struct Excerpt {
    first: Bytes,
    more: BytesMut,
}

impl Excerpt {
    /// False if there was more than fits.
    fn push(&mut self, mut chunk: Bytes) -> bool {
        let room = MAX_EXCERPT_BYTES - self.first.len().max(self.more.len());
        let fits = chunk.len() <= room;
        if !fits {
            // A copy, so that a few bytes don't keep a large read buffer alive.
            chunk = Bytes::copy_from_slice(&chunk[..room]);
        }
        if self.first.is_empty() && self.more.is_empty() {
            self.first = chunk;
        } else {
            if self.more.is_empty() {
                self.more.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.more.extend_from_slice(&chunk);
        }
        fits
    }

    fn finish(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}

fn keep_headers(headers: HeaderMap) -> Result<HeaderMap, SendError> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > MAX_HEAD_BYTES as usize {
        return Err(failure::too_large_head());
    }
    if headers.len() <= MAX_KEPT_HEADERS && bytes <= MAX_KEPT_HEADER_BYTES {
        return Ok(headers);
    }
    let mut kept = HeaderMap::new();
    let mut room = MAX_KEPT_HEADER_BYTES;
    for (name, value) in &headers {
        let size = name.as_str().len() + value.len();
        if kept.len() == MAX_KEPT_HEADERS {
            break;
        }
        if let Some(rest) = room.checked_sub(size) {
            room = rest;
            kept.append(name.clone(), value.clone());
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    #[test]
    fn an_excerpt_ends_at_its_limit() {
        let mut excerpt = Excerpt::default();
        assert!(excerpt.push(Bytes::from(vec![b'a'; MAX_EXCERPT_BYTES - 1])));
        assert!(excerpt.push(Bytes::from_static(b"b")));
        assert!(!excerpt.push(Bytes::from_static(b"c")));
        let kept = excerpt.finish();
        assert_eq!(kept.len(), MAX_EXCERPT_BYTES);
        assert_eq!(kept.last(), Some(&b'b'));

        let mut excerpt = Excerpt::default();
        assert!(!excerpt.push(Bytes::from(vec![b'a'; MAX_EXCERPT_BYTES + 1])));
        assert_eq!(excerpt.finish().len(), MAX_EXCERPT_BYTES);
    }

    fn headers(count: usize, value_bytes: usize) -> HeaderMap {
        let value = HeaderValue::from_str(&"v".repeat(value_bytes)).expect("a value");
        let name = |n: usize| HeaderName::from_bytes(format!("x-{n:03}").as_bytes()).expect("a name");
        (0..count).map(|n| (name(n), value.clone())).collect()
    }

    #[test]
    fn headers_are_kept_within_limits_and_refused_far_beyond() {
        assert_eq!(keep_headers(headers(10, 20)).expect("small").len(), 10);
        assert_eq!(keep_headers(headers(90, 1)).expect("many").len(), MAX_KEPT_HEADERS);
        assert_eq!(keep_headers(headers(10, 1_000)).expect("large").len(), 8);
        assert!(keep_headers(headers(70, 1_000)).is_err());
    }
}
