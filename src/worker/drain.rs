//! Commands, from when they are read until they are obeyed: everything in flight that began before has ended, and its result
//! is on disk. Pure.
//!
//! A command concerns one endpoint, or its whole shard, and waits for what is in flight of that alone: a receiver that hangs
//! does not hold up commands to its neighbours. One that concerns an endpoint is acknowledged by itself, one that concerns a
//! shard together with all before it (`config_seen`). Whoever is not sure which it is takes it for a shard's: that waits for
//! more, never for less.

use std::collections::{BTreeMap, HashMap};

use crate::{
    queue::control::{Ack, Pending},
    types::{EndpointId, Shard},
};

/// Whom a command concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Endpoint(EndpointId),
    Shard(Shard),
}

impl Scope {
    fn holds(self, endpoint: EndpointId) -> bool {
        match self {
            Self::Endpoint(one) => one == endpoint,
            Self::Shard(shard) => endpoint.shard() == shard,
        }
    }
}

/// Several commands to a shard may be one order: those from `first` to `version` that are not orders of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub scope: Scope,
    shard: Shard,
    first: i64,
    version: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Heard,
    /// The configuration that it is about is being read anew.
    Loading,
    /// Attempts that began up to this generation have not all ended.
    Draining(u64),
    /// Nothing is left to wait for, but perhaps for commands before it.
    Obeyed,
}

/// Tags every attempt with the configuration that it began under.
#[derive(Default)]
pub struct Drain {
    generation: u64,
    in_flight: HashMap<(EndpointId, u64), usize>,
    /// By shard and version: every command that was read and is not acknowledged with all before it.
    orders: BTreeMap<(Shard, i64), (Order, State)>,
}

impl Drain {
    /// An attempt begins; the answer goes to [`Drain::ends`].
    pub fn begins(&mut self, endpoint: EndpointId) -> u64 {
        *self.in_flight.entry((endpoint, self.generation)).or_default() += 1;
        self.generation
    }

    pub fn ends(&mut self, endpoint: EndpointId, generation: u64) {
        if let Some(count) = self.in_flight.get_mut(&(endpoint, generation)) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&(endpoint, generation));
            }
        }
    }

    /// The commands that are not acknowledged, as the database tells it. What is known already is left as it is.
    pub fn hear(&mut self, pending: &Pending) {
        let shard = pending.shard;
        let known = self.of(shard).next_back().map_or(0, |(order, _)| order.version);
        let first = pending.seen.max(known) + 1;
        let mut own: Vec<(i64, EndpointId)> =
            pending.of_endpoints.iter().filter(|(version, _)| *version >= first).copied().collect();
        own.sort_unstable();
        let is_own = |version: &i64| own.binary_search_by_key(version, |(own, _)| *own).is_ok();
        let lowest = (first..=pending.version).find(|version| !is_own(version));
        let highest = (first..=pending.version).rev().find(|version| !is_own(version));
        if let (Some(first), Some(version)) = (lowest, highest) {
            self.heard(Order { scope: Scope::Shard(shard), shard, first, version });
        }
        for (version, endpoint) in own {
            self.heard(Order { scope: Scope::Endpoint(endpoint), shard, first: version, version });
        }
    }

    fn heard(&mut self, order: Order) {
        self.orders.entry((order.shard, order.version)).or_insert((order, State::Heard));
    }

    fn of(&self, shard: Shard) -> impl DoubleEndedIterator<Item = &(Order, State)> {
        self.orders.range((shard, i64::MIN)..=(shard, i64::MAX)).map(|(_, entry)| entry)
    }

    /// Whether there is something to load.
    pub fn is_asked(&self) -> bool {
        self.orders.values().any(|(_, state)| *state == State::Heard)
    }

    /// What is to be loaded; [`Drain::loaded`] or [`Drain::not_loaded`] follows.
    pub fn load(&mut self) -> Vec<Order> {
        let heard = self.orders.values_mut().filter(|(_, state)| *state == State::Heard);
        heard
            .map(|(order, state)| {
                *state = State::Loading;
                *order
            })
            .collect()
    }

    /// What these orders are about has been read anew: attempts from now on obey it.
    pub fn loaded(&mut self, orders: &[Order]) {
        let up_to = self.generation;
        self.generation += 1;
        self.set(orders, State::Draining(up_to));
    }

    pub fn not_loaded(&mut self, orders: &[Order]) {
        self.set(orders, State::Heard);
    }

    fn set(&mut self, orders: &[Order], to: State) {
        for order in orders {
            if let Some((_, state)) = self.orders.get_mut(&(order.shard, order.version)) {
                *state = to;
            }
        }
    }

    /// What can be acknowledged now.
    pub fn obeyed(&mut self) -> Vec<Ack> {
        let in_flight = &self.in_flight;
        let mut done: BTreeMap<Shard, Vec<i64>> = BTreeMap::new();
        for (order, state) in self.orders.values_mut() {
            let State::Draining(up_to) = *state else { continue };
            let is_busy = in_flight
                .keys()
                .any(|(endpoint, generation)| *generation <= up_to && order.scope.holds(*endpoint));
            if !is_busy {
                *state = State::Obeyed;
                done.entry(order.shard).or_default().push(order.version);
            }
        }
        let acks = done.into_iter().map(|(shard, versions)| {
            let open = self.of(shard).filter(|(_, state)| *state != State::Obeyed);
            let before_open = open.map(|(order, _)| order.first - 1).min();
            let last = self.of(shard).next_back().map_or(0, |(order, _)| order.version);
            Ack { shard, seen: before_open.unwrap_or(last), versions }
        });
        let acks: Vec<Ack> = acks.collect();
        for ack in &acks {
            self.orders.retain(|(shard, version), (_, state)| {
                *shard != ack.shard || *version > ack.seen || *state != State::Obeyed
            });
        }
        acks
    }

    /// These could not be written: the commands are read, and obeyed, once more.
    pub fn not_acknowledged(&mut self, acks: &[Ack]) {
        let is_lost = |shard: &Shard| acks.iter().any(|ack| ack.shard == *shard);
        self.orders.retain(|(shard, _), (_, state)| *state != State::Obeyed || !is_lost(shard));
    }

    /// The shards are somebody else's.
    pub fn forget(&mut self) {
        self.orders.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// Endpoints 0 and 2 share a shard, and so do 1 and 3.
    fn endpoint(number: u8) -> EndpointId {
        Uuid::from_u128(u128::from(number) << 32 | u128::from(number % 2)).into()
    }

    fn shard(number: u8) -> Shard {
        endpoint(number).shard()
    }

    fn pending(number: u8, seen: i64, version: i64, of_endpoints: &[(i64, u8)]) -> Pending {
        let of_endpoints =
            of_endpoints.iter().map(|(version, number)| (*version, endpoint(*number))).collect();
        Pending { shard: shard(number), seen, version, of_endpoints }
    }

    fn ack(number: u8, seen: i64, versions: &[i64]) -> Ack {
        Ack { shard: shard(number), seen, versions: versions.to_vec() }
    }

    fn load(drain: &mut Drain) -> Vec<Order> {
        let orders = drain.load();
        drain.loaded(&orders);
        orders
    }

    #[test]
    fn a_command_waits_for_its_own_endpoint_alone() {
        let mut drain = Drain::default();
        let hangs = drain.begins(endpoint(0));
        let own = drain.begins(endpoint(2));
        drain.hear(&pending(0, 4, 6, &[(5, 0), (6, 2)]));
        assert_eq!(load(&mut drain).len(), 2);
        let after = drain.begins(endpoint(2));
        assert!(drain.obeyed().is_empty());
        drain.ends(endpoint(2), own);
        assert_eq!(drain.obeyed(), [ack(0, 4, &[6])], "what began after it does not hold it up");
        assert!(drain.obeyed().is_empty(), "once");
        drain.hear(&pending(0, 4, 6, &[(5, 0)]));
        assert!(!drain.is_asked(), "nor is it heard anew while the one before it is not acknowledged");
        drain.ends(endpoint(0), hangs);
        assert_eq!(drain.obeyed(), [ack(0, 6, &[5])]);
        drain.ends(endpoint(2), after);
        assert!(drain.orders.is_empty() && drain.in_flight.is_empty());
    }

    #[test]
    fn a_command_to_a_shard_waits_for_all_of_it() {
        let mut drain = Drain::default();
        let (hangs, other) = (drain.begins(endpoint(0)), drain.begins(endpoint(1)));
        drain.hear(&pending(0, 0, 3, &[(2, 2)]));
        let orders = load(&mut drain);
        assert_eq!(
            orders.iter().map(|order| order.scope).collect::<Vec<_>>(),
            [Scope::Endpoint(endpoint(2)), Scope::Shard(shard(0))]
        );
        assert_eq!(drain.obeyed(), [ack(0, 0, &[2])], "version 1 is a shard's and not obeyed");
        drain.ends(endpoint(0), hangs);
        assert_eq!(drain.obeyed(), [ack(0, 3, &[3])]);
        drain.ends(endpoint(1), other);
    }

    #[test]
    fn what_could_not_be_loaded_or_acknowledged_is_tried_again() {
        let mut drain = Drain::default();
        let hangs = drain.begins(endpoint(0));
        let told = pending(0, 0, 2, &[(1, 0), (2, 2)]);
        drain.hear(&told);
        let orders = drain.load();
        assert!(!drain.is_asked());
        drain.not_loaded(&orders);
        assert_eq!(load(&mut drain), orders);
        let acks = drain.obeyed();
        assert_eq!(acks, [ack(0, 0, &[2])]);
        drain.not_acknowledged(&acks);
        drain.hear(&told);
        assert_eq!(load(&mut drain), orders[1..]);
        assert_eq!(drain.obeyed(), acks);
        drain.ends(endpoint(0), hangs);
        let acks = drain.obeyed();
        drain.not_acknowledged(&acks);
        drain.hear(&told);
        assert_eq!(load(&mut drain).len(), 2);
        assert_eq!(drain.obeyed(), [ack(0, 2, &[1, 2])]);
    }

    /// What the database knows of one shard, and what the API may conclude.
    #[derive(Default)]
    struct Told {
        seen: i64,
        /// When each version was commanded, and for whom; and those of endpoints that are not acknowledged.
        commands: Vec<(usize, Option<u8>)>,
        open: Vec<(i64, u8)>,
    }

    impl Told {
        fn is_obeyed(&self, version: i64) -> bool {
            let by_itself = self.commands[usize::try_from(version - 1).unwrap()].1.is_some();
            self.seen >= version || by_itself && self.open.iter().all(|(open, _)| *open != version)
        }
    }

    proptest! {
        /// Whatever begins, ends, is commanded, read, loaded, acknowledged or lost, in whatever order: once the API may
        /// conclude that a command is obeyed, nothing that it concerns is in flight that began before it. And in the end
        /// all are obeyed.
        #[test]
        fn obeyed_means_that_nothing_older_is_in_flight(
            steps in proptest::collection::vec((0_u8..9, 0_u8..4, 0_usize..8), 0..300),
        ) {
            let mut drain = Drain::default();
            let mut in_flight: Vec<(u8, u64, usize)> = Vec::new();
            let mut told = [Told::default(), Told::default()];
            let mut loading: Vec<(Vec<Order>, usize)> = Vec::new();
            let read = |drain: &mut Drain, told: &[Told; 2]| {
                for (number, told) in (0..).zip(told) {
                    let version = i64::try_from(told.commands.len()).unwrap();
                    if version > told.seen {
                        drain.hear(&pending(number, told.seen, version, &told.open));
                    }
                }
            };
            let write = |told: &mut [Told; 2], acks: &[Ack]| {
                for ack in acks {
                    let told = &mut told[usize::from(ack.shard == shard(1))];
                    told.seen = told.seen.max(ack.seen);
                    told.open.retain(|(version, _)| *version > ack.seen && !ack.versions.contains(version));
                }
            };
            for (now, (kind, number, which)) in steps.into_iter().enumerate() {
                let in_shard = &mut told[usize::from(number % 2)];
                match kind {
                    0 | 1 => in_flight.push((number, drain.begins(endpoint(number)), now)),
                    2 if !in_flight.is_empty() => {
                        let (number, generation, _) = in_flight.swap_remove(which % in_flight.len());
                        drain.ends(endpoint(number), generation);
                    }
                    3 => {
                        let own = (which > 2).then_some(number);
                        in_shard.commands.push((now, own));
                        let version = i64::try_from(in_shard.commands.len()).unwrap();
                        in_shard.open.extend(own.map(|number| (version, number)));
                    }
                    4 => read(&mut drain, &told),
                    5 if loading.is_empty() => loading.push((drain.load(), now)),
                    6 => for (orders, _) in loading.drain(..) {
                        if which == 0 { drain.not_loaded(&orders) } else { drain.loaded(&orders) }
                    },
                    7 => {
                        let acks = drain.obeyed();
                        match which {
                            0 => drain.not_acknowledged(&acks),
                            // Written, and the answer is lost.
                            1 => { write(&mut told, &acks); drain.not_acknowledged(&acks) }
                            _ => write(&mut told, &acks),
                        }
                    }
                    // Another owner: what was in flight here has been cut.
                    8 if which == 7 => {
                        drain = Drain::default();
                        in_flight.clear();
                        loading.clear();
                    }
                    _ => {}
                }
                for (at, told) in told.iter().enumerate() {
                    for (version, (commanded, own)) in (1..).zip(&told.commands) {
                        let concerns = |number: &u8| usize::from(number % 2) == at && own.is_none_or(|own| own == *number);
                        let older = in_flight.iter().any(|(number, _, began)| concerns(number) && began < commanded);
                        prop_assert!(!older || !told.is_obeyed(version), "{version} of shard {at} at {now}");
                    }
                }
            }
            for (number, generation, _) in in_flight {
                drain.ends(endpoint(number), generation);
            }
            for (orders, _) in loading {
                drain.loaded(&orders);
            }
            read(&mut drain, &told);
            load(&mut drain);
            write(&mut told, &drain.obeyed());
            for told in &told {
                let version = i64::try_from(told.commands.len()).unwrap();
                prop_assert!((1..=version).all(|version| told.is_obeyed(version)));
            }
        }
    }
}
