//! What a POST costs the client, beside the same POST by reqwest: a measurement, run by hand.
//!
//! `cargo test --release --lib -- --ignored --nocapture egress::tests::cost`. The receiver has a thread of its own; only the
//! CPU of the client's thread is counted.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

use super::*;

const POSTS: u32 = 40_000;
const AT_ONCE: u32 = 64;
const BODY: &[u8] = &[b'x'; 1_024];
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";

/// Answers each request as soon as its body's last byte is there. A thread a connection: it is not what is measured.
fn receiver() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let (mut buffer, mut have) = (vec![0; 16 * 1024], 0);
                while let Ok(read @ 1..) = stream.read(&mut buffer[have..]) {
                    have += read;
                    let head = buffer[..have].windows(4).position(|window| window == b"\r\n\r\n");
                    if head.is_some_and(|head| have == head + 4 + BODY.len()) {
                        have = 0;
                        stream.write_all(ANSWER).expect("written");
                    }
                }
            });
        }
    });
    addr
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    for name in
        ["content-type", "webhook-id", "webhook-timestamp", "webhook-signature", "x-webhook-signature"]
    {
        headers.insert(name, HeaderValue::from_static("a-value-of-some-forty-characters-or-so-ok"));
    }
    headers
}

/// Microseconds of this thread's CPU for each of so many.
fn cpu_us<F: Future<Output = ()> + 'static>(one: impl Fn() -> F + Clone + 'static) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let run = |each: u32| {
        let one = one.clone();
        async move {
            let mut lanes = JoinSet::new();
            for _ in 0..AT_ONCE {
                let one = one.clone();
                lanes.spawn_local(async move {
                    for _ in 0..each {
                        one().await;
                    }
                });
            }
            while lanes.join_next().await.is_some() {}
        }
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, run(20));
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
    };
    let before = now();
    local.block_on(&runtime, run(POSTS / AT_ONCE));
    (now() - before) / f64::from(POSTS)
}

#[test]
#[ignore = "a measurement"]
fn cpu_of_a_post_beside_reqwest() {
    let addr = receiver();
    let policy = loopback_policy();
    let raw = format!("http://{addr}/hooks/posthaste?source=a");
    for _ in 0..3 {
        let url = Arc::new(policy.parse_url(&raw, HTTP_TOO).expect("an accepted URL"));
        let options = SenderOptions { max_idle_per_host: AT_ONCE as usize, ..SenderOptions::default() };
        let sender = sender(&policy, options);
        let ours = cpu_us(move || {
            let (sender, url) = (sender.clone(), Arc::clone(&url));
            async move {
                let outbound = Outbound {
                    url: &url,
                    identity: None,
                    headers: headers(),
                    body: Bytes::from_static(BODY),
                    timeout: PLENTY,
                };
                assert_eq!(sender.post(outbound).await.result.expect("a response").body.as_ref(), b"ok");
            }
        });
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(USER_AGENT)
            .pool_max_idle_per_host(AT_ONCE as usize)
            .tcp_nodelay(true)
            .build()
            .expect("a client");
        let url = ::url::Url::parse(&raw).expect("a URL");
        let reqwests = cpu_us(move || {
            let (client, url) = (client.clone(), url.clone());
            async move {
                let mut request = reqwest::Request::new(reqwest::Method::POST, url);
                *request.headers_mut() = headers();
                *request.body_mut() = Some(BODY.into());
                let deadline = tokio::time::Instant::now() + PLENTY;
                let answered = tokio::time::timeout_at(deadline, client.execute(request)).await;
                let answered = answered.expect("in time").expect("a response");
                assert_eq!(answered.bytes().await.expect("a body").as_ref(), b"ok");
            }
        });
        println!("CPU a POST: {ours:.1} µs, by reqwest {reqwests:.1} µs, {:.2} of it", ours / reqwests);
    }
}
