//! What every command does with an answer: show it as a list, as a record or in a word, or hand on the API's JSON.

use std::io::{Write, stdout};

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    client::{Answer, Api, Call},
    failure::{Failure, Outcome},
    table::{self, Column},
};
use crate::web::page::LIMIT_MAX;

/// The API, and how its answers are shown.
pub struct Session {
    pub api: Api,
    /// The API's JSON as it came, a line an answer.
    pub json: bool,
}

/// Which part of a list.
#[derive(Args)]
pub struct PageArgs {
    /// Rows of a page [default: 50; 250 with --all]
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u16).range(1..=i64::from(LIMIT_MAX)))]
    limit: Option<u16>,
    /// Go on where an earlier page ended
    #[arg(long)]
    cursor: Option<String>,
    /// Every page; with --json one page a line
    #[arg(long)]
    all: bool,
}

impl Session {
    /// Calls `call` page by page.
    pub async fn list(&self, page: &PageArgs, columns: &[Column], call: impl Fn() -> Call) -> Outcome {
        let limit = page.limit.or(page.all.then_some(LIMIT_MAX));
        let mut cursor = page.cursor.clone();
        let mut rows = Vec::new();
        loop {
            let mut answer =
                self.api.call(call().query("limit", limit).query("cursor", cursor.as_ref())).await?;
            cursor = answer.value["next_cursor"].as_str().map(str::to_owned);
            if self.json {
                say(&answer.text)?;
            } else if let Value::Array(page) = answer.value["data"].take() {
                rows.extend(page);
            }
            if cursor.is_none() || !page.all {
                break;
            }
        }
        if !self.json {
            say(&table::list(columns, &rows))?;
        }
        if let Some(cursor) = cursor {
            note(&format!("there is more: --cursor {}, or --all", table::safe(&cursor)));
        }
        Ok(())
    }

    pub async fn record(&self, call: Call, columns: &[Column]) -> Outcome {
        let answer = self.api.call(call).await?;
        self.print(&answer, || table::record(columns, &answer.value))
    }

    /// One field alone, for scripts to take.
    pub async fn word(&self, call: Call, pointer: &str) -> Outcome {
        let answer = self.api.call(call).await?;
        let word = answer.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        self.print(&answer, || table::safe(word))
    }

    /// For what has no answer to show.
    pub async fn act(&self, call: Call, done: &str) -> Outcome {
        let answer = self.api.call(call).await?;
        if answer.text.is_empty() && self.json { Ok(()) } else { self.print(&answer, || done.to_owned()) }
    }

    /// The API's JSON where that was asked for, else what is for people.
    pub fn print(&self, answer: &Answer, shown: impl FnOnce() -> String) -> Outcome {
        if answer.replayed {
            note("this idempotency key was used before: the first answer again, nothing new was published");
        }
        if self.json { say(&answer.text) } else { say(&shown()) }
    }
}

/// A line on standard output.
pub fn say(text: &str) -> Outcome {
    writeln!(stdout().lock(), "{text}").map_err(Failure::from)
}

/// A line beside the output.
pub fn note(text: &str) {
    eprintln!("posthaste: {text}");
}

/// A merge patch: what is set, and `null` for what is unset.
pub fn patch(fields: &impl Serialize, unset: &[String]) -> Result<Value, Failure> {
    let mut body = serde_json::to_value(fields).map_err(|error| Failure::Usage(error.to_string()))?;
    if let Value::Object(map) = &mut body {
        map.extend(unset.iter().map(|name| (name.clone(), Value::Null)));
    }
    Ok(body)
}

/// For clap.
pub fn json_object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("is not a JSON object: {error}"))
}
