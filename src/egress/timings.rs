//! How long the phases of one exchange took, and which one is under way.
//!
//! A phase is reported only if this exchange went through it to its end: one that took a connection of the pool has neither
//! look-up nor connect nor TLS. Time spent waiting for a place among the open connections is in the total alone. The first
//! byte stands for the whole response head.

use std::time::Duration;

use tokio::time::Instant;

/// Milliseconds, rounded down. `None`: the phase didn't occur, or not to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    pub dns_ms: Option<u32>,
    /// To the receiver, or to the proxy and on to the receiver.
    pub connect_ms: Option<u32>,
    pub tls_ms: Option<u32>,
    /// From the connection being ready to the end of the response head.
    pub first_byte_ms: Option<u32>,
    pub total_ms: u32,
}

/// What an exchange is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Lookup,
    /// A place among the open connections.
    Room,
    Connect,
    Tls,
    Answer,
}

/// One exchange on its way.
pub(super) struct Progress {
    began: Instant,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    timings: Timings,
}

impl Progress {
    pub(super) fn begin(now: Instant) -> Progress {
        Progress { began: now, phase: Phase::Answer, since: now, timings: Timings::default() }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// The phase under way has ended well, and another one begins.
    pub(super) fn enter(&mut self, phase: Phase) {
        let now = Instant::now();
        let took = Some(as_ms(now - self.since));
        match self.phase {
            Phase::Lookup => self.timings.dns_ms = took,
            Phase::Connect => self.timings.connect_ms = took,
            Phase::Tls => self.timings.tls_ms = took,
            Phase::Room | Phase::Answer => {}
        }
        (self.phase, self.since) = (phase, now);
    }

    /// The response head is complete.
    pub(super) fn answered(&mut self) {
        self.timings.first_byte_ms = Some(as_ms(self.since.elapsed()));
    }

    pub(super) fn end(self) -> Timings {
        Timings { total_ms: as_ms(self.began.elapsed()), ..self.timings }
    }
}

fn as_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
