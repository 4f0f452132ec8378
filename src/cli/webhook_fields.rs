//! The flags of `webhook create` and `update`, from the table of a webhook's fields, and the JSON that they make. The
//! daemon checks the values and names wrong fields. Only a value that cannot become JSON fails here.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use serde_json::{Map, Value, json};

use super::{Exit, client::Client, duration, input, resolve};
use crate::api::native::webhook_fields::{FieldFlag, FlagValue, writable};

const HEADING: &str = "Fields";

/// Every writable field of a webhook, apart from its URL.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = HEADING)]
pub struct Fields {
    /// The webhook's app: its name, uid or id, or the beginning of its id; the default app if not given
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    #[command(flatten)]
    flags: FieldFlags,
    /// whsec_ and base64 of 24 to 75 bytes; made by the daemon if not given
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// The fields as a JSON object in a file, or - for stdin; flags win over it
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
}

/// The flags of the table that were given.
#[derive(Clone, Debug, Default)]
struct FieldFlags(Vec<GivenFlag>);

#[derive(Clone, Debug)]
struct GivenFlag {
    field: &'static str,
    flag: &'static str,
    value: FlagValue,
    texts: Vec<String>,
}

impl Args for FieldFlags {
    fn augment_args(command: Command) -> Command {
        command.args(writable().flat_map(|(_, form)| form.flags).map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FieldFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<FieldFlags, clap::Error> {
        let mut given = Vec::new();
        for (field, form) in writable() {
            for flag in form.flags {
                let texts = matches.get_raw(flag.long).into_iter().flatten();
                let texts: Vec<String> = texts.map(|text| text.to_string_lossy().into_owned()).collect();
                if !texts.is_empty() {
                    given.push(GivenFlag { field: field.name, flag: flag.long, value: flag.value, texts });
                }
            }
        }
        Ok(FieldFlags(given))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = FieldFlags::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(flag: &FieldFlag) -> Arg {
    let argument = Arg::new(flag.long).long(flag.long).value_name(flag.value_name).help(flag.help);
    let argument = argument.help_heading(HEADING).action(ArgAction::Set);
    let argument = flag.former.into_iter().fold(argument, Arg::alias);
    match flag.value {
        FlagValue::Boolean => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(value_parser!(bool))
            .hide_possible_values(true),
        FlagValue::Whole => argument.value_parser(value_parser!(u64)),
        FlagValue::Number => argument.value_parser(value_parser!(f64)),
        FlagValue::Choice(words) | FlagValue::WordOrBoolean(words) => {
            argument.value_parser(PossibleValuesParser::new(words))
        }
        FlagValue::NoneOrTexts(words) => {
            argument.value_delimiter(',').action(ArgAction::Append).value_parser(PossibleValuesParser::new(words))
        }
        FlagValue::Milliseconds => argument.value_parser(|text: &str| duration::ms_of(text, 1)),
        FlagValue::Seconds => argument.value_parser(duration::seconds),
        FlagValue::Texts => argument.value_delimiter(',').action(ArgAction::Append),
        FlagValue::Header | FlagValue::SecretHeader => argument.action(ArgAction::Append),
        FlagValue::BasicAuth | FlagValue::BearerAuth | FlagValue::HeaderAuth => argument.group("auth"),
        FlagValue::PemFile(member) => {
            let argument = argument.value_parser(value_parser!(PathBuf));
            match member {
                "client_cert_pem" => argument.requires("tls-key"),
                "client_key_pem" => argument.requires("tls-cert"),
                _ => argument,
            }
        }
        FlagValue::Text | FlagValue::Json | FlagValue::WordOrSeconds => argument,
    }
}

impl Fields {
    /// Turns the text that names the app into its id.
    pub async fn resolve_app(&mut self, client: &Client) -> Result<(), Exit> {
        self.app = resolve::app(client, self.app.as_ref()).await?;
        Ok(())
    }

    /// The request body: the object of `--json`, with the flags over it.
    pub fn object(&self) -> Result<Map<String, Value>, Exit> {
        let mut object = match &self.json {
            Some(path) => object_in(path)?,
            None => Map::new(),
        };
        let mut flags = input::object([
            ("app_id", self.app.clone().map(Value::from)),
            ("secret", self.secret.clone().map(Value::from)),
        ]);
        for given in &self.flags.0 {
            given.put_into(&mut flags)?;
        }
        object.extend(flags);
        Ok(object)
    }
}

impl GivenFlag {
    /// Sets the flag's field, or a part of it.
    fn put_into(&self, object: &mut Map<String, Value>) -> Result<(), Exit> {
        let flag = format!("--{}", self.flag);
        match self.value {
            FlagValue::Header => drop(self.put_headers(&flag, object)?),
            FlagValue::SecretHeader => {
                let names = self.put_headers(&flag, object)?;
                object.insert(self.field.to_owned(), names.into());
            }
            FlagValue::PemFile(member) => {
                let text = input::file(&flag, Path::new(self.text()))?;
                object.entry(self.field).or_insert_with(|| json!({}))[member] = text.into();
            }
            _ => drop(object.insert(self.field.to_owned(), self.whole_value(&flag)?)),
        }
        Ok(())
    }

    /// The only text of a flag that is not repeated.
    fn text(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }

    /// The value of a flag that sets its whole field.
    fn whole_value(&self, flag: &str) -> Result<Value, Exit> {
        let text = self.text();
        Ok(match self.value {
            FlagValue::Boolean => (text == "true").into(),
            FlagValue::Whole => text.parse::<u64>().map_or(Value::Null, Value::from),
            FlagValue::Number => text.parse().map_or(Value::Null, number),
            FlagValue::Texts => json!(self.texts),
            FlagValue::NoneOrTexts(_) if self.texts == ["none"] => json!("none"),
            FlagValue::NoneOrTexts(_) => json!(self.texts),
            FlagValue::Json => json_value(flag, text)?,
            FlagValue::WordOrSeconds => seconds(flag, text)?,
            FlagValue::WordOrBoolean(_) => word_or_boolean(text),
            FlagValue::Milliseconds => duration::ms_of(text, 1).map_or(Value::Null, Value::from),
            FlagValue::Seconds => duration::seconds(text).map_or(Value::Null, Value::from),
            FlagValue::BasicAuth => {
                let pair = text.split_once(':').ok_or_else(|| Exit::usage(format!("{flag}: write USER:PASSWORD")));
                let (username, password) = pair?;
                json!({"type": "basic", "username": username, "password": password})
            }
            FlagValue::BearerAuth => json!({"type": "bearer", "token": text}),
            FlagValue::HeaderAuth => {
                let (name, value) = header_parts(flag, text)?;
                json!({"type": "header", "name": name, "value": value})
            }
            FlagValue::Text
            | FlagValue::Choice(_)
            | FlagValue::Header
            | FlagValue::SecretHeader
            | FlagValue::PemFile(_) => text.into(),
        })
    }

    /// Adds the flag's headers, and returns their names.
    fn put_headers(&self, flag: &str, object: &mut Map<String, Value>) -> Result<Vec<String>, Exit> {
        let headers = object.entry("headers").or_insert_with(|| json!({}));
        let mut names = Vec::new();
        for text in &self.texts {
            let (name, value) = header_parts(flag, text)?;
            headers[name] = value.into();
            names.push(name.to_owned());
        }
        Ok(names)
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

pub fn json_value(flag: &str, given: &str) -> Result<Value, Exit> {
    let raw = input::json(flag, given)?;
    serde_json::from_str(raw.get()).map_err(|error| Exit::usage(format!("{flag}: not JSON: {error}")))
}

fn header_parts<'a>(flag: &str, header: &'a str) -> Result<(&'a str, &'a str), Exit> {
    let (name, value) =
        header.split_once(':').ok_or_else(|| Exit::usage(format!("{flag}: `{header}` is not NAME: VALUE")))?;
    Ok((name.trim(), value.trim()))
}

/// `5s,5m` is durations, and `5,300` seconds; a word is a preset, and the daemon knows which there are.
fn seconds(flag: &str, given: &str) -> Result<Value, Exit> {
    if given.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(given.into());
    }
    let seconds: Result<Vec<u64>, _> = given.split(',').map(|part| duration::seconds(part.trim())).collect();
    let wrong = || Exit::usage(format!("{flag}: `{given}` is neither durations such as 5s,5m,2h nor a preset"));
    seconds.map(Value::from).map_err(|_| wrong())
}

fn word_or_boolean(given: &str) -> Value {
    match given {
        "true" => true.into(),
        "false" => false.into(),
        other => other.into(),
    }
}

/// Whole rates as whole numbers.
pub fn number(rate: f64) -> Value {
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
            "--retry-schedule=5, 5m",
            "--rate-limit=2.5",
            "--ordered=key",
            "--timeout-ms=1000",
            "--disable-after=5d",
            "--filter={\"all\":[]}",
            "--app=acme",
        ];
        let expected = json!({
            "name": "n", "event_types": ["a.*", "b", "c"], "channels": ["eu"], "include_html": true,
            "encrypted": false, "headers": {"X-A": "1", "X-B": "2:3", "X-C": "opens"},
            "secret_headers": ["X-C"],
            "auth": {"type": "basic", "username": "u", "password": "p:q"},
            "signature": ["standard", "ed25519"], "retry_schedule_s": [5, 300], "rate_limit_per_s": 2.5,
            "ordered": "key", "timeout_ms": 1000, "disable_after_s": 432_000, "filter": {"all": []}, "app_id": "acme",
        });
        assert_eq!(object(&args).expect("an object"), expected);
        let one = |args: &[&str]| object(args).expect("an object");
        let renamed = json!({"timeout_ms": 30_000, "event_types": ["a"], "disable_after_s": 60});
        assert_eq!(one(&["--timeout=30s", "--type=a", "--disable-after-s=60"]), renamed);
        assert_eq!(one(&["--signature=none"]), json!({"signature": "none"}));
        assert_eq!(one(&["--retry-schedule=dfns"]), json!({"retry_schedule_s": "dfns"}));
        assert_eq!(one(&["--ordered=true", "--rate-limit=5"]), json!({"ordered": true, "rate_limit_per_s": 5}));
        let header = json!({"auth": {"type": "header", "name": "X-Key", "value": "v"}});
        assert_eq!(one(&["--auth-header=X-Key: v"]), header);
    }

    #[test]
    fn every_flag_of_the_table_sets_its_field() {
        let directory = tempfile::tempdir().expect("a directory");
        let pem = directory.path().join("some.pem");
        std::fs::write(&pem, "PEM").expect("written");
        let value = |value: FlagValue| match value {
            FlagValue::Boolean => "=true".to_owned(),
            FlagValue::Whole | FlagValue::Number | FlagValue::WordOrSeconds => "=7".to_owned(),
            FlagValue::Milliseconds | FlagValue::Seconds => "=7s".to_owned(),
            FlagValue::Choice(words) | FlagValue::NoneOrTexts(words) | FlagValue::WordOrBoolean(words) => {
                format!("={}", words[0])
            }
            FlagValue::Json => "={}".to_owned(),
            FlagValue::BasicAuth | FlagValue::HeaderAuth | FlagValue::Header | FlagValue::SecretHeader => {
                "=X-A: b".to_owned()
            }
            FlagValue::PemFile(_) => format!("={}", pem.display()),
            _ => "=word".to_owned(),
        };
        for (field, form) in writable() {
            for flag in form.flags {
                let mut args = vec![format!("--{}{}", flag.long, value(flag.value))];
                // A certificate and its key must be given together.
                if matches!(flag.value, FlagValue::PemFile(member) if member != "ca_pem") {
                    args = ["tls-cert", "tls-key"].map(|long| format!("--{long}={}", pem.display())).into();
                }
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let made = object(&args).expect("an object");
                assert!(!made[field.name].is_null(), "--{} makes {made}", flag.long);
            }
        }
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
    fn a_value_that_is_no_json_is_a_usage_error() {
        for wrong in ["--auth-basic=user", "--header=novalue", "--retry-schedule=5;6", "--filter={", "--json=/nowhere"]
        {
            assert_eq!(object(&[wrong]).map_err(|exit| exit.code()), Err(2), "{wrong}");
        }
    }
}
