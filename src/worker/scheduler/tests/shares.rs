//! Slots are shared out by slot-time: between tenants, and within a tenant between its endpoints.

use proptest::prelude::*;

use super::{
    simulation::{Receiver, Simulation},
    *,
};

const MS: Micros = 1_000;
/// Rows that never come to an end.
const MANY: u32 = 1_000_000;

/// The slot-time of the first `count` receivers, and that of the others.
fn halves(simulation: &Simulation, count: usize) -> (f64, f64) {
    let (one, other) = simulation.served.split_at(count);
    let sum = |served: &[Micros]| served.iter().map(|us| *us as f64).sum();
    (sum(one), sum(other))
}

fn busy(tenant: u8, took: Micros) -> Receiver {
    Receiver { tenant, max_in_flight: 256, took, waiting: MANY, sign: Sign::Good }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn two_tenants_that_want_everything_get_the_same_slot_time(
        of_one in proptest::collection::vec(1_i64..20, 1..6), of_other in proptest::collection::vec(1_i64..20, 1..6),
    ) {
        let one = of_one.iter().map(|tenths| busy(1, tenths * 100 * MS));
        let other = of_other.iter().map(|tenths| busy(2, tenths * 100 * MS));
        let receivers: Vec<Receiver> = one.chain(other).collect();
        let mut simulation = Simulation::new(64, &receivers);
        simulation.run(100 * SECOND);
        let (one, other) = halves(&simulation, of_one.len());
        prop_assert!((one / other - 1.0).abs() < 0.1, "{one} and {other}");
    }

    #[test]
    fn two_endpoints_of_a_tenant_that_want_everything_get_the_same_slot_time(one in 1_i64..20, other in 1_i64..20) {
        let receivers = [busy(1, one * 100 * MS), busy(1, other * 100 * MS)];
        let mut simulation = Simulation::new(64, &receivers);
        simulation.run(100 * SECOND);
        let (one, other) = halves(&simulation, 1);
        prop_assert!((one / other - 1.0).abs() < 0.1, "{one} and {other}");
    }

    /// However many hang, and in whatever order they came: whoever comes is served at once.
    #[test]
    fn a_tenant_that_comes_finds_a_free_slot_however_many_hang(
        hanging in proptest::collection::vec((1_u8..30, 1_u32..256), 1..200),
    ) {
        let hang = |(tenant, max_in_flight): &(u8, u32)| {
            Receiver { tenant: *tenant, max_in_flight: *max_in_flight, took: 1_000 * SECOND, waiting: 0, sign: Sign::Good }
        };
        let mut receivers: Vec<Receiver> = hanging.iter().map(hang).collect();
        receivers.push(Receiver { tenant: 200, max_in_flight: 1, took: 10 * MS, waiting: 0, sign: Sign::Good });
        let mut simulation = Simulation::new(512, &receivers);
        for receiver in 0..hanging.len() {
            simulation.waits_for(receiver, MANY);
            simulation.run(100 * MS);
        }
        for second in 0..10 {
            simulation.arrives(hanging.len(), second * SECOND);
        }
        simulation.run(60 * SECOND);
        prop_assert_eq!(&simulation.waits[hanging.len()], &vec![0; 10]);
    }
}

#[test]
fn a_lane_alone_takes_what_its_cap_allows() {
    let mut simulation = Simulation::new(512, &[busy(1, 30 * SECOND)]);
    simulation.run(SECOND);
    assert_eq!(simulation.in_flight(0), 256);
}

#[test]
fn a_slow_endpoint_pays_for_its_slowness() {
    // Both could fill the slots. The one that takes a hundred times as long gets a hundredth of the starts.
    let mut simulation = Simulation::new(16, &[busy(1, 10_000 * MS), busy(2, 100 * MS)]);
    simulation.run(600 * SECOND);
    let starts = |receiver| simulation.starts.iter().filter(|(_, other)| *other == receiver).count();
    let ratio = starts(1) as f64 / starts(0) as f64;
    assert!((80.0..125.0).contains(&ratio), "{ratio}");
}

/// The longest wait, and that of 99 in 100, of a tenant that publishes bursts to a fast endpoint.
fn waits_beside(neighbours: &[Receiver]) -> (Micros, Micros) {
    let mut receivers =
        vec![Receiver { tenant: 1, max_in_flight: 8, took: 10 * MS, waiting: 0, sign: Sign::Good }];
    receivers.extend(neighbours);
    let mut simulation = Simulation::new(512, &receivers);
    for burst in 0..600 {
        for _ in 0..20 {
            simulation.arrives(0, burst * 100 * MS);
        }
    }
    simulation.run(60 * SECOND);
    let mut waits = simulation.waits[0].clone();
    waits.sort_unstable();
    assert_eq!(waits.len(), 12_000, "all have been sent");
    (waits[waits.len() - 1], waits[waits.len() * 99 / 100])
}

#[test]
fn a_hundred_thousand_rows_for_receivers_that_hang_make_nobody_wait_twice_as_long() {
    let hanging =
        |tenant, waiting| Receiver { tenant, max_in_flight: 8, took: 30 * SECOND, waiting, sign: Sign::Bad };
    let alone = waits_beside(&[]);
    for neighbours in [
        vec![hanging(1, 100_000)],
        vec![hanging(2, 100_000)],
        // More than all the slots.
        vec![hanging(2, 1_600); 64],
        vec![hanging(1, 1_600); 64],
        (2..32).map(|tenant| hanging(tenant, 4_000)).collect(),
    ] {
        let (beside, count) = (waits_beside(&neighbours), neighbours.len());
        assert!(
            beside.0 <= 2 * alone.0 && beside.1 <= 2 * alone.1,
            "{count}: {beside:?} µs beside, {alone:?} alone"
        );
    }
}
