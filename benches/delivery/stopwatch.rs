//! When each numbered event was to be sent and when it came, and what lies between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use hdrhistogram::Histogram;

/// Decimal digits that a latency is kept with.
const SIGNIFICANT_DIGITS: u8 = 3;

pub struct Stopwatch {
    zero: Instant,
    /// Nanoseconds since `zero`; 0 is never.
    sent: Box<[AtomicU64]>,
    received: Box<[AtomicU64]>,
}

impl Stopwatch {
    pub fn new(events: usize) -> Arc<Self> {
        let never = || (0..events).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { zero: Instant::now(), sent: never(), received: never() })
    }

    fn since_zero(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.zero).as_nanos()).unwrap().max(1)
    }

    pub fn sent(&self, number: usize, at: Instant) {
        self.sent[number].store(self.since_zero(at), Ordering::Relaxed);
    }

    /// The first receipt counts.
    pub fn received(&self, number: usize) {
        if let Some(receipt) = self.received.get(number) {
            let now = self.since_zero(Instant::now());
            let _ = receipt.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Of the events from number `first` on; those before it warm up.
    pub fn latencies(&self, first: usize) -> Latencies {
        let mut histogram = Histogram::new(SIGNIFICANT_DIGITS).unwrap();
        for (sent, received) in self.sent.iter().zip(&self.received).skip(first) {
            let (sent, received) = (sent.load(Ordering::Relaxed), received.load(Ordering::Relaxed));
            assert!(sent > 0 && received > 0, "every event was sent and came");
            histogram.record(received.saturating_sub(sent)).unwrap();
        }
        Latencies(histogram)
    }
}

pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e6
    }

    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1e6
    }
}
