//! The bytes of a connection: counted, and watched for what hyper doesn't show.
//!
//! hyper skips interim responses (1xx) without end, and says nothing of a head of which only a part has come. The wire
//! sees every byte before hyper does, so it knows whether anything came back at all ([`Meter::has_answered`]), and ends a
//! connection that floods ([`Meter::flood`]): the next read fails, and hyper gives up.
//!
//! A wire holds its place among all open connections; dropping it gives the place back.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::frames::FrameWatch;
use super::heads::HeadWatch;
use super::room::Place;

/// What is too much of an answer before its head is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    /// One interim response after the other.
    Interim,
    /// A head that doesn't end.
    Head,
}

/// What the wire has seen. Shared with whoever waits for an answer.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// h1: something has come since the request began. h2: a head has begun that is not complete.
    answering: AtomicBool,
    /// h2: anything has come, since somebody last looked.
    stirring: AtomicBool,
    /// Requests on this connection.
    requests: AtomicU32,
    /// 0: none; else what it is, as [`Flood`] counts, plus 1.
    flood: AtomicU8,
    tls_failure: OnceLock<rustls::Error>,
}

impl Meter {
    /// A request begins.
    pub(super) fn begin(&self, protocol: Protocol) {
        self.requests.fetch_add(1, Relaxed);
        if protocol == Protocol::Http1 {
            self.answering.store(false, Relaxed);
        }
    }

    /// A part of a response head has come, and not all of it.
    pub(super) fn has_answered(&self) -> bool {
        self.answering.load(Relaxed)
    }

    /// Whether anything at all has come since this was last asked.
    pub(super) fn has_stirred(&self) -> bool {
        self.stirring.swap(false, Relaxed)
    }

    pub(super) fn flood(&self) -> Option<Flood> {
        match self.flood.load(Relaxed) {
            0 => None,
            1 => Some(Flood::Interim),
            _ => Some(Flood::Head),
        }
    }

    /// How TLS ended, where it did not end well. Of TLS 1.3 a client learns only after the handshake that its certificate was
    /// refused, and hyper doesn't always pass on why.
    pub(super) fn tls_failure(&self) -> Option<&rustls::Error> {
        self.tls_failure.get()
    }

    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Relaxed)
    }

    pub(super) fn set_answering(&self, answering: bool) {
        self.answering.store(answering, Relaxed);
    }

    fn set_flood(&self, flood: Flood) {
        self.flood.store(flood as u8 + 1, Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

enum Watch {
    Http1(HeadWatch),
    Http2(FrameWatch),
}

/// See the module's documentation.
pub(super) struct Wire {
    stream: Stream,
    watch: Watch,
    meter: Arc<Meter>,
    _place: Place,
}

impl Wire {
    pub(super) fn new(stream: Stream, protocol: Protocol, place: Place) -> Wire {
        let watch = match protocol {
            Protocol::Http1 => Watch::Http1(HeadWatch::default()),
            Protocol::Http2 => Watch::Http2(FrameWatch::default()),
        };
        Wire { stream, watch, meter: Arc::default(), _place: place }
    }

    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    fn see(&mut self, bytes: &[u8]) -> io::Result<()> {
        let flood = match &mut self.watch {
            Watch::Http1(heads) => {
                if !self.meter.answering.swap(true, Relaxed) {
                    *heads = HeadWatch::default();
                }
                heads.see(bytes)
            }
            Watch::Http2(frames) => {
                self.meter.stirring.store(true, Relaxed);
                let flood = frames.see(bytes, self.meter.requests());
                self.meter.set_answering(frames.in_head());
                flood
            }
        };
        let Some(flood) = flood else { return Ok(()) };
        self.meter.set_flood(flood);
        Err(io::Error::other("more of an answer than is read"))
    }
}

/// A receiver that refuses us says why and closes, so that writing to it may fail while its words still lie in the socket: what
/// is read next tells how the connection ended.
fn left_to_reading<T>(written: Poll<io::Result<T>>, as_if: T) -> Poll<io::Result<T>> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    match written {
        Poll::Ready(Err(error)) if matches!(error.kind(), BrokenPipe | ConnectionReset) => {
            Poll::Ready(Ok(as_if))
        }
        other => other,
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = ready!(match &mut this.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        });
        if let Err(error) = read {
            if let Some(failure) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                let _ = this.meter.tls_failure.set(failure.clone());
            }
            return Poll::Ready(Err(error));
        }
        let come = &buf.filled()[before..];
        Poll::Ready(if come.is_empty() { Ok(()) } else { this.see(come) })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => left_to_reading(Pin::new(tls).poll_write(cx, buf), buf.len()),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => {
                let all = bufs.iter().map(|buf| buf.len()).sum();
                left_to_reading(Pin::new(tls).poll_write_vectored(cx, bufs), all)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => left_to_reading(Pin::new(tls).poll_flush(cx), ()),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
