//! `postrider import`: brings the configuration of another webhook service here, by its API.

mod report;
mod svix;
mod svix_api;

use clap::{Args, Subcommand};

use super::{
    Exit,
    client::{Client, Remote},
};
use report::Report;
use svix_api::SvixApi;

const EXAMPLES: &str = "\
Examples:
  postrider import svix --from https://api.eu.svix.com --from-token testsk_… --dry-run
  SVIX_TOKEN=testsk_… postrider import svix --from http://svix.internal:8071 --app acme

Signing secrets come along, so receivers go on verifying. Ids of Svix name the same
objects here, in the Svix-compatible API. A second run makes nothing twice.";

/// Bring the apps, webhooks and event types of another service here
#[derive(Args, Debug)]
pub struct Import {
    #[command(subcommand)]
    source: Source,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Source {
    /// From a running Svix server or Svix's cloud: applications, endpoints with secrets and headers, event types
    #[command(after_help = EXAMPLES)]
    Svix(SvixSource),
}

#[derive(Args, Debug)]
struct SvixSource {
    /// The Svix server: the URL that its SDKs are given
    #[arg(long, value_name = "URL")]
    from: String,
    /// A token of Svix that reads everything
    #[arg(long, env = "SVIX_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    from_token: String,
    /// Only this application of Svix, by its id or uid; repeatable
    #[arg(long = "app", value_name = "APP")]
    apps: Vec<String>,
    /// Change nothing here, and print each object that would be made
    #[arg(long)]
    dry_run: bool,
}

impl Import {
    pub async fn run(self) -> Result<(), Exit> {
        let screen = self.remote.screen();
        let Source::Svix(source) = self.source;
        let from = source.from.trim_end_matches('/').trim_end_matches(svix_api::PREFIX);
        let client = Client::new(from, Some(&source.from_token)).map_err(|exit| exit.hint("mend the URL of --from"))?;
        let from =
            SvixApi::new(client, "Svix", "is the URL of --from the one of Svix's API, as its SDKs are given it?");
        let here = SvixApi::new(
            self.remote.client()?,
            "Postrider",
            "does the URL of --url lead to a Postrider whose setting dialects has svix?",
        );
        let mut report = Report::new(screen, source.dry_run);
        let done = svix::import(&from, &here, &source.apps, source.dry_run, &mut report).await;
        // The report of an import that ended early names the objects that it made.
        report.finish()?;
        done?;
        if report.has_failures() { Err(Exit::silent_failure()) } else { Ok(()) }
    }
}
