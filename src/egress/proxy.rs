//! The operator's egress proxy: everything that is sent to receivers goes through it, by CONNECT.
//!
//! Guarantees: the proxy is asked for an address that the policy has judged, never for a name, so that it looks nothing up
//! and can't be led elsewhere; the receiver's own name is in TLS and in `Host` alone. http:// targets go through a tunnel
//! too: one way for both, and the proxy reads neither headers nor bodies of its own accord.
//!
//! The proxy is the operator's choice and no target: the policy doesn't judge it, and it may be anywhere. `Debug` shows
//! where it is, not what it is told to let us in.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::failure::{ErrorClass, SendError, is_our_lack};

/// The proxy's answer to CONNECT, without a body.
const MAX_ANSWER_BYTES: usize = 8 * 1024;

/// Why a text is no proxy. Says nothing of the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be http://host:port or http://user:password@host:port")]
pub struct BadProxy;

/// See the module's documentation.
#[derive(Clone)]
pub struct EgressProxy {
    host: Box<str>,
    port: u16,
    /// The header line that lets us in.
    authorization: Option<Zeroizing<String>>,
}

impl EgressProxy {
    pub fn parse(text: &str) -> Result<EgressProxy, BadProxy> {
        let url = Url::parse(text).map_err(|_| BadProxy)?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "http" || !bare {
            return Err(BadProxy);
        }
        let host = match url.host().ok_or(BadProxy)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(BadProxy)?;
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        let authorization = if user.is_empty() && password.is_empty() {
            None
        } else {
            let (user, password) = (decode(user), decode(password));
            let both = Zeroizing::new([&user[..], b":", &password[..]].concat());
            let encoded = Zeroizing::new(STANDARD.encode(&*both));
            Some(Zeroizing::new(format!("Proxy-Authorization: Basic {}\r\n", *encoded)))
        };
        Ok(EgressProxy { host: host.into(), port, authorization })
    }

    /// A connection that the proxy has led on to `target`.
    pub(super) async fn reach(&self, target: SocketAddr) -> Result<TcpStream, Unreached> {
        let mut tcp = TcpStream::connect((&*self.host, self.port)).await.map_err(|error| {
            tracing::warn!(%error, proxy = %self, "the egress proxy can't be reached");
            if is_our_lack(&error) { Unreached::Local } else { Unreached::Unusable }
        })?;
        let status = self.ask(&mut tcp, target).await.map_err(|error| {
            tracing::warn!(%error, proxy = %self, "the egress proxy doesn't answer as a proxy does");
            Unreached::Unusable
        })?;
        match status {
            200..=299 => Ok(tcp),
            _ => Err(Unreached::Answered(status)),
        }
    }

    /// The status of the proxy's answer.
    async fn ask(&self, tcp: &mut TcpStream, target: SocketAddr) -> io::Result<u16> {
        let authorization = self.authorization.as_ref().map_or("", |line| line);
        let request =
            Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n"));
        tcp.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // Byte by byte: what follows is the receiver's.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == MAX_ANSWER_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
            answer.push(tcp.read_u8().await?);
        }
        status_of(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Only scheme, host and port.
impl fmt::Display for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "http://{open}{}{close}:{}", self.host, self.port)
    }
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EgressProxy({self})")
    }
}

/// Why the proxy has not led on.
#[derive(Debug)]
pub(super) enum Unreached {
    /// It can't be reached, or is no proxy.
    Unusable,
    /// We have no descriptor or memory left to reach it with.
    Local,
    /// With a status that is no success.
    Answered(u16),
}

impl Unreached {
    /// Another address of the receiver may do.
    pub(super) fn is_about_the_target(&self) -> bool {
        matches!(self, Unreached::Answered(502..=504))
    }
}

impl From<Unreached> for SendError {
    fn from(unreached: Unreached) -> SendError {
        match unreached {
            Unreached::Local => SendError::local(),
            Unreached::Unusable => {
                SendError::new(ErrorClass::Proxy, "the operator's egress proxy can't be used")
            }
            Unreached::Answered(status) => {
                let detail = format!("the operator's egress proxy answered {status} instead of connecting");
                SendError::new(ErrorClass::Proxy, detail)
            }
        }
    }
}

fn decode(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(percent_encoding::percent_decode_str(text).collect())
}

/// `HTTP/1.1 200 Connected`
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|byte| *byte == b'\r').next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let status = rest.split(' ').next()?;
    (version.starts_with("HTTP/1.") && status.len() == 3).then(|| status.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_and_with_what_name() {
        let proxy = EgressProxy::parse("http://us%65r:p%40ss:w@proxy.internal:3128").expect("a proxy");
        assert_eq!((&*proxy.host, proxy.port), ("proxy.internal", 3128));
        let line = proxy.authorization.as_ref().expect("let in").as_str();
        assert_eq!(line, format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode("user:p@ss:w")));
        assert_eq!(
            format!("{proxy:?} {proxy}"),
            "EgressProxy(http://proxy.internal:3128) http://proxy.internal:3128"
        );

        let proxy = EgressProxy::parse("http://[::1]:8080/").expect("a proxy");
        assert_eq!((&*proxy.host, proxy.port, proxy.authorization.is_none()), ("::1", 8080, true));
        assert_eq!(proxy.to_string(), "http://[::1]:8080");
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_being_quoted() {
        for text in [
            "",
            "proxy:3128",
            "https://proxy:3128",
            "socks5://proxy:1080",
            "http://",
            "http://proxy:3128/path",
            "http://proxy:3128/?q",
            "http://proxy:3128#f",
            "http://proxy:0",
            "http://proxy:99999",
            "http://us er:s3cret@",
        ] {
            let refusal = EgressProxy::parse(text).expect_err(text);
            assert!(!refusal.to_string().contains("s3cret"));
        }
    }

    #[test]
    fn the_status_is_read_and_nothing_else_is_taken_for_one() {
        assert_eq!(status_of(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status_of(b"HTTP/1.0 407\r\n\r\n"), Some(407));
        for no in [
            &b"SSH-2.0 200\r\n\r\n"[..],
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            b"\r\n\r\n",
            b"HTTP/1.1 2000\r\n\r\n",
        ] {
            assert_eq!(status_of(no), None);
        }
    }
}
