//! Test events: a sample from the catalogue, sent to one endpoint at once by the node that was asked, once.
//!
//! A test goes out like every attempt (same policy, resolver, rendering and signatures), also to an endpoint that is paused or
//! disabled: that is when people test. It is kept in history and changes nothing else: no queue, no retry, no health, no
//! statistics. No transaction is open while it is under way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::extract::FromRef;
use sqlx::PgConnection;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    attempt::{Occasion, Plan},
    queries, target,
};
use crate::{
    audit,
    auth::{Actor, Context},
    egress::Sender,
    event_types::{self, Sample},
    queue::{
        Cause,
        finish::Attempt,
        refill::EventBody,
        test_event::{self, TestEvent},
    },
    types::{EndpointId, EventId, LocationId, TenantId, ecma_json::normalise_within, event_type::Pattern},
    web::ApiError,
};

/// Tests under way in this process, and of one tenant. Each takes as long as its receiver, at most the endpoint's time-out.
const TESTS_MAX: usize = 64;
const TESTS_PER_TENANT_MAX: usize = 4;
/// When to ask again where there are too many.
const BUSY_RETRY_AFTER_S: u64 = 2;
/// Tests that nobody waits for: so many at once, and so many more waiting for their turn. One beyond is left out.
const PINGS_AT_ONCE: usize = 16;
const PINGS_WAITING_MAX: usize = 1_000;
/// Largest sample, as it is sent: that of an event.
const SAMPLE_MAX_BYTES: usize = 256 * 1024;

/// Sends test events. Cheap to clone.
#[derive(Clone)]
pub struct Tester(Arc<Inner>);

struct Inner {
    context: Context,
    sender: Sender,
    tasks: TaskTracker,
    /// No ping begins after this.
    stop: CancellationToken,
    under_way: Mutex<HashMap<TenantId, usize>>,
    pings: Semaphore,
    waiting_pings: Semaphore,
}

/// What was sent, and what came of it.
pub struct Tested {
    pub event_id: EventId,
    location_id: LocationId,
    endpoint_id: EndpointId,
    pub event: EventBody,
    pub attempt: Attempt,
}

/// One of the tests under way, until it is dropped.
struct Slot {
    tester: Tester,
    tenant: TenantId,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut under_way = self.tester.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.tenant);
            }
        }
    }
}

impl FromRef<Tester> for Context {
    fn from_ref(tester: &Tester) -> Self {
        tester.0.context.clone()
    }
}

impl Tester {
    /// `tasks`: what a clean stop waits for.
    pub fn new(context: Context, sender: Sender, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            context,
            sender,
            tasks,
            stop,
            under_way: Mutex::default(),
            pings: Semaphore::new(PINGS_AT_ONCE),
            waiting_pings: Semaphore::new(PINGS_WAITING_MAX),
        }))
    }

    fn slot(&self, tenant: TenantId) -> Result<Slot, ApiError> {
        let mut under_way = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = under_way.values().sum();
        let own = under_way.get(&tenant).copied().unwrap_or_default();
        if all >= TESTS_MAX || own >= TESTS_PER_TENANT_MAX {
            return Err(ApiError::TooManyRequests { retry_after_s: BUSY_RETRY_AFTER_S });
        }
        *under_way.entry(tenant).or_default() += 1;
        Ok(Slot { tester: self.clone(), tenant })
    }

    /// Runs `testing` to its end, even where the caller has gone away meanwhile.
    pub async fn run<T: Send + 'static>(
        &self,
        tenant: TenantId,
        testing: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let slot = self.slot(tenant)?;
        let testing = self.0.tasks.spawn(async move {
            let _slot = slot;
            testing.await
        });
        testing.await.map_err(ApiError::internal)?
    }

    /// Sends one that nobody waits for. On a clean stop those under way end, and those that wait their turn are left out.
    pub fn ping(&self, tenant: TenantId, endpoint: EndpointId, actor: Actor) {
        let tester = self.clone();
        self.0.tasks.spawn(async move {
            let Ok(_place) = tester.0.waiting_pings.try_acquire() else {
                tracing::warn!(%endpoint, "too many test events are waiting; the new endpoint's is left out");
                return;
            };
            let turn = tokio::select! {
                biased;
                () = tester.0.stop.cancelled() => return,
                turn = tester.0.pings.acquire() => turn,
            };
            if turn.is_ok()
                && let Err(error) = tester.send_and_store(tenant, endpoint, &actor).await
            {
                tracing::info!(%endpoint, ?error, "the new endpoint's test event was not sent");
            }
        });
    }

    async fn send_and_store(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        actor: &Actor,
    ) -> Result<(), ApiError> {
        let tested = self.send(tenant, endpoint, None).await?;
        let mut transaction = self.0.context.begin(tenant).await?;
        self.store(&mut transaction, tenant, &tested, actor).await?;
        Ok(transaction.commit().await?)
    }

    /// Sends one and waits for its outcome.
    pub async fn send(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        event_type: Option<&str>,
    ) -> Result<Tested, ApiError> {
        let Inner { context, sender, .. } = &*self.0;
        let mut connection = context.begin(tenant).await?;
        let format_version =
            queries::format_version(&mut *connection, tenant, endpoint).await?.ok_or(ApiError::NotFound)?;
        let mut event = sample(&mut connection, context, tenant, endpoint, event_type).await?;
        let loaded =
            target::load(&mut connection, &context.formats, &context.vault, &context.policy, &[endpoint])
                .await?;
        let format = context.formats.one(&mut *connection, format_version).await?;
        drop(connection);
        let opened = loaded.into_values().next();
        let target = opened.ok_or_else(|| ApiError::internal("an endpoint that can't be opened"))?;
        let format = format.ok_or_else(|| ApiError::internal("an endpoint without format"))?;
        if format.requires_data_object() && !event.data.starts_with(b"{") {
            return Err(ApiError::invalid(
                "/event_type",
                "has an example that is not an object, which the endpoint's wire format needs",
            ));
        }
        let at = context.clock.now();
        event.occurred_at = at;
        let location_id = target.location_id;
        let plan = Plan::new(target, format, at).ok_or(ApiError::Conflict(
            "The endpoint's wire format can't be signed with its secret.".into(),
        ))?;
        let event_id = context.clock.mint_in(endpoint.shard());
        let occasion = Occasion { event_id, number: 1, cause: Cause::Test, format_version, at };
        let (attempt, _) = plan.request(&event, occasion).send(sender, &context.clock).await;

        Ok(Tested { event_id, location_id, endpoint_id: endpoint, event, attempt })
    }

    /// Keeps what was sent in history.
    pub async fn store(
        &self,
        db: &mut PgConnection,
        tenant: TenantId,
        tested: &Tested,
        actor: &Actor,
    ) -> Result<(), ApiError> {
        let Tested { event_id, location_id, endpoint_id, event, attempt } = tested;
        queries::lock(&mut *db, tenant, *endpoint_id).await?.ok_or(ApiError::NotFound)?;
        let test = TestEvent {
            id: *event_id,
            tenant_id: tenant,
            location_id: *location_id,
            endpoint_id: *endpoint_id,
        };
        test_event::store(&mut *db, test, event, attempt).await?;
        let act = audit::Act { action: "endpoint.test", resource: &endpoint_id.to_string(), fields: &[] };
        Ok(audit::record(db, tenant, &self.0.context.clock, actor, act).await?)
    }
}

/// A sample of the type that was asked for; otherwise of the first that the endpoint subscribes to, or of any.
async fn sample(
    db: &mut PgConnection,
    context: &Context,
    tenant: TenantId,
    endpoint: EndpointId,
    wanted: Option<&str>,
) -> Result<EventBody, ApiError> {
    let catalogue = event_types::load(&mut *db, tenant).await?.ok_or(ApiError::NotFound)?;
    let chosen = match wanted {
        Some(name) => {
            let known = catalogue.samples().find(|sample| sample.name == name);
            let why_not = match catalogue.find(name) {
                Some(_) => "has no example to send",
                None => "is not an event type of this tenant",
            };
            Some(known.ok_or_else(|| ApiError::invalid("/event_type", why_not))?)
        }
        None => {
            let stored = queries::find(&mut *db, tenant, endpoint).await?.ok_or(ApiError::NotFound)?;
            let patterns: Vec<Pattern> =
                stored.event_types.into_iter().filter_map(|text| Pattern::parse(text).ok()).collect();
            let fitting = |pattern: &Pattern| {
                catalogue
                    .samples()
                    .find(|sample| pattern.matches_name(sample.name) && !catalogue.is_archived(sample.name))
            };
            patterns.iter().find_map(fitting).or_else(|| catalogue.samples().next())
        }
    };
    let Sample { name, channel, example } =
        chosen.ok_or(ApiError::Conflict("No event type of this tenant has an example.".into()))?;
    let data = normalise_within(&example.to_string(), SAMPLE_MAX_BYTES).map_err(|error| {
        ApiError::invalid("/event_type", format!("has an example that can't be sent: {}", error.detail))
    })?;
    Ok(EventBody {
        event_type: name.to_owned(),
        occurred_at: context.clock.now(),
        channel: channel.map(str::to_owned),
        api_version: None,
        live_mode: false,
        data: data.into(),
    })
}
