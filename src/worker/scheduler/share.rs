//! What a lane, or a tenant, has had of the slots. Slot-time is what is shared: a slow receiver pays for its slowness.
//!
//! Everybody counts the slot-time that they have had, and whoever has had least is next. A start is charged what its lane's
//! attempts usually take, and settled when it ends. The *clock* of a line is the count of whoever was served last: who comes
//! back after a while begins there, without credit for the time away. That is fair queueing by start times. Deficits would
//! need a quantum that fits costs from a millisecond to half a minute: where it is small, rounds pass without a start; where
//! it is large, a round is unfair.

use super::Micros;

/// What an attempt is charged before its lane knows better.
const FIRST_GUESS: Micros = 100_000;
/// A new attempt counts for one part of so many in what attempts usually take.
const MEMORY: Micros = 8;
/// Furthest that anybody is behind the clock for attempts that took longer than was thought: nobody starves for old debts.
pub const DEBT_MAX: Micros = 120_000_000;

/// How long a lane's attempts take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usual(Option<Micros>);

impl Usual {
    pub fn guess(self) -> Micros {
        self.0.unwrap_or(FIRST_GUESS)
    }

    pub fn learn(&mut self, took: Micros) {
        self.0 = Some(self.0.map_or(took, |usual| usual + (took - usual) / MEMORY));
    }
}

/// Slot-time that somebody has had.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share(Micros);

impl Share {
    /// The count to stand in line with.
    pub fn at(self, clock: Micros) -> Micros {
        self.0.max(clock)
    }

    /// Charges a start, and moves the line's clock on.
    pub fn charge(&mut self, clock: &mut Micros, cost: Micros) {
        *clock = self.at(*clock);
        self.0 = *clock + cost;
    }

    /// Puts right what was charged.
    pub fn settle(&mut self, clock: Micros, missing: Micros) {
        self.0 = (self.0 + missing).min(clock + DEBT_MAX);
    }

    /// Whether forgetting it changes nothing.
    pub fn is_even(self, clock: Micros) -> bool {
        self.0 <= clock
    }
}
