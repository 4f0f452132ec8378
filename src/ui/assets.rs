//! The files of the pages: one style sheet, one module, one icon, each under a name that contains its hash.
//!
//! The sheet and the module have twins, made by `gzip -9nk`. A test compares them. Pages have none, because they hold
//! tokens beside chosen text, and a compressed length tells of both (BREACH).

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, VARY};
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
    /// The same content in the format gzip. `None` for a file that is too small to gain by it.
    gzip: Option<&'static [u8]>,
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

const CSS_GZIP: &[u8] = include_bytes!("assets/postrider.css.gz");
const MODULE_GZIP: &[u8] = include_bytes!("assets/postrider.js.gz");
const CSS_TEXT: &[u8] = include_bytes!("assets/postrider.css");
const MODULE_TEXT: &[u8] = include_bytes!("assets/postrider.js");
const HORN_TEXT: &[u8] = include_bytes!("assets/horn.svg");

pub static CSS: Asset = Asset {
    stem: "postrider",
    extension: "css",
    content_type: "text/css; charset=utf-8",
    content: CSS_TEXT,
    gzip: Some(CSS_GZIP),
    hash: LazyLock::new(|| hash_of(CSS_TEXT)),
};
pub static MODULE: Asset = Asset {
    stem: "postrider",
    extension: "js",
    content_type: "text/javascript; charset=utf-8",
    content: MODULE_TEXT,
    gzip: Some(MODULE_GZIP),
    hash: LazyLock::new(|| hash_of(MODULE_TEXT)),
};
pub static HORN: Asset = Asset {
    stem: "horn",
    extension: "svg",
    content_type: "image/svg+xml",
    content: HORN_TEXT,
    gzip: None,
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
    let twin = asset.gzip.filter(|_| accepts_gzip(http_request));
    let body = Bytes::from_static(twin.unwrap_or(asset.content));
    let mut response = HttpResponse::new(StatusCode::OK, asset.content_type, body);
    if asset.gzip.is_some() {
        response.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    if twin.is_some() {
        response.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    Ok(respond::guarded(response.with(CACHE_CONTROL, forever)))
}

/// Whether `Accept-Encoding` names gzip with a weight above 0 (RFC 9110 section 12.5.3).
fn accepts_gzip(http_request: &HttpRequest) -> bool {
    let lines = http_request.headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        is_gzip && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
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
    #[expect(
        clippy::disallowed_methods,
        reason = "the library's tests have no children of their own to mix it up with"
    )]
    fn the_twins_are_their_files() {
        for (name, asset) in [("postrider.css", &CSS), ("postrider.js", &MODULE)] {
            let twin = format!("{}/src/ui/assets/{name}.gz", env!("CARGO_MANIFEST_DIR"));
            let made = std::process::Command::new("gzip").args(["-dc", &twin]).output().expect("gzip runs");
            assert!(made.status.success() && made.stdout == asset.content, "make it anew: gzip -9nkf {name}");
            assert!(asset.gzip.is_some_and(|gzip| gzip.len() * 2 < asset.content.len()), "{name}");
        }
    }

    #[test]
    fn gzip_is_sent_where_it_is_named() {
        let takes = |line: &'static str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(line));
            accepts_gzip(&HttpRequest {
                method: http::Method::GET,
                path: String::new(),
                query: None,
                headers,
                body: Bytes::new(),
                remote: None,
                request_id: String::new(),
            })
        };
        for line in ["gzip", "br, GZIP", "deflate, gzip;q=0.5", "gzip; q=1"] {
            assert!(takes(line), "{line}");
        }
        for line in ["", "br", "gzip;q=0", "gzip; q=0.000", "gzip;q=x", "xgzip", "identity"] {
            assert!(!takes(line), "{line}");
        }
    }

    #[test]
    fn a_name_contains_the_hash_of_its_content() {
        assert_eq!(CSS.name(), format!("assets/postrider-{}.css", &hash_of(CSS_TEXT)));
        assert!(!CSS.has_name("/ui/assets/postrider-000000000000.css") && CSS.has_name(&format!("/ui/{}", CSS.name())));
    }
}
