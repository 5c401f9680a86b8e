//! An HTTP/1.1 connection: one request at a time, driven by whoever waits for its answer.
//!
//! No task of its own: the connection is polled inside the exchange that uses it, so an answer wakes one task, not two, and
//! a connection that is idle costs no task. What its receiver does meanwhile (closing, mostly) is noticed when it is used
//! next, before anything is written: hyper then gives the request back.
//!
//! Cancel safety: dropped in the middle of an exchange, the connection is closed.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::task::coop::unconstrained;

use super::response::MAX_HEAD_BYTES;
use super::wire::{Meter, Protocol, Wire};

pub(super) type Outgoing = Request<Full<Bytes>>;

/// See the module's documentation.
pub(super) struct Http1 {
    sender: SendRequest<Full<Bytes>>,
    /// `None`: it has ended.
    connection: Option<Connection<TokioIo<Wire>, Full<Bytes>>>,
    meter: Arc<Meter>,
    peer: SocketAddr,
}

impl Http1 {
    pub(super) async fn new(wire: Wire, peer: SocketAddr) -> hyper::Result<Box<Http1>> {
        let meter = Arc::clone(wire.meter());
        // A head that doesn't fit into the buffer is refused.
        let (sender, connection) =
            Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake(TokioIo::new(wire)).await?;
        Ok(Box::new(Http1 { sender, connection: Some(connection), meter, peer }))
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Waits for the response's head. An error gives the request back if nothing of it was written.
    pub(super) async fn send(
        &mut self,
        request: Outgoing,
    ) -> Result<Response<Incoming>, TrySendError<Outgoing>> {
        self.meter.begin(Protocol::Http1);
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        poll_fn(|cx| {
            drive(&mut self.connection, cx);
            // Nobody else could bring the answer than the connection, which was driven just now.
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// The next piece of the body.
    pub(super) async fn frame(&mut self, body: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
        poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => {
                drive(&mut self.connection, cx);
                Pin::new(&mut *body).poll_frame(cx)
            }
            ready => ready,
        })
        .await
    }

    /// After an answer that was read to its end: whether the connection can be used again.
    pub(super) async fn is_reusable(&mut self) -> bool {
        if !self.sender.is_ready() {
            poll_fn(|cx| {
                drive(&mut self.connection, cx);
                Poll::Ready(())
            })
            .await;
        }
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Says goodbye, where TLS has a word for it, without waiting for anything.
    pub(super) fn close(self) {
        let Http1 { sender, mut connection, .. } = self;
        drop(sender);
        drive(&mut connection, &mut Context::from_waker(Waker::noop()));
    }
}

/// A connection that has ended is dropped, which answers whoever still waits.
fn drive(connection: &mut Option<Connection<TokioIo<Wire>, Full<Bytes>>>, cx: &mut Context<'_>) {
    if let Some(running) = connection
        && Pin::new(running).poll(cx).is_ready()
    {
        *connection = None;
    }
}
