//! `events publish --batch`: a line an event, as many batches as it takes.
//!
//! A batch is all or nothing; the whole input is not. Where it ends early, standard error says how far it came.

use std::{collections::BTreeMap, io::BufRead};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    client::Call,
    events::PUBLISHED,
    failure::{Failure, Outcome},
    input,
    session::{Session, note, say},
    table,
};
use crate::web::json::BATCH_BODY_MAX_BYTES;

/// What the API takes in one request.
const EVENTS_MAX: usize = 1_000;
/// Around the events, and a comma each.
const FRAME_MAX_BYTES: usize = 64 + EVENTS_MAX;

/// What a line may leave out.
pub struct Missing {
    pub location: String,
    pub event_type: Option<String>,
}

type Event = BTreeMap<String, Box<RawValue>>;

impl Missing {
    /// Other fields stay as they were written.
    fn complete(&self, line: &str) -> serde_json::Result<Box<RawValue>> {
        let mut event: Event = serde_json::from_str(line)?;
        let mut add = |name: &str, value: &str| -> serde_json::Result<()> {
            if !event.contains_key(name) {
                event.insert(name.to_owned(), to_raw_value(value)?);
            }
            Ok(())
        };
        add("location_id", &self.location)?;
        if let Some(event_type) = &self.event_type {
            add("type", event_type)?;
        }
        to_raw_value(&event)
    }
}

#[derive(Default, Serialize)]
struct Batch {
    events: Vec<Box<RawValue>>,
    #[serde(skip)]
    bytes: usize,
}

impl Batch {
    fn has_room_for(&self, event: &RawValue) -> bool {
        let bytes = self.bytes + event.get().len() + FRAME_MAX_BYTES;
        self.events.is_empty() || (self.events.len() < EVENTS_MAX && bytes <= BATCH_BODY_MAX_BYTES)
    }

    fn add(&mut self, event: Box<RawValue>) {
        self.bytes += event.get().len();
        self.events.push(event);
    }
}

/// Publishes what comes in, until it ends.
pub async fn publish(
    session: &Session,
    input: &mut dyn BufRead,
    missing: &Missing,
    key: Option<&str>,
) -> Outcome {
    let mut batch = Batch::default();
    let (mut line_number, mut batches, mut published) = (0_u64, 0_u64, 0_usize);
    loop {
        let line = input::line(input)?;
        line_number += 1;
        let event = match line.trim() {
            "" => None,
            line => Some(missing.complete(line).map_err(|error| {
                Failure::Usage(format!(
                    "line {line_number} is not an event: {error}; {published} were published"
                ))
            })?),
        };
        let is_full = event.as_ref().is_some_and(|event| !batch.has_room_for(event));
        if (is_full || line.is_empty()) && !batch.events.is_empty() {
            batches += 1;
            let sent = std::mem::take(&mut batch);
            let count = sent.events.len();
            let key = key.map(|key| format!("{key}:{batches}"));
            if let Err(failure) = send(session, &sent, key).await {
                note(&format!(
                    "batch {batches}, events {} to {}, was not published; {published} before it were",
                    published + 1,
                    published + count
                ));
                return Err(failure);
            }
            published += count;
        }
        if let Some(event) = event {
            batch.add(event);
        }
        if line.is_empty() {
            return Ok(());
        }
    }
}

async fn send(session: &Session, batch: &Batch, key: Option<String>) -> Outcome {
    let call = Call::post(&["events", "batch"]).body(batch)?.idempotency_key(key);
    let answer = session.api.call(call).await?;
    if session.json {
        return say(&answer.text);
    }
    for event in answer.value["data"].as_array().into_iter().flatten() {
        say(&table::line(&PUBLISHED, event))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_completed_and_its_data_stay_as_they_were() {
        let missing = Missing { location: "shop \"4\"".into(), event_type: Some("a.b".into()) };
        let event = missing.complete(r#"{"data": {"n": 1.10e3,  "m": []}}"#).unwrap();
        assert_eq!(
            event.get(),
            r#"{"data":{"n": 1.10e3,  "m": []},"location_id":"shop \"4\"","type":"a.b"}"#
        );
        let event = missing.complete(r#"{"type":"c","location_id":"x","data":1}"#).unwrap();
        assert_eq!(event.get(), r#"{"data":1,"location_id":"x","type":"c"}"#);
        assert!(missing.complete("[1]").is_err());
    }

    #[test]
    fn a_batch_is_never_larger_than_the_api_takes() {
        let event = to_raw_value(&"x".repeat(1024 * 1024)).unwrap();
        let mut batch = Batch::default();
        while batch.has_room_for(&event) {
            batch.add(event.clone());
        }
        assert_eq!(batch.events.len(), 7);
        assert!(serde_json::to_string(&batch).unwrap().len() <= BATCH_BODY_MAX_BYTES);
        let small = to_raw_value(&1).unwrap();
        let mut batch = Batch::default();
        while batch.has_room_for(&small) {
            batch.add(small.clone());
        }
        assert_eq!(batch.events.len(), EVENTS_MAX);
    }
}
