//! A schema that data is validated by: what it may cost is known ([`super::bounds`]), and so is how much it says.
//!
//! Validation is work for the processor, and the schema and the data are a tenant's: it runs [`aside`] of the threads that serve
//! everybody. Patterns are those of the crate `regex`, linear in the text: without look-around and back references.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

use super::bounds::Bounds;

/// Schemas that are compiled or validated by at the same time, in the whole process.
const AT_ONCE_MAX: usize = 4;
/// Steps of one validation.
const WORK_MAX: u64 = 100_000_000;
/// Steps of a validation that tells what is wrong: each may be an error, and all of them are in memory first.
const TOLD_WORK_MAX: u64 = 200_000;
/// Errors told of one payload, and the length of each.
const ERRORS_MAX: usize = 20;
const DETAIL_MAX_CHARS: usize = 200;
/// Compiled size of one pattern, and of what it remembers while it matches.
const PATTERN_MAX_BYTES: usize = 256 * 1024;

static ROOM: Semaphore = Semaphore::const_new(AT_ONCE_MAX);

/// Work with schemas, on a thread where it keeps nobody waiting but other work with schemas.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    let place = ROOM.acquire().await;
    spawn_blocking(move || {
        // Until the work is done, even where nobody waits for it any more.
        let _place = place;
        work()
    })
    .await
}

pub struct PayloadSchema {
    validator: Validator,
    bounds: Bounds,
}

impl PayloadSchema {
    /// JSON Schema 2020-12. References lead nowhere but into the schema itself: nothing is fetched.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        let bounds = Bounds::of(schema)?;
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_MAX_BYTES).dfa_size_limit(PATTERN_MAX_BYTES);
        let options =
            jsonschema::options().with_draft(jsonschema::Draft::Draft202012).with_pattern_options(patterns);
        let validator =
            options.build(schema).map_err(|error| cut(format!("is not a JSON Schema: {error}")))?;
        Ok(Self { validator, bounds })
    }

    /// What it says against this data: pointers into it, and why. Not to be called on a thread that serves: [`aside`].
    pub fn broken_rules(&self, data: &Value) -> Vec<(String, String)> {
        match self.bounds.work(data) {
            Some(work) if work <= TOLD_WORK_MAX => {
                let errors = self.validator.iter_errors(data).take(ERRORS_MAX);
                errors.map(|error| (error.instance_path().to_string(), cut(error.to_string()))).collect()
            }
            Some(work) if work <= WORK_MAX => {
                let valid = self.validator.is_valid(data);
                if valid {
                    Vec::new()
                } else {
                    whole("is not valid by its schema; it is too large to say where")
                }
            }
            _ => whole("is too large or too deep to be validated by its schema"),
        }
    }

    /// Steps that validating this data takes at most.
    #[cfg(test)]
    pub fn work(&self, data: &Value) -> Option<u64> {
        self.bounds.work(data)
    }
}

fn whole(detail: &str) -> Vec<(String, String)> {
    vec![(String::new(), detail.to_owned())]
}

fn cut(mut detail: String) -> String {
    if let Some((at, _)) = detail.char_indices().nth(DETAIL_MAX_CHARS) {
        detail.truncate(at);
        detail.push('…');
    }
    detail
}
