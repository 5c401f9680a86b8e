//! Which commands are obeyed: those whose shard has nothing in flight that began before they were read. Pure.

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
}
