//! How many deliveries of an endpoint ended in which way, by the hour in which their events were published.
//!
//! Guarantee: `endpoint_stats` says at any time what is found by counting rows, since whatever moves a delivery into an end or
//! out of one counts it in the same transaction, from what the statement truly changed. [`super::finish`] does so within its
//! statement; everything else (retry, cancel, and whatever does the same to many deliveries) calls [`count`] with what its
//! statements returned. Pending deliveries are not counted here: they are the rows of the queue.
//!
//! Lock order: rows of the queue first, then rows of `endpoint_stats`, these in the order of their key.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::types::{EndpointId, EventId};

pub const HOUR_MS: u64 = 60 * 60 * 1_000;

/// A UUIDv7 begins with its milliseconds.
const MS_SHIFT: u32 = 80;

/// Buckets of latency to a doubling.
const BUCKETS_PER_DOUBLING: f64 = 4.0;
/// Buckets of latency: up to 2^15.75 ms, some 55 s, which no attempt reaches.
const LATENCY_BUCKETS: u8 = 64;

/// Ways in which a delivery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Succeeded,
    Failed,
    Canceled,
}

impl End {
    /// From `settled.status`.
    pub fn from_settled(status: &str) -> Option<Self> {
        match status {
            "failed" => Some(Self::Failed),
            "canceled" => Some(Self::Canceled),
            _ => None,
        }
    }
}

/// A delivery that has ended, or has been taken out of an end to start again.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub endpoint_id: EndpointId,
    pub event_id: EventId,
    /// `None`: it was pending.
    pub from: Option<End>,
    /// `None`: it is pending.
    pub to: Option<End>,
}

/// Counts these changes, in the transaction that made them. Only those that truly happened may be given.
pub async fn count(db: &mut PgConnection, changes: &[Change]) -> sqlx::Result<()> {
    let mut sums: BTreeMap<(i32, Uuid, Uuid), [i32; 3]> = BTreeMap::new();
    for change in changes {
        let key =
            (change.endpoint_id.shard().column(), change.endpoint_id.uuid(), hour_of(change.event_id.uuid()));
        let sum = sums.entry(key).or_default();
        for (end, by) in [(change.from, -1), (change.to, 1)] {
            match end {
                Some(End::Succeeded) => sum[0] += by,
                Some(End::Failed) => sum[1] += by,
                Some(End::Canceled) => sum[2] += by,
                None => {}
            }
        }
    }
    sums.retain(|_, sum| *sum != [0; 3]);
    if sums.is_empty() {
        return Ok(());
    }
    let shards: Vec<i32> = sums.keys().map(|key| key.0).collect();
    let endpoints: Vec<Uuid> = sums.keys().map(|key| key.1).collect();
    let hours: Vec<Uuid> = sums.keys().map(|key| key.2).collect();
    let column = |at: usize| sums.values().map(|sum| sum[at]).collect::<Vec<i32>>();
    sqlx::query!(
        "INSERT INTO endpoint_stats AS t (shard, endpoint_id, hour, succeeded, failed, canceled, latency)
         SELECT c.shard, c.endpoint_id, c.hour, c.succeeded, c.failed, c.canceled, '{}'
         FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::int[], $5::int[], $6::int[])
             AS c(shard, endpoint_id, hour, succeeded, failed, canceled)
         ON CONFLICT (shard, endpoint_id, hour) DO UPDATE SET succeeded = t.succeeded + excluded.succeeded,
             failed = t.failed + excluded.failed, canceled = t.canceled + excluded.canceled",
        &shards,
        &endpoints,
        &hours,
        &column(0),
        &column(1),
        &column(2)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The hour of what this id names, as its lowest id.
pub fn hour_of(id: Uuid) -> Uuid {
    let ms = u64::try_from(id.as_u128() >> MS_SHIFT).unwrap_or_default();
    hour_at(ms / HOUR_MS)
}

/// The lowest id of an hour, by its number since 1970.
pub fn hour_at(hour: u64) -> Uuid {
    Uuid::from_u128(u128::from(hour * HOUR_MS) << MS_SHIFT)
}

/// Bucket of an attempt's duration, from 1: each reaches 2^(1/4) times as far as the one before, the first one 1 ms.
pub fn latency_bucket(duration_ms: i32) -> i16 {
    let place = (f64::from(duration_ms.max(1)).log2() * BUCKETS_PER_DOUBLING).ceil() + 1.0;
    #[expect(clippy::cast_possible_truncation, reason = "at most LATENCY_BUCKETS")]
    let place = place.min(f64::from(LATENCY_BUCKETS)) as i16;
    place
}

/// The duration below which this share of a histogram lies, in milliseconds. The middle of its bucket: off by 9 % at most
/// (and by the half of a millisecond that rounding takes).
pub fn latency_quantile(histogram: &[i64], share: f64) -> Option<i64> {
    let total: i64 = histogram.iter().sum();
    if total <= 0 {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a rank among deliveries"
    )]
    let rank = ((total as f64 * share).ceil() as i64).max(1);
    let mut below = 0;
    let place = histogram.iter().position(|count| {
        below += count;
        below >= rank
    })?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "at most LATENCY_BUCKETS"
    )]
    let ms = ((place as f64 - 0.5) / BUCKETS_PER_DOUBLING).exp2().round() as i64;
    Some(ms.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::Timestamp;

    proptest! {
        #[test]
        fn a_quantile_is_near_the_truth(mut durations in prop::collection::vec(0_i32..40_000, 1..200), share in 0.01..1.0_f64) {
            let mut histogram = vec![0_i64; usize::from(LATENCY_BUCKETS)];
            for duration in &durations {
                histogram[usize::try_from(latency_bucket(*duration)).unwrap() - 1] += 1;
            }
            durations.sort_unstable();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
            let rank = ((durations.len() as f64 * share).ceil() as usize).max(1);
            let truth = f64::from(durations[rank - 1].max(1));
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let told = latency_quantile(&histogram, share).unwrap() as f64;
            prop_assert!((told - truth).abs() <= truth * 0.091 + 0.5, "{told} for {truth}");
        }
    }

    #[test]
    fn an_hour_begins_with_its_lowest_id() {
        const NOON_MS: i64 = 1_795_168_800_000;
        let id = |ms: i64| Timestamp::from_unix_us(ms * 1_000).lowest_id();
        let in_it = Uuid::from_u128(id(NOON_MS + 3_599_999).as_u128() | 0xffff_ffff);
        assert_eq!(hour_of(in_it), id(NOON_MS));
        assert_eq!(hour_of(id(NOON_MS)), id(NOON_MS));
        assert_eq!(hour_of(id(NOON_MS - 1)), id(NOON_MS - 3_600_000));
        assert_eq!(latency_quantile(&[], 0.5), None);
    }
}
