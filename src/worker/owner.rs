//! The owner: one task that holds the scheduler and everything it decides by.
//!
//! It never waits for anything but its inbox: whatever takes time runs in a task of its own and comes back as a
//! [`Message`].

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    WorkerParts,
    attempt::{Outcome, Plan, attempt},
    drain::Drain,
    flusher::{Item, Report, Written},
    keeper::{Lease, Tenure},
    reading::{Found, read},
    retry::Next,
    scheduler::{Limits, Micros, Scheduler, Terms},
};
use crate::{
    endpoints::target::{self, Target, format_of},
    queue::{
        Row, Turn,
        finish::{Finished, Verdict},
        handoff::{Handed, Parcel},
        ownership,
        refill::{self, LaneRoom},
    },
    types::{EndpointId, SHARD_COUNT, Shard, Timestamp},
};

const LIMITS: Limits =
    Limits { slots: 512, lane_rows: 64, refill_lanes: 50, body_bytes: 64 * 1024 * 1024, lane_rows_lean: 8 };
/// Results that may wait for Postgres before nothing more is sent: the most that a crash can cause to be sent again,
/// beside what is in flight.
const UNWRITTEN_MAX: usize = 2_000;
/// How often the shards' commands are read, whether rung for or not.
const COMMANDS_EVERY: Duration = Duration::from_millis(250);
/// How often the queue is searched for lanes that nobody has told of.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Sweeps until one that trusts nothing.
const FULL_SWEEP_EVERY: u32 = 120;
/// A publish commits within this time of minting its id; rows that came later than their neighbours are looked for this
/// far back.
const LATE_COMMIT: Duration = Duration::from_secs(60);
/// Lanes and targets that were not used for so long are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// At the end: how long attempts in flight may take before they are cut.
const LAST_ATTEMPTS_WITHIN: Duration = Duration::from_secs(35);
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// Why a delivery fails whose sending has killed the process again and again.
const POISON: &str = "poison: the process died each time that this was sent";
/// Messages taken in before acting on them.
const INBOX_GULP: usize = 256;

/// Everything that the owner is told.
pub enum Message {
    Tenure(Tenure),
    Rang(Vec<EndpointId>),
    Commanded,
    Commands(Option<Vec<(Shard, i64)>>),
    Loaded(Loaded),
    Refilled { rooms: Vec<LaneRoom>, found: Option<Found> },
    Swept { full: bool, lanes: Option<Vec<EndpointId>> },
    Attempted(Box<Attempted>),
    Flushed(Report),
}

type Targets = HashMap<EndpointId, Arc<Target>>;

/// How endpoints stand, read after `commands` were given.
pub struct Loaded {
    /// Who asked. What was read for a node that is dead may be from before its shards were somebody else's.
    node: Uuid,
    commands: Vec<(Shard, i64)>,
    asked: Vec<EndpointId>,
    targets: Option<Targets>,
}

pub struct Attempted {
    row: Row,
    plan: Arc<Plan>,
    generation: u64,
    outcome: Outcome,
}

/// Readers of the queue, as the scheduler knows them: publishes have even numbers, refills odd ones.
fn publish_reader(publish: u64) -> u64 {
    publish * 2
}

pub struct Owner {
    parts: WorkerParts,
    messages: mpsc::UnboundedSender<Message>,
    results: mpsc::UnboundedSender<Item>,
    rings: mpsc::UnboundedSender<EndpointId>,
    scheduler: Scheduler,
    drain: Drain,
    node: Uuid,
    lease: Option<Lease>,
    owned: Vec<bool>,
    /// Shards taken from a node that died, and of their lanes those whose heads have been counted as suspects.
    unclean: HashSet<Shard>,
    cleared: HashSet<EndpointId>,
    targets: Targets,
    plans: HashMap<(EndpointId, i32), Arc<Plan>>,
    /// Endpoints whose targets are wanted, commands to obey, and whether a load is under way: one at a time, so that an
    /// older picture never replaces a newer one.
    wanted: HashSet<EndpointId>,
    commands: Vec<(Shard, i64)>,
    loading: bool,
    loads: u64,
    /// Endpoints that have answered 410 to this turn. They are held here until a load that began after the result was on
    /// disk (in the number that is kept) tells how they stand.
    gone: HashMap<EndpointId, (Turn, Option<u64>)>,
    reading_commands: bool,
    commands_rung: bool,
    sweeping: bool,
    full_sweep: bool,
    sweeps: u32,
    refills: u64,
    unwritten: usize,
    stopping: bool,
}

impl Owner {
    pub fn new(
        parts: WorkerParts,
        messages: mpsc::UnboundedSender<Message>,
        results: mpsc::UnboundedSender<Item>,
        rings: mpsc::UnboundedSender<EndpointId>,
    ) -> Self {
        Self {
            parts,
            messages,
            results,
            rings,
            scheduler: Scheduler::new(LIMITS),
            drain: Drain::default(),
            node: Uuid::nil(),
            lease: None,
            owned: vec![false; usize::from(SHARD_COUNT)],
            unclean: HashSet::new(),
            cleared: HashSet::new(),
            targets: HashMap::new(),
            plans: HashMap::new(),
            wanted: HashSet::new(),
            commands: Vec::new(),
            loading: false,
            loads: 0,
            gone: HashMap::new(),
            reading_commands: false,
            commands_rung: false,
            sweeping: false,
            full_sweep: false,
            sweeps: 0,
            refills: 0,
            unwritten: 0,
            stopping: false,
        }
    }

    fn now(&self) -> Micros {
        self.parts.pools.clock.now().unix_us()
    }

    fn owns(&self, endpoint: EndpointId) -> bool {
        self.owned[endpoint.shard().index()]
    }

    /// Runs a task whose end is a message.
    fn tell_later(&self, work: impl Future<Output = Message> + Send + 'static) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let _ = messages.send(work.await);
        });
    }

    pub async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>, stop: CancellationToken) {
        let mut commands = interval(COMMANDS_EVERY);
        let mut sweeps = interval(SWEEP_EVERY);
        for ticks in [&mut commands, &mut sweeps] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut gulp = Vec::with_capacity(INBOX_GULP);
        let mut cut_at = None;
        loop {
            self.act();
            if self.stopping && self.scheduler.in_flight() == 0 {
                return;
            }
            let alarm = self.scheduler.next_alarm().map(|at| {
                let wait_us = u64::try_from(at - self.now()).unwrap_or_default();
                Instant::now() + Duration::from_micros(wait_us)
            });
            tokio::select! {
                _ = inbox.recv_many(&mut gulp, INBOX_GULP) => {
                    for message in gulp.drain(..) {
                        self.take_in(message);
                    }
                }
                Some(handed) = self.parts.handed.recv() => {
                    self.handed(handed);
                    // What is there already, without going around for each.
                    for _ in 0..INBOX_GULP {
                        match self.parts.handed.try_recv() {
                            Ok(handed) => self.handed(handed),
                            Err(_) => break,
                        }
                    }
                }
                () = stop.cancelled(), if !self.stopping => {
                    self.stopping = true;
                    cut_at = Some(Instant::now() + LAST_ATTEMPTS_WITHIN);
                }
                () = sleep_until(cut_at.unwrap_or_else(Instant::now)), if cut_at.is_some() => {
                    cut_at = None;
                    if let Some(lease) = &self.lease {
                        lease.ended.cancel();
                    }
                }
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() && !self.stopping => {}
                _ = commands.tick() => self.read_commands(),
                _ = sweeps.tick() => self.sweep(),
            }
        }
    }

    /// Starts everything that can be started now.
    fn act(&mut self) {
        let now = self.now();
        self.scheduler.tick(now);
        let lease = self.lease.clone().filter(Lease::holds);
        if let Some(lease) = lease.filter(|_| !self.stopping) {
            while self.unwritten + self.scheduler.in_flight() < UNWRITTEN_MAX {
                let Some(parcel) = self.scheduler.next(now) else { break };
                self.send(parcel, lease.clone());
            }
            self.refill(now);
        }
        self.load();
        let obeyed = self.drain.obeyed();
        if !obeyed.is_empty() {
            let (pool, node) = (self.parts.pools.engine.clone(), self.node);
            tokio::spawn(async move {
                if let Err(error) = ownership::acknowledge(&pool, node, &obeyed).await {
                    tracing::warn!(%error, "a command could not be acknowledged; it is read again");
                }
            });
        }
        if self.commands_rung {
            self.read_commands();
        }
        if self.full_sweep {
            self.sweep();
        }
    }

    fn send(&mut self, parcel: Parcel, lease: Lease) {
        let row = parcel.row;
        let generation = self.drain.begins(row.shard());
        let Some(plan) = self.plan(&row) else {
            self.cannot_be_sent(
                row,
                generation,
                "the wire format that it was created with can't be signed any more",
            );
            return;
        };
        let (sender, clock) = (self.parts.sender.clone(), self.parts.pools.clock.clone());
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let outcome = attempt(&sender, &clock, &lease, &plan, parcel).await;
            let _ = messages.send(Message::Attempted(Box::new(Attempted { row, plan, generation, outcome })));
        });
    }

    fn plan(&mut self, row: &Row) -> Option<Arc<Plan>> {
        let key = (row.endpoint_id, row.format_version);
        let now = self.parts.pools.clock.now();
        if let Some(plan) = self.plans.get(&key).filter(|plan| plan.until.is_none_or(|until| until > now)) {
            return Some(Arc::clone(plan));
        }
        let target = Arc::clone(self.targets.get(&row.endpoint_id)?);
        let plan = Arc::new(Plan::new(target, format_of(row.format_version)?, now)?);
        self.plans.insert(key, Arc::clone(&plan));
        Some(plan)
    }

    /// Ends a delivery without an attempt.
    fn cannot_be_sent(&mut self, row: Row, generation: u64, reason: &'static str) {
        let now = self.now();
        self.drain.ends(row.shard(), generation);
        self.scheduler.responded(row.endpoint_id, now);
        self.write_failure(row, reason, now);
    }

    fn write_failure(&mut self, row: Row, reason: &'static str, now: Micros) {
        let Some(target) = self.targets.get(&row.endpoint_id) else {
            // Sweeps find the row again, and by then its endpoint.
            self.scheduler.finished(row.turn(), None, now);
            return;
        };
        let finished = Finished {
            endpoint_id: row.endpoint_id,
            event_id: row.event_id,
            tenant_id: target.tenant_id,
            seq: row.seq,
            attempt: None,
            verdict: Verdict::Failed { reason },
        };
        let item = Item {
            node: self.node,
            location_id: target.location_id,
            finished,
            next: Next::Exhausted,
            was_failing: target.failing,
        };
        self.write(item);
    }

    fn write(&mut self, item: Item) {
        self.unwritten += 1;
        let _ = self.results.send(item);
    }

    fn refill(&mut self, now: Micros) {
        let reader = self.refills * 2 + 1;
        let rooms = self.scheduler.refills(reader, now);
        if rooms.is_empty() {
            return;
        }
        self.refills += 1;
        let pool = self.parts.pools.engine.clone();
        let suspicious = self.suspicious(&rooms);
        self.tell_later(async move {
            match read(&pool, &rooms, &suspicious, Timestamp::from_unix_us(now)).await {
                Ok(found) => Message::Refilled { rooms, found: Some(found) },
                Err(error) => {
                    tracing::warn!(%error, "the queue could not be read; tried again");
                    sleep(TRY_AGAIN).await;
                    Message::Refilled { rooms, found: None }
                }
            }
        });
    }

    /// Lanes that are read for the first time since their node died, and how many of their rows it may have had in flight.
    fn suspicious(&self, rooms: &[LaneRoom]) -> HashMap<EndpointId, usize> {
        let is_suspicious = |endpoint: &EndpointId| {
            self.unclean.contains(&endpoint.shard()) && !self.cleared.contains(endpoint)
        };
        let lanes = rooms.iter().map(|room| room.endpoint_id).filter(is_suspicious);
        let most = |endpoint| self.targets.get(&endpoint).map_or(0, |target| target.max_in_flight as usize);
        lanes.map(|endpoint| (endpoint, most(endpoint))).collect()
    }

    fn load(&mut self) {
        if self.loading || (self.wanted.is_empty() && self.commands.is_empty()) {
            return;
        }
        self.loading = true;
        self.loads += 1;
        let (node, commands) = (self.node, std::mem::take(&mut self.commands));
        let shards: HashSet<Shard> = commands.iter().map(|(shard, _)| *shard).collect();
        let mut asked = std::mem::take(&mut self.wanted);
        asked.extend(self.scheduler.lanes_in(|shard| shards.contains(&shard)));
        asked.extend(self.targets.keys().filter(|endpoint| shards.contains(&endpoint.shard())));
        let asked: Vec<EndpointId> = asked.into_iter().collect();
        let (pool, vault, policy) =
            (self.parts.pools.engine.clone(), Arc::clone(&self.parts.vault), Arc::clone(&self.parts.policy));
        self.tell_later(async move {
            let targets = match target::load(&pool, &vault, &policy, &asked).await {
                Ok(targets) => Some(targets),
                Err(error) => {
                    tracing::warn!(%error, "endpoints could not be read; tried again");
                    sleep(TRY_AGAIN).await;
                    None
                }
            };
            Message::Loaded(Loaded { node, commands, asked, targets })
        });
    }

    fn read_commands(&mut self) {
        if self.reading_commands || self.lease.is_none() {
            return;
        }
        self.reading_commands = true;
        self.commands_rung = false;
        let (pool, node) = (self.parts.pools.engine.clone(), self.node);
        self.tell_later(async move { Message::Commands(ownership::changed_shards(&pool, node).await.ok()) });
    }

    fn sweep(&mut self) {
        if self.sweeping || self.lease.is_none() {
            return;
        }
        self.sweeping = true;
        let full = std::mem::take(&mut self.full_sweep) || self.sweeps.is_multiple_of(FULL_SWEEP_EVERY);
        self.sweeps = self.sweeps.wrapping_add(1);
        let pool = self.parts.pools.engine.clone();
        self.tell_later(async move {
            let lanes = refill::waiting_lanes(&pool).await;
            if let Err(error) = &lanes {
                tracing::warn!(%error, "the queue could not be swept");
                sleep(TRY_AGAIN).await;
            }
            Message::Swept { full, lanes: lanes.ok() }
        });
    }

    fn take_in(&mut self, message: Message) {
        let now = self.now();
        match message {
            Message::Tenure(tenure) => self.tenure(tenure, now),
            Message::Rang(endpoints) => {
                let after = self.late_bound();
                for endpoint in endpoints {
                    self.doubt(endpoint, after, now);
                }
            }
            Message::Commanded => self.commands_rung = true,
            Message::Commands(commands) => {
                self.reading_commands = false;
                // One that is being obeyed is read again until it is acknowledged.
                let new =
                    |command: &(Shard, i64)| !self.drain.is_on(*command) && !self.commands.contains(command);
                let commands: Vec<_> = commands.unwrap_or_default().into_iter().filter(new).collect();
                self.commands.extend(commands);
            }
            Message::Loaded(loaded) => self.loaded(loaded, now),
            Message::Refilled { rooms, found } => self.refilled(&rooms, found, now),
            Message::Swept { full, lanes } => self.swept(full, lanes, now),
            Message::Attempted(attempted) => self.attempted(*attempted, now),
            Message::Flushed(report) => self.flushed(report, now),
        }
    }

    fn tenure(&mut self, tenure: Tenure, now: Micros) {
        match tenure {
            Tenure::Began { node, lease } => {
                self.node = node;
                self.lease = Some(lease);
            }
            Tenure::Took { shards, unclean } => {
                for shard in shards {
                    self.owned[shard.index()] = true;
                    if unclean {
                        self.unclean.insert(shard);
                        self.cleared.retain(|endpoint| endpoint.shard() != shard);
                    }
                }
                self.scheduler.took(now);
                self.full_sweep = true;
                self.commands_rung = true;
            }
            Tenure::Renewed(lease) => {
                self.lease = Some(lease);
                self.scheduler.doubt_all(now);
                self.full_sweep = true;
            }
            Tenure::Lost => {
                self.lease = None;
                self.node = Uuid::nil();
                self.owned.fill(false);
                self.unclean.clear();
                self.cleared.clear();
                self.scheduler.drop_shards(|_| true, now);
                self.drain.forget();
                // Changes are told to the new owner from now on.
                self.targets.clear();
                self.plans.clear();
                self.wanted.clear();
                self.commands.clear();
                self.gone.clear();
            }
        }
    }

    /// Rows of publishes that are not older than this may still turn up below their neighbours.
    fn late_bound(&self) -> Uuid {
        let late_us = i64::try_from(LATE_COMMIT.as_micros()).unwrap_or_default();
        Timestamp::from_unix_us(self.now() - late_us).lowest_id()
    }

    fn doubt(&mut self, endpoint: EndpointId, after: Uuid, now: Micros) {
        if self.owns(endpoint) {
            self.scheduler.doubt(endpoint, after, now);
            self.introduce(endpoint, now);
        }
    }

    /// A lane that is new to the scheduler gets its terms, or they are asked for.
    fn introduce(&mut self, endpoint: EndpointId, now: Micros) {
        if !self.scheduler.is_stranger(endpoint) {
            return;
        }
        match self.targets.get(&endpoint) {
            Some(target) => self.scheduler.configure(endpoint, terms(target), now),
            None => {
                self.wanted.insert(endpoint);
            }
        }
    }

    fn handed(&mut self, handed: Handed) {
        let now = self.now();
        match handed {
            Handed::Begins { publish } => self.scheduler.reader_begins(publish_reader(publish)),
            Handed::Ends { publish, committed } => {
                for parcel in committed {
                    let endpoint = parcel.row.endpoint_id;
                    if self.owns(endpoint) {
                        self.scheduler.offer(publish_reader(publish), parcel, now);
                        self.introduce(endpoint, now);
                    } else {
                        let _ = self.rings.send(endpoint);
                    }
                }
                self.scheduler.reader_ends(publish_reader(publish));
            }
        }
    }

    fn loaded(&mut self, loaded: Loaded, now: Micros) {
        self.loading = false;
        let Loaded { node, commands, asked, targets } = loaded;
        if node != self.node {
            return;
        }
        match targets {
            Some(targets) => {
                let shards = commands.iter().map(|(shard, _)| *shard).collect();
                self.scheduler.clear_shards(&shards, now);
                self.know(&asked, targets, now);
                self.drain.commanded(&commands);
            }
            None => {
                self.wanted.extend(asked);
                self.commands.extend(commands);
            }
        }
    }

    /// What was asked for and is not among the targets no longer exists, or can't be opened: nothing is sent to it.
    fn know(&mut self, asked: &[EndpointId], mut targets: Targets, now: Micros) {
        for endpoint in asked {
            self.plans.retain(|(known, _), _| known != endpoint);
            let is_news = |written: &Option<u64>| written.is_some_and(|load| load < self.loads);
            if self.gone.get(endpoint).is_some_and(|(_, written)| is_news(written)) {
                self.gone.remove(endpoint);
            }
            match targets.remove(endpoint).filter(|_| !self.gone.contains_key(endpoint)) {
                Some(target) => {
                    self.scheduler.configure(*endpoint, terms(&target), now);
                    self.targets.insert(*endpoint, target);
                }
                None => {
                    self.targets.remove(endpoint);
                    let nothing = Terms { max_in_flight: 0, rate_per_s: None, held: true };
                    self.scheduler.configure(*endpoint, nothing, now);
                }
            }
        }
    }

    fn refilled(&mut self, rooms: &[LaneRoom], found: Option<Found>, now: Micros) {
        let (refill, poison) = match found {
            None => (None, HashSet::new()),
            Some(Found { refill, poison }) => {
                let unclean =
                    rooms.iter().map(|room| room.endpoint_id).filter(|id| self.unclean.contains(&id.shard()));
                self.cleared.extend(unclean);
                (Some(refill), poison)
            }
        };
        for row in self.scheduler.refilled(rooms, refill, now) {
            let reason = if poison.contains(&row.turn()) { POISON } else { "the event's data are gone" };
            self.write_failure(row, reason, now);
        }
    }

    fn swept(&mut self, full: bool, lanes: Option<Vec<EndpointId>>, now: Micros) {
        self.sweeping = false;
        let Some(lanes) = lanes else {
            self.full_sweep |= full;
            return;
        };
        let after = if full { Uuid::nil() } else { self.late_bound() };
        for endpoint in lanes {
            self.doubt(endpoint, after, now);
        }
        let forget_us = i64::try_from(FORGET_AFTER.as_micros()).unwrap_or_default();
        for endpoint in self.scheduler.retire(now - forget_us) {
            self.targets.remove(&endpoint);
            self.plans.retain(|(known, _), _| *known != endpoint);
        }
    }

    fn attempted(&mut self, attempted: Attempted, now: Micros) {
        let Attempted { row, plan, generation, outcome } = attempted;
        self.drain.ends(row.shard(), generation);
        self.scheduler.responded(row.endpoint_id, now);
        match outcome {
            Outcome::Cut => self.scheduler.lost(row.turn(), now),
            Outcome::Sent { finished, next } => {
                if next == Next::Gone {
                    let held = Terms { held: true, ..terms(&plan.target) };
                    self.scheduler.configure(row.endpoint_id, held, now);
                    self.gone.insert(row.endpoint_id, (row.turn(), None));
                    self.targets.remove(&row.endpoint_id);
                    self.plans.retain(|(known, _), _| *known != row.endpoint_id);
                }
                self.write(Item {
                    node: self.node,
                    location_id: plan.target.location_id,
                    finished: *finished,
                    next,
                    was_failing: plan.target.failing,
                });
            }
        }
    }

    fn flushed(&mut self, report: Report, now: Micros) {
        for (turn, written) in report {
            self.unwritten = self.unwritten.saturating_sub(1);
            match written {
                Written::Ended => self.scheduler.finished(turn, None, now),
                Written::Due(at) => self.scheduler.finished(turn, Some(at.unix_us()), now),
                Written::Unsure => {
                    self.scheduler.finished(turn, None, now);
                    if self.owns(turn.endpoint_id) {
                        self.scheduler.doubt(turn.endpoint_id, Uuid::nil(), now);
                    }
                }
                Written::Lost => self.scheduler.lost(turn, now),
            }
            if let Some((gone, load)) = self.gone.get_mut(&turn.endpoint_id)
                && *gone == turn
            {
                *load = Some(self.loads);
                self.wanted.insert(turn.endpoint_id);
            }
        }
    }
}

fn terms(target: &Target) -> Terms {
    Terms { max_in_flight: target.max_in_flight, rate_per_s: target.rate_per_s, held: target.held }
}
