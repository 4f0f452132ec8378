//! The files of the pages: one style sheet, one module, one icon, each under a name that contains its hash.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use maud::{Markup, PreEscaped};

use crate::api::auth::sha256;
use crate::api::{ApiContext, ApiError, HttpRequest, HttpResponse};

use super::respond;

/// Letters of a hash in a name.
const HASH_CHARS: usize = 12;

/// A file that pages refer to.
pub struct Asset {
    stem: &'static str,
    extension: &'static str,
    content_type: &'static str,
    content: &'static [u8],
    hash: LazyLock<String>,
}

impl Asset {
    /// The name that pages link to, below `/ui/`: `assets/postrider-0123456789ab.css`.
    pub fn name(&self) -> String {
        format!("assets/{}-{}.{}", self.stem, *self.hash, self.extension)
    }

    fn has_name(&self, path: &str) -> bool {
        path.strip_prefix("/ui/").is_some_and(|below| below == self.name())
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.content.len()
    }
}

fn hash_of(content: &[u8]) -> String {
    let mut hex: String = sha256(&[content]).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(HASH_CHARS);
    hex
}

const CSS_TEXT: &[u8] = include_bytes!("assets/postrider.css");
const MODULE_TEXT: &[u8] = include_bytes!("assets/postrider.js");
const HORN_TEXT: &[u8] = include_bytes!("assets/horn.svg");

pub static CSS: Asset = Asset {
    stem: "postrider",
    extension: "css",
    content_type: "text/css; charset=utf-8",
    content: CSS_TEXT,
    hash: LazyLock::new(|| hash_of(CSS_TEXT)),
};
pub static MODULE: Asset = Asset {
    stem: "postrider",
    extension: "js",
    content_type: "text/javascript; charset=utf-8",
    content: MODULE_TEXT,
    hash: LazyLock::new(|| hash_of(MODULE_TEXT)),
};
pub static HORN: Asset = Asset {
    stem: "horn",
    extension: "svg",
    content_type: "image/svg+xml",
    content: HORN_TEXT,
    hash: LazyLock::new(|| hash_of(HORN_TEXT)),
};

/// The icons, which every page contains once.
pub fn sprite() -> Markup {
    PreEscaped(include_str!("assets/sprite.svg").trim_end().to_owned())
}

/// `GET /ui/assets/{name}`.
pub fn serve(_: &ApiContext<'_>, http_request: &HttpRequest) -> Result<HttpResponse, ApiError> {
    let found = [&CSS, &MODULE, &HORN].into_iter().find(|asset| asset.has_name(&http_request.path));
    let asset = found.ok_or_else(ApiError::no_route)?;
    let response = HttpResponse::new(StatusCode::OK, asset.content_type, Bytes::from_static(asset.content));
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    Ok(respond::guarded(response.with(CACHE_CONTROL, forever)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_small() {
        assert!(CSS.bytes() <= 22_528, "{}", CSS.bytes());
        assert!(MODULE.bytes() <= 8_192, "{}", MODULE.bytes());
    }

    #[test]
    fn a_name_contains_the_hash_of_its_content() {
        assert_eq!(CSS.name(), format!("assets/postrider-{}.css", &hash_of(CSS_TEXT)));
        assert!(!CSS.has_name("/ui/assets/postrider-000000000000.css") && CSS.has_name(&format!("/ui/{}", CSS.name())));
    }
}
