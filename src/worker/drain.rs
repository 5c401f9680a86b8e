//! Which commands are obeyed: those whose shard has nothing in flight that began before they were read, and no result of it
//! that is not on disk. Pure.

use std::collections::HashMap;

use crate::types::Shard;

/// Tags every attempt with the configuration it began under.
#[derive(Default)]
pub struct Drain {
    generation: u64,
    in_flight: HashMap<(Shard, u64), usize>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    shard: Shard,
    version: i64,
    up_to: u64,
}

impl Drain {
    /// An attempt begins; the answer goes to [`Drain::ends`].
    pub fn begins(&mut self, shard: Shard) -> u64 {
        *self.in_flight.entry((shard, self.generation)).or_default() += 1;
        self.generation
    }

    pub fn ends(&mut self, shard: Shard, generation: u64) {
        if let Some(count) = self.in_flight.get_mut(&(shard, generation)) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&(shard, generation));
            }
        }
    }

    /// The configuration of these shards has been read anew: attempts from now on obey it.
    pub fn commanded(&mut self, shards: &[(Shard, i64)]) {
        let up_to = self.generation;
        self.generation += 1;
        self.waiting.extend(shards.iter().map(|(shard, version)| Waiting {
            shard: *shard,
            version: *version,
            up_to,
        }));
    }

    /// Whether the command, or a later one, has been read and waits for what is in flight.
    pub fn is_on(&self, (shard, version): (Shard, i64)) -> bool {
        self.waiting.iter().any(|waiting| waiting.shard == shard && waiting.version >= version)
    }

    /// What can be acknowledged.
    pub fn obeyed(&mut self) -> Vec<(Shard, i64)> {
        let in_flight = &self.in_flight;
        let is_busy = |waiting: &Waiting| {
            in_flight
                .keys()
                .any(|(shard, generation)| *shard == waiting.shard && *generation <= waiting.up_to)
        };
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let (busy, done): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(is_busy);
        self.waiting = busy;
        done.into_iter().map(|waiting| (waiting.shard, waiting.version)).collect()
    }

    /// The shards are somebody else's.
    pub fn forget(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_command_waits_for_what_began_before_it_alone() {
        let (one, other) = (Shard::from_column(1), Shard::from_column(2));
        let mut drain = Drain::default();
        let before = drain.begins(one);
        drain.commanded(&[(one, 5), (other, 7)]);
        assert_eq!(drain.obeyed(), [(other, 7)]);
        let after = drain.begins(one);
        assert!(drain.obeyed().is_empty());
        drain.ends(one, before);
        assert_eq!(drain.obeyed(), [(one, 5)], "what began after the command doesn't hold it up");
        drain.ends(one, after);
        assert!(drain.obeyed().is_empty());
    }

    #[test]
    fn a_command_is_on_until_it_is_obeyed() {
        let shard = Shard::from_column(1);
        let mut drain = Drain::default();
        let began = drain.begins(shard);
        drain.commanded(&[(shard, 5)]);
        assert!(drain.is_on((shard, 5)) && drain.is_on((shard, 4)) && !drain.is_on((shard, 6)));
        drain.ends(shard, began);
        assert_eq!(drain.obeyed(), [(shard, 5)]);
        assert!(!drain.is_on((shard, 5)));
    }

    proptest! {
        /// Whatever begins, ends and is commanded in whatever order: nothing that began before a command is in flight when
        /// it is obeyed, and it is obeyed as soon as that is so.
        #[test]
        fn obeyed_means_that_nothing_older_is_in_flight(steps in proptest::collection::vec((0_u8..4, 0_i32..3, 0_usize..8), 0..200)) {
            let mut drain = Drain::default();
            // Shard, generation, and when it began; shard, version, and when it was commanded.
            let mut in_flight: Vec<(Shard, u64, usize)> = Vec::new();
            let mut open: Vec<(Shard, i64, usize)> = Vec::new();
            for (now, (kind, shard, which)) in steps.into_iter().enumerate() {
                let shard = Shard::from_column(shard);
                match kind {
                    0 => in_flight.push((shard, drain.begins(shard), now)),
                    1 if !in_flight.is_empty() => {
                        let (shard, generation, _) = in_flight.swap_remove(which % in_flight.len());
                        drain.ends(shard, generation);
                    }
                    2 => {
                        let version = i64::try_from(now).unwrap();
                        drain.commanded(&[(shard, version)]);
                        open.push((shard, version, now));
                    }
                    _ => {
                        let obeyed = drain.obeyed();
                        let is_free = |(shard, _, at): &(Shard, i64, usize)| {
                            in_flight.iter().all(|(other, _, began)| other != shard || began > at)
                        };
                        let expected: Vec<_> = open.iter().filter(|one| is_free(one)).map(|one| (one.0, one.1)).collect();
                        prop_assert_eq!(&obeyed, &expected);
                        open.retain(|one| !is_free(one));
                    }
                }
            }
        }
    }
}
