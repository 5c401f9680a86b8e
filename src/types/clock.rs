//! Time as the database tells it, and the ids stamped with it.
//!
//! Wall clocks of nodes jump and disagree, so nothing durable is stamped with one: a [`Clock`] is this process's monotonic
//! clock plus a measured offset to Postgres's `clock_timestamp()`, measured again with every beat. It is never ahead of
//! Postgres's but for drift, and ids minted by one process rise strictly. It deliberately doesn't promise that two
//! processes agree to better than a round trip.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::RngExt;
use serde::{Serialize, Serializer};
use time::{
    OffsetDateTime, PrimitiveDateTime, format_description::well_known::Rfc3339, macros::format_description,
};
use utoipa::openapi::{KnownFormat, SchemaFormat};
use uuid::Uuid;

use super::{
    ids::Shard,
    schema::{described, text},
};

/// A point in time, UTC. On the wire: RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    pub fn from_unix_us(unix_us: i64) -> Self {
        let nanos = i128::from(unix_us) * 1_000;
        let furthest = if unix_us < 0 { PrimitiveDateTime::MIN } else { PrimitiveDateTime::MAX };
        Self(OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(furthest.assume_utc()))
    }

    pub fn unix_us(self) -> i64 {
        i64::try_from(self.0.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
    }

    pub fn unix_s(self) -> i64 {
        self.0.unix_timestamp()
    }

    pub fn datetime(self) -> OffsetDateTime {
        self.0
    }

    /// When Posthaste received what this id names.
    pub fn of_id(id: Uuid) -> Self {
        let [a, b, c, d, e, f, ..] = *id.as_bytes();
        let ms = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Self::from_unix_us(i64::try_from(ms).unwrap_or_default() * 1_000)
    }

    /// Reads RFC 3339 with any offset and cuts it to the milliseconds that the wire carries. Years 1970 to 9999: the
    /// envelope's `created_at` counts seconds from 1970.
    pub fn parse(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(time::UtcOffset::UTC)?;
        let ms = at.unix_timestamp_nanos().div_euclid(1_000_000);
        (ms >= 0).then(|| Self::from_unix_us(i64::try_from(ms).unwrap_or_default() * 1_000))
    }

    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }

    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }

    /// Smallest UUIDv7 of this millisecond: a bound for key ranges.
    pub fn lowest_id(self) -> Uuid {
        let ms = u64::try_from(self.unix_us() / 1_000).unwrap_or_default();
        Uuid::from_u128(u128::from(ms) << 80)
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(at: OffsetDateTime) -> Self {
        Self(at)
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let format =
            format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        f.write_str(&self.0.format(format).map_err(|_| std::fmt::Error)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

described!(
    Timestamp,
    "Timestamp",
    text("A time, UTC, with milliseconds.", "2026-11-20T10:00:00.000Z")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
);

/// How much a [`Clock`] gives way to an answer that seems to be late, each time: more than two clocks drift between beats.
const DRIFT_US: i64 = 1_000;
/// An answer that is so late means that the database's clock was set back.
const STEP_US: i64 = 10_000_000;

/// Database time on this process's monotonic clock. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    base: Instant,
    /// Database time at `base`, microseconds since 1970.
    base_unix_us: AtomicI64,
    /// The 60 leading time bits of the last id minted.
    last_stamp: AtomicU64,
}

impl Clock {
    /// `database_unix_us` was read by a statement that was sent at `sent` and has been answered.
    pub fn synced(database_unix_us: i64, sent: Instant) -> Self {
        let clock = Self(Arc::new(Inner {
            base: sent,
            base_unix_us: AtomicI64::new(i64::MIN / 2),
            last_stamp: AtomicU64::new(0),
        }));
        clock.sync(database_unix_us);
        clock
    }

    /// Corrects the offset by what the database has just answered. It read its clock some time before, so what is kept is
    /// the latest of such readings: this clock is a little behind the database's, and nothing that waits for a time of the
    /// database's comes early. A slow answer does not set it back by more than drift explains.
    pub fn sync(&self, database_unix_us: i64) {
        let read_us = database_unix_us - micros(self.0.base.elapsed());
        let kept = |kept_us: i64| {
            let is_step = kept_us - read_us > STEP_US;
            if is_step { read_us } else { read_us.max(kept_us - DRIFT_US) }
        };
        let _ = self.0.base_unix_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |us| Some(kept(us)));
    }

    pub fn now(&self) -> Timestamp {
        let since_base_us = micros(self.0.base.elapsed());
        Timestamp::from_unix_us(self.0.base_unix_us.load(Ordering::Relaxed) + since_base_us)
    }

    /// A UUIDv7 outside any location.
    pub fn mint<I: From<Uuid>>(&self) -> I {
        let random: u64 = rand::rng().random();
        self.stamp(random).into()
    }

    /// A UUIDv7 inside a location: its last 12 bits are the location's shard.
    pub fn mint_in<I: From<Uuid>>(&self, shard: Shard) -> I {
        let random: u64 = rand::rng().random();
        self.stamp((random & !0xfff) | u64::from(shard.bits())).into()
    }

    /// Layout of RFC 9562, method 3: 48 bits of milliseconds, version, 12 bits of the millisecond's fraction.
    fn stamp(&self, random: u64) -> Uuid {
        let now_us = u64::try_from(self.now().unix_us()).unwrap_or_default();
        let fraction = (now_us % 1_000) * 4_096 / 1_000;
        let wanted = ((now_us / 1_000) << 12) | fraction;
        let previous = self
            .0
            .last_stamp
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(wanted.max(last + 1)))
            .unwrap_or_else(|last| last);
        let stamp = wanted.max(previous + 1);
        let high = ((stamp >> 12) << 16) | 0x7000 | (stamp & 0xfff);
        let low = (random & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        Uuid::from_u64_pair(high, low)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_and_carry_time_and_shard() {
        let clock = Clock::synced(1_795_168_800_123_456, Instant::now());
        let shard = Shard::from_column(0xabc);
        let ids: Vec<Uuid> = (0..10_000).map(|_| clock.mint_in(shard)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.iter().all(|id| Shard::of(*id) == shard && id.get_version_num() == 7));
        let at = Timestamp::of_id(ids[0]).unix_us();
        assert!((1_795_168_800_123_000..1_795_168_860_000_000).contains(&at), "{at}");
    }

    #[test]
    fn a_clock_is_never_ahead_and_hardly_moved_by_slow_answers() {
        const NOON_US: i64 = 1_795_168_800_000_000;
        const SECOND_US: i64 = 1_000_000;
        let clock = Clock::synced(NOON_US, Instant::now());
        let ahead_us = || clock.0.base_unix_us.load(Ordering::Relaxed) - NOON_US;
        let first_us = ahead_us();
        assert!(first_us <= 0);
        // An answer that took a second on its way back.
        clock.sync(NOON_US - SECOND_US);
        assert_eq!(ahead_us(), first_us - DRIFT_US);
        // A prompt one, and one from a database whose clock was set back by an hour.
        clock.sync(NOON_US + 5 * SECOND_US);
        assert!((4 * SECOND_US..=5 * SECOND_US).contains(&ahead_us()));
        clock.sync(NOON_US - 3_600 * SECOND_US);
        assert!(ahead_us() <= -3_600 * SECOND_US);
    }

    #[test]
    fn timestamps_are_rfc_3339_with_milliseconds() {
        let at = Timestamp::parse("2026-11-20T12:00:00.123999+02:00").unwrap();
        assert_eq!(at.to_string(), "2026-11-20T10:00:00.123Z");
        for wrong in ["", "2026-11-20", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z", "yesterday"] {
            assert!(Timestamp::parse(wrong).is_none(), "{wrong}");
        }
    }
}
