//! Why an exchange ended without a response: a class for machines, one plain sentence for the endpoint's owner.
//!
//! The sentences are fixed, so that nothing of the network behind us (addresses, library texts) can leak into what
//! a tenant reads. A refused target always reads the same: no port scanner.
//!
//! Not among the classes: a response whose status is a failure (that is a `Response`, the format judges it).

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::time::Duration;

use super::policy::Refused;
use super::resolver::LookupFailure;
use super::timings::Phase;
use super::tls;

/// What went wrong. The words of [`ErrorClass::as_str`] are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The name has no address, or couldn't be looked up.
    Dns,
    /// The policy forbids the address.
    RefusedTarget,
    /// No TCP connection.
    Connect,
    /// No TLS session: bad certificate, or not TLS at all.
    Tls,
    /// No complete response head within the endpoint's time-out. hyper doesn't show a part of one, so a
    /// receiver that is silent and one that drips can't be told apart.
    Timeout,
    /// The connection was closed or reset before the response head was complete.
    Reset,
    /// What was sent back isn't HTTP, or more than we are willing to read of it.
    Protocol,
}

impl ErrorClass {
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::Dns => "dns",
            ErrorClass::RefusedTarget => "refused_target",
            ErrorClass::Connect => "connect",
            ErrorClass::Tls => "tls",
            ErrorClass::Timeout => "timeout",
            ErrorClass::Reset => "reset",
            ErrorClass::Protocol => "protocol",
        }
    }
}

/// Safe to show to the tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct SendError {
    pub class: ErrorClass,
    pub detail: Cow<'static, str>,
}

impl SendError {
    pub(super) fn new(class: ErrorClass, detail: &'static str) -> SendError {
        SendError { class, detail: Cow::Borrowed(detail) }
    }

    /// The endpoint's time-out ran out during `phase`.
    pub(super) fn timed_out(timeout: Duration, phase: Phase) -> SendError {
        let ms = timeout.as_millis();
        let detail = match phase {
            Phase::Lookup => format!("the host name could not be looked up within the time-out of {ms} ms"),
            Phase::Connect => format!("no connection was established within the time-out of {ms} ms"),
            Phase::Tls => format!("the TLS handshake was not finished within the time-out of {ms} ms"),
            Phase::Answer => format!("no complete response header arrived within the time-out of {ms} ms"),
        };
        SendError { class: ErrorClass::Timeout, detail: detail.into() }
    }

    /// What reqwest's error comes from. `phase` is where the request was when it failed.
    pub(super) fn from_client(error: &reqwest::Error, phase: Phase) -> SendError {
        if let Some(failure) = find::<LookupFailure>(error) {
            return failure.into();
        }
        if let Some(error) = find::<rustls::Error>(error) {
            return SendError::new(ErrorClass::Tls, tls::explain(error));
        }
        if error.is_connect() {
            return not_connected(error, phase);
        }
        if let Some(error) = find::<hyper::Error>(error) {
            if error.is_parse_too_large() {
                return too_large_head();
            }
            if error.is_parse() {
                return SendError::new(ErrorClass::Protocol, "the endpoint did not answer with valid HTTP");
            }
            if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
                return cut_off();
            }
        }
        match find::<io::Error>(error) {
            Some(_) => cut_off(),
            None => SendError::new(
                ErrorClass::Protocol,
                "the endpoint aborted the request or broke the HTTP protocol",
            ),
        }
    }
}

impl From<Refused> for SendError {
    fn from(_: Refused) -> SendError {
        SendError::new(ErrorClass::RefusedTarget, "the target address is not allowed")
    }
}

impl From<&LookupFailure> for SendError {
    fn from(failure: &LookupFailure) -> SendError {
        let detail = match failure {
            LookupFailure::Refused => return Refused.into(),
            LookupFailure::NoAddress => "the host name has no address",
            LookupFailure::Failed => "the host name could not be looked up",
            LookupFailure::TimedOut => "looking up the host name took too long",
        };
        SendError::new(ErrorClass::Dns, detail)
    }
}

/// More response header than we read.
pub(super) fn too_large_head() -> SendError {
    SendError::new(ErrorClass::Protocol, "the endpoint sent too many or too large response headers")
}

fn cut_off() -> SendError {
    SendError::new(ErrorClass::Reset, "the endpoint closed the connection before answering")
}

fn not_connected(error: &reqwest::Error, phase: Phase) -> SendError {
    let timed_out = error.is_timeout();
    match phase {
        Phase::Lookup if timed_out => (&LookupFailure::TimedOut).into(),
        Phase::Tls if timed_out => {
            SendError::new(ErrorClass::Tls, "the TLS handshake with the endpoint took too long")
        }
        Phase::Tls => {
            SendError::new(ErrorClass::Tls, "the endpoint closed the connection during the TLS handshake")
        }
        _ if timed_out => SendError::new(ErrorClass::Connect, "connecting to the endpoint took too long"),
        _ => match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => {
                SendError::new(ErrorClass::Connect, "the endpoint refused the connection")
            }
            _ => SendError::new(ErrorClass::Connect, "the endpoint could not be reached"),
        },
    }
}

/// The first cause of a type. An `io::Error` hides what it wraps from `source`, so it is opened here.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}
