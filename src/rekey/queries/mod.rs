//! Everything that is sealed, by table. A new sealed column belongs here as well.
//!
//! A record says by its first bytes, the stamp, which key it is under.

mod answers;
mod client_keys;
mod endpoints;

use sqlx::PgConnection;

pub use self::{
    answers::Answers,
    client_keys::ClientKeys,
    endpoints::{EndpointHeaders, Secrets, VersionHeaders},
};
use crate::seal::Purpose;

/// Records that are locked at once.
const BATCH: i64 = 200;

/// A record with its place.
pub struct Row<P> {
    pub place: P,
    pub sealed: Vec<u8>,
}

/// One kind of sealed records. Places are in the order of the primary key.
pub trait Table {
    type Place;
    const WHAT: &str;

    /// Before the first.
    fn start() -> Self::Place;

    fn purpose(place: &Self::Place) -> Purpose;

    /// For people.
    fn name(place: &Self::Place) -> String;

    /// The next ones that are under another key and that nobody else has locked; ours until the transaction ends.
    async fn lock_next(
        db: &mut PgConnection,
        stamp: &[u8],
        after: &Self::Place,
    ) -> sqlx::Result<Vec<Row<Self::Place>>>;

    async fn store(db: &mut PgConnection, place: &Self::Place, sealed: &[u8]) -> sqlx::Result<()>;

    /// How many are under another key.
    async fn count(db: &mut PgConnection, stamp: &[u8]) -> sqlx::Result<i64>;
}
