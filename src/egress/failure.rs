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

use rustix::io::Errno;

use super::heads::MAX_INTERIM_RESPONSES;
use super::policy::Refused;
use super::resolver::LookupFailure;
use super::timings::Phase;
use super::tls;
use super::wire::{Flood, Meter};

/// Declares the classes with their words, once.
macro_rules! error_classes {
    ($($(#[$doc:meta])* $class:ident = $word:literal,)*) => {
        /// What went wrong. The words of [`ErrorClass::as_str`] are part of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorClass {
            $($(#[$doc])* $class,)*
        }

        impl ErrorClass {
            pub const ALL: &[ErrorClass] = &[$(ErrorClass::$class,)*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(ErrorClass::$class => $word,)*
                }
            }
        }
    };
}

error_classes! {
    /// The name has no address, or couldn't be looked up.
    Dns = "dns",
    /// The policy forbids the address.
    RefusedTarget = "refused_target",
    /// The operator's proxy doesn't connect us.
    Proxy = "proxy",
    /// No TCP connection.
    Connect = "connect",
    /// We have no descriptor or memory left to connect with: not the receiver's fault.
    Local = "local",
    /// No TLS session, for a reason without a class of its own.
    Tls = "tls",
    TlsExpired = "tls_expired",
    TlsWrongName = "tls_wrong_name",
    /// Self-signed, or from an authority that isn't known.
    TlsUntrusted = "tls_untrusted",
    /// Nothing of a response within the endpoint's time-out.
    Timeout = "timeout",
    /// The response's head began, and was not complete within the time-out.
    ResponseTooSlow = "response_too_slow",
    /// The connection was closed or reset before anything of a response came.
    Reset = "reset",
    /// The connection was closed or reset in the middle of the response's head.
    ResponseIncomplete = "response_incomplete",
    /// More response head than we are willing to read.
    ResponseTooLarge = "response_too_large",
    /// One interim response (1xx) after the other.
    InterimFlood = "interim_flood",
    /// What was sent back isn't HTTP.
    Protocol = "protocol",
}

/// Safe to show to the tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct SendError {
    pub class: ErrorClass,
    pub detail: Cow<'static, str>,
}

impl SendError {
    pub(super) fn new(class: ErrorClass, detail: impl Into<Cow<'static, str>>) -> SendError {
        SendError { class, detail: detail.into() }
    }

    /// The endpoint's time-out ran out before the request was sent, during `phase`.
    pub(super) fn not_sent_in_time(timeout: Duration, phase: Phase) -> SendError {
        let ms = timeout.as_millis();
        let detail = match phase {
            Phase::Lookup => format!("the host name could not be looked up within the time-out of {ms} ms"),
            Phase::Room => {
                format!(
                    "within the time-out of {ms} ms no connection was free here: too many are open to others"
                )
            }
            Phase::Tls => format!("the TLS handshake was not finished within the time-out of {ms} ms"),
            Phase::Connect | Phase::Answer => {
                format!("no connection was established within the time-out of {ms} ms")
            }
        };
        SendError::new(ErrorClass::Timeout, detail)
    }

    /// The endpoint's time-out ran out while it was to answer.
    pub(super) fn not_answered_in_time(timeout: Duration, meter: &Meter) -> SendError {
        let ms = timeout.as_millis();
        if meter.has_answered() {
            let detail = format!(
                "the endpoint sends its response header too slowly: after the time-out of {ms} ms it was not complete"
            );
            return SendError::new(ErrorClass::ResponseTooSlow, detail);
        }
        SendError::new(
            ErrorClass::Timeout,
            format!("the endpoint did not answer within the time-out of {ms} ms"),
        )
    }

    /// Connecting took longer than connecting may take.
    pub(super) fn not_connected_in_time(phase: Phase) -> SendError {
        match phase {
            Phase::Lookup => LookupFailure::TimedOut.into(),
            Phase::Tls => {
                SendError::new(ErrorClass::Tls, "the TLS handshake with the endpoint took too long")
            }
            _ => SendError::new(ErrorClass::Connect, "connecting to the endpoint took too long"),
        }
    }

    /// No TCP connection.
    pub(super) fn not_connected(error: &io::Error) -> SendError {
        if is_our_lack(error) {
            return SendError::local();
        }
        let detail = match error.kind() {
            io::ErrorKind::ConnectionRefused => "the endpoint refused the connection",
            _ => "the endpoint could not be reached",
        };
        SendError::new(ErrorClass::Connect, detail)
    }

    /// We lack what connecting takes.
    pub(super) fn local() -> SendError {
        let detail = "Posthaste had no resources to connect; this is no failure of the endpoint, and it is sent again soon";
        SendError::new(ErrorClass::Local, detail)
    }

    /// No TLS session.
    pub(super) fn no_tls(error: &io::Error) -> SendError {
        match find::<rustls::Error>(error) {
            Some(error) => tls::explain(error),
            None => {
                let detail = "the endpoint closed the connection during the TLS handshake";
                SendError::new(ErrorClass::Tls, detail)
            }
        }
    }

    /// No response, or not one that we read.
    pub(super) fn no_response(error: &hyper::Error, meter: &Meter) -> SendError {
        match meter.flood() {
            Some(Flood::Interim) => {
                let detail = format!(
                    "the endpoint sent more than {MAX_INTERIM_RESPONSES} interim responses (1xx), or very long ones, and \
                     no final one"
                );
                return SendError::new(ErrorClass::InterimFlood, detail);
            }
            Some(Flood::Head) => return too_large_head(),
            None => {}
        }
        if let Some(error) = meter.tls_failure() {
            return tls::explain(error);
        }
        if error.is_parse_too_large() {
            return too_large_head();
        }
        if error.is_parse() {
            return SendError::new(ErrorClass::Protocol, "the endpoint did not answer with valid HTTP");
        }
        let is_cut = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
        match find::<io::Error>(error) {
            _ if is_cut => cut_off(meter),
            Some(_) => cut_off(meter),
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

impl From<LookupFailure> for SendError {
    fn from(failure: LookupFailure) -> SendError {
        let detail = match failure {
            LookupFailure::Refused => return Refused.into(),
            LookupFailure::Local => return SendError::local(),
            LookupFailure::NoAddress => "the host name has no address",
            LookupFailure::Failed => "the host name could not be looked up",
            LookupFailure::TimedOut => "looking up the host name took too long",
        };
        SendError::new(ErrorClass::Dns, detail)
    }
}

/// Whether the process or the machine has run out of descriptors or memory.
pub(super) fn is_our_lack(error: &io::Error) -> bool {
    const LACKS: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| LACKS.contains(&errno))
}

/// More response header than we read.
pub(super) fn too_large_head() -> SendError {
    let detail = "the endpoint sent too many or too large response headers";
    SendError::new(ErrorClass::ResponseTooLarge, detail)
}

fn cut_off(meter: &Meter) -> SendError {
    if meter.has_answered() {
        let detail = "the endpoint closed the connection in the middle of its response header";
        return SendError::new(ErrorClass::ResponseIncomplete, detail);
    }
    SendError::new(ErrorClass::Reset, "the endpoint closed the connection before answering")
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
