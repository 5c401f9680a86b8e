//! `events tail`: what arrives from now on, oldest first.
//!
//! Follows the list forwards, by the cursor of what is known, so that nothing is skipped however much arrives between two
//! looks. An API that is away is asked again. An event that becomes visible later than newer ones is shown only while those
//! are on the page at hand.

use std::{collections::HashSet, time::Duration};

use serde_json::Value;

use super::{
    client::Call,
    events::LIST,
    failure::{Failure, Outcome},
    session::{Session, note, say},
    table,
};
use crate::cli::serve::Stop;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events of a look.
const PAGE_ROWS: u16 = 100;

struct Tail<'a, C> {
    session: &'a Session,
    events: C,
    /// Leads to what is newer than everything before the page at hand; a short list has none yet.
    cursor: Option<String>,
    /// The ids of the page at hand.
    known: HashSet<String>,
}

pub async fn run(session: &Session, events: impl Fn() -> Call) -> Outcome {
    let mut stop = Stop::listen().map_err(|error| Failure::Usage(error.to_string()))?;
    let mut tail = Tail { session, events, cursor: None, known: HashSet::new() };
    let following = async {
        let page = tail.page(None).await?;
        tail.move_on(&page).await?;
        note("waiting for events; Ctrl-C ends");
        let mut is_away = false;
        loop {
            match tail.look().await {
                Ok(true) => continue,
                Ok(false) => is_away = false,
                Err(failure) if failure.may_pass() => {
                    if !is_away {
                        note(&format!("{failure}; trying on"));
                    }
                    is_away = true;
                }
                Err(failure) => return Err(failure),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        ended = following => ended,
        () = stop.told() => Ok(()),
    }
}

impl<C: Fn() -> Call> Tail<'_, C> {
    async fn page(&self, cursor: Option<&str>) -> Result<Value, Failure> {
        let call = (self.events)().query("limit", Some(PAGE_ROWS)).query("cursor", cursor);
        Ok(self.session.api.call(call).await?.value)
    }

    /// Prints what is new. True where there is more already.
    async fn look(&mut self) -> Result<bool, Failure> {
        let mut page = self.page(self.cursor.as_deref()).await?;
        if self.cursor.is_none() {
            // More than a page has come since the list was shorter than one: back to where that began.
            while !rows(&page).iter().any(|event| self.known.contains(id(event)))
                && let Some(older) = page["next_cursor"].as_str()
            {
                page = self.page(Some(older)).await?;
            }
        }
        for event in rows(&page).iter().rev().filter(|event| !self.known.contains(id(event))) {
            say(&if self.session.json { event.to_string() } else { table::line(&LIST, event) })?;
        }
        self.move_on(&page).await
    }

    /// Takes the page as known, and its newer edge as the place to go on from. True where more is known to be there.
    async fn move_on(&mut self, page: &Value) -> Result<bool, Failure> {
        self.known = rows(page).iter().map(|event| id(event).to_owned()).collect();
        if let Some(newer) = page["prev_cursor"].as_str() {
            self.cursor = Some(newer.to_owned());
            return Ok(!rows(page).is_empty());
        }
        if self.cursor.is_none()
            && let Some(older) = page["next_cursor"].as_str()
        {
            // The newest page has no cursor to what is newer; the one behind it leads to this one and beyond.
            let behind = self.page(Some(older)).await?;
            self.cursor = behind["prev_cursor"].as_str().map(str::to_owned);
        }
        Ok(false)
    }
}

fn rows(page: &Value) -> &[Value] {
    page["data"].as_array().map_or(&[], Vec::as_slice)
}

fn id(event: &Value) -> &str {
    event["id"].as_str().unwrap_or_default()
}
