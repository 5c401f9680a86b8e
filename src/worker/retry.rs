//! What follows from an attempt: one pure function.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::scheduler::Sign;
use crate::{endpoints::attempt::Observed, formats::SuccessRule};

/// Longest `Retry-After` that is obeyed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// A retry comes up to this part of its delay later, so that a receiver that recovers is not met by everyone at once.
const JITTER_MAX: f64 = 0.1;

/// After an attempt that could not be made for lack of our own resources: long enough for some to become free.
const UNTRIED_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What the endpoint and its wire format ask for.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Delay before each retry, counted from the failure before.
    pub schedule: Vec<Duration>,
    pub success: SuccessRule,
    pub honor_retry_after: bool,
    pub disable_on_410: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Succeeded,
    Retry {
        after: Duration,
        /// Place on the ladder from then on.
        step: u16,
    },
    /// The ladder has no further step: the delivery has failed.
    Exhausted,
    /// 410: the delivery has failed, and the endpoint wants no more.
    Gone,
}

const GONE: u16 = 410;
const TOO_MANY_REQUESTS: u16 = 429;
const SERVICE_UNAVAILABLE: u16 = 503;

/// `step`: how many failures this ladder has seen.
pub fn decide(observed: Observed, step: u16, policy: &RetryPolicy, rng: &mut impl Rng) -> Next {
    let wanted = match observed {
        Observed::Response { status, .. } if policy.success.accepts(status) => return Next::Succeeded,
        Observed::Response { status: GONE, .. } if policy.disable_on_410 => return Next::Gone,
        Observed::Response { status: TOO_MANY_REQUESTS | SERVICE_UNAVAILABLE, retry_after: Some(wanted) }
            if policy.honor_retry_after =>
        {
            wanted.min(RETRY_AFTER_MAX)
        }
        Observed::Response { .. } | Observed::NoResponse => Duration::ZERO,
        // The ladder is for failures of the receiver.
        Observed::NotTried => return Next::Retry { after: jittered(UNTRIED_AGAIN_AFTER, rng), step },
    };
    match policy.schedule.get(usize::from(step)) {
        None => Next::Exhausted,
        Some(delay) => Next::Retry { after: jittered(*delay, rng).max(wanted), step: step.saturating_add(1) },
    }
}

fn jittered(delay: Duration, rng: &mut impl Rng) -> Duration {
    delay.mul_f64(1.0 + rng.random_range(0.0..JITTER_MAX))
}

/// What the attempt says about the receiver to its circuit breaker. A receiver that asks for less (429) or for no more (410)
/// is alive, and gets what it asks for.
pub fn sign(observed: Observed, next: Next) -> Sign {
    match (next, observed) {
        (Next::Succeeded, _) => Sign::Good,
        (Next::Gone, _) | (_, Observed::NotTried | Observed::Response { status: TOO_MANY_REQUESTS, .. }) => {
            Sign::Neither
        }
        (Next::Retry { .. } | Next::Exhausted, _) => Sign::Bad,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::types::Timestamp;

    fn standard() -> RetryPolicy {
        RetryPolicy {
            schedule: [10, 60, 300].map(Duration::from_secs).to_vec(),
            success: SuccessRule::Any2xx,
            honor_retry_after: true,
            disable_on_410: true,
        }
    }

    fn status(status: u16) -> Observed {
        Observed::Response { status, retry_after: None }
    }

    fn told(status: u16, seconds: u64) -> Observed {
        Observed::Response { status, retry_after: Some(Duration::from_secs(seconds)) }
    }

    /// The decision without its jitter: `Retry` in whole seconds, rounded down.
    fn next(observed: Observed, step: u16, policy: &RetryPolicy) -> (Next, u64) {
        let next = decide(observed, step, policy, &mut SmallRng::seed_from_u64(7));
        let seconds = if let Next::Retry { after, .. } = next { after.as_secs() } else { 0 };
        (next, seconds)
    }

    #[test]
    fn every_branch() {
        let policy = standard();
        for accepted in [200, 201, 204, 299] {
            assert_eq!(next(status(accepted), 0, &policy).0, Next::Succeeded);
        }
        for refused in [100, 199, 300, 301, 302, 304, 308, 400, 401, 404, 429, 500, 503] {
            let (decision, seconds) = next(status(refused), 0, &policy);
            assert!(matches!(decision, Next::Retry { step: 1, .. }), "{refused}: {decision:?}");
            assert!((10..=11).contains(&seconds), "{refused}: {seconds}");
        }
        assert!(matches!(next(Observed::NoResponse, 1, &policy), (Next::Retry { step: 2, .. }, 60..=66)));
        assert!(matches!(next(Observed::NoResponse, 2, &policy), (Next::Retry { step: 3, .. }, 300..=330)));
        assert_eq!(next(Observed::NoResponse, 3, &policy).0, Next::Exhausted);
        assert_eq!(next(status(500), 3, &policy).0, Next::Exhausted);
        assert_eq!(next(status(200), 3, &policy).0, Next::Succeeded);

        assert_eq!(next(status(410), 0, &policy).0, Next::Gone);
        assert_eq!(next(status(410), 3, &policy).0, Next::Gone);
        let lenient = RetryPolicy { disable_on_410: false, honor_retry_after: false, ..standard() };
        assert!(matches!(next(status(410), 0, &lenient).0, Next::Retry { .. }));

        assert_eq!(next(told(429, 120), 0, &policy).1, 120);
        assert_eq!(next(told(503, 120), 0, &policy).1, 120);
        assert!((60..=66).contains(&next(told(503, 1), 1, &policy).1), "never earlier than the schedule");
        assert_eq!(next(told(503, 10_000_000), 0, &policy).1, RETRY_AFTER_MAX.as_secs());
        assert!((10..=11).contains(&next(told(500, 120), 0, &policy).1), "only 429 and 503 may ask");
        assert!((10..=11).contains(&next(told(503, 120), 0, &lenient).1), "the format may say no");
        assert_eq!(next(told(503, 120), 3, &policy).0, Next::Exhausted, "no further step, whatever is asked");

        for step in [0, 2, 3, 9] {
            let (decision, seconds) = next(Observed::NotTried, step, &policy);
            assert!(
                matches!(decision, Next::Retry { step: same, .. } if same == step),
                "{step}: {decision:?}"
            );
            assert!((10..=11).contains(&seconds), "{step}: {seconds}");
        }

        let exactly_200 = RetryPolicy { success: SuccessRule::Statuses([200].into()), ..standard() };
        assert_eq!(next(status(200), 0, &exactly_200).0, Next::Succeeded);
        assert!(matches!(next(status(204), 0, &exactly_200).0, Next::Retry { .. }));

        let once = RetryPolicy { schedule: Vec::new(), ..standard() };
        assert_eq!(next(status(500), 0, &once).0, Next::Exhausted);
    }

    #[test]
    fn failures_are_bad_signs_but_for_429_and_the_end() {
        let policy = standard();
        let lenient = RetryPolicy { disable_on_410: false, ..standard() };
        for (observed, step, policy, expected) in [
            (status(200), 0, &policy, Sign::Good),
            (status(200), 3, &policy, Sign::Good),
            (Observed::NoResponse, 0, &policy, Sign::Bad),
            (Observed::NoResponse, 3, &policy, Sign::Bad),
            (status(500), 0, &policy, Sign::Bad),
            (told(503, 120), 0, &policy, Sign::Bad),
            (status(404), 0, &policy, Sign::Bad),
            (Observed::NotTried, 0, &policy, Sign::Neither),
            (Observed::NotTried, 3, &policy, Sign::Neither),
            (status(429), 0, &policy, Sign::Neither),
            (told(429, 120), 3, &policy, Sign::Neither),
            (status(410), 0, &policy, Sign::Neither),
            (status(410), 0, &lenient, Sign::Bad),
        ] {
            assert_eq!(sign(observed, next(observed, step, policy).0), expected, "{observed:?}");
        }
    }

    /// The clock is a number that the test moves: ten seconds, a minute and five minutes after each failure.
    #[test]
    fn the_ladder_of_ten_seconds_a_minute_and_five_minutes() {
        let policy = standard();
        let mut rng = SmallRng::seed_from_u64(1);
        let start = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
        // Each attempt takes two seconds to fail.
        let (mut clock, mut step, mut starts) = (start, 0, vec![start]);
        loop {
            clock = clock.plus(Duration::from_secs(2));
            match decide(Observed::NoResponse, step, &policy, &mut rng) {
                Next::Retry { after, step: next } => {
                    clock = clock.plus(after);
                    step = next;
                    starts.push(clock);
                }
                end => {
                    assert_eq!(end, Next::Exhausted);
                    break;
                }
            }
        }
        let gaps_us: Vec<i64> =
            starts.windows(2).map(|pair| pair[1].unix_us() - pair[0].unix_us() - 2_000_000).collect();
        assert_eq!(gaps_us.len(), 3, "four attempts");
        for (gap_us, seconds) in gaps_us.into_iter().zip([10_i64, 60, 300]) {
            let (least, most) = (seconds * 1_000_000, seconds * 1_100_000);
            assert!((least..=most).contains(&gap_us), "{gap_us} µs for {seconds} s");
        }
    }

    proptest! {
        #[test]
        fn a_retry_is_never_early_and_never_over_ten_percent_late(
            step in 0_u16..4, status in 100_u16..600, retry_after in proptest::option::of(0_u64..200_000), seed: u64,
        ) {
            let policy = standard();
            let observed = Observed::Response { status, retry_after: retry_after.map(Duration::from_secs) };
            if let Next::Retry { after, step: next } = decide(observed, step, &policy, &mut SmallRng::seed_from_u64(seed)) {
                let delay = policy.schedule[usize::from(step)];
                prop_assert!(after >= delay);
                prop_assert_eq!(next, step + 1);
                let asked = retry_after.filter(|_| status == 429 || status == 503).map_or(Duration::ZERO, Duration::from_secs);
                prop_assert!(after <= delay.mul_f64(1.1).max(asked.min(RETRY_AFTER_MAX)));
            }
        }
    }
}
