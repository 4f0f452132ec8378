//! `postrider openapi`: prints the OpenAPI document that the daemon serves.

use clap::Args;

use super::{Exit, screen};
use crate::api;

/// Print the OpenAPI 3.1 description of the HTTP API
#[derive(Args, Debug)]
#[command(after_help = "\
The daemon serves the document at /openapi.json and the page at /docs, without the dialects that are switched off.

Examples:
  postrider openapi > openapi.json
  postrider openapi --html > api.html")]
pub struct OpenApi {
    /// The form of the output; there is one
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"], default_value = "json")]
    output: String,

    /// Print the API reference as one HTML page, which loads nothing else
    #[arg(long, conflicts_with = "output")]
    html: bool,
}

impl OpenApi {
    pub fn run(&self) -> Result<(), Exit> {
        if self.html {
            return screen::write(api::openapi::html::page(&api::openapi::document()));
        }
        let text =
            serde_json::to_string_pretty(&api::openapi::document()).map_err(|error| Exit::failed(error.to_string()))?;
        screen::write(text)
    }
}
