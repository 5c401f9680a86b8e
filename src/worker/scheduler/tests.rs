//! The scheduler by example; by brute force in [`model`].

mod cost;
mod model;
mod shares;
mod simulation;

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;

use super::*;
use crate::{
    queue::{
        Cause, Row,
        finish::Throttle,
        refill::{EventBody, LaneRoom},
    },
    types::Timestamp,
};

const SECOND: Micros = 1_000_000;
const LIMITS: Limits =
    Limits { slots: 32, probes: 2, lane_rows: 4, refill_lanes: 3, held_bytes: 100 * ROW, lane_rows_lean: 2 };
const TENANT: TenantId = TenantId::from_uuid(Uuid::nil());
const OPEN: Terms = Terms {
    tenant_id: TENANT,
    max_in_flight: 4,
    rate_per_s: None,
    held: false,
    throttled_until: None,
    throttle_resets: 0,
};
const HELD: Terms = Terms { held: true, ..OPEN };
/// What each row here weighs.
const ROW: usize = 522;
/// A publish; refills have odd numbers.
const PUBLISH: Reader = 2;
const REFILL: Reader = 1;

fn tenant(number: u8) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(u128::from(number)))
}

fn endpoint(number: u8) -> EndpointId {
    Uuid::from_u128(0xe000_0000 | u128::from(number)).into()
}

fn event(number: u32) -> EventId {
    EventId::from_uuid(Uuid::from_u128(u128::from(number) << 16))
}

fn parcel(lane: u8, number: u32) -> Parcel {
    turn(lane, number, 0, None)
}

fn turn(lane: u8, number: u32, seq: i32, due: Option<Micros>) -> Parcel {
    let body = EventBody {
        event_type: "a.b".to_owned(),
        occurred_at: Timestamp::from_unix_us(0),
        channel: None,
        api_version: None,
        live_mode: true,
        data: Bytes::from_static(b"0123456789"),
    };
    let row = Row {
        endpoint_id: endpoint(lane),
        event_id: event(number),
        due_at: due.map(Timestamp::from_unix_us),
        seq,
        step: 0,
        format_version: 1,
        cause: Cause::Scheduled,
    };
    Parcel { row, body: Arc::new(body), format: None }
}

/// A scheduler with these lanes, each known to be empty.
fn scheduler(lanes: &[(u8, Terms)]) -> Scheduler {
    let mut scheduler = Scheduler::new(LIMITS);
    for (lane, terms) in lanes {
        scheduler.doubt(endpoint(*lane), Uuid::nil(), 0);
        scheduler.configure(endpoint(*lane), *terms, 0);
    }
    loop {
        let rooms = scheduler.refills(REFILL, 0);
        if rooms.is_empty() {
            return scheduler;
        }
        scheduler.refilled(&rooms, Some(Refill::default()), 0);
    }
}

fn publish(scheduler: &mut Scheduler, parcels: impl IntoIterator<Item = Parcel>, now: Micros) {
    scheduler.reader_begins(PUBLISH);
    for parcel in parcels {
        scheduler.offer(PUBLISH, parcel, now);
    }
    scheduler.reader_ends(PUBLISH);
}

/// Everything that may be sent now.
fn sent(scheduler: &mut Scheduler, now: Micros) -> Vec<(EndpointId, EventId)> {
    let rows = std::iter::from_fn(|| scheduler.next(now)).map(|started| started.parcel.row);
    rows.map(|row| (row.endpoint_id, row.event_id)).collect()
}

fn responded_and_finished(scheduler: &mut Scheduler, started: &Started, now: Micros) {
    let row = started.parcel.row;
    scheduler.responded(row.endpoint_id, started.start, Sign::Good, now);
    scheduler.finished(row.turn(), None, now);
}

#[test]
fn lanes_take_turns_one_row_each() {
    let mut scheduler = scheduler(&[(1, OPEN), (2, OPEN)]);
    publish(&mut scheduler, (1..=4).map(|number| parcel(1, number)), 0);
    publish(&mut scheduler, [parcel(2, 5), parcel(2, 6)], 0);
    let lanes: Vec<_> = sent(&mut scheduler, 0).into_iter().map(|(lane, _)| lane).collect();
    let (one, two) = (endpoint(1), endpoint(2));
    assert_eq!(lanes, [one, two, one, two, one, one]);
}

#[test]
fn a_lane_with_a_thousand_rows_costs_another_one_row_a_turn() {
    let mut scheduler = scheduler(&[(1, Terms { max_in_flight: 1, ..OPEN }), (2, OPEN)]);
    let mut waiting: Vec<u32> = (1..=1_000).rev().collect();
    for round in 0..500 {
        // The long lane is refilled whenever it wants, the short one gets a row now and then.
        scheduler.doubt(endpoint(1), Uuid::nil(), 0);
        let rooms = scheduler.refills(REFILL, 0);
        if let Some(room) = rooms.iter().find(|room| room.endpoint_id == endpoint(1)) {
            let count = waiting.len().saturating_sub(usize::try_from(room.fresh).unwrap());
            let parcels =
                waiting.split_off(count).into_iter().rev().map(|number| parcel(1, number)).collect();
            scheduler.refilled(&rooms, Some(Refill { parcels, ..Refill::default() }), 0);
        }
        publish(&mut scheduler, [parcel(2, 10_000 + round)], 0);
        let turns: Vec<Started> = std::iter::from_fn(|| scheduler.next(0)).take(2).collect();
        assert!(turns.iter().any(|turn| turn.parcel.row.endpoint_id == endpoint(2)), "round {round}");
        for turn in &turns {
            responded_and_finished(&mut scheduler, turn, 0);
        }
    }
}

#[test]
fn no_more_at_once_than_the_cap() {
    let mut scheduler = scheduler(&[(1, Terms { max_in_flight: 2, ..OPEN }), (2, OPEN)]);
    for lane in 1..=2 {
        publish(&mut scheduler, (1..=4).map(|number| parcel(lane, number)), 0);
    }
    let first: Vec<Started> = std::iter::from_fn(|| scheduler.next(0)).collect();
    let of_one = || first.iter().filter(|started| started.parcel.row.endpoint_id == endpoint(1));
    assert_eq!((first.len(), of_one().count()), (6, 2));
    scheduler.responded(endpoint(1), of_one().next().unwrap().start, Sign::Good, 0);
    assert_eq!(
        sent(&mut scheduler, 0).len(),
        1,
        "a slot is free when the response is in, not when it is on disk"
    );
}

#[test]
fn starts_of_a_rated_lane_are_a_gap_apart() {
    let rated = Terms { rate_per_s: Some(3), ..OPEN };
    let mut scheduler = scheduler(&[(1, rated)]);
    publish(&mut scheduler, (1..=3).map(|number| parcel(1, number)), SECOND);
    assert_eq!(sent(&mut scheduler, SECOND).len(), 1);
    assert!(sent(&mut scheduler, SECOND + 333_333).is_empty());
    assert_eq!(scheduler.next_alarm(), Some(SECOND + 333_334), "rounded up");
    assert_eq!(sent(&mut scheduler, SECOND + 333_334).len(), 1);
}

#[test]
fn a_new_owner_waits_for_one_gap() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.took(10 * SECOND);
    publish(&mut scheduler, [parcel(1, 1), parcel(2, 1)], 10 * SECOND);
    scheduler.configure(endpoint(1), Terms { rate_per_s: Some(1), ..OPEN }, 10 * SECOND);
    scheduler.configure(endpoint(2), OPEN, 10 * SECOND);
    assert_eq!(sent(&mut scheduler, 10 * SECOND), [(endpoint(2), event(1))], "no rate, no gap");
    assert_eq!(sent(&mut scheduler, 11 * SECOND), [(endpoint(1), event(1))]);
}

#[test]
fn a_held_lane_sends_nothing_and_reads_everything_again_when_it_opens() {
    let mut scheduler = scheduler(&[(1, OPEN)]);
    publish(&mut scheduler, [parcel(1, 1)], 0);
    scheduler.configure(endpoint(1), HELD, 0);
    publish(&mut scheduler, [parcel(1, 2)], 0);
    assert!(sent(&mut scheduler, 0).is_empty());
    assert!(scheduler.refills(REFILL, 0).is_empty(), "nor is it read");
    assert_eq!(scheduler.held_bytes, 0);
    scheduler.configure(endpoint(1), OPEN, 0);
    let rooms = scheduler.refills(REFILL, 0);
    assert_eq!((rooms[0].after, rooms[0].fresh > 1, rooms[0].timed > 1), (Uuid::nil(), true, true));
    let parcels = vec![parcel(1, 1), parcel(1, 2)];
    scheduler.refilled(&rooms, Some(Refill { parcels, ..Refill::default() }), 0);
    assert_eq!(sent(&mut scheduler, 0).len(), 2);
}

#[test]
fn a_row_that_was_finished_while_somebody_read_is_not_sent_again() {
    let mut scheduler = scheduler(&[(1, OPEN)]);
    // The publish has committed, a refill reads the row, and it is sent and finished before it is offered.
    scheduler.reader_begins(PUBLISH);
    scheduler.doubt(endpoint(1), Uuid::nil(), 0);
    let rooms = scheduler.refills(REFILL, 0);
    let refill = || Some(Refill { parcels: vec![parcel(1, 1)], ..Refill::default() });
    scheduler.refilled(&rooms, refill(), 0);
    let row = scheduler.next(0).unwrap();
    // Another refill begins before it is finished, and ends after.
    scheduler.doubt(endpoint(1), Uuid::nil(), 0);
    let rooms = scheduler.refills(REFILL + 2, 0);
    responded_and_finished(&mut scheduler, &row, 0);
    scheduler.offer(PUBLISH, parcel(1, 1), 0);
    assert!(sent(&mut scheduler, 0).is_empty(), "offered late");
    scheduler.refilled(&rooms, refill(), 0);
    assert!(sent(&mut scheduler, 0).is_empty(), "read early");
    scheduler.reader_ends(PUBLISH);
    assert_eq!(scheduler.held_bytes, 0);
}

#[test]
fn a_retry_is_sent_although_a_publish_has_run_since_before_its_failure() {
    let mut scheduler = scheduler(&[(1, OPEN)]);
    publish(&mut scheduler, [parcel(1, 1)], 0);
    scheduler.reader_begins(PUBLISH + 2);
    let row = scheduler.next(0).unwrap();
    scheduler.responded(row.parcel.row.endpoint_id, row.start, Sign::Good, 0);
    scheduler.finished(row.parcel.row.turn(), Some(SECOND), 0);
    assert_eq!(scheduler.next_alarm(), Some(SECOND));
    let rooms = scheduler.refills(REFILL, SECOND);
    let parcels = vec![turn(1, 1, 1, Some(SECOND))];
    scheduler.refilled(&rooms, Some(Refill { parcels, ..Refill::default() }), SECOND);
    assert_eq!(scheduler.next(SECOND).unwrap().parcel.row.seq, 1);
}

#[test]
fn a_lost_row_is_sent_again_although_a_publish_has_run_since_before() {
    let mut scheduler = scheduler(&[(1, OPEN)]);
    publish(&mut scheduler, [parcel(1, 1)], 0);
    scheduler.reader_begins(PUBLISH + 2);
    let row = scheduler.next(0).unwrap();
    scheduler.responded(row.parcel.row.endpoint_id, row.start, Sign::Good, 0);
    scheduler.lost(row.parcel.row.turn(), 0);
    let rooms = scheduler.refills(REFILL, 0);
    assert_eq!(rooms[0].after, Uuid::nil());
    scheduler.refilled(&rooms, Some(Refill { parcels: vec![parcel(1, 1)], ..Refill::default() }), 0);
    assert_eq!(scheduler.next(0).unwrap().parcel.row.event_id, event(1));
}

#[test]
fn what_was_read_before_a_command_does_not_count_after_it() {
    let mut scheduler = scheduler(&[(1, OPEN)]);
    scheduler.doubt(endpoint(1), Uuid::nil(), 0);
    let rooms = scheduler.refills(REFILL, 0);
    scheduler.reader_begins(PUBLISH);
    // Event 1 was read and event 2 committed, then both are canceled.
    scheduler.clear_shards(&HashSet::from([endpoint(1).shard()]), 0);
    scheduler.refilled(&rooms, Some(Refill { parcels: vec![parcel(1, 1)], ..Refill::default() }), 0);
    scheduler.offer(PUBLISH, parcel(1, 2), 0);
    scheduler.reader_ends(PUBLISH);
    assert!(sent(&mut scheduler, 0).is_empty());
    let rooms = scheduler.refills(REFILL + 2, 0);
    assert_eq!(rooms[0].after, Uuid::nil(), "everything is read again");
}

#[test]
fn shards_that_come_back_do_not_bring_doubles() {
    let mut scheduler = scheduler(&[(1, Terms { max_in_flight: 1, ..OPEN })]);
    publish(&mut scheduler, [parcel(1, 1), parcel(1, 2)], 0);
    let row = scheduler.next(0).unwrap();
    scheduler.drop_shards(|_| true, 0);
    assert_eq!(scheduler.held_bytes, 0);
    scheduler.took(0);
    scheduler.doubt(endpoint(1), Uuid::nil(), 0);
    scheduler.configure(endpoint(1), Terms { max_in_flight: 1, ..OPEN }, 0);
    let rooms = scheduler.refills(REFILL, 0);
    let parcels = vec![parcel(1, 1), parcel(1, 2)];
    scheduler.refilled(&rooms, Some(Refill { parcels, ..Refill::default() }), 0);
    assert!(sent(&mut scheduler, 0).is_empty(), "the first one is still in flight, and the cap is one");
    responded_and_finished(&mut scheduler, &row, 0);
    assert_eq!(sent(&mut scheduler, 0), [(endpoint(1), event(2))]);
}

#[test]
fn shards_that_stay_away_leave_nothing_behind() {
    let mut scheduler = scheduler(&[(1, OPEN), (2, OPEN)]);
    publish(&mut scheduler, [parcel(1, 1), parcel(2, 1)], 0);
    let row = scheduler.next(0).unwrap();
    scheduler.drop_shards(|_| true, 0);
    assert_eq!(scheduler.lanes.len(), 1);
    scheduler.responded(row.parcel.row.endpoint_id, row.start, Sign::Good, 0);
    scheduler.finished(row.parcel.row.turn(), Some(SECOND), 0);
    assert!(scheduler.lanes.is_empty() && scheduler.line.keys().is_empty() && scheduler.hungry.is_empty());
    assert_eq!((scheduler.in_flight(), scheduler.held_bytes), (0, 0));
}

#[test]
fn rows_whose_event_is_gone_are_ended_once_and_do_not_hide_the_rest() {
    let mut scheduler = scheduler(&[(1, OPEN)]);
    scheduler.doubt(endpoint(1), Uuid::nil(), 0);
    let rooms = scheduler.refills(REFILL, 0);
    let most = rooms[0].fresh;
    let orphans: Vec<Row> = (1..=most).map(|number| parcel(1, number).row).collect();
    let ended = scheduler.refilled(&rooms, Some(Refill { orphans: orphans.clone(), ..Refill::default() }), 0);
    assert_eq!(ended, orphans);
    let rooms = scheduler.refills(REFILL + 2, 0);
    assert_eq!(rooms[0].after, event(most).uuid(), "there may be more");
    let ended = scheduler.refilled(&rooms, Some(Refill { orphans, ..Refill::default() }), 0);
    assert!(ended.is_empty(), "they are on their way");
}

#[test]
fn idle_lanes_are_forgotten_and_busy_ones_are_not() {
    let mut scheduler = scheduler(&[(1, OPEN), (2, OPEN), (3, HELD)]);
    publish(&mut scheduler, [parcel(1, 1)], 0);
    let mut retired = scheduler.retire(SECOND);
    retired.sort_unstable();
    assert_eq!(retired, [endpoint(2), endpoint(3)]);
    let row = scheduler.next(0).unwrap();
    assert!(scheduler.retire(SECOND).is_empty(), "in flight");
    scheduler.responded(row.parcel.row.endpoint_id, row.start, Sign::Good, 0);
    assert!(scheduler.retire(SECOND).is_empty(), "not on disk");
    scheduler.finished(row.parcel.row.turn(), Some(5 * SECOND), 0);
    assert!(scheduler.retire(SECOND).is_empty(), "a retry is due some time");
}

#[test]
fn large_bodies_leave_room_for_few_rows() {
    let mut scheduler = Scheduler::new(Limits { held_bytes: ROW + 1, ..LIMITS });
    publish(&mut scheduler, (1..=4).map(|number| parcel(1, number)), 0);
    assert_eq!(scheduler.held_bytes, 2 * ROW, "then the lane is full");
    scheduler.configure(endpoint(1), OPEN, 0);
    assert_eq!(sent(&mut scheduler, 0).len(), 2);
    assert_eq!(scheduler.refills(REFILL, 0).len(), 1, "the others are read when there is room");
}

/// Sends this lane's next row and says how it went.
fn tried(scheduler: &mut Scheduler, sign: Sign, now: Micros) -> Option<Throttle> {
    let started = scheduler.next(now).expect("something to send");
    let row = started.parcel.row;
    let throttle = scheduler.responded(row.endpoint_id, started.start, sign, now);
    scheduler.finished(row.turn(), None, now);
    throttle
}

/// Reads what is wanted: this lane's rows from `next` on, as many as are asked for.
fn read_on(scheduler: &mut Scheduler, next: &mut u32, now: Micros) -> u32 {
    let rooms = scheduler.refills(REFILL, now);
    let wanted = rooms.iter().map(|room| room.fresh).sum();
    let parcels = (0..wanted).map(|more| parcel(1, *next + more)).collect();
    *next += wanted;
    scheduler.refilled(&rooms, Some(Refill { parcels, ..Refill::default() }), now);
    wanted
}

#[test]
fn a_lane_whose_breaker_opens_is_parked_with_nothing_and_probes_with_one_row() {
    let mut scheduler = scheduler(&[(1, OPEN)]);
    let mut next = 1;
    scheduler.doubt(endpoint(1), Uuid::nil(), 0);
    for _ in 0..9 {
        read_on(&mut scheduler, &mut next, 0);
        assert_eq!(tried(&mut scheduler, Sign::Bad, 0), None);
    }
    read_on(&mut scheduler, &mut next, 0);
    let opened = tried(&mut scheduler, Sign::Bad, 0).expect("it opens");
    assert_eq!(opened, Throttle { until: Some(Timestamp::from_unix_us(SECOND)), resets: 0 });
    assert_eq!((scheduler.held_bytes, scheduler.survey(0).throttled), (0, 1), "nothing is held");
    assert_eq!(read_on(&mut scheduler, &mut next, SECOND - 1), 0, "nor read");
    publish(&mut scheduler, [parcel(1, 1_000)], 0);
    assert_eq!(scheduler.held_bytes, 0, "nor taken from publishes");
    assert_eq!(scheduler.next_alarm(), Some(SECOND));
    assert_eq!(read_on(&mut scheduler, &mut next, SECOND), 0, "what has failed before comes first");
    assert_eq!(read_on(&mut scheduler, &mut next, SECOND), 1, "there was none");
    let probe = scheduler.next(SECOND).expect("a probe");
    assert_eq!(
        (read_on(&mut scheduler, &mut next, SECOND), scheduler.next(SECOND).is_none()),
        (0, true),
        "one"
    );
    let row = probe.parcel.row;
    let closed = scheduler.responded(row.endpoint_id, probe.start, Sign::Good, 2 * SECOND);
    assert_eq!(closed, Some(Throttle { until: None, resets: 0 }));
    assert!(read_on(&mut scheduler, &mut next, 2 * SECOND) > 1);
    assert_eq!(sent(&mut scheduler, 2 * SECOND).len(), 4);
}

#[test]
fn what_has_failed_before_is_probed_with_before_what_is_new_but_for_every_fourth_time() {
    let mut scheduler = scheduler(&[(1, Terms { throttled_until: Some(0), ..OPEN })]);
    scheduler.doubt(endpoint(1), Uuid::nil(), 0);
    let (mut now, mut asked) = (0, Vec::new());
    for number in 1..=5 {
        let rooms = scheduler.refills(REFILL, now);
        asked.push((rooms[0].fresh > 0, rooms[0].timed > 0));
        let parcels = vec![turn(1, number, 1, Some(0))];
        let later = vec![(endpoint(1), now)];
        scheduler.refilled(&rooms, Some(Refill { parcels, later, ..Refill::default() }), now);
        let probe = scheduler.next(now).expect("a probe");
        scheduler.responded(endpoint(1), probe.start, Sign::Bad, now);
        scheduler.finished(probe.parcel.row.turn(), Some(now + 99 * SECOND), now);
        now += 40 * SECOND;
    }
    assert_eq!(asked, [(false, true), (false, true), (false, true), (true, true), (false, true)]);
}

#[test]
fn a_reset_by_hand_closes_the_breaker_and_a_new_owner_takes_it_over() {
    let until = |at| Terms { throttled_until: Some(at), ..OPEN };
    let mut scheduler = scheduler(&[(1, until(SECOND))]);
    assert_eq!(scheduler.survey(0).throttled, 1, "as the one before has found it");
    scheduler.configure(endpoint(1), until(9 * SECOND), 0);
    assert_eq!(scheduler.lanes[&endpoint(1)].breaker.next_at(), SECOND, "what is known here is newer");
    scheduler.configure(endpoint(1), Terms { throttle_resets: 1, ..OPEN }, 0);
    assert_eq!(scheduler.survey(0).throttled, 0);
    publish(&mut scheduler, [parcel(1, 1)], 0);
    scheduler.doubt(endpoint(1), Uuid::nil(), 0);
    read_on(&mut scheduler, &mut 1, 0);
    assert!(!sent(&mut scheduler, 0).is_empty());
}

#[test]
fn probes_hold_no_more_than_their_slots() {
    let lanes: Vec<(u8, Terms)> =
        (1..=5).map(|lane| (lane, Terms { throttled_until: Some(0), ..OPEN })).collect();
    let mut scheduler = scheduler(&lanes);
    for lane in 1..=5 {
        scheduler.doubt(endpoint(lane), Uuid::nil(), 0);
    }
    loop {
        let rooms = scheduler.refills(REFILL, 0);
        if rooms.is_empty() {
            break;
        }
        let first = |room: &LaneRoom| {
            let mut first = parcel(1, 1);
            first.row.endpoint_id = room.endpoint_id;
            first
        };
        let parcels = rooms.iter().map(first).collect();
        scheduler.refilled(&rooms, Some(Refill { parcels, ..Refill::default() }), 0);
    }
    let mut probes = Vec::new();
    for round in 0..5 {
        probes.extend(std::iter::from_fn(|| scheduler.next(0)));
        assert_eq!(scheduler.in_flight(), LIMITS.probes.min(5 - round), "round {round}");
        let probe: Started = probes.remove(0);
        scheduler.responded(probe.parcel.row.endpoint_id, probe.start, Sign::Bad, 0);
    }
    assert!(probes.is_empty() && scheduler.next(0).is_none());
}

#[test]
fn a_change_of_the_rate_holds_from_the_last_start_on() {
    let open = Terms { max_in_flight: 8, ..OPEN };
    let rated = |rate_per_s| Terms { rate_per_s: Some(rate_per_s), ..open };
    let mut scheduler = scheduler(&[(1, rated(1))]);
    publish(&mut scheduler, (1..=4).map(|number| parcel(1, number)), 0);
    assert_eq!(sent(&mut scheduler, 10 * SECOND).len(), 1);
    scheduler.configure(endpoint(1), rated(4), 10 * SECOND);
    assert!(sent(&mut scheduler, 10 * SECOND + 249_999).is_empty());
    assert_eq!(
        sent(&mut scheduler, 10 * SECOND + 250_000).len(),
        1,
        "a quarter of a second after the last one"
    );
    scheduler.configure(endpoint(1), open, 10 * SECOND + 250_000);
    assert_eq!(sent(&mut scheduler, 10 * SECOND + 250_000).len(), 2, "no rate, no gap");
    publish(&mut scheduler, [parcel(1, 5)], 11 * SECOND);
    scheduler.configure(endpoint(1), rated(1), 11 * SECOND);
    assert!(sent(&mut scheduler, 11 * SECOND + 249_999).is_empty(), "nor did it forget when it started last");
    assert_eq!(sent(&mut scheduler, 11 * SECOND + 250_000).len(), 1);
}

#[test]
fn alarms_are_told_once_whether_or_not_anything_may_be_sent() {
    let mut scheduler = scheduler(&[(1, OPEN)]);
    publish(&mut scheduler, [parcel(1, 1)], 0);
    let row = scheduler.next(0).unwrap();
    scheduler.responded(row.parcel.row.endpoint_id, row.start, Sign::Good, 0);
    scheduler.finished(row.parcel.row.turn(), Some(SECOND), 0);
    scheduler.tick(2 * SECOND);
    assert_eq!(scheduler.next_alarm(), None);
    assert_eq!(scheduler.refills(REFILL, 2 * SECOND).len(), 1);
}

/// From when on due rows are read, if they are.
fn due_from(scheduler: &mut Scheduler, found: Vec<Parcel>, now: Micros) -> Option<Micros> {
    let rooms = scheduler.refills(REFILL, now);
    let from = rooms.first().filter(|room| room.timed > 0).map(|room| room.due_from.unix_us());
    scheduler.refilled(&rooms, Some(Refill { parcels: found, ..Refill::default() }), now);
    from
}

#[test]
fn due_rows_are_read_from_where_all_before_are_known() {
    let (mut scheduler, lane) = (scheduler(&[(1, OPEN)]), endpoint(1));
    let at = 1_000 * SECOND;
    scheduler.doubt(lane, Uuid::nil(), at);
    assert_eq!(due_from(&mut scheduler, Vec::new(), at), Some(0), "whoever is sure of nothing reads all");
    scheduler.doubt(lane, Uuid::max(), at + 30 * SECOND);
    let late = at + 30 * SECOND - LATE_COMMIT;
    assert_eq!(due_from(&mut scheduler, Vec::new(), at + 30 * SECOND), Some(late), "rows may commit late");

    // More are due than there is room for: the next read begins with the last one that was found.
    scheduler.finished(turn(1, 9, 0, None).row.turn(), Some(at + 200 * SECOND), at + 40 * SECOND);
    let now = at + 300 * SECOND;
    let due = |number: u32| turn(1, number, 1, Some(at + (200 + Micros::from(number)) * SECOND));
    let found = (1..=4).map(due).collect();
    assert_eq!(due_from(&mut scheduler, found, now), Some(at + 30 * SECOND), "the last complete read");
    assert_eq!(sent(&mut scheduler, now).len(), 4);
    assert_eq!(due_from(&mut scheduler, vec![due(4)], now), Some(at + 204 * SECOND));
    assert_eq!(due_from(&mut scheduler, Vec::new(), now), None, "that was all");

    // What is told of while a read is under way is older than where the next would begin.
    scheduler.doubt(lane, Uuid::max(), now);
    let rooms = scheduler.refills(REFILL, now);
    scheduler.finished(turn(1, 1, 1, None).row.turn(), Some(now - 90 * SECOND), now);
    scheduler.refilled(&rooms, Some(Refill::default()), now);
    assert_eq!(due_from(&mut scheduler, Vec::new(), now), Some(now - 90 * SECOND));
    // One that fails is as if it had not been.
    scheduler.doubt(lane, Uuid::max(), now);
    let rooms = scheduler.refills(REFILL, now);
    scheduler.refilled(&rooms, None, now);
    assert_eq!(due_from(&mut scheduler, Vec::new(), now), Some(now - LATE_COMMIT));
    // One whose rows may be others by now, too.
    scheduler.doubt(lane, Uuid::max(), now);
    let rooms = scheduler.refills(REFILL, now);
    scheduler.clear_lane(lane, now);
    scheduler.refilled(&rooms, Some(Refill::default()), now);
    assert_eq!(due_from(&mut scheduler, Vec::new(), now), Some(0));
}

/// Lanes that want to be read, none of which has anything.
fn crowd(tenant_id: TenantId, lanes: u32) -> (Scheduler, Vec<EndpointId>) {
    let mut scheduler = Scheduler::new(Limits { refill_lanes: 50, ..LIMITS });
    let lanes: Vec<EndpointId> =
        (0..lanes).map(|number| Uuid::from_u128(0xc000_0000 | u128::from(number)).into()).collect();
    for lane in &lanes {
        scheduler.doubt(*lane, Uuid::nil(), 0);
        scheduler.configure(*lane, Terms { tenant_id, ..OPEN }, 0);
    }
    (scheduler, lanes)
}

/// Refills until this lane is among those that are read.
fn refills_until(scheduler: &mut Scheduler, lane: EndpointId, now: Micros) -> usize {
    for refill in 1.. {
        let rooms = scheduler.refills(REFILL, now);
        assert!(!rooms.is_empty(), "it is forgotten");
        scheduler.refilled(&rooms, Some(Refill::default()), now);
        if rooms.iter().any(|room| room.endpoint_id == lane) {
            return refill;
        }
    }
    unreachable!()
}

#[test]
fn a_lane_is_read_at_once_beside_a_hundred_thousand_of_another_tenant() {
    let (mut scheduler, _) = crowd(tenant(1), 100_000);
    scheduler.doubt(endpoint(1), Uuid::nil(), 0);
    scheduler.configure(endpoint(1), Terms { tenant_id: tenant(2), ..OPEN }, 0);
    assert_eq!(refills_until(&mut scheduler, endpoint(1), 0), 1);
}

#[test]
fn a_retry_is_read_at_once_beside_a_hundred_thousand_lanes_that_a_sweep_has_found() {
    let (mut scheduler, lanes) = crowd(TENANT, 100_000);
    let last = *lanes.last().unwrap();
    refills_until(&mut scheduler, last, 0);
    for lane in &lanes {
        scheduler.sweep(*lane, Uuid::max(), SECOND);
    }
    // One that is the last in line is due.
    let mut row = turn(1, 1, 0, None).row;
    row.endpoint_id = last;
    scheduler.finished(row.turn(), Some(2 * SECOND), SECOND);
    assert_eq!(refills_until(&mut scheduler, last, 2 * SECOND), 1);
    // And nobody has to wait for ever for those that are in a hurry.
    let patient = lanes[70];
    for _ in 0..3 {
        for lane in &lanes[1_000..1_100] {
            scheduler.doubt(*lane, Uuid::max(), 2 * SECOND);
        }
        let rooms = scheduler.refills(REFILL, 2 * SECOND);
        assert_eq!(rooms.len(), 50);
        scheduler.refilled(&rooms, Some(Refill::default()), 2 * SECOND);
        if rooms.iter().any(|room| room.endpoint_id == patient) {
            return;
        }
    }
    panic!("it waits for those in a hurry");
}

#[test]
fn what_a_sweep_asks_for_is_read_from_where_it_was_found() {
    let (mut scheduler, lane) = (scheduler(&[(1, OPEN)]), endpoint(1));
    let now = 30 * SECOND;
    publish(&mut scheduler, [parcel(1, 5)], now);
    scheduler.sweep(lane, event(7).uuid(), now);
    // The next one is taken as it comes; what is below it may still be missing.
    publish(&mut scheduler, [parcel(1, 9)], now);
    assert_eq!(sent(&mut scheduler, now).len(), 2);
    let rooms = scheduler.refills(REFILL, now + SECOND);
    assert_eq!((rooms[0].after, rooms[0].fresh > 2, rooms[0].timed > 2), (event(5).uuid(), true, true));
    assert_eq!(rooms[0].due_from.unix_us(), now - LATE_COMMIT);
    scheduler.refilled(&rooms, Some(Refill::default()), now + SECOND);
    assert!(scheduler.refills(REFILL, now + SECOND).is_empty(), "once");
}
