//! What is kept of a response: status, some headers, the beginning of the body.
//!
//! The status line decides about a delivery. Once it is here nothing that the receiver does with its body is
//! an error: one that stalls, breaks off or never ends is an excerpt with `truncated` set. Bodies are raw
//! bytes as received: compression is neither asked for nor undone.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::http::response::Parts;

use super::failure::{self, SendError};

/// Body bytes kept. The connection is dropped when there are more.
pub const MAX_EXCERPT_BYTES: usize = 16 * 1024;
/// Response headers, names and values together, above which the response is refused.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
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
    pub(super) fn new(head: Parts, excerpt: Excerpt) -> Result<Response, SendError> {
        Ok(Response {
            status: head.status.as_u16(),
            headers: keep_headers(head.headers)?,
            truncated: !excerpt.is_complete,
            body: excerpt.bytes.into(),
        })
    }
}

/// The beginning of a body. It is a copy: a few bytes must not keep the connection's read buffer alive.
pub(super) struct Excerpt {
    bytes: Vec<u8>,
    is_complete: bool,
}

impl Excerpt {
    pub(super) fn of(body: &Incoming) -> Excerpt {
        Excerpt { bytes: Vec::new(), is_complete: body.is_end_stream() }
    }

    /// The body's end has come.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes the next piece of the body. False: no more is wanted, or there is none.
    pub(super) fn take(&mut self, frame: Option<hyper::Result<Frame<Bytes>>>, rest: &Incoming) -> bool {
        match frame {
            None => self.is_complete = true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => {
                if frame.data_ref().is_some_and(|data| !self.push(data)) {
                    return false;
                }
                self.is_complete = rest.is_end_stream();
            }
        }
        !self.is_complete
    }

    /// False if there was more than fits.
    fn push(&mut self, data: &[u8]) -> bool {
        let room = MAX_EXCERPT_BYTES - self.bytes.len();
        let fits = data.len() <= room;
        let data = &data[..data.len().min(room)];
        // The usual body comes in one piece: no byte more is allocated.
        self.bytes.reserve_exact(if self.bytes.is_empty() { data.len() } else { 0 });
        self.bytes.extend_from_slice(data);
        fits
    }
}

fn keep_headers(headers: HeaderMap) -> Result<HeaderMap, SendError> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > MAX_HEAD_BYTES {
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
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn empty() -> Excerpt {
        Excerpt { bytes: Vec::new(), is_complete: false }
    }

    #[test]
    fn an_excerpt_ends_at_its_limit() {
        let mut excerpt = empty();
        assert!(excerpt.push(&[b'a'; MAX_EXCERPT_BYTES - 1]));
        assert!(excerpt.push(b"b"));
        assert!(!excerpt.push(b"c"));
        assert_eq!(excerpt.bytes.len(), MAX_EXCERPT_BYTES);
        assert_eq!(excerpt.bytes.last(), Some(&b'b'));

        let mut excerpt = empty();
        assert!(!excerpt.push(&[b'a'; MAX_EXCERPT_BYTES + 1]));
        assert_eq!(excerpt.bytes.len(), MAX_EXCERPT_BYTES);
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
