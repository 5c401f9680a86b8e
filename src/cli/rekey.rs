//! `rekey`: put everything that is sealed under the newest master key, and say whether the older ones may go.

use anyhow::{Context, bail};
use sqlx::{Connection, PgConnection};

use crate::{
    app::{self, Database},
    config::Settings,
    rekey,
    seal::Vault,
};

pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let vault = app::vault(settings)?;
    let database = Database::open(settings, |step| tracing::info!("{step}")).await?;
    let mut connection = database.connect().await?;
    let done = rewrap(&mut connection, &vault).await;
    connection.close().await?;
    database.close().await?;
    done
}

async fn rewrap(connection: &mut PgConnection, vault: &Vault) -> anyhow::Result<()> {
    let outcomes = rekey::run(connection, vault, |what, count| println!("{what}: {count}"))
        .await
        .context("interrupted; what was re-wrapped stays so, run it again for the rest")?;
    for line in outcomes.iter().flat_map(|outcome| &outcome.named) {
        eprintln!("posthaste: can't open {line}");
    }
    let sum = |of: fn(&rekey::Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let (rewrapped, unreadable, left) =
        (sum(|one| one.rewrapped), sum(|one| one.unreadable), sum(|one| one.left));
    let kinds: Vec<String> =
        outcomes.iter().map(|outcome| format!("{} {}", outcome.rewrapped, outcome.what)).collect();
    println!("re-wrapped {rewrapped} records: {}", kinds.join(", "));
    if unreadable > 0 {
        bail!("{unreadable} records can't be opened; keep the older master keys");
    }
    if left > 0 {
        bail!(
            "{left} records were locked by others all the time; keep the older master keys and run it again"
        );
    }
    println!("no record is left under an older master key");
    Ok(())
}
