//! Too many requests without a good key, from one address: 429, until a minute has passed.
//!
//! An address is that of the connection. Headers such as `X-Forwarded-For` are not believed, so behind a proxy all callers are
//! one address: that is why a good key is answered whatever else came from there. Keys can't be guessed (190 bits); this
//! makes a broken or hostile client visible and stops its answer from telling whether a key was nearly good. Each process
//! counts for itself.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use moka::sync::Cache;

use super::error::ApiError;

/// Failures of one address that are answered with 401 within a minute.
pub const FAILURES_MAX: u32 = 1_000;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses remembered, each for one window; with more, some begin anew.
const ADDRESSES: u64 = 20_000;
/// Who has one IPv6 address has a whole network of this size.
const IPV6_PREFIX_BITS: u32 = 64;

/// Cheap to clone.
#[derive(Clone)]
pub struct FailedAuth(Arc<Cache<IpAddr, Arc<Window>>>);

struct Window {
    started: Instant,
    failures: AtomicU32,
}

impl Default for FailedAuth {
    fn default() -> Self {
        Self(Arc::new(Cache::builder().max_capacity(ADDRESSES).time_to_live(WINDOW).build()))
    }
}

impl FailedAuth {
    /// Counts a failure. `Some`: there were too many, for how long more.
    fn count(&self, address: IpAddr) -> Option<Duration> {
        let new = || Arc::new(Window { started: Instant::now(), failures: AtomicU32::new(0) });
        let window = self.0.get_with(network(address), new);
        let before = window.failures.fetch_add(1, Ordering::Relaxed);
        if before == FAILURES_MAX {
            tracing::warn!(%address, "an address sends too many requests without a good key");
        }
        (before >= FAILURES_MAX).then(|| WINDOW.saturating_sub(window.started.elapsed()))
    }
}

/// What counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (Ipv6Addr::BITS - IPV6_PREFIX_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Counts every 401 on its way out.
pub async fn layer(State(failed): State<FailedAuth>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let response = next.run(request).await;
    let Some(caller) = caller.filter(|_| response.status() == StatusCode::UNAUTHORIZED) else {
        return response;
    };
    match failed.count(caller) {
        None => response,
        Some(left) => ApiError::TooManyFailures { retry_after_s: left.as_secs() + 1 }.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_a_network_in_ipv6_and_itself_in_ipv4() {
        for (one, other, same) in [
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("192.0.2.1", "192.0.2.2", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
        ] {
            assert_eq!(network(address(one)) == network(address(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn addresses_are_forgotten_rather_than_memory_filled() {
        let failed = FailedAuth::default();
        for n in 0..2 * u32::try_from(ADDRESSES).unwrap() {
            failed.count(IpAddr::from(n.to_be_bytes()));
        }
        failed.0.run_pending_tasks();
        assert!(failed.0.entry_count() <= ADDRESSES);
    }
}
