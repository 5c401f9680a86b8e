//! Receivers that mean harm, each a script on a bare socket: every exchange ends, with its class, in bounded memory.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::receiver::{Receiver, read_request};
use super::*;

async fn post_to(receiver: &Receiver, timeout: Duration) -> Exchange {
    let policy = loopback_policy();
    post(&sender(&policy, SenderOptions::default()), &receiver.url(&policy), timeout).await
}

/// Sends `bytes` over and over until the client is gone.
async fn flood(stream: &mut TcpStream, bytes: &[u8]) {
    while stream.write_all(bytes).await.is_ok() {}
}

/// Sends one byte now and then until the client is gone: the pace is part of the script.
async fn drip(stream: &mut TcpStream, bytes: &[u8]) {
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    for byte in bytes.iter().cycle() {
        pace.tick().await;
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
    }
}

/// Answers the first request with `bytes` and then keeps the connection open.
async fn says_and_stalls(bytes: &'static [u8]) -> Receiver {
    Receiver::start(move |mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(bytes).await.expect("written");
        read_request(&mut stream).await;
    })
    .await
}

/// Answers the first request with `bytes` and closes.
async fn says_and_closes(bytes: impl Into<Vec<u8>>) -> Receiver {
    let bytes = Arc::new(bytes.into());
    Receiver::start(move |mut stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            read_request(&mut stream).await;
            // A client that has seen enough may be gone.
            let _ = stream.write_all(&bytes).await;
        }
    })
    .await
}

fn assert_fails(exchange: &Exchange, class: ErrorClass, detail: &str) {
    let error = exchange.result.as_ref().expect_err("an error");
    assert_eq!((error.class, error.detail.as_ref()), (class, detail));
}

const NO_ANSWER_IN_TIME: &str = "the endpoint did not answer within the time-out of 1000 ms";
const NO_HEAD_IN_TIME: &str =
    "the endpoint sends its response header too slowly: after the time-out of 1000 ms it was not complete";
const FLOODED: &str =
    "the endpoint sent more than 32 interim responses (1xx), or very long ones, and no final one";

#[tokio::test]
async fn never_answers() {
    let receiver = says_and_stalls(b"").await;
    let exchange = post_to(&receiver, SHORT).await;
    assert_fails(&exchange, ErrorClass::Timeout, NO_ANSWER_IN_TIME);
    assert!(exchange.timings.connect_ms.is_some());
    assert_eq!(exchange.timings.first_byte_ms, None);
}

#[tokio::test]
async fn drips_headers() {
    let receiver = Receiver::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nx-slow: ").await.expect("written");
        drip(&mut stream, b"z").await;
    })
    .await;
    assert_fails(&post_to(&receiver, SHORT).await, ErrorClass::ResponseTooSlow, NO_HEAD_IN_TIME);
}

#[tokio::test]
async fn floods_interim_responses() {
    for interim in [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"]
    {
        let receiver = Receiver::start(move |mut stream| async move {
            read_request(&mut stream).await;
            flood(&mut stream, interim).await;
        })
        .await;
        assert_fails(&post_to(&receiver, PLENTY).await, ErrorClass::InterimFlood, FLOODED);
    }
}

#[tokio::test]
async fn stalls_after_an_interim_response() {
    let receiver = says_and_stalls(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_fails(&post_to(&receiver, SHORT).await, ErrorClass::ResponseTooSlow, NO_HEAD_IN_TIME);
}

#[tokio::test]
async fn a_few_interim_responses_are_fine_on_every_request_of_a_connection() {
    let answer = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(20) + super::receiver::OK;
    let receiver = Receiver::answering(answer).await;
    let policy = loopback_policy();
    let sender = sender(&policy, SenderOptions::default());
    for _ in 0..5 {
        let exchange = post(&sender, &receiver.url(&policy), PLENTY).await;
        assert_eq!(exchange.result.expect("a response").status, 200);
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn sends_huge_headers() {
    let detail = "the endpoint sent too many or too large response headers";
    let large =
        format!("HTTP/1.1 200 OK\r\nx-large: {}\r\ncontent-length: 0\r\n\r\n", "z".repeat(300 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x-many: z\r\n".repeat(30_000));
    for answer in [large, many] {
        let receiver = says_and_closes(answer).await;
        assert_fails(&post_to(&receiver, PLENTY).await, ErrorClass::ResponseTooLarge, detail);
    }
    let receiver = Receiver::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nx-endless: ").await.expect("written");
        flood(&mut stream, &[b'z'; 4096]).await;
    })
    .await;
    assert_fails(&post_to(&receiver, PLENTY).await, ErrorClass::ResponseTooLarge, detail);
}

#[tokio::test]
async fn drips_the_body() {
    for head in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n",
    ] {
        let receiver = Receiver::start(move |mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(head).await.expect("written");
            drip(&mut stream, b"z").await;
        })
        .await;
        let response = post_to(&receiver, SHORT).await.result.expect("the status decides");
        assert_eq!((response.status, response.truncated), (200, true));
        assert!(response.body.iter().all(|byte| *byte == b'z'));
    }
}

#[tokio::test]
async fn stalls_in_the_body() {
    let receiver =
        says_and_stalls(b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\nbusy").await;
    let response = post_to(&receiver, SHORT).await.result.expect("the status decides");
    assert_eq!((response.status, response.body.as_ref(), response.truncated), (503, &b"busy"[..], true));
    assert_eq!(response.headers["retry-after"], "7");
}

#[tokio::test]
async fn sends_an_endless_body() {
    for head in [
        &b"HTTP/1.1 200 OK\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffff\r\n",
    ] {
        let (gone, client_gone) = tokio::sync::oneshot::channel();
        let gone = std::sync::Mutex::new(Some(gone));
        let receiver = Receiver::start(move |mut stream| {
            let gone = gone.lock().expect("not poisoned").take();
            async move {
                read_request(&mut stream).await;
                stream.write_all(head).await.expect("written");
                flood(&mut stream, &[b'z'; 4096]).await;
                gone.expect("one connection").send(()).expect("the test waits");
            }
        })
        .await;
        let response = post_to(&receiver, PLENTY).await.result.expect("the status decides");
        assert_eq!((response.status, response.truncated), (200, true));
        assert_eq!(response.body.len(), MAX_EXCERPT_BYTES);
        client_gone.await.expect("the client closed the connection");
    }
}

#[tokio::test]
async fn claims_compression() {
    // What a bomb looks like: never asked for, never decoded.
    let bomb = [0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xed, 0xc1];
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len())
            .into_bytes();
    answer.extend(bomb);
    let response = post_to(&says_and_closes(answer).await, PLENTY).await.result.expect("a response");
    assert_eq!((response.body.as_ref(), response.truncated), (&bomb[..], false));
    assert_eq!(response.headers["content-encoding"], "gzip");
}

#[tokio::test]
async fn closes_before_and_amid_the_answer() {
    let detail = "the endpoint closed the connection before answering";
    assert_fails(&post_to(&says_and_closes("").await, PLENTY).await, ErrorClass::Reset, detail);
    let detail = "the endpoint closed the connection in the middle of its response header";
    for answer in ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"] {
        let exchange = post_to(&says_and_closes(answer).await, PLENTY).await;
        assert_fails(&exchange, ErrorClass::ResponseIncomplete, detail);
    }
    let receiver = says_and_closes("HTTP/1.1 201 Created\r\ncontent-length: 50\r\n\r\nhalf").await;
    let response = post_to(&receiver, PLENTY).await.result.expect("the status decides");
    assert_eq!((response.status, response.body.as_ref(), response.truncated), (201, &b"half"[..], true));
}

#[tokio::test]
async fn resets() {
    let receiver = Receiver::start(|mut stream| async move {
        read_request(&mut stream).await;
        // A reset instead of a close.
        stream.set_zero_linger().expect("set");
    })
    .await;
    let detail = "the endpoint closed the connection before answering";
    assert_fails(&post_to(&receiver, PLENTY).await, ErrorClass::Reset, detail);
}

#[tokio::test]
async fn speaks_something_else() {
    let detail = "the endpoint did not answer with valid HTTP";
    for answer in [
        "220 mail.example.com ESMTP\r\n",
        "-ERR unknown command 'POST'\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok",
    ] {
        assert_fails(&post_to(&says_and_closes(answer).await, PLENTY).await, ErrorClass::Protocol, detail);
    }
}

#[tokio::test]
async fn a_hundred_at_once_leave_a_healthy_one_alone() {
    const HANGING: u32 = 100;
    let arrived = Arc::new(Semaphore::new(0));
    let released = Arc::new(Semaphore::new(0));
    let (arrivals, release) = (Arc::clone(&arrived), Arc::clone(&released));
    let silent = Receiver::start(move |mut stream| {
        let (arrivals, release) = (Arc::clone(&arrivals), Arc::clone(&release));
        async move {
            read_request(&mut stream).await;
            arrivals.add_permits(1);
            let _ = release.acquire().await;
        }
    })
    .await;
    let healthy = Receiver::answering(super::receiver::OK).await;
    let policy = loopback_policy();
    let sender = sender(&policy, SenderOptions::default());
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..HANGING {
        let (sender, url) = (sender.clone(), silent.url(&policy));
        hanging.spawn(async move { post(&sender, &url, PLENTY).await });
    }
    let _all = arrived.acquire_many(HANGING).await.expect("all hang now");
    for _ in 0..20 {
        let exchange = post(&sender, &healthy.url(&policy), PLENTY).await;
        assert_eq!(exchange.result.expect("a response").status, 200);
    }
    released.close();
    while let Some(exchange) = hanging.join_next().await {
        assert_eq!(class_of(&exchange.expect("joined")), ErrorClass::Reset);
    }
}
