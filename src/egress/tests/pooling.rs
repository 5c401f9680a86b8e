//! Connections: bounded over all receivers, used again where that is safe, and never for somebody else.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use super::receiver::{OK, Receiver, answer_all, read_request};
use super::*;

fn limited_to(max_connections: usize) -> SenderOptions {
    SenderOptions { max_connections, ..SenderOptions::default() }
}

#[tokio::test]
async fn ten_thousand_endpoints_on_one_host_share_a_bounded_number_of_connections() {
    const ENDPOINTS: usize = 10_000;
    const PLACES: usize = 24;
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (opened, peak) = (Arc::clone(&open), Arc::clone(&most));
    let receiver = Receiver::start(move |stream| {
        let (open, most) = (Arc::clone(&opened), Arc::clone(&peak));
        async move {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            answer_all(stream, Arc::new(OK.into())).await;
            open.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let policy = loopback_policy();
    let sender = sender(&policy, limited_to(PLACES));
    let at_once = Arc::new(Semaphore::new(512));
    let mut posts = JoinSet::new();
    for n in 0..ENDPOINTS {
        let raw = format!("http://{}/endpoint/{n}", receiver.addr);
        let url = policy.parse_url(&raw, HTTP_TOO).expect("an accepted URL");
        let (sender, at_once) = (sender.clone(), Arc::clone(&at_once));
        posts.spawn(async move {
            let _slot = at_once.acquire().await;
            post(&sender, &url, PLENTY).await.result.map(|response| response.status)
        });
    }
    while let Some(status) = posts.join_next().await {
        assert_eq!(status.expect("joined"), Ok(200));
    }
    let most = most.load(Ordering::SeqCst);
    assert!((1..=PLACES).contains(&most), "{most} at once");
}

#[tokio::test]
async fn without_a_place_the_longest_idle_connection_is_closed() {
    let (gone, mut closed) = unbounded_channel();
    let watched = || {
        let gone = gone.clone();
        Receiver::start(move |stream| {
            let gone = gone.clone();
            async move {
                let port = stream.local_addr().expect("an address").port();
                answer_all(stream, Arc::new(OK.into())).await;
                gone.send(port).expect("the test waits");
            }
        })
    };
    let (first, second, third) = (watched().await, watched().await, watched().await);
    let policy = loopback_policy();
    let sender = sender(&policy, limited_to(2));
    for receiver in [&first, &second, &third] {
        let exchange = post(&sender, &receiver.url(&policy), PLENTY).await;
        assert_eq!(exchange.result.expect("a response").status, 200);
    }
    assert_eq!(closed.recv().await, Some(first.addr.port()));
    assert_eq!(first.connections(), 1);
    post(&sender, &third.url(&policy), PLENTY).await.result.expect("a response");
    assert_eq!(third.connections(), 1, "it was kept");
}

#[tokio::test]
async fn where_all_connections_are_busy_a_request_waits_for_one_within_its_timeout() {
    let released = Arc::new(Semaphore::new(0));
    let (arrived, mut arrivals) = unbounded_channel();
    let release = Arc::clone(&released);
    let busy = Receiver::start(move |mut stream| {
        let (arrived, release) = (arrived.clone(), Arc::clone(&release));
        async move {
            while read_request(&mut stream).await.is_some() {
                arrived.send(()).expect("the test waits");
                release.acquire().await.expect("open").forget();
                stream.write_all(OK.as_bytes()).await.expect("written");
            }
        }
    })
    .await;
    let other = Receiver::answering(OK).await;
    let policy = loopback_policy();
    let sender = sender(&policy, limited_to(1));
    let holding = {
        let (sender, url) = (sender.clone(), busy.url(&policy));
        tokio::spawn(async move { post(&sender, &url, PLENTY).await })
    };
    arrivals.recv().await.expect("the one connection is busy");
    let error = post(&sender, &other.url(&policy), SHORT).await.result.expect_err("no place");
    assert_eq!(error.class, ErrorClass::Timeout);
    assert!(error.detail.contains("no connection was free"), "{}", error.detail);

    let waiting = {
        let (sender, url) = (sender.clone(), other.url(&policy));
        tokio::spawn(async move { post(&sender, &url, PLENTY).await })
    };
    released.add_permits(1);
    for exchange in [holding, waiting] {
        assert_eq!(exchange.await.expect("joined").result.expect("a response").status, 200);
    }
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_and_nothing_is_sent_twice() {
    let (closed, mut closes) = unbounded_channel();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let receiver = Receiver::start(move |mut stream| {
        let (closed, count) = (closed.clone(), Arc::clone(&count));
        async move {
            read_request(&mut stream).await.expect("a request");
            count.fetch_add(1, Ordering::SeqCst);
            stream.write_all(OK.as_bytes()).await.expect("written");
            // No word of it in the answer.
            stream.shutdown().await.expect("closed");
            closed.send(()).expect("the test waits");
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    let policy = loopback_policy();
    let sender = sender(&policy, SenderOptions::default());
    for round in 1..=20 {
        let exchange = post(&sender, &receiver.url(&policy), PLENTY).await;
        assert_eq!(exchange.result.expect("a response").status, 200);
        closes.recv().await.expect("it has closed");
        assert_eq!(requests.load(Ordering::SeqCst), round);
    }
    assert_eq!(receiver.connections(), 20);
}

#[tokio::test]
async fn a_connection_closed_over_an_unread_request_is_a_failure_and_not_a_second_request() {
    let receiver = Receiver::start(|mut stream| async move {
        read_request(&mut stream).await.expect("a request");
        stream.write_all(OK.as_bytes()).await.expect("written");
        read_request(&mut stream).await.expect("another");
    })
    .await;
    let policy = loopback_policy();
    let sender = sender(&policy, SenderOptions::default());
    post(&sender, &receiver.url(&policy), PLENTY).await.result.expect("a response");
    let exchange = post(&sender, &receiver.url(&policy), PLENTY).await;
    assert_eq!(class_of(&exchange), ErrorClass::Reset);
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_connection_is_used_again_only_if_its_answer_was_read_to_the_end() {
    let whole = "z".repeat(MAX_EXCERPT_BYTES);
    let sized = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-trailer: a\r\n\r\n";
    for (answer, connections, truncated) in [
        (sized(&whole), 1, false),
        (sized("").replace("200", "503"), 1, false),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), 1, false),
        (chunked.to_owned(), 1, false),
        (sized(&(whole.clone() + "z")), 3, true),
        (sized("ok").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"), 3, false),
        // More than an answer: who knows to what.
        (sized("ok") + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 3, false),
    ] {
        let receiver = Receiver::answering(answer.clone()).await;
        let policy = loopback_policy();
        let sender = sender(&policy, SenderOptions::default());
        for _ in 0..3 {
            let response = post(&sender, &receiver.url(&policy), PLENTY).await.result.expect("a response");
            assert_eq!(response.truncated, truncated, "{answer:.80}");
        }
        assert_eq!(receiver.connections(), connections, "{answer:.80}");
    }
}

#[tokio::test]
async fn few_idle_connections_are_kept_of_one_receiver() {
    const AT_ONCE: u32 = 8;
    let (closed, mut closes) = unbounded_channel();
    let all_here = Arc::new(tokio::sync::Barrier::new(AT_ONCE as usize));
    let receiver = Receiver::start(move |mut stream| {
        let (closed, all_here) = (closed.clone(), Arc::clone(&all_here));
        async move {
            read_request(&mut stream).await.expect("a request");
            all_here.wait().await;
            stream.write_all(OK.as_bytes()).await.expect("written");
            let _ = stream.read_to_end(&mut Vec::new()).await;
            closed.send(()).expect("the test waits");
        }
    })
    .await;
    let policy = loopback_policy();
    let options = SenderOptions { max_idle_per_host: 3, ..SenderOptions::default() };
    let sender = sender(&policy, options);
    let mut posts = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (sender, url) = (sender.clone(), receiver.url(&policy));
        posts.spawn(async move { post(&sender, &url, PLENTY).await });
    }
    while let Some(exchange) = posts.join_next().await {
        exchange.expect("joined").result.expect("a response");
    }
    for _ in 3..AT_ONCE {
        closes.recv().await.expect("what is too many is closed");
    }
    // And the others soon after, since nobody uses them.
    for _ in 0..3 {
        closes.recv().await.expect("closed after a few seconds");
    }
}
