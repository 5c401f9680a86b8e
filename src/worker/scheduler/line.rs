//! Who is next: of those in line that hold few enough slots, the one that has been served least. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Micros;

/// Where somebody stands in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Slots that are held, in the line's own measure.
    pub holds: usize,
    /// Slot-time so far.
    pub served: Micros,
}

/// In rows by what is held: slots are few, so that there are never more than some thirty rows.
pub struct Line<K> {
    rows: BTreeMap<usize, BTreeSet<(Micros, K)>>,
}

impl<K> Default for Line<K> {
    fn default() -> Self {
        Self { rows: BTreeMap::new() }
    }
}

impl<K: Copy + Ord> Line<K> {
    /// Joins, leaves, or moves from one place to another.
    pub fn shift(&mut self, key: K, from: Option<Place>, to: Option<Place>) {
        if from == to {
            return;
        }
        if let Some(Place { holds, served }) = from
            && let Some(row) = self.rows.get_mut(&holds)
        {
            row.remove(&(served, key));
            if row.is_empty() {
                self.rows.remove(&holds);
            }
        }
        if let Some(Place { holds, served }) = to {
            self.rows.entry(holds).or_default().insert((served, key));
        }
    }

    /// The least served of those that hold less than `limit`.
    pub fn first(&self, limit: usize) -> Option<K> {
        self.rows.range(..limit).filter_map(|(_, row)| row.first()).min().map(|(_, key)| *key)
    }

    /// What they hold who hold least.
    pub fn least_held(&self) -> Option<usize> {
        self.rows.first_key_value().map(|(holds, _)| *holds)
    }

    #[cfg(test)]
    pub fn keys(&self) -> Vec<K> {
        self.rows.values().flatten().map(|(_, key)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_served_of_those_that_hold_little_is_first(
            shifts in proptest::collection::vec((0_u8..6, proptest::option::of((0_usize..5, -3_i64..4))), 0..60),
            limit in 0_usize..6,
        ) {
            let (mut line, mut places) = (Line::default(), BTreeMap::new());
            for (key, to) in shifts {
                let to = to.map(|(holds, served)| Place { holds, served });
                line.shift(key, places.get(&key).copied(), to);
                places.remove(&key);
                places.extend(to.map(|to| (key, to)));
            }
            let below = places.iter().filter(|(_, place)| place.holds < limit);
            let first = below.min_by_key(|(key, place)| (place.served, **key)).map(|(key, _)| *key);
            prop_assert_eq!(line.first(limit), first);
            prop_assert_eq!(line.least_held(), places.values().map(|place| place.holds).min());
        }
    }
}
