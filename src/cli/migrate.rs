//! `migrate`: bring the database's schema up to this program's, and exit.

use crate::{app::Database, config::Settings};

pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let database = Database::open(settings, |step| tracing::info!("{step}")).await?;
    let pools = database.migrate().await?;
    println!("the database is up to date");
    pools.close().await;
    database.close().await
}
