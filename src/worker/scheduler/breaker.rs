//! Circuit breaker of one lane: a receiver that fails nearly always gets one request at a time, and fewer and fewer. Pure.
//!
//! ```text
//!            ≥ 70 % of ≥ 10 attempts in 5 minutes are bad
//!   closed ───────────────────────────────────────────────▶ open: wait (1 s), probe; a bad probe waits twice as long (to 30 s)
//!      ▲                                                     │
//!      └──────────── an attempt succeeds, or a hand resets ──┘
//! ```
//!
//! A probe is a delivery's next attempt like any other. Rows are neither moved nor dropped nor sent before they are due; the
//! lane is parked as a whole. What began before the breaker opened tells nothing but, if it succeeds, that the receiver is
//! back. There is no half-open state: after a success the window begins anew, and ten more attempts decide.
//!
//! Three of four probes go to deliveries that have failed before, where one is due: if each went to a new one, none would ever run
//! out of retries, and an endpoint that is dead for good would never be called failing. The fourth is for new ones: it
//! may be that only those before can't be taken.

use super::Micros;

/// What an attempt says about its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It took the delivery.
    Good,
    /// Unreachable, too late, an answer that is no success.
    Bad,
    /// Nothing: it was cut off, or the answer has consequences of its own (410, 429).
    Neither,
}

/// Memory of attempts: so many buckets of so long each.
const BUCKETS: usize = 5;
const BUCKET_US: Micros = 60_000_000;
/// Fewest attempts that decide, and how many in a hundred of them must be bad.
const ATTEMPTS_MIN: u32 = 10;
const BAD_PERCENT: u32 = 70;
/// Pause before the first probe; each bad one doubles it.
const PAUSE_MIN_US: Micros = 1_000_000;
const PAUSE_MAX_US: Micros = 30_000_000;
/// Of so many probes one is for deliveries that were never tried.
const PROBES_A_FRESH: u32 = 4;

#[derive(Clone, Copy, Default)]
struct Bucket {
    attempts: u32,
    bad: u32,
}

#[derive(Clone, Copy)]
struct Open {
    pause: Micros,
    next_at: Micros,
    /// That were bad.
    probes: u32,
}

#[derive(Default)]
pub struct Breaker {
    buckets: [Bucket; BUCKETS],
    /// The bucket of now, counted from 1970.
    newest: i64,
    open: Option<Open>,
}

/// What changed: when the next probe may start, or that the breaker is closed.
pub type Change = Option<Option<Micros>>;

impl Breaker {
    /// As the database tells it: somebody else may have found it open.
    pub fn told(throttled_until: Option<Micros>) -> Self {
        let open = throttled_until.map(|next_at| Open { pause: PAUSE_MIN_US, next_at, probes: 0 });
        Self { open, ..Self::default() }
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// No start before this.
    pub fn next_at(&self) -> Micros {
        self.open.map_or(Micros::MIN, |open| open.next_at)
    }

    /// Whether the next probe is for a delivery that has failed before, where one is due.
    pub fn prefers_retries(&self) -> bool {
        self.open.is_some_and(|open| !open.probes.wrapping_add(1).is_multiple_of(PROBES_A_FRESH))
    }

    /// An attempt has ended. `probe`: it began while the breaker was open.
    pub fn ended(&mut self, sign: Sign, probe: bool, now: Micros) -> Change {
        let Some(open) = &mut self.open else { return self.count(sign, now) };
        match sign {
            Sign::Good => {
                *self = Self::default();
                Some(None)
            }
            Sign::Bad | Sign::Neither if !probe => None,
            Sign::Bad | Sign::Neither => {
                if sign == Sign::Bad {
                    open.pause = (open.pause * 2).min(PAUSE_MAX_US);
                    open.probes = open.probes.wrapping_add(1);
                }
                open.next_at = now + open.pause;
                Some(Some(open.next_at))
            }
        }
    }

    fn count(&mut self, sign: Sign, now: Micros) -> Change {
        if sign == Sign::Neither {
            return None;
        }
        self.turn(now / BUCKET_US);
        let bucket = &mut self.buckets[place(self.newest)];
        bucket.attempts = bucket.attempts.saturating_add(1);
        if sign == Sign::Good {
            return None;
        }
        bucket.bad = bucket.bad.saturating_add(1);
        let sum =
            |of: fn(&Bucket) -> u32| self.buckets.iter().map(|bucket| u64::from(of(bucket))).sum::<u64>();
        let (attempts, bad) = (sum(|bucket| bucket.attempts), sum(|bucket| bucket.bad));
        if attempts < u64::from(ATTEMPTS_MIN) || bad * 100 < attempts * u64::from(BAD_PERCENT) {
            return None;
        }
        let next_at = now + PAUSE_MIN_US;
        *self = Self::told(Some(next_at));
        Some(Some(next_at))
    }

    /// Forgets what is older than the window. A clock that steps back a little changes nothing.
    fn turn(&mut self, newest: i64) {
        let first_new = (self.newest + 1).max(newest - BUCKETS as i64 + 1);
        for bucket in first_new..=newest {
            self.buckets[place(bucket)] = Bucket::default();
        }
        self.newest = self.newest.max(newest);
    }
}

fn place(bucket: i64) -> usize {
    usize::try_from(bucket.rem_euclid(BUCKETS as i64)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Micros = 1_000_000;

    fn ended(breaker: &mut Breaker, sign: Sign, times: usize, now: Micros) -> Change {
        (0..times).map(|_| breaker.ended(sign, breaker.is_open(), now)).last().flatten()
    }

    #[test]
    fn ten_attempts_of_which_seven_are_bad_open_it() {
        let mut breaker = Breaker::default();
        assert_eq!(ended(&mut breaker, Sign::Good, 3, 0), None);
        assert_eq!(ended(&mut breaker, Sign::Neither, 30, 0), None);
        assert_eq!(ended(&mut breaker, Sign::Bad, 6, 0), None);
        assert!(!breaker.is_open() && breaker.next_at() < 0);
        assert_eq!(ended(&mut breaker, Sign::Bad, 1, 0), Some(Some(SECOND)));
        assert!(breaker.is_open());
    }

    #[test]
    fn what_is_older_than_five_minutes_is_forgotten() {
        let mut breaker = Breaker::default();
        ended(&mut breaker, Sign::Bad, 9, 59 * SECOND);
        assert_eq!(
            ended(&mut breaker, Sign::Bad, 1, 300 * SECOND),
            None,
            "the tenth, but the first nine are old"
        );
        ended(&mut breaker, Sign::Good, 1_000, 301 * SECOND);
        assert_eq!(ended(&mut breaker, Sign::Bad, 10, 600 * SECOND), Some(Some(601 * SECOND)));
    }

    #[test]
    fn a_bad_probe_doubles_the_pause_and_a_success_closes() {
        let mut breaker = Breaker::default();
        ended(&mut breaker, Sign::Bad, 10, 0);
        assert_eq!(breaker.ended(Sign::Bad, false, 0), None, "it began before");
        for pause in [2, 4, 8, 16, 30, 30] {
            assert_eq!(breaker.ended(Sign::Neither, true, 0), Some(Some(breaker.next_at())), "no doubling");
            assert_eq!(breaker.ended(Sign::Bad, true, 100 * SECOND), Some(Some((100 + pause) * SECOND)));
        }
        assert_eq!(breaker.ended(Sign::Good, false, 0), Some(None), "whenever it began");
        assert!(!breaker.is_open());
        assert_eq!(ended(&mut breaker, Sign::Bad, 9, 0), None, "counted anew");
        assert_eq!(ended(&mut breaker, Sign::Bad, 1, 0), Some(Some(SECOND)));
    }

    #[test]
    fn one_probe_of_four_is_for_what_was_never_tried() {
        let mut breaker = Breaker::default();
        assert!(!breaker.prefers_retries(), "it is closed");
        ended(&mut breaker, Sign::Bad, 10, 0);
        let probes: Vec<bool> = (0..8)
            .map(|_| {
                let retries = breaker.prefers_retries();
                breaker.ended(Sign::Bad, true, 0);
                retries
            })
            .collect();
        assert_eq!(probes, [true, true, true, false, true, true, true, false]);
    }

    #[test]
    fn one_that_somebody_else_has_found_open_is_open() {
        let mut breaker = Breaker::told(Some(7));
        assert!(breaker.is_open() && breaker.next_at() == 7);
        assert_eq!(breaker.ended(Sign::Bad, true, 0), Some(Some(2 * SECOND)));
        assert!(!Breaker::told(None).is_open());
    }

    proptest! {
        /// It opens if, and as soon as, the attempts that it remembers say so: none of the last four minutes is missing,
        /// and none is older than five.
        #[test]
        fn it_opens_when_the_window_says_so(
            steps in proptest::collection::vec((0_i64..40, 0_u8..10), 0..120), bad_of_ten in 0_u8..10,
        ) {
            let (mut breaker, mut seen, mut now) = (Breaker::default(), Vec::new(), 1_000 * SECOND);
            for (pause, draw) in steps {
                now += pause * SECOND;
                let bad = draw < bad_of_ten;
                seen.push((now / BUCKET_US, bad));
                let window: Vec<bool> = seen
                    .iter()
                    .filter(|(minute, _)| now / BUCKET_US - minute < BUCKETS as i64)
                    .map(|(_, bad)| *bad)
                    .collect();
                let share = window.iter().filter(|bad| **bad).count() * 100;
                let opens = bad && window.len() >= 10 && share >= window.len() * 70;
                let change = breaker.ended(if bad { Sign::Bad } else { Sign::Good }, false, now);
                prop_assert_eq!(change, opens.then_some(Some(now + SECOND)));
                if opens {
                    break;
                }
            }
        }
    }
}
