//! What a start costs, and what waiting costs. Run with `cargo test --release --lib cost -- --ignored --nocapture`.

use std::time::Instant;

use super::*;
use crate::worker::owner::LIMITS;

fn lane_of(number: u32) -> EndpointId {
    Uuid::from_u128(0xf000_0000 | u128::from(number)).into()
}

/// Lanes of a hundred tenants, open, each with rows waiting in the database.
fn with_lanes(limits: Limits, lanes: u32) -> Scheduler {
    let mut scheduler = Scheduler::new(limits);
    for lane in 0..lanes {
        scheduler.doubt(lane_of(lane), Uuid::nil(), 0);
        let terms = Terms { tenant_id: tenant(u8::try_from(lane % 100).unwrap()), max_in_flight: 8, ..OPEN };
        scheduler.configure(lane_of(lane), terms, 0);
    }
    scheduler
}

/// Reads as long as anything is wanted, `waiting` rows of each lane and no more. Each with a body of its own.
fn read_all(scheduler: &mut Scheduler, waiting: u32, body: usize) {
    loop {
        let rooms = scheduler.refills(REFILL, 0);
        if rooms.is_empty() {
            return;
        }
        let mut parcels = Vec::new();
        for room in &rooms {
            let after = u32::try_from(room.after.as_u128() >> 16).unwrap();
            for number in (after + 1..=waiting).take(room.fresh.try_into().unwrap()) {
                let mut parcel = parcel(0, number);
                parcel.row.endpoint_id = room.endpoint_id;
                let data = Bytes::from(vec![b'x'; body]);
                parcel.body = Arc::new(EventBody { data, ..(*parcel.body).clone() });
                parcels.push(parcel);
            }
        }
        scheduler.refilled(&rooms, Some(Refill { parcels, ..Refill::default() }), 0);
    }
}

fn resident_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4.0 / 1_024.0
}

#[test]
#[ignore = "measures"]
fn a_start_and_its_end() {
    for lanes in [1, 100, 1_000] {
        let mut scheduler = with_lanes(LIMITS, lanes);
        read_all(&mut scheduler, 64, 16);
        let (began, mut starts) = (Instant::now(), 0_u32);
        loop {
            let batch: Vec<Started> = std::iter::from_fn(|| scheduler.next(0)).take(256).collect();
            if batch.is_empty() {
                break;
            }
            for started in &batch {
                starts += 1;
                responded_and_finished(&mut scheduler, started, 10_000);
            }
        }
        println!(
            "{lanes} lanes: {} ns a start and its end",
            began.elapsed().as_nanos() / u128::from(starts.max(1))
        );
    }
}

#[test]
#[ignore = "measures"]
fn a_million_rows_in_a_hundred_thousand_lanes() {
    let before = resident_mib();
    let mut scheduler = with_lanes(LIMITS, 100_000);
    let lanes = resident_mib() - before;
    read_all(&mut scheduler, 10, 1_024);
    let (began, survey) = (Instant::now(), scheduler.survey(0));
    println!("{} µs for a survey", began.elapsed().as_micros());
    println!(
        "{lanes:.0} MiB for the lanes, {:.0} MiB with {} rows held",
        resident_mib() - before,
        survey.rows
    );
}
