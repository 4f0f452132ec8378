//! `postrider listen`: a receiver for development and tests. With `--create` it makes a webhook for itself, and removes
//! it at every end except SIGKILL.

pub(super) mod receiver;
pub(super) mod seen;
pub(super) mod verify;

use std::{
    net::Ipv4Addr,
    sync::{Arc, atomic::AtomicU64},
};

use clap::Args;
use http::StatusCode;
use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::http_client::HttpEndpoint;

use super::{
    Exit,
    client::{Call, Client, Remote},
    input,
    noun::{Noun, shown},
    resolve,
    screen::Screen,
};
use receiver::{Receiver, serve};
use seen::Seen;
use verify::Secret;

/// Maximum answered requests that are not printed yet.
const UNPRINTED_MAX: usize = 1_000;

const EXAMPLES: &str = "\
Examples:
  postrider listen --create                      make a webhook for this receiver, remove it on Ctrl-C
  postrider listen --create --type 'order.*' --fail 2
  postrider listen --port 9000 --secret whsec_…  a receiver for a webhook made by hand
  postrider listen --create --forward http://localhost:3000/webhooks

A daemon delivers to this machine if it was started with --dev, or if its setting delivery.allow names 127.0.0.1.";

/// Receive webhooks on this machine and print them, signatures checked
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Listen {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    port: u16,
    /// Make a webhook for this receiver, check with its secret, remove it at the end
    #[arg(long)]
    create: bool,
    /// With --create: event types to receive; comma-separated or repeated
    #[arg(long = "type", alias = "event-type", value_delimiter = ',', value_name = "PATTERN", requires = "create")]
    event_types: Vec<String>,
    /// With --create: the app: its name, uid or id, or the beginning of its id
    #[arg(long, value_name = "APP", requires = "create")]
    app: Option<String>,
    /// Check signatures with this secret; may be repeated
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<Secret>,
    /// Treat requests with a bad signature like any other; else they are answered 401
    #[arg(long)]
    accept_bad_signatures: bool,
    /// Answer 500 to the first N requests
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    fail: u64,
    /// Answer with this status
    #[arg(long, default_value_t = 200, value_name = "CODE", value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// Forward requests to this URL, and return its responses
    #[arg(long, value_name = "URL", conflicts_with = "status")]
    forward: Option<String>,
    /// End after this many requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

impl Listen {
    pub async fn run(self) -> Result<(), Exit> {
        let screen = self.remote.screen();
        let forward = self.forward.as_deref().map(HttpEndpoint::parse).transpose().map_err(Exit::usage)?;
        let status = StatusCode::from_u16(self.status).map_err(|error| Exit::usage(error.to_string()))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await;
        let listener =
            listener.map_err(|error| Exit::failed(format!("cannot listen on 127.0.0.1:{}: {error}", self.port)))?;
        let address = listener.local_addr().map_err(|error| Exit::failed(error.to_string()))?;
        let url = format!("http://{address}/");

        // Before the webhook exists, so that no signal falls between its creation and the handler that removes it.
        let stop = Stop::new()?;
        let client = self.remote.client()?;
        let made = match self.create {
            true => Some(self.create_webhook(&client, &url).await?),
            false => None,
        };
        let mut secrets = self.secrets.clone();
        secrets.extend(made.iter().map(|webhook| webhook.secret.clone()));

        let (reports, requests) = mpsc::channel(UNPRINTED_MAX);
        let accepts_bad = self.accept_bad_signatures;
        let receiver =
            Receiver { secrets, accepts_bad, fail: self.fail, status, forward, received: AtomicU64::new(0), reports };
        let serving = tokio::spawn(serve(listener, Arc::new(receiver)));
        let ended = self.print(screen, &url, made.as_ref(), requests, stop).await;
        let removed = match &made {
            Some(webhook) => webhook.remove(&client).await,
            None => Ok(()),
        };
        serving.abort();
        // If both failed, the error of the webhook that stays behind is reported.
        removed.and(ended)
    }

    /// Prints requests until it is stopped or has printed `--count` of them.
    async fn print(
        &self,
        screen: Screen,
        url: &str,
        made: Option<&Made>,
        mut requests: mpsc::Receiver<Seen>,
        mut stop: Stop,
    ) -> Result<(), Exit> {
        let id = made.map(|webhook| webhook.id.as_str());
        match (screen.is_json(), id) {
            (true, _) => screen.text(json!({"kind": "listening", "url": url, "webhook": id}).to_string())?,
            (false, Some(id)) => {
                screen.text(format!("receiving on {url} for webhook {}{id}", Noun::Webhook.prefix()))?
            }
            (false, None) => screen.text(format!("receiving on {url}"))?,
        }
        let mut left = self.count;
        while left != Some(0) {
            let seen = tokio::select! {
                seen = requests.recv() => seen,
                () = stop.asked() => return Ok(()),
            };
            let Some(seen) = seen else { return Ok(()) };
            match screen.is_json() {
                true => screen.text(seen.for_machines())?,
                false => screen.text(seen.for_people(screen.body_width(), screen.paint))?,
            }
            left = left.map(|left| left - 1);
        }
        Ok(())
    }

    async fn create_webhook(&self, client: &Client, url: &str) -> Result<Made, Exit> {
        let app = resolve::app(client, self.app.as_ref()).await?;
        let body = input::object([
            ("url", Some(url.into())),
            ("name", Some("postrider listen".into())),
            ("event_types", (!self.event_types.is_empty()).then(|| self.event_types.clone().into())),
            ("app_id", app.map(Into::into)),
        ]);
        let answer = client.value(Call::post(&["webhooks"]).json(&body)?).await?;
        let id = answer["id"].as_str().ok_or_else(|| Exit::failed("the answer names no webhook"))?;
        let made = |secret| Made { id: id.to_owned(), secret };
        match answer["secret"].as_str().unwrap_or_default().parse() {
            Ok(secret) => Ok(made(secret)),
            Err(error) => {
                client.call(Call::delete(&["webhooks", id])).await?;
                Err(Exit::failed(format!("the new webhook's secret cannot be used: {error}")))
            }
        }
    }
}

/// The webhook that `--create` made for this receiver.
struct Made {
    id: String,
    secret: Secret,
}

impl Made {
    async fn remove(&self, client: &Client) -> Result<(), Exit> {
        let removed = client.call(Call::delete(&["webhooks", &self.id])).await;
        removed.map(|_| ()).map_err(|exit| {
            exit.hint(format!(
                "webhook {0} is still there: postrider webhook delete {0}",
                shown(Noun::Webhook.prefix(), self.id.clone())
            ))
        })
    }
}

/// The stop signals: Ctrl-C, SIGTERM, and the closing of the terminal.
pub(super) struct Stop {
    signals: [Signal; 3],
}

impl Stop {
    pub fn new() -> Result<Self, Exit> {
        let on = |kind| signal(kind).map_err(|error| Exit::failed(format!("cannot watch signals: {error}")));
        let signals = [on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?];
        Ok(Self { signals })
    }

    pub async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests;
