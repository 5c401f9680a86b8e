//! A DNS server on loopback that answers as told: just enough of RFC 1035 for A and AAAA.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use crate::egress::{NameServers, SenderOptions};

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const HEADER_BYTES: usize = 12;

/// What a name answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Addresses {
        ips: Vec<IpAddr>,
        ttl_s: u32,
    },
    /// An answer without records.
    Nothing,
    ServFail,
    NxDomain,
    /// No answer at all.
    Silence,
}

impl Answer {
    /// Addresses that must not be kept.
    pub(super) fn ips(ips: &[&str]) -> Answer {
        Answer::lasting(ips, 0)
    }

    pub(super) fn lasting(ips: &[&str], ttl_s: u32) -> Answer {
        Answer::Addresses { ips: ips.iter().map(|ip| ip.parse().expect("an address")).collect(), ttl_s }
    }
}

#[derive(Default)]
struct Zone {
    answers: HashMap<String, Answer>,
    queries: usize,
}

pub(super) struct DnsServer {
    pub(super) addr: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _task: AbortOnDropHandle<()>,
}

impl DnsServer {
    pub(super) async fn start() -> DnsServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a UDP port");
        let addr = socket.local_addr().expect("its address");
        let zone = Arc::new(Mutex::new(Zone::default()));
        let task = tokio::spawn(serve(socket, Arc::clone(&zone)));
        DnsServer { addr, zone, _task: AbortOnDropHandle::new(task) }
    }

    pub(super) fn set(&self, name: &str, answer: Answer) {
        self.zone.lock().expect("not poisoned").answers.insert(name.to_owned(), answer);
    }

    pub(super) fn queries(&self) -> usize {
        self.zone.lock().expect("not poisoned").queries
    }

    pub(super) fn options(&self) -> SenderOptions {
        SenderOptions { name_servers: NameServers::Fixed(vec![self.addr]), ..SenderOptions::default() }
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 1_500];
    while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
        let reply = {
            let mut zone = zone.lock().expect("not poisoned");
            zone.queries += 1;
            reply_to(&buffer[..size], &zone)
        };
        if let Some(reply) = reply {
            // The client may have gone; the next one will ask again.
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

fn reply_to(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let (name, question_end) = read_name(query)?;
    let kind = u16::from_be_bytes([query[question_end - 4], query[question_end - 3]]);
    let (rcode, ips, ttl_s) = match zone.answers.get(&name).cloned().unwrap_or(Answer::NxDomain) {
        Answer::Addresses { ips, ttl_s } => (0, ips, ttl_s),
        Answer::Nothing => (0, Vec::new(), 0),
        Answer::ServFail => (2, Vec::new(), 0),
        Answer::NxDomain => (3, Vec::new(), 0),
        Answer::Silence => return None,
    };
    let records: Vec<Vec<u8>> = ips
        .iter()
        .filter_map(|ip| match ip {
            IpAddr::V4(ip) if kind == TYPE_A => Some(ip.octets().to_vec()),
            IpAddr::V6(ip) if kind == TYPE_AAAA => Some(ip.octets().to_vec()),
            _ => None,
        })
        .collect();

    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | rcode]); // a response, recursion desired and available
    reply.extend([0, 1, 0, u8::try_from(records.len()).expect("few"), 0, 0, 0, 0]);
    reply.extend(&query[HEADER_BYTES..question_end]);
    for data in records {
        reply.extend([0xc0, 0x0c]); // the name in the question
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1]);
        reply.extend(ttl_s.to_be_bytes());
        reply.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
        reply.extend(data);
    }
    Some(reply)
}

/// The name asked for, in lower case, and where the question ends.
fn read_name(query: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER_BYTES;
    loop {
        let size = usize::from(*query.get(at)?);
        if size == 0 {
            return Some((labels.join("."), at + 5));
        }
        let label = query.get(at + 1..at + 1 + size)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + size;
    }
}
