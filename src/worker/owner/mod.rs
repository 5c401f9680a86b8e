//! The owner: one task that holds the scheduler and everything it decides by.
//!
//! It never waits for anything but its inbox: whatever takes time runs in a task of its own and comes back as a
//! [`Message`].

mod hearing;
mod starting;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    WorkerParts,
    attempt::{Outcome, Plan},
    drain::{Drain, Order},
    flusher::{Item, Report},
    keeper::{Lease, Rested, Tenure},
    leave::Leave,
    reading::Found,
    scheduler::{Limits, Micros, Scheduler, Start},
};
use crate::{
    endpoints::Target,
    queue::{
        Row, Turn,
        bell::Ring,
        control::{self, Ack, Pending},
        refill::LaneRoom,
    },
    telemetry::metrics::metrics,
    types::{EndpointId, SHARD_COUNT, Shard},
};

pub const LIMITS: Limits = Limits {
    slots: 512,
    probes: 64,
    lane_rows: 64,
    refill_lanes: 50,
    held_bytes: 16 * 1024 * 1024,
    lane_rows_lean: 8,
};
/// Results that may wait for Postgres before nothing more is sent: the most that a crash can cause to be sent again,
/// beside what is in flight.
const UNWRITTEN_MAX: usize = 2_000;
/// How often the shards' commands are read, whether rung for or not.
const COMMANDS_EVERY: Duration = Duration::from_millis(250);
/// The lanes are surveyed when there is time to read commands, or so many times more rarely as they are so many: at most
/// 40,000 of them a second are looked at for the metrics.
const SURVEYED_LANES: usize = 10_000;
/// How often the queue is searched for lanes that nobody has told of.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// At the end: how long attempts in flight may take before they are cut.
const LAST_ATTEMPTS_WITHIN: Duration = Duration::from_secs(35);
/// Messages taken in before acting on them.
const INBOX_GULP: usize = 256;

/// Everything that the owner is told.
pub enum Message {
    Tenure(Tenure),
    Rang(Vec<Ring>),
    Commanded,
    /// As the database told this node.
    Commands(Uuid, Option<Vec<Pending>>),
    /// Obeyed, and nobody could be told.
    NotAcknowledged(Vec<Ack>),
    Loaded(Loaded),
    Refilled {
        rooms: Vec<LaneRoom>,
        found: Option<Found>,
    },
    Swept {
        full: bool,
        lanes: Option<Vec<EndpointId>>,
    },
    Attempted(Box<Attempted>),
    Flushed(Report),
}

type Targets = HashMap<EndpointId, Arc<Target>>;
/// By endpoint, and of each by wire format.
type Plans = HashMap<EndpointId, Vec<(i32, Arc<Plan>)>>;

/// How endpoints stand, read after `orders` were given.
pub struct Loaded {
    /// Who asked. What was read for a node that is dead may be from before its shards were somebody else's.
    node: Uuid,
    orders: Vec<Order>,
    asked: Vec<EndpointId>,
    targets: Option<Targets>,
}

pub struct Attempted {
    row: Row,
    start: Start,
    plan: Arc<Plan>,
    generation: u64,
    outcome: Outcome,
}

pub struct Owner {
    parts: WorkerParts,
    messages: mpsc::UnboundedSender<Message>,
    results: mpsc::UnboundedSender<Item>,
    rings: mpsc::UnboundedSender<Ring>,
    rests: mpsc::UnboundedSender<Rested>,
    leave: Leave,
    scheduler: Scheduler,
    drain: Drain,
    node: Uuid,
    lease: Option<Lease>,
    owned: Vec<bool>,
    /// Shards taken from a node that died, and of their lanes those whose heads have been counted as suspects.
    unclean: HashSet<Shard>,
    cleared: HashSet<EndpointId>,
    targets: Targets,
    plans: Plans,
    /// Endpoints whose targets are wanted, beside those that commands are about, and whether a load is under way: one at a
    /// time, so that an older picture never replaces a newer one.
    wanted: HashSet<EndpointId>,
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
    /// Times that the metrics were told since the lanes were surveyed.
    since_survey: usize,
    refills: u64,
    unwritten: usize,
    /// Attempts whose results are on their way to disk, with the generation that they began under: a command waits for them.
    writing: HashMap<Turn, u64>,
    stopping: bool,
}

impl Owner {
    pub fn new(
        parts: WorkerParts,
        messages: mpsc::UnboundedSender<Message>,
        results: mpsc::UnboundedSender<Item>,
        rings: mpsc::UnboundedSender<Ring>,
        rests: mpsc::UnboundedSender<Rested>,
    ) -> Self {
        Self {
            parts,
            messages,
            results,
            rings,
            rests,
            leave: Leave::default(),
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
            loading: false,
            loads: 0,
            gone: HashMap::new(),
            reading_commands: false,
            commands_rung: false,
            sweeping: false,
            full_sweep: false,
            sweeps: 0,
            since_survey: 0,
            refills: 0,
            unwritten: 0,
            writing: HashMap::new(),
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
                    self.leave_all();
                    cut_at = Some(Instant::now() + LAST_ATTEMPTS_WITHIN);
                }
                () = sleep_until(cut_at.unwrap_or_else(Instant::now)), if cut_at.is_some() => {
                    cut_at = None;
                    if let Some(lease) = &self.lease {
                        lease.ended.cancel();
                    }
                }
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() && !self.stopping => {}
                _ = commands.tick() => {
                    self.gauge();
                    self.read_commands();
                }
                _ = sweeps.tick() => self.sweep(),
            }
        }
    }

    /// Tells the metrics how things stand.
    fn gauge(&mut self) {
        let metrics = metrics();
        self.since_survey += 1;
        if self.since_survey * SURVEYED_LANES > self.scheduler.lanes() {
            self.since_survey = 0;
            let survey = self.scheduler.survey(self.now());
            metrics.scheduler_lanes_throttled.set(survey.throttled as f64);
            metrics.scheduler_rows.set(survey.rows as f64);
            metrics.due_lag.set(survey.due_lag.as_secs_f64());
        }
        metrics.attempts_in_flight.set(self.scheduler.in_flight() as f64);
        metrics.results_waiting.set(self.unwritten as f64);
        metrics.scheduler_lanes.set(self.scheduler.lanes() as f64);
        metrics.shards_owned.set(self.owned.iter().filter(|owned| **owned).count() as f64);
        let left = self.lease.as_ref().and_then(Lease::left).unwrap_or_default();
        metrics.lease_left.set(left.as_secs_f64());
    }

    /// Starts everything that can be started now.
    fn act(&mut self) {
        let now = self.now();
        self.scheduler.tick(now);
        let lease = self.lease.clone().filter(Lease::holds);
        if let Some(lease) = lease.filter(|_| !self.stopping) {
            while self.unwritten + self.scheduler.in_flight() < UNWRITTEN_MAX {
                let Some(started) = self.scheduler.next(now) else { break };
                self.send(started, lease.clone());
            }
            self.refill(now);
        }
        self.load();
        // What a load brings back late must not be taken for news when the shard has come back, too.
        if !self.loading {
            let shards = self.leave.rested();
            if !shards.is_empty() {
                let _ = self.rests.send(Rested { node: self.node, shards });
            }
        }
        let obeyed = self.drain.obeyed();
        if !obeyed.is_empty() {
            let (pool, node, messages) = (self.parts.pools.engine.clone(), self.node, self.messages.clone());
            tokio::spawn(async move {
                if let Err(error) = control::acknowledge(&pool, node, &obeyed).await {
                    tracing::warn!(%error, "commands could not be acknowledged; they are read again");
                    let _ = messages.send(Message::NotAcknowledged(obeyed));
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
}
