//! How a command can end other than well, and the exit code that says so.

use std::{fmt, io};

use serde::Deserialize;

use super::table::safe;

/// What a script may rely on.
pub const EXIT_CODES: &str = "Exit codes:
  0  fine
  1  the API could not be reached, or failed
  2  wrong usage
  3  the API refused the request (4xx)
  4  not found";

pub type Outcome = Result<(), Failure>;

pub enum Failure {
    /// What was given on the command line or as input can't be used.
    Usage(String),
    /// No answer, or one that is not Posthaste's.
    Unreachable(String),
    /// The API's own words.
    Answered(Problem),
    /// The output could not be written.
    Output(io::Error),
}

/// RFC 9457, as far as it is shown.
#[derive(Deserialize)]
pub struct Problem {
    pub status: u16,
    title: String,
    detail: Option<String>,
    request_id: Option<String>,
    #[serde(default)]
    errors: Vec<Wrong>,
}

#[derive(Deserialize)]
struct Wrong {
    pointer: String,
    detail: String,
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            // Whoever reads has seen enough, as with `| head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Unreachable(_) | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::Answered(problem) => match problem.status {
                404 => 4,
                400..=499 => 3,
                _ => 1,
            },
        }
    }

    /// Whether the same request may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Answered(problem) => problem.status == 429 || problem.status >= 500,
            Self::Usage(_) | Self::Output(_) => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Unreachable(text) => f.write_str(&safe(text)),
            Self::Output(error) => write!(f, "the output can't be written: {error}"),
            Self::Answered(problem) => problem.fmt(f),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.detail.as_deref().unwrap_or_default();
        write!(f, "{} ({}). {}", safe(&self.title), self.status, safe(detail))?;
        for wrong in &self.errors {
            let pointer = if wrong.pointer.is_empty() { "the body" } else { &wrong.pointer };
            write!(f, "\n  {} {}", safe(pointer), safe(&wrong.detail))?;
        }
        match self.status {
            400 if detail.contains("Posthaste-Tenant") => {
                write!(f, "\n  --tenant or POSTHASTE_TENANT names it here")?;
            }
            401 => write!(f, "\n  --api-key or POSTHASTE_API_KEY gives the key")?,
            500.. => write!(f, "\n  request {}", safe(self.request_id.as_deref().unwrap_or("unknown")))?,
            _ => {}
        }
        Ok(())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
