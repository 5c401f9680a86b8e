//! The connections of callers, from being accepted to their end.
//!
//! Guarantees: no more of them are open at once than the caller says, further ones wait in the system's queue without
//! a descriptor of ours; one that sends no whole request head in [`HEAD_WITHIN`] is closed, whether it is new or was
//! used before; on `stop` nothing more is accepted and what is under way ends, however long that takes.
//!
//! It does not bound how long a body takes to arrive or an answer to leave.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
    serve::Listener,
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// How long the head of a request may take to arrive; with HTTP/1.1 each, and the pause before it too.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How often a caller with HTTP/2 is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Until `stop`, and until the last request has been answered. `most`: connections open at once.
pub async fn serve(mut listener: TcpListener, router: Router, most: usize, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(most));
    let open = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&mut listener, &places) => accepted,
            () = stop.cancelled() => None,
        };
        let Some((place, stream, peer)) = accepted else { break };
        // Small answers should not wait for more to come. A stream that can't is served all the same.
        let _ = stream.set_nodelay(true);
        open.spawn(converse(place, stream, peer, router.clone(), stop.clone()));
    }
    drop(listener);
    open.close();
    open.wait().await;
}

/// The place comes first: who has none stays in the system's queue.
async fn accept(
    listener: &mut TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    let (stream, peer) = Listener::accept(listener).await;
    Some((place, stream, peer))
}

async fn converse(
    _place: OwnedSemaphorePermit,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    let has_asked = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        has_asked.store(true, Relaxed);
        answer(router.clone(), request, peer)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING_EVERY);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Hyper's own clock does not run before it knows which HTTP is spoken, nor with HTTP/2.
    let mut first_head = pin!(sleep(HEAD_WITHIN));
    let (mut is_late, mut is_stopping) = (false, false);
    loop {
        tokio::select! {
            // A connection that breaks off is its caller's affair.
            _ = connection.as_mut() => return,
            () = &mut first_head, if !is_late => {
                if !has_asked.load(Relaxed) {
                    return;
                }
                is_late = true;
            }
            () = stop.cancelled(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request).await
}
