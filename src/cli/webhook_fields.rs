//! The flags of `webhook create` and `update`, one for every field that can be written, and the JSON they make.
//! Which values are right for a field, the daemon judges, and names it; here only what cannot be said in JSON fails.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::{Exit, input};

/// Every field of a webhook that can be written, apart from its URL.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Fields")]
pub struct Fields {
    /// A name for people; the URL's host if not given
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    #[arg(long, value_name = "TEXT")]
    /// What it is for
    description: Option<String>,
    /// The app it belongs to, by id or uid; the default app if not given
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// get, put, post, patch or delete
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// application/json or application/x-www-form-urlencoded
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// The body's shape: standard, raw, legacy, dfns, sent or flat
    #[arg(long, value_name = "SHAPE")]
    field_set: Option<String>,
    /// Keep `html` in legacy bodies of sent events
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", hide_possible_values = true)]
    include_html: Option<bool>,
    /// Send Basic credentials
    #[arg(long, value_name = "USER:PASSWORD", group = "auth")]
    auth_basic: Option<String>,
    /// Send a bearer token
    #[arg(long, value_name = "TOKEN", group = "auth")]
    auth_bearer: Option<String>,
    /// Send a header that authenticates, kept secret unlike --header
    #[arg(long, value_name = "NAME: VALUE", group = "auth")]
    auth_header: Option<String>,
    /// whsec_ and base64 of 24 to 64 bytes; made by the daemon if not given
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// Send a further header; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Send a further header whose value is a credential: masked wherever it is read; may be repeated
    #[arg(long = "secret-header", value_name = "NAME: VALUE")]
    secret_headers: Vec<String>,
    /// Events it wants: invoice.paid, order.* (one segment), order.** (any depth)
    #[arg(long = "event-type", value_delimiter = ',', value_name = "PATTERN")]
    event_types: Vec<String>,
    /// Channels it wants; comma-separated or repeated
    #[arg(long = "channel", value_delimiter = ',', value_name = "CHANNEL")]
    channels: Vec<String>,
    /// A match on the event's data, as JSON, @FILE or -
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// enabled, paused or disabled
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Send the body as JWE
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", hide_possible_values = true)]
    encrypted: Option<bool>,
    /// none, or some of standard, ed25519, dfns, sent; comma-separated
    #[arg(long, value_delimiter = ',', value_name = "SCHEME")]
    signature: Vec<String>,
    /// Trust only this CA (PEM file)
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Present this client certificate (PEM file)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The client certificate's private key (PEM file)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// default, or none: directly although delivery.proxy names a proxy, which needs a key with the scope admin
    #[arg(long, value_name = "default|none")]
    proxy: Option<String>,
    /// Ask by the CloudEvents webhook handshake first
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", hide_possible_values = true)]
    handshake: Option<bool>,
    /// What counts as delivered: 2xx or 200
    #[arg(long, value_name = "RULE")]
    success_rule: Option<String>,
    /// Seconds between attempts (5,300), or standard, dfns, sent, everlytic, none
    #[arg(long, value_name = "SCHEDULE")]
    retry_schedule: Option<String>,
    /// Limit of a whole request, 1000 to 120000
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// Requests under way at once, 1 to 1000
    #[arg(long, value_name = "N")]
    max_in_flight: Option<u64>,
    /// Requests a second
    #[arg(long, value_name = "N")]
    rate_limit: Option<f64>,
    /// One after another: true for the webhook, key for each ordering key, false
    #[arg(long, value_name = "false|true|key")]
    ordered: Option<String>,
    /// Disable after this long without a success; 0 never
    #[arg(long, value_name = "SECONDS")]
    disable_after_s: Option<u64>,
    /// The fields as a JSON object in a file, or - for stdin; flags win over it
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
}

impl Fields {
    /// The request body: what `--json` holds, with the flags over it.
    pub fn object(&self) -> Result<Map<String, Value>, Exit> {
        let mut object = match &self.json {
            Some(path) => object_in(path)?,
            None => Map::new(),
        };
        object.extend(self.plain());
        object.extend(self.structured()?);
        Ok(object)
    }

    /// The fields whose flag is their value.
    fn plain(&self) -> Map<String, Value> {
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let list = |values: &[String]| (!values.is_empty()).then(|| json!(values));
        input::object([
            ("name", text(&self.name)),
            ("description", text(&self.description)),
            ("app_id", text(&self.app)),
            ("method", text(&self.method)),
            ("content_type", text(&self.content_type)),
            ("field_set", text(&self.field_set)),
            ("include_html", self.include_html.map(Value::from)),
            ("secret", text(&self.secret)),
            ("event_types", list(&self.event_types)),
            ("channels", list(&self.channels)),
            ("status", text(&self.status)),
            ("encrypted", self.encrypted.map(Value::from)),
            ("proxy", text(&self.proxy)),
            ("handshake", self.handshake.map(Value::from)),
            ("success_rule", text(&self.success_rule)),
            ("timeout_ms", self.timeout_ms.map(Value::from)),
            ("max_in_flight", self.max_in_flight.map(Value::from)),
            ("rate_limit_per_s", self.rate_limit.map(number)),
            ("disable_after_s", self.disable_after_s.map(Value::from)),
        ])
    }

    /// The fields that are made of something.
    fn structured(&self) -> Result<Map<String, Value>, Exit> {
        Ok(input::object([
            ("auth", self.auth()?),
            ("headers", self.headers()?),
            ("secret_headers", self.secret_names()?),
            ("filter", self.filter.as_deref().map(json_value).transpose()?),
            ("signature", signature(&self.signature)),
            ("tls", self.tls()?),
            ("retry_schedule_s", self.retry_schedule.as_deref().map(schedule).transpose()?),
            ("ordered", self.ordered.as_deref().map(ordered)),
        ]))
    }

    fn auth(&self) -> Result<Option<Value>, Exit> {
        if let Some(pair) = &self.auth_basic {
            let (username, password) =
                pair.split_once(':').ok_or_else(|| Exit::usage("--auth-basic: write USER:PASSWORD"))?;
            return Ok(Some(json!({"type": "basic", "username": username, "password": password})));
        }
        if let Some(token) = &self.auth_bearer {
            return Ok(Some(json!({"type": "bearer", "token": token})));
        }
        let Some(header) = &self.auth_header else {
            return Ok(None);
        };
        let (name, value) = header_parts("--auth-header", header)?;
        Ok(Some(json!({"type": "header", "name": name, "value": value})))
    }

    fn headers(&self) -> Result<Option<Value>, Exit> {
        if self.headers.is_empty() && self.secret_headers.is_empty() {
            return Ok(None);
        }
        let plain = self.headers.iter().map(|header| ("--header", header));
        let secret = self.secret_headers.iter().map(|header| ("--secret-header", header));
        let parts = plain.chain(secret).map(|(flag, header)| {
            let (name, value) = header_parts(flag, header)?;
            Ok((name.to_owned(), Value::from(value)))
        });
        Ok(Some(Value::Object(parts.collect::<Result<_, Exit>>()?)))
    }

    fn secret_names(&self) -> Result<Option<Value>, Exit> {
        let names = self.secret_headers.iter().map(|header| Ok(header_parts("--secret-header", header)?.0));
        let names = names.collect::<Result<Vec<_>, Exit>>()?;
        Ok((!names.is_empty()).then(|| json!(names)))
    }

    fn tls(&self) -> Result<Option<Value>, Exit> {
        let files = [
            ("ca_pem", "--tls-ca", &self.tls_ca),
            ("client_cert_pem", "--tls-cert", &self.tls_cert),
            ("client_key_pem", "--tls-key", &self.tls_key),
        ];
        let mut tls = Map::new();
        for (name, flag, path) in files {
            if let Some(path) = path {
                tls.insert(name.to_owned(), input::file(flag, path)?.into());
            }
        }
        Ok((!tls.is_empty()).then_some(Value::Object(tls)))
    }
}

/// The JSON object in a file or on stdin.
pub fn object_in(path: &Path) -> Result<Map<String, Value>, Exit> {
    match serde_json::from_str(&input::file("--json", path)?) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Exit::usage("--json: holds JSON, but no object")),
        Err(error) => Err(Exit::usage(format!("--json: not JSON: {error}"))),
    }
}

fn json_value(given: &str) -> Result<Value, Exit> {
    let raw = input::json("--filter", given)?;
    serde_json::from_str(raw.get()).map_err(|error| Exit::usage(format!("--filter: not JSON: {error}")))
}

fn header_parts<'a>(flag: &str, header: &'a str) -> Result<(&'a str, &'a str), Exit> {
    let (name, value) =
        header.split_once(':').ok_or_else(|| Exit::usage(format!("{flag}: `{header}` is not NAME: VALUE")))?;
    Ok((name.trim(), value.trim()))
}

fn signature(schemes: &[String]) -> Option<Value> {
    match schemes {
        [] => None,
        [only] if only == "none" => Some(json!("none")),
        schemes => Some(json!(schemes)),
    }
}

/// `5,300` is the seconds themselves; a word is a preset, and the daemon knows which there are.
fn schedule(given: &str) -> Result<Value, Exit> {
    if given.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(given.into());
    }
    let seconds: Result<Vec<u64>, _> = given.split(',').map(|part| part.trim().parse()).collect();
    seconds.map(Value::from).map_err(|_| {
        Exit::usage(format!("--retry-schedule: `{given}` is neither seconds such as 5,300,1800 nor a preset"))
    })
}

fn ordered(given: &str) -> Value {
    match given {
        "true" => true.into(),
        "false" => false.into(),
        other => other.into(),
    }
}

/// Whole rates as whole numbers.
fn number(rate: f64) -> Value {
    match rate.fract() == 0.0 && rate.abs() < 1e15 {
        true => json!(rate as i64),
        false => json!(rate),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        fields: Fields,
    }

    fn object(args: &[&str]) -> Result<Value, Exit> {
        let line = Line::try_parse_from(std::iter::once(&"x").chain(args)).expect("the line is right");
        line.fields.object().map(Value::Object)
    }

    #[test]
    fn nothing_given_is_an_empty_object() {
        assert_eq!(object(&[]).expect("an object"), json!({}));
    }

    #[test]
    fn every_kind_of_field_becomes_its_json() {
        let args = [
            "--name=n",
            "--event-type=a.*,b",
            "--event-type=c",
            "--channel=eu",
            "--include-html",
            "--encrypted=false",
            "--header=X-A: 1",
            "--header=X-B:2:3",
            "--secret-header=X-C: opens",
            "--auth-basic=u:p:q",
            "--signature=standard,ed25519",
            "--retry-schedule=5, 300",
            "--rate-limit=2.5",
            "--ordered=key",
            "--timeout-ms=1000",
            "--filter={\"all\":[]}",
            "--app=acme",
            "--proxy=none",
        ];
        let expected = json!({
            "name": "n", "event_types": ["a.*", "b", "c"], "channels": ["eu"], "include_html": true,
            "encrypted": false, "headers": {"X-A": "1", "X-B": "2:3", "X-C": "opens"},
            "secret_headers": ["X-C"],
            "auth": {"type": "basic", "username": "u", "password": "p:q"},
            "signature": ["standard", "ed25519"], "retry_schedule_s": [5, 300], "rate_limit_per_s": 2.5,
            "ordered": "key", "timeout_ms": 1000, "filter": {"all": []}, "app_id": "acme",
            "proxy": "none",
        });
        assert_eq!(object(&args).expect("an object"), expected);
        let one = |args: &[&str]| object(args).expect("an object");
        assert_eq!(one(&["--signature=none"]), json!({"signature": "none"}));
        assert_eq!(one(&["--retry-schedule=dfns"]), json!({"retry_schedule_s": "dfns"}));
        assert_eq!(one(&["--ordered=true", "--rate-limit=5"]), json!({"ordered": true, "rate_limit_per_s": 5}));
        let header = json!({"auth": {"type": "header", "name": "X-Key", "value": "v"}});
        assert_eq!(one(&["--auth-header=X-Key: v"]), header);
    }

    #[test]
    fn flags_win_over_the_json_file_and_pem_files_are_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(path("w.json"), r#"{"name": "file", "url": "https://h.example/", "ordered": true}"#)
            .expect("written");
        std::fs::write(path("ca.pem"), "PEM").expect("written");
        let (json, ca) = (format!("--json={}", path("w.json")), format!("--tls-ca={}", path("ca.pem")));
        let expected = json!({"name": "flag", "url": "https://h.example/", "ordered": true, "tls": {"ca_pem": "PEM"}});
        assert_eq!(object(&[&json, &ca, "--name=flag"]).expect("an object"), expected);
    }

    #[test]
    fn what_cannot_be_said_in_json_is_a_usage_error() {
        for wrong in ["--auth-basic=user", "--header=novalue", "--retry-schedule=5;6", "--filter={", "--json=/nowhere"]
        {
            assert_eq!(object(&[wrong]).map_err(|exit| exit.code()), Err(2), "{wrong}");
        }
    }
}
