//! Which ports may be sent to.
//!
//! An HTTP POST to a database, a mail server or a cluster's control plane is never a webhook. Below 1024
//! only http's and https's own ports; above, everything but the list.

/// Ports from 1024 up that are refused: those that browsers refuse (the Fetch standard's "bad ports"),
/// data stores, and control planes that would obey a plain POST. All below 32768, so that a port which
/// the operating system picks is never among them.
const REFUSED: &[u16] = &[
    1433, 1434, 1521, 1719, 1720, 1723, // SQL Server, Oracle; H.323, PPTP
    2049, 2181, 2375, 2376, 2379, 2380, // NFS, ZooKeeper, Docker, etcd
    3306, 3659, 4045, 4190, 4369, // MySQL, apple-sasl, npp, sieve, Erlang
    5060, 5061, 5432, 5672, 5984, // SIP, Postgres, AMQP, CouchDB
    6000, 6379, 6380, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, // X11, Redis, sane, IRC
    8086, 8500, 9042, 9092, 9200, 9300, // InfluxDB, Consul, Cassandra, Kafka, Elasticsearch
    10080, 10250, 10255, 11211, 26379, 27017, 27018, 27019,
    28015, // amanda, kubelet, memcached, MongoDB …
];

const FIRST_UNPRIVILEGED: u16 = 1024;

pub(super) fn is_allowed(port: u16) -> bool {
    match port {
        80 | 443 => true,
        ..FIRST_UNPRIVILEGED => false,
        _ => REFUSED.binary_search(&port).is_err(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_below_the_ephemeral_ports() {
        assert!(REFUSED.is_sorted());
        assert!(REFUSED.iter().all(|&port| (FIRST_UNPRIVILEGED..32_768).contains(&port)));
    }

    #[test]
    fn low_ports_and_listed_ones_are_refused() {
        for yes in [80, 443, 1024, 3000, 5000, 8000, 8080, 8443, 9000, 39_201, 65_535] {
            assert!(is_allowed(yes), "{yes}");
        }
        for no in [0, 1, 22, 25, 79, 81, 442, 587, 1023, 2375, 3306, 5432, 6379, 6667, 9200, 11_211, 27_017] {
            assert!(!is_allowed(no), "{no}");
        }
    }
}
