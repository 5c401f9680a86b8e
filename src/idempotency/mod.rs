//! Calling twice is safe: the first answer to a POST with an `Idempotency-Key` is kept, in the transaction of what the call
//! did, and given to every repeat.
//!
//! A handler takes its body as [`Once`], opens its transaction with [`Claim::begin`] (which answers a repeat at once) and ends
//! it with [`Work::commit`], which stores the answer beside the effect. What must talk to the world before it knows its
//! answer holds no transaction open meanwhile: it [reserves](Claim::reserve) the key first. Refusals change nothing and are not
//! kept. Publishing has its keys in its own statement (`queue/ingest.rs`), in the same table.
//!
//! A key is the tenant's, whoever of its API keys sends it. What an answer shows once, it shows in a repeat to the API key that
//! came first, and else to those with the scope `secrets`. Requests may hold secrets that are short: what is kept of one to
//! know it again is sealed with its answer, and until there is one a mark that takes the master key to guess by.

mod queries;

use queries::Stored;
pub use queries::forget;

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderName, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgTransaction};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    auth::{Asker, Context, Operator},
    seal::{MARK_BYTES, Purpose, SealError, Vault},
    types::{Shard, TenantId},
    web::{
        Answer, ApiError,
        headers::only,
        json::{BODY_MAX_BYTES, unread},
    },
};

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// In an answer that was given before.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key.
pub const KEY_MAX_BYTES: usize = 255;
/// How long a key that is taken is waited for, before it counts as in flight.
const LET_GO_WITHIN: Duration = Duration::from_millis(250);
const LET_GO_POLL: Duration = Duration::from_millis(10);
/// Fields of answers that are shown once.
const SHOWN_ONCE: [&str; 2] = ["secret", "key"];

/// A key as it is sent, in the header or in a publish's body.
pub fn parse_key(text: &str) -> Result<String, String> {
    let good = (1..=KEY_MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to {KEY_MAX_BYTES} visible ASCII characters"))
    }
}

/// The header's key.
pub fn key_of(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = only(headers, IDEMPOTENCY_KEY.as_str())? else { return Ok(None) };
    parse_key(value.to_str().unwrap_or_default())
        .map(Some)
        .map_err(|detail| ApiError::Malformed(format!("Idempotency-Key {detail}.").into()))
}

/// The body of a POST, and its claim to be done once.
pub struct Once<B> {
    pub claim: Claim,
    pub body: B,
}

impl<S, B> FromRequest<S> for Once<B>
where
    S: Send + Sync,
    B: FromRequest<S, Rejection = ApiError>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Some(key) = key_of(request.headers())? else {
            let body = B::from_request(request, state).await?;
            return Ok(Self { claim: Claim(None), body });
        };
        let route = format!("{} {}", request.method(), request.uri().path());
        let query = request.uri().query().unwrap_or_default().to_owned();
        // Whoever the handler's own extractor found, which comes before the body.
        let asker = request.extensions().get::<Asker>().copied();
        // The limit of the body is the layer's, as for the body itself.
        let (parts, body) = request.into_parts();
        let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), state)
            .await
            .map_err(|rejection| unread(rejection, BODY_MAX_BYTES))?;
        let fingerprint = fingerprint(&query, &bytes);
        let body = B::from_request(Request::from_parts(parts, Body::from(bytes)), state).await?;
        Ok(Self { claim: Claim(Some(Key { route, key, fingerprint, asker })), body })
    }
}

/// The same request, however its JSON is laid out.
fn fingerprint(query: &str, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(query);
    hash.update([0]);
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            value.sort_all_objects();
            hash.update(value.to_string());
        }
        Err(_) => hash.update(body),
    }
    hash.finalize().into()
}

/// The wish to be done once. Without a key it is done as often as it is asked for.
pub struct Claim(Option<Key>);

struct Key {
    route: String,
    key: String,
    fingerprint: [u8; 32],
    asker: Option<Asker>,
}

/// A key in its place. The id is that of the request that came first.
struct Place {
    key: Key,
    tenant: Uuid,
    shard: Shard,
    id: Uuid,
    /// Under which id it was reserved.
    reserved: Option<Uuid>,
}

impl Place {
    /// Two requests with one key meet here; the number is of the whole database.
    fn lock(&self) -> i64 {
        let mut hash = Sha256::new();
        hash.update(self.tenant);
        hash.update(&self.key.route);
        hash.update([0]);
        hash.update(&self.key.key);
        let digest = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(first)
    }

    fn purpose(&self) -> Purpose {
        answer_purpose(self.tenant, self.id)
    }

    /// What the request is marked as, here and nowhere else.
    fn marked(&self) -> Vec<u8> {
        let (route, key) = (self.key.route.as_bytes(), self.key.key.as_bytes());
        [&self.tenant.as_bytes()[..], route, &[0], key, &[0], &self.key.fingerprint[..]].concat()
    }

    fn mark(&self, vault: &Vault) -> Result<[u8; MARK_BYTES], SealError> {
        vault.mark(&self.marked())
    }

    /// Whether the first request was this one. The version before stored the fingerprint as it is.
    fn is_of(&self, stored: &Stored, kept: Option<&Kept>, vault: &Vault) -> bool {
        match kept.and_then(|kept| kept.fingerprint) {
            Some(first) => first == self.key.fingerprint,
            None => {
                vault.is_mark(&stored.fingerprint, &self.marked())
                    || stored.fingerprint == self.key.fingerprint
            }
        }
    }

    fn asker(&self) -> Option<Uuid> {
        self.key.asker.map(|asker| asker.key_id.map_or(Uuid::nil(), |key| key.uuid()))
    }

    /// The first answer, as far as whoever asks now may see it.
    fn shown(&self, kept: Kept) -> Result<Answer, ApiError> {
        let came_first = kept.asker.is_some() && kept.asker == self.asker();
        if came_first || self.key.asker.is_some_and(|asker| asker.sees_secrets) {
            Ok(kept.answer)
        } else {
            kept.answer.without(&SHOWN_ONCE)
        }
    }

    fn seal(&self, answer: &Answer, vault: &Vault) -> Result<Vec<u8>, ApiError> {
        let (fingerprint, asker) = (Some(self.key.fingerprint), self.asker());
        seal(&Kept { answer: answer.clone(), fingerprint, asker }, vault, self.purpose())
    }
}

impl Claim {
    fn place(self, context: &Context, tenant: Uuid) -> Option<Place> {
        self.0.map(|key| Place {
            key,
            tenant,
            shard: Shard::of(tenant),
            id: context.clock.mint(),
            reserved: None,
        })
    }

    /// Opens the transaction of the effect, behind the tenant's wall. A repeat ends here, with the first answer.
    pub async fn begin(self, context: &Context, tenant: TenantId) -> Result<Work, ApiError> {
        let work = Work::unclaimed(context, tenant).await?;
        self.claim(context, tenant.uuid(), work).await
    }

    /// The same for the operator's own, which are no tenant's.
    pub async fn begin_unwalled(self, context: &Context, operator: &Operator) -> Result<Work, ApiError> {
        let work = Work { transaction: operator.pool.begin().await?, tenant: None, place: None };
        self.claim(context, Uuid::nil(), work).await
    }

    async fn claim(self, context: &Context, tenant: Uuid, mut work: Work) -> Result<Work, ApiError> {
        if let Some(place) = self.place(context, tenant) {
            first(&mut work.transaction, context, &place).await?;
            work.place = Some(place);
        }
        Ok(work)
    }

    /// Takes the key for longer than a transaction may be open. If nobody comes back with an answer within `lease_s`, the
    /// key is free again.
    pub async fn reserve(
        self,
        context: &Context,
        tenant: TenantId,
        lease_s: u32,
    ) -> Result<Reserved, ApiError> {
        let Some(mut place) = self.place(context, tenant.uuid()) else {
            return Ok(Reserved { tenant, place: None });
        };
        let mut transaction = context.begin(tenant).await?;
        first(&mut transaction, context, &place).await?;
        let mark = place.mark(&context.vault).map_err(ApiError::internal)?;
        queries::reserve(&mut transaction, &place, &mark, lease_s).await?;
        transaction.commit().await?;
        place.reserved = Some(place.id);
        Ok(Reserved { tenant, place: Some(place) })
    }
}

/// Errs with what a repeat is told. Else this request is the first, and nobody else is until the transaction ends.
async fn first(db: &mut PgConnection, context: &Context, place: &Place) -> Result<(), ApiError> {
    // A request that was refused has let go by the time that its connection is free again, which may be after its answer.
    let deadline = Instant::now() + LET_GO_WITHIN;
    // A statement of its own: the next one's snapshot must be younger than the lock.
    while !queries::lock(db, place.lock()).await? {
        if Instant::now() >= deadline {
            return Err(ApiError::InFlight);
        }
        sleep(LET_GO_POLL).await;
    }
    let Some(stored) = queries::find(db, place).await? else { return Ok(()) };
    let purpose = Purpose { item: stored.id, ..place.purpose() };
    let kept = stored.answer.as_deref().map(|sealed| open(sealed, &context.vault, purpose)).transpose()?;
    if !place.is_of(&stored, kept.as_ref(), &context.vault) {
        return Err(ApiError::KeyReused);
    }
    match kept {
        Some(kept) => {
            let answer = place.shown(kept)?;
            Err(ApiError::Answered(Box::new(answer.with(&IDEMPOTENT_REPLAYED, "true"))))
        }
        None if stored.is_leased => Err(ApiError::InFlight),
        None => Ok(()),
    }
}

/// A key that was taken before its work began.
pub struct Reserved {
    tenant: TenantId,
    place: Option<Place>,
}

impl Reserved {
    /// Opens the transaction that stores what the work came to. The answer goes by the name of `made`: it is forgotten with it.
    pub async fn begin(self, context: &Context, made: Uuid) -> Result<Work, ApiError> {
        let mut work = Work::unclaimed(context, self.tenant).await?;
        work.place = self.place.map(|place| Place { id: made, ..place });
        Ok(work)
    }

    /// Gives the key back: nothing was done.
    pub async fn release(self, context: &Context) -> Result<(), ApiError> {
        if let Some(place) = &self.place {
            let mut transaction = context.begin(self.tenant).await?;
            queries::release(&mut transaction, place).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

/// The transaction of a request. Dropped, it changes nothing.
pub struct Work {
    transaction: PgTransaction<'static>,
    /// Behind whose wall it is.
    tenant: Option<TenantId>,
    place: Option<Place>,
}

impl Work {
    /// For what needs no key: everything but POST.
    pub async fn unclaimed(context: &Context, tenant: TenantId) -> Result<Self, ApiError> {
        Ok(Self { transaction: context.begin(tenant).await?, tenant: Some(tenant), place: None })
    }

    /// Stores the answer beside the effect, and commits both.
    pub async fn commit(mut self, context: &Context, answer: Answer) -> Result<Done, ApiError> {
        if let Some(place) = &self.place {
            let sealed = place.seal(&answer, &context.vault)?;
            let mark = place.mark(&context.vault).map_err(ApiError::internal)?;
            queries::store(&mut self.transaction, place, &mark, &sealed).await?;
        }
        self.transaction.commit().await?;
        Ok(Done { answer, tenant: self.tenant, place: self.place })
    }
}

impl Deref for Work {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for Work {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

/// What is on disk.
pub struct Done {
    answer: Answer,
    tenant: Option<TenantId>,
    place: Option<Place>,
}

impl Done {
    /// The answer turned out to be a 202: what was asked for takes longer. Repeats are told the same.
    pub async fn accepted(mut self, context: &Context) -> Result<Response, ApiError> {
        self.answer = self.answer.status(StatusCode::ACCEPTED);
        if let (Some(tenant), Some(place)) = (self.tenant, &self.place) {
            let sealed = place.seal(&self.answer, &context.vault)?;
            let mut transaction = context.begin(tenant).await?;
            queries::amend(&mut transaction, place, &sealed).await?;
            transaction.commit().await?;
        }
        Ok(self.into_response())
    }
}

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        self.answer.into_response()
    }
}

/// What the answer to a claim is sealed for.
pub fn answer_purpose(tenant: Uuid, claim: Uuid) -> Purpose {
    Purpose { what: "idempotent answer", tenant, owner: Uuid::nil(), item: claim }
}

/// An answer, with what it was to, and to whom.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    answer: Answer,
    /// `None` from the version before, as the next.
    fingerprint: Option<[u8; 32]>,
    /// The API key that came first; nil: the operator's.
    asker: Option<Uuid>,
}

/// Sealed, since some answers hold a secret that is shown once.
fn seal(answer: &Kept, vault: &Vault, purpose: Purpose) -> Result<Vec<u8>, ApiError> {
    let text = serde_json::to_vec(answer).map_err(ApiError::internal)?;
    vault.seal(&text, purpose).map_err(ApiError::internal)
}

fn open(sealed: &[u8], vault: &Vault, purpose: Purpose) -> Result<Kept, ApiError> {
    let text = vault.open(sealed, purpose).map_err(ApiError::internal)?;
    serde_json::from_slice(&text).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn a_request_is_the_same_however_it_is_laid_out() {
        let same = [r#"{"a": 1, "b": {"c": [1, 2], "d": null}}"#, r#"{"b":{"d":null,"c":[1,2]},"a":1}"#];
        assert_eq!(fingerprint("", same[0].as_bytes()), fingerprint("", same[1].as_bytes()));
        for other in [r#"{"a": 1, "b": {"c": [2, 1], "d": null}}"#, "{}", "", "{", "null"] {
            assert_ne!(fingerprint("", same[0].as_bytes()), fingerprint("", other.as_bytes()), "{other}");
        }
        assert_ne!(fingerprint("dry_run=true", b"{}"), fingerprint("", b"{}"));
    }
}
