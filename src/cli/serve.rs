//! `serve`, `api`, `worker`: run until told to stop.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    app::{App, Extras, Roles},
    config::Settings,
};

/// The signals that end the program. Made once: a stream that is made anew for each wait loses signals between two.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("signals")?,
            interrupt: signal(SignalKind::interrupt()).context("signals")?,
        })
    }

    pub async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

pub async fn run(settings: &Settings, roles: Roles) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let starting = App::start(settings, roles, Extras::default(), |step| tracing::info!("{step}"));
    let app = tokio::select! {
        app = starting => app?,
        () = stop.told() => return Ok(()),
    };
    if app.operator.is_new {
        println!("operator key: {}", app.operator.key.reveal());
        println!("(shown this once; kept in {})", settings.data_dir.join("operator.key").display());
    }
    if let Some(address) = app.metrics_address {
        println!("metrics on http://{address}/metrics");
    }
    match app.address {
        Some(address) => println!("listening on http://{address}"),
        None => println!("working"),
    }
    until_told(app, &mut stop).await
}

/// Runs until a signal, or until the program can't go on.
pub async fn until_told(app: App, stop: &mut Stop) -> anyhow::Result<()> {
    let failure = tokio::select! {
        () = stop.told() => None,
        failure = app.failed() => Some(failure),
    };
    if failure.is_none() {
        tracing::info!("stopping: finishing what is in flight");
    }
    let stopping = app.stop();
    let stopped = tokio::select! {
        stopped = stopping => stopped,
        () = stop.told() => anyhow::bail!("told twice to stop: what was in flight is sent again by the next start"),
    };
    match failure {
        Some(failure) => Err(failure),
        None => stopped,
    }
}
