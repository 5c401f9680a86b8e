//! How often one key may ask: a token bucket a key, in this process, told in RateLimit headers.
//!
//! Keeps one dashboard's runaway loop from everybody else's database. Publishing is not counted: it has its own way of
//! making callers wait, and is what keys are for. The limit is each process's own; it deliberately isn't shared.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use super::error::ApiError;

/// Seconds' worth of requests that may come at once.
const BURST_S: i64 = 2;
/// Callers remembered; each for as long as a full bucket takes to mean nothing.
const CALLERS: u64 = 100_000;
const FORGET_AFTER: Duration = Duration::from_secs(60);

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Cheap to clone.
#[derive(Clone)]
pub struct RateLimit(Arc<Buckets>);

struct Buckets {
    per_s: u32,
    started: Instant,
    /// By SHA-256 of the Authorization header: when the bucket is full again, µs since the start.
    full_at_us: Cache<[u8; 32], Arc<AtomicI64>>,
}

/// What is left of a bucket.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Allowed { remaining: i64 },
    Refused { wait: Duration },
}

impl RateLimit {
    /// 0 is no limit.
    pub fn new(per_s: u32) -> Self {
        let full_at_us = Cache::builder().max_capacity(CALLERS).time_to_idle(FORGET_AFTER).build();
        Self(Arc::new(Buckets { per_s, started: Instant::now(), full_at_us }))
    }

    fn take(&self, caller: [u8; 32]) -> Verdict {
        let now_us = i64::try_from(self.0.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        let bucket = self.0.full_at_us.get_with(caller, || Arc::new(AtomicI64::new(now_us)));
        decide(&bucket, now_us, self.0.per_s)
    }
}

/// GCRA: one number a bucket.
fn decide(full_at_us: &AtomicI64, now_us: i64, per_s: u32) -> Verdict {
    let gap_us = 1_000_000 / i64::from(per_s.clamp(1, 1_000_000));
    let burst_us = BURST_S * 1_000_000;
    let next = |full_at: i64| {
        let filled = full_at.max(now_us) + gap_us;
        (filled - now_us <= burst_us).then_some(filled)
    };
    match full_at_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
        Ok(before) => {
            Verdict::Allowed { remaining: (burst_us - (before.max(now_us) + gap_us - now_us)) / gap_us }
        }
        Err(full_at) => {
            let wait_us = full_at + gap_us - now_us - burst_us;
            Verdict::Refused { wait: Duration::from_micros(u64::try_from(wait_us).unwrap_or(1)) }
        }
    }
}

/// Counts every request with a key, but for publishes.
pub async fn layer(State(limit): State<RateLimit>, request: Request, next: Next) -> Response {
    let key = request.headers().get(header::AUTHORIZATION);
    let Some(key) = key.filter(|_| limit.0.per_s > 0 && !is_publish(&request)) else {
        return next.run(request).await;
    };
    let caller = Sha256::digest(key.as_bytes()).into();
    let quota = i64::from(limit.0.per_s) * BURST_S;
    let (mut response, remaining, reset_s) = match limit.take(caller) {
        Verdict::Allowed { remaining } => (next.run(request).await, remaining, BURST_S),
        Verdict::Refused { wait } => {
            let retry_after_s = wait.as_secs() + 1;
            let refused = ApiError::TooManyRequests { retry_after_s };
            (refused.into_response(), 0, i64::try_from(retry_after_s).unwrap_or(BURST_S))
        }
    };
    for (name, text) in [
        (RATE_LIMIT_POLICY, format!("\"key\";q={quota};w={BURST_S}")),
        (RATE_LIMIT, format!("\"key\";r={remaining};t={reset_s}")),
    ] {
        if let Ok(value) = HeaderValue::try_from(text) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn is_publish(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    is_exempt(request.method().as_str(), route)
}

/// Whether a route is not counted: publishing.
pub fn is_exempt(method: &str, route: &str) -> bool {
    const PUBLISH: [&str; 2] = ["/v1/locations/{location_id}/events", "/v1/events/batch"];
    method.eq_ignore_ascii_case("POST") && PUBLISH.contains(&route)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let bucket = AtomicI64::new(0);
        for left in (0..20).rev() {
            assert_eq!(decide(&bucket, 0, 10), Verdict::Allowed { remaining: left });
        }
        assert_eq!(decide(&bucket, 0, 10), Verdict::Refused { wait: Duration::from_millis(100) });
        assert_eq!(decide(&bucket, 100_000, 10), Verdict::Allowed { remaining: 0 });
        assert!(matches!(decide(&bucket, 100_000, 10), Verdict::Refused { .. }));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(per_s in 1_u32..500, gaps_us in proptest::collection::vec(0_i64..50_000, 1..400)) {
            let bucket = AtomicI64::new(0);
            let (mut now_us, mut allowed) = (0, 0_i64);
            for gap_us in gaps_us {
                now_us += gap_us;
                if let Verdict::Allowed { remaining } = decide(&bucket, now_us, per_s) {
                    allowed += 1;
                    prop_assert!(remaining >= 0);
                }
            }
            let gap_us = 1_000_000 / i64::from(per_s);
            prop_assert!(allowed <= (now_us + BURST_S * 1_000_000) / gap_us + 1);
        }
    }
}
