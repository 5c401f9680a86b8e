//! Which peers have stopped beating, judged by this node's own clock and by what it saw itself. Pure.
//!
//! Time in which this node could not look (Postgres was away, the process was stopped) counts for one beat at most: others
//! could not beat either, or did so unseen.

use std::{collections::HashMap, time::Duration};

use uuid::Uuid;

use crate::queue::ownership::{BEAT_EVERY, DEAD_AFTER};

#[derive(Default)]
pub struct Silence {
    peers: HashMap<Uuid, Peer>,
    looked_at_us: Option<i64>,
}

struct Peer {
    beat: i64,
    silent_us: i64,
}

impl Silence {
    /// Takes in what the peers' beats are now; names those that are dead, with the beat that they died at.
    pub fn look(&mut self, beats: &[(Uuid, i64)], now_us: i64) -> Vec<(Uuid, i64)> {
        // A beat's time twice: looks are that far apart, and a little more.
        let most_us = micros(BEAT_EVERY) * 2;
        let gap_us = self.looked_at_us.map_or(0, |at| (now_us - at).clamp(0, most_us));
        self.looked_at_us = Some(now_us);
        self.peers.retain(|peer, _| beats.iter().any(|(known, _)| known == peer));
        let mut dead = Vec::new();
        for (id, beat) in beats {
            let peer = self.peers.entry(*id).or_insert(Peer { beat: *beat, silent_us: -gap_us });
            if peer.beat == *beat {
                peer.silent_us += gap_us;
            } else {
                *peer = Peer { beat: *beat, silent_us: 0 };
            }
            if peer.silent_us >= micros(DEAD_AFTER) {
                dead.push((*id, *beat));
            }
        }
        dead
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_US: i64 = 1_000_000;

    fn ids() -> (Uuid, Uuid) {
        (Uuid::from_u128(1), Uuid::from_u128(2))
    }

    #[test]
    fn a_peer_is_dead_after_fifteen_seconds_without_a_beat() {
        let ((quiet, lively), mut silence) = (ids(), Silence::default());
        for at_s in [0, 3, 6, 9, 12] {
            assert_eq!(silence.look(&[(quiet, 7), (lively, at_s)], at_s * SECOND_US), []);
        }
        assert_eq!(silence.look(&[(quiet, 7), (lively, 15)], 15 * SECOND_US), [(quiet, 7)]);
    }

    #[test]
    fn time_that_nobody_looked_does_not_count() {
        let ((peer, _), mut silence) = (ids(), Silence::default());
        assert_eq!(silence.look(&[(peer, 1)], 0), []);
        assert_eq!(silence.look(&[(peer, 1)], 3_600 * SECOND_US), [], "an hour without Postgres");
        assert_eq!(silence.look(&[(peer, 1)], 3_603 * SECOND_US), []);
        assert_eq!(silence.look(&[(peer, 2)], 3_606 * SECOND_US), [], "it beats again");
    }

    proptest! {
        #[test]
        fn nobody_who_beat_within_fifteen_seconds_is_dead(
            looks in proptest::collection::vec((1_i64..20_000_000, any::<bool>()), 1..60),
        ) {
            let ((peer, _), mut silence) = (ids(), Silence::default());
            let (mut now_us, mut beat, mut beat_us) = (0, 0, 0);
            for (gap_us, beats) in looks {
                now_us += gap_us;
                if beats {
                    (beat, beat_us) = (beat + 1, now_us);
                }
                let dead = silence.look(&[(peer, beat)], now_us);
                prop_assert!(dead.is_empty() || now_us - beat_us >= micros(DEAD_AFTER));
            }
        }
    }
}
