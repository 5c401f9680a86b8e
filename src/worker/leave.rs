//! Shards that are on their way to another node: each goes when nothing of it is in flight, and no result of it waits to be
//! written. Pure.

use crate::types::{SHARD_COUNT, Shard};

/// Counts what is under way in every shard.
pub struct Leave {
    busy: Vec<u32>,
    leaving: Vec<Shard>,
}

impl Default for Leave {
    fn default() -> Self {
        Self { busy: vec![0; usize::from(SHARD_COUNT)], leaving: Vec::new() }
    }
}

impl Leave {
    /// An attempt begins, or a result begins to wait.
    pub fn begins(&mut self, shard: Shard) {
        self.busy[shard.index()] += 1;
    }

    pub fn ends(&mut self, shard: Shard) {
        let busy = &mut self.busy[shard.index()];
        *busy = busy.saturating_sub(1);
    }

    /// Nothing of these begins any more.
    pub fn told(&mut self, shards: &[Shard]) {
        self.leaving.extend(shards);
    }

    /// Those that can go now; each is named once.
    pub fn rested(&mut self) -> Vec<Shard> {
        if self.leaving.is_empty() {
            return Vec::new();
        }
        let busy = &self.busy;
        self.leaving.extract_if(.., |shard| busy[shard.index()] == 0).collect()
    }

    /// The shards are somebody else's already.
    pub fn forget(&mut self) {
        self.leaving.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_goes_when_all_that_began_in_it_has_ended() {
        let (idle, busy) = (Shard::from_column(1), Shard::from_column(2));
        let mut leave = Leave::default();
        leave.begins(busy);
        leave.begins(busy);
        leave.told(&[idle, busy]);
        assert_eq!(leave.rested(), [idle], "and the others don't wait for what is busy");
        leave.ends(busy);
        assert!(leave.rested().is_empty());
        leave.ends(busy);
        assert_eq!(leave.rested(), [busy]);
        assert!(leave.rested().is_empty(), "once");
    }

    #[test]
    fn what_is_lost_does_not_go_again() {
        let shard = Shard::from_column(3);
        let mut leave = Leave::default();
        leave.told(&[shard]);
        leave.forget();
        assert!(leave.rested().is_empty());
    }
}
