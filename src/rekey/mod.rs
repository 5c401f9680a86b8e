//! Re-wraps everything that is sealed under the newest master key, while the program runs.
//!
//! In batches: a transaction locks what is under another key, seals it anew and commits. What somebody else has locked is
//! passed over and looked at again, so this never waits for a request while it makes others wait, and never writes over
//! a secret that is being changed. Interrupted at any point, it has re-wrapped some records and harmed none.
//! It does not look at records that are under the newest key already.

mod queries;

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use self::queries::{Answers, ClientKeys, EndpointHeaders, Secrets, Table, VersionHeaders};
use crate::seal::{SealError, Vault};

/// Passes without progress over records that others have locked, before they are left to another run.
const IDLE_PASSES_MAX: u32 = 300;
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Records that can't be opened are all counted, but no more of a table than this are named.
const NAMED_MAX: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What became of one kind of records.
#[derive(Debug)]
pub struct Outcome {
    pub what: &'static str,
    pub rewrapped: u64,
    /// No key opens them, or they are not where they belong.
    pub unreadable: u64,
    /// Some of these, for people: where it is, and why it can't be opened.
    pub named: Vec<String>,
    /// Under another key than the newest, those that are unreadable included.
    pub left: u64,
}

/// All of it. `tell` hears after every batch how many records of a kind have been re-wrapped.
pub async fn run(
    db: &mut PgConnection,
    vault: &Vault,
    mut tell: impl FnMut(&'static str, u64),
) -> Result<Vec<Outcome>, RekeyError> {
    Ok(vec![
        // Before the versions: a change of an endpoint copies its headers into a new version, as they are then.
        table::<EndpointHeaders>(db, vault, &mut tell).await?,
        table::<VersionHeaders>(db, vault, &mut tell).await?,
        table::<ClientKeys>(db, vault, &mut tell).await?,
        table::<Secrets>(db, vault, &mut tell).await?,
        table::<Answers>(db, vault, &mut tell).await?,
    ])
}

async fn table<T: Table>(
    db: &mut PgConnection,
    vault: &Vault,
    tell: &mut impl FnMut(&'static str, u64),
) -> Result<Outcome, RekeyError> {
    let stamp = vault.stamp()?;
    let (mut rewrapped, mut idle_passes) = (0, 0);
    loop {
        let (mut after, mut unreadable, mut named) = (T::start(), 0, Vec::new());
        let before = rewrapped;
        loop {
            let mut transaction = db.begin().await?;
            let mut rows = T::lock_next(&mut transaction, &stamp, &after).await?;
            for row in &rows {
                match vault.rewrap(&row.sealed, T::purpose(&row.place)) {
                    Ok(sealed) => {
                        T::store(&mut transaction, &row.place, &sealed).await?;
                        rewrapped += 1;
                    }
                    Err(error) => {
                        unreadable += 1;
                        if named.len() < NAMED_MAX {
                            named.push(format!("{}, {}: {error}", T::WHAT, T::name(&row.place)));
                        }
                    }
                }
            }
            transaction.commit().await?;
            let Some(last) = rows.pop() else { break };
            after = last.place;
            tell(T::WHAT, rewrapped);
        }
        let left = u64::try_from(T::count(db, &stamp).await?).unwrap_or_default();
        idle_passes = if rewrapped > before { 0 } else { idle_passes + 1 };
        if left <= unreadable || idle_passes == IDLE_PASSES_MAX {
            return Ok(Outcome { what: T::WHAT, rewrapped, unreadable, named, left });
        }
        sleep(AGAIN_AFTER).await;
    }
}
