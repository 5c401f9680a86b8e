//! Verifies with the crate from crates.io.

use std::{env, error::Error, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use standardwebhooks::Webhook;

const MAX_BODY_BYTES: usize = 1024 * 1024;

async fn judge(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match webhook.verify(&body, &headers) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::UNAUTHORIZED,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let webhook = Arc::new(Webhook::new(&env::var("WEBHOOK_SECRET")?)?);
    let app = Router::new().route("/webhook", post(judge)).layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?.port());
    axum::serve(listener, app.with_state(webhook)).await?;
    Ok(())
}
