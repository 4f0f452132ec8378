//! The API's client: a call, its answer, and the error message for an answer that is not 2xx.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;

use crate::http_client::HttpEndpoint;

use super::{
    Exit,
    noun::{self, Noun},
    problem,
    screen::{self, Output, Screen},
    target::{self, Target},
};

/// The unreserved characters of RFC 3986 §2.3 stay as they are in a path segment.
pub const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The daemon, the credentials and the output format: flags of every verb that uses the API.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct Remote {
    /// The daemon: http://host:port, https://… or unix:/path; else the one that runs on this machine
    #[arg(long, global = true, env = "POSTRIDER_URL", hide_env_values = true, value_name = "URL")]
    pub url: Option<String>,
    /// An API key; else the first key of a daemon on this machine
    #[arg(long, global = true, env = "POSTRIDER_TOKEN", hide_env_values = true, value_name = "KEY")]
    pub token: Option<String>,
    /// A client certificate to show, where the daemon asks for one (PEM file)
    #[arg(
        long,
        global = true,
        env = "POSTRIDER_CLIENT_CERT",
        hide_env_values = true,
        requires = "client_key",
        value_name = "FILE"
    )]
    pub client_cert: Option<PathBuf>,
    /// The client certificate's private key (PEM file)
    #[arg(
        long,
        global = true,
        env = "POSTRIDER_CLIENT_KEY",
        hide_env_values = true,
        requires = "client_cert",
        value_name = "FILE"
    )]
    pub client_key: Option<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}

impl Remote {
    pub fn client(&self) -> Result<Client, Exit> {
        // A variable that is set and empty says nothing.
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let Target { url, token, note } = target::find(filled(&self.url).as_deref(), filled(&self.token).as_deref())?;
        if let Some(note) = note {
            screen::note(&format!("{note}\n"));
        }
        self.showing(Client::new(&url, token.as_deref())?)
    }

    /// A client without a key, for `/readyz` and the like. It reads no key file.
    pub fn keyless_client(&self) -> Result<Client, Exit> {
        let given = self.url.as_deref().filter(|url| !url.trim().is_empty());
        self.showing(Client::new(&target::find_url(given)?, None)?)
    }

    fn showing(&self, client: Client) -> Result<Client, Exit> {
        match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => client.showing(cert, key),
            _ => Ok(client),
        }
    }

    pub fn screen(&self) -> Screen {
        self.output.screen()
    }
}

/// A request to the API. Its path is below `/v1`.
#[derive(Clone)]
pub struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Bytes>,
    idempotency_key: Option<String>,
}

impl Call {
    fn new(method: Method, segments: &[&str]) -> Self {
        let encoded = segments.iter().map(|segment| utf8_percent_encode(segment, SEGMENT).to_string());
        let path = std::iter::once("/v1".to_owned()).chain(encoded).collect::<Vec<_>>().join("/");
        Self { method, path, query: Vec::new(), body: None, idempotency_key: None }
    }

    /// A request to a path of another API, with its query.
    pub fn at(method: Method, path: String, body: Option<Bytes>) -> Self {
        Self { method, path, query: Vec::new(), body, idempotency_key: None }
    }

    pub fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    pub fn post(segments: &[&str]) -> Self {
        Self::new(Method::POST, segments)
    }

    pub fn patch(segments: &[&str]) -> Self {
        Self::new(Method::PATCH, segments)
    }

    pub fn delete(segments: &[&str]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    /// Adds a query parameter if it has a value.
    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// The same call with another value of one parameter.
    pub fn with_query(&self, name: &'static str, value: &str) -> Self {
        let mut call = self.clone();
        call.query.retain(|(other, _)| *other != name);
        call.query(name, Some(value))
    }

    /// Sends `body` as JSON.
    pub fn json(self, body: &impl Serialize) -> Result<Self, Exit> {
        let body =
            serde_json::to_vec(body).map_err(|error| Exit::usage(format!("this cannot be sent as JSON: {error}")))?;
        Ok(Self { body: Some(body.into()), ..self })
    }

    pub fn idempotency_key(self, key: Option<String>) -> Self {
        Self { idempotency_key: key, ..self }
    }

    fn target(&self) -> String {
        if self.query.is_empty() {
            return self.path.clone();
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish();
        format!("{}?{query}", self.path)
    }
}

/// A 2xx answer.
pub struct Answer {
    /// The body as received.
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Result<Value, Exit> {
        object(&self.body)
    }
}

/// The JSON object of an answer.
pub fn object(body: &[u8]) -> Result<Value, Exit> {
    let unexpected = |why: &str| Exit::failed(format!("the answer is not the JSON that was expected: {why}"));
    let value: Value = serde_json::from_slice(body).map_err(|error| unexpected(&error.to_string()))?;
    if value.is_object() { Ok(value) } else { Err(unexpected("it is no object")) }
}

/// Speaks to one daemon with one key.
pub struct Client {
    place: HttpEndpoint,
    token: Option<String>,
    /// The noun of the whole id on the command line. If it has no such object, other nouns are searched for the id.
    meant: OnceLock<(Noun, String)>,
}

/// The cure of a daemon whose certificate is not trusted.
pub const UNTRUSTED_HINT: &str = "something answers there; name the PEM file of its certificate's authority in \
     SSL_CERT_FILE; a certificate that is its own authority cannot be a server's: have an authority issue one \
     (server.tls_cert)";

/// Whether the sentence of a failed request tells of a TLS handshake.
pub fn has_failed_in_tls(error: &str) -> bool {
    error.starts_with("TLS: ") || error.contains(": TLS: ")
}

impl Client {
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, Exit> {
        let place =
            HttpEndpoint::parse(url).map_err(|error| Exit::usage(error).hint("set it with --url or POSTRIDER_URL"))?;
        let token = token.map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned);
        Ok(Self { place, token, meant: OnceLock::new() })
    }

    /// The same client with a certificate to show in TLS handshakes.
    fn showing(self, cert: &Path, key: &Path) -> Result<Self, Exit> {
        Ok(Self { place: self.place.showing(cert, key).map_err(Exit::usage)?, ..self })
    }

    /// Notes the noun of the id on the command line. The first one counts.
    pub fn means(&self, noun: Noun, id: &str) {
        let _ = self.meant.set((noun, id.to_owned()));
    }

    /// The answer if it is 2xx. Any other answer ends the verb. The error for an id of another noun names that noun.
    pub async fn call(&self, call: Call) -> Result<Answer, Exit> {
        let exit = match self.exchange(call).await {
            Err(exit) if exit.status == Some(404) => exit,
            other => return other,
        };
        let Some((wanted, id)) = self.meant.get() else { return Err(exit) };
        for noun in [Noun::Event, Noun::Webhook, Noun::Delivery, Noun::Attempt, Noun::Replay, Noun::App] {
            if noun != *wanted && self.exchange(Call::get(&[noun.collection(), id])).await.is_ok() {
                return Err(noun::of_another_kind(&format!("{}{id}", noun.prefix()), *wanted, noun));
            }
        }
        Err(exit)
    }

    async fn exchange(&self, call: Call) -> Result<Answer, Exit> {
        let answer = self.place.exchange(self.request(&call)?).await.map_err(|error| {
            let hint = match has_failed_in_tls(&error) {
                true => UNTRUSTED_HINT,
                false => {
                    "is the daemon running? `postrider serve --dev` starts one to try; --url or POSTRIDER_URL name another"
                }
            };
            Exit::unreachable(format!("no answer from {}: {error}", self.place.written())).hint(hint)
        })?;
        let (parts, body) = answer.into_parts();
        if !parts.status.is_success() {
            return Err(problem::exit(parts.status, &parts.headers, &body, self.place.written()));
        }
        self.check_is_of_the_api(&call, parts.status, &body)?;
        Ok(Answer { body })
    }

    /// The API answers a `DELETE` with 204 and everything else with a JSON object. Another 2xx is another server's.
    fn check_is_of_the_api(&self, call: &Call, status: StatusCode, body: &[u8]) -> Result<(), Exit> {
        if call.method != Method::DELETE {
            return object(body).map(|_| ()).map_err(|exit| exit.hint(self.other_server_hint()));
        }
        match status {
            StatusCode::NO_CONTENT => Ok(()),
            _ => Err(Exit::failed(format!("the answer is {status}, and 204 No Content was expected"))
                .hint(self.other_server_hint())),
        }
    }

    /// The cure of an answer that is not Postrider's.
    pub fn other_server_hint(&self) -> String {
        format!("does Postrider answer at {}? --url or POSTRIDER_URL name another address", self.place.written())
    }

    /// The answer to a call, with any status. `Err` describes why there is none.
    pub async fn answer(&self, call: Call) -> Result<Response<Bytes>, String> {
        let request = self.request(&call).map_err(|exit| exit.message().to_owned())?;
        let answer = self.place.exchange(request).await;
        answer.map_err(|error| format!("no answer from {}: {error}", self.place.written()))
    }

    /// The answer to a GET outside `/v1`, with any status. `Err` describes why there is none.
    pub async fn peek(&self, path: &str, bearer: Option<&str>) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::builder().method(Method::GET).uri(path);
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let request = request.body(Full::default()).map_err(|error| error.to_string())?;
        let answer = self.place.exchange(request).await;
        let (parts, body) =
            answer.map_err(|error| format!("no answer from {}: {error}", self.place.written()))?.into_parts();
        Ok((parts.status, body))
    }

    /// The JSON of an answer to [`Client::call`].
    pub async fn value(&self, call: Call) -> Result<Value, Exit> {
        self.call(call).await?.json()
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Exit> {
        let mut request = Request::builder().method(&call.method).uri(call.target());
        if let Some(headers) = request.headers_mut() {
            self.headers(call, headers)?;
        }
        request
            .body(Full::new(call.body.clone().unwrap_or_default()))
            .map_err(|error| Exit::usage(format!("this cannot be sent: {error}")))
    }

    fn headers(&self, call: &Call, headers: &mut HeaderMap) -> Result<(), Exit> {
        let value = |text: &str, header: &str| {
            header::HeaderValue::from_str(text)
                .map_err(|_| Exit::usage(format!("{header} holds a character that no header can carry")))
        };
        headers.insert(header::USER_AGENT, value(concat!("postrider/", env!("CARGO_PKG_VERSION")), "the name")?);
        headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
        if let Some(token) = &self.token {
            let mut bearer = value(&format!("Bearer {token}"), "the key")?;
            bearer.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, bearer);
        }
        if call.body.is_some() {
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        }
        if let Some(key) = &call.idempotency_key {
            headers.insert("idempotency-key", value(key, "the idempotency key")?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
