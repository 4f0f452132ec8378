//! `postrider openapi`: prints the OpenAPI document that the daemon serves.

use clap::Args;

use super::{Exit, screen};
use crate::api;

/// Print the OpenAPI 3.1 description of the HTTP API
#[derive(Args, Debug)]
#[command(after_help = "The daemon serves the same at /openapi.json, without the dialects that are switched off.")]
pub struct OpenApi {
    /// The form of the output; there is one
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"], default_value = "json")]
    output: String,
}

impl OpenApi {
    pub fn run(&self) -> Result<(), Exit> {
        let text =
            serde_json::to_string_pretty(&api::openapi::document()).map_err(|error| Exit::failed(error.to_string()))?;
        screen::write(text)
    }
}
