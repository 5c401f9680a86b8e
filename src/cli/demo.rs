//! `demo`: everything for real, on the terminal. What it does goes through the API, as anybody's would.

mod receiver;
mod story;

use anyhow::Context;
use serde_json::{Value, json};

use self::{
    receiver::{Receiver, Seen},
    story::Story,
};
use super::serve::{Stop, until_told};
use crate::{
    app::{App, Extras, Roles},
    config::Settings,
    signing,
    types::secret::SigningSecret,
};

/// Retries of the second delivery; the standard ladder of 10 s, 60 s and 5 min would make a long demonstration.
const SHORT_LADDER_S: [u32; 3] = [1, 2, 3];

pub async fn run(settings: &Settings, exit: bool) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let story = Story::new();
    story.chapter("Starting Posthaste");
    let mut receiver = Receiver::start().await?;
    let extras = Extras { receivers: vec![receiver.address], any_port: true };
    let roles = Roles { api: true, worker: true };
    let starting = App::start(settings, roles, extras, |step| story.step(&step.to_string()));
    let app = tokio::select! {
        app = starting => app?,
        () = stop.told() => return Ok(()),
    };
    let shown = tokio::select! {
        shown = show(&story, settings, &app, &mut receiver) => shown,
        () = stop.told() => Ok(()),
    };
    match shown {
        Ok(()) if !exit => {
            story.line("Posthaste is still running. Ctrl-C stops it.");
            until_told(app, &mut stop).await
        }
        other => app.stop().await.and(other),
    }
}

async fn show(story: &Story, settings: &Settings, app: &App, receiver: &mut Receiver) -> anyhow::Result<()> {
    let address = app.address.context("the API listens")?;
    let base = format!("http://{address}");
    story.step(&format!(
        "listening on {base}; the operator's key is kept in {}",
        settings.data_dir.join("operator.key").display()
    ));

    story.chapter("1. A tenant with a location, an endpoint and a subscription, through the API");
    let operator = Api::new(&base, app.operator.key.reveal());
    let tenant = operator.post("/v1/tenants", json!({"name": "Demo bakery"})).await?;
    let tenant_id = text(&tenant, "id")?;
    story.step(&format!("tenant    {tenant_id}"));
    let scopes = ["read", "write", "publish", "secrets"];
    let key = operator
        .post(&format!("/v1/tenants/{tenant_id}/keys"), json!({"name": "demo", "scopes": scopes}))
        .await?;
    let api = Api::new(&base, text(&key, "key")?);
    let location = api.get("/v1/locations/default").await?;
    let location_id = text(&location, "id")?;
    story.step(&format!("location  {location_id} (every tenant is born with one)"));
    let hook = format!("http://{}/hook", receiver.address);
    let body =
        json!({"name": "CRM sync", "url": hook, "event_types": ["message.*"], "location_id": location_id});
    let endpoint = api.post("/v1/endpoints", body).await?;
    let endpoint_id = text(&endpoint, "id")?;
    let secret = SigningSecret::parse(text(&endpoint, "secret")?)?;
    story.step(&format!("endpoint  {endpoint_id} → {hook}, subscribed to message.*"));

    story.chapter("2. An event is published");
    let publish = format!("/v1/locations/{location_id}/events");
    let event = json!({
        "type": "message.incoming",
        "data": {"from": "+31201234567", "to": "+31207654321", "text": "Two sourdoughs for Saturday, please ☺", "channel": "whatsapp"},
    });
    story.json(&event);
    let published_at = std::time::Instant::now();
    let published = api.post(&publish, event.clone()).await?;
    let answered = published_at.elapsed();
    story.step(&format!("202 Accepted after {answered:.1?}: {} is on disk", text(&published, "id")?));

    story.chapter("3. What the receiver got");
    let seen = receiver.next().await?;
    story.request(&seen);
    let verdict = match signing::verify(&secret, &seen.headers, &seen.body, seen.at_s) {
        Ok(()) => "verified: the signature is this endpoint's, over exactly these bytes".to_owned(),
        Err(error) => anyhow::bail!("the signature could not be verified: {error}"),
    };
    story.step(&verdict);
    story.step(&format!("arrived {:.1?} after the publish was sent", seen.at - published_at));

    story.chapter("4. A receiver that fails twice");
    story.line(&format!(
        "The ladder is {} s here, to keep it short; the standard is 10 s, 60 s and 5 min.",
        SHORT_LADDER_S.map(|seconds| seconds.to_string()).join(", ")
    ));
    let flaky = format!("http://{}/flaky", receiver.address);
    let body = json!({"name": "Flaky", "url": flaky, "event_types": ["contact.created"], "location_id": location_id,
        "retry_schedule_s": SHORT_LADDER_S});
    let endpoint = api.post("/v1/endpoints", body).await?;
    let flaky_id = text(&endpoint, "id")?.to_owned();
    let event =
        json!({"type": "contact.created", "data": {"name": "Ada Lovelace", "phone": "+442071234567"}});
    let published = api.post(&publish, event).await?;
    let event_id = text(&published, "id")?.to_owned();
    let mut before: Option<Seen> = None;
    loop {
        let seen = receiver.next().await?;
        let since =
            before.as_ref().map(|before| format!(", {:.2?} after the one before", seen.at - before.at));
        story.step(&format!(
            "attempt {}: answered {}{}",
            seen.header("x-posthaste-attempt"),
            seen.answered,
            since.unwrap_or_default()
        ));
        let done = seen.answered == 200;
        before = Some(seen);
        if done {
            break;
        }
    }
    let history = api.settled(&format!("/v1/events/{event_id}/deliveries/{flaky_id}")).await?;
    story.step(&format!(
        "the delivery is {} after {} attempts",
        text(&history, "status")?,
        history["attempt_count"]
    ));

    story.chapter("5. Try next");
    let key = text(&key, "key")?;
    let header = format!("-H 'Authorization: Bearer {key}'");
    story.command("publish another", &format!(
        "curl -s {base}{publish} {header} -H 'Content-Type: application/json' \\\n    -d '{{\"type\":\"message.incoming\",\"data\":{{\"text\":\"hello\"}}}}'"
    ));
    story.command(
        "the history of the endpoint",
        &format!("curl -s {base}/v1/endpoints/{endpoint_id}/deliveries {header}"),
    );
    story.command(
        "every attempt of the flaky delivery",
        &format!("curl -s {base}/v1/events/{event_id}/deliveries/{flaky_id} {header}"),
    );
    story.command(
        "send it again",
        &format!("curl -s -X POST {base}/v1/events/{event_id}/deliveries/{flaky_id}/retry {header}"),
    );
    story.command(
        "pause the endpoint",
        &format!("curl -s -X POST {base}/v1/endpoints/{endpoint_id}/pause {header}"),
    );
    Ok(())
}

fn text<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    value[name].as_str().with_context(|| format!("the API's answer has no {name}: {value}"))
}

/// The API over HTTP, with one key.
struct Api {
    client: reqwest::Client,
    base: String,
    key: String,
}

impl Api {
    fn new(base: &str, key: &str) -> Self {
        Self { client: reqwest::Client::new(), base: base.to_owned(), key: key.to_owned() }
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.key).json(&body);
        Self::read(request.send().await?).await
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Self::read(self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.key).send().await?).await
    }

    /// A delivery, once its last result is on disk.
    async fn settled(&self, path: &str) -> anyhow::Result<Value> {
        const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(20);
        loop {
            let delivery = self.get(path).await?;
            if delivery["status"] != "pending" {
                return Ok(delivery);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn read(response: reqwest::Response) -> anyhow::Result<Value> {
        let status = response.status();
        let body: Value = response.json().await.context("the API answers JSON")?;
        if status.is_success() { Ok(body) } else { anyhow::bail!("the API answered {status}: {body}") }
    }
}
