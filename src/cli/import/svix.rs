//! The import from Svix: event types, then each application with its endpoints.
//!
//! Invariant: an object is made only if neither its id at the source nor its `uid` names one here. So a second run, and a
//! run after one that was cut short, make nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Map, Value, json};

use super::report::{Outcome, Report};
use super::svix_api::{SvixApi, encoded};
use crate::cli::Exit;

const APP: &str = "app";
const ENDPOINT: &str = "endpoint";
const HEADER: &str = "header";
const EVENT_TYPE: &str = "event type";
/// The beginning of a secret that both ends know.
const SECRET_PREFIX: &str = "whsec_";
/// Members of an event type.
const TYPE_MEMBERS: [&str; 8] =
    ["name", "description", "archived", "deprecated", "schemas", "featureFlag", "featureFlags", "groupName"];
/// Members of an endpoint whose differences are reported.
const COMPARED: [&str; 5] = ["url", "disabled", "description", "filterTypes", "channels"];

/// An import that runs.
struct Importing<'a> {
    from: &'a SvixApi,
    here: &'a SvixApi,
    is_dry: bool,
    report: &'a mut Report,
    /// The event types here, and whether each is archived.
    types: BTreeMap<String, bool>,
    /// Types that were made live so that endpoints can name them, and are archived at the end.
    to_archive: BTreeSet<String>,
}

/// Brings everything, or the applications in `apps` with all event types.
pub async fn import(
    from: &SvixApi,
    here: &SvixApi,
    apps: &[String],
    is_dry: bool,
    report: &mut Report,
) -> Result<(), Exit> {
    let mut types = BTreeMap::new();
    for one in here.list("/event-type", "&include_archived=true").await? {
        types.insert(text(&one, "name").to_owned(), one["archived"] == true);
    }
    let mut importing = Importing { from, here, is_dry, report, types, to_archive: BTreeSet::new() };
    importing.event_types().await?;
    let done = importing.apps(apps).await;
    importing.archive().await?;
    done
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

/// The members of an object that are there and not null.
fn members(of: &Value, names: &[&str]) -> Map<String, Value> {
    let given = names.iter().filter(|name| of.get(**name).is_some_and(|value| !value.is_null()));
    given.map(|name| ((*name).to_owned(), of[*name].clone())).collect()
}

impl Importing<'_> {
    async fn event_types(&mut self) -> Result<(), Exit> {
        for one in self.from.list("/event-type", "&include_archived=true&with_content=true").await? {
            let name = text(&one, "name");
            if self.types.contains_key(name) {
                self.report.add(Outcome::Kept, EVENT_TYPE, name, "", "")?;
                continue;
            }
            let mut body = members(&one, &TYPE_MEMBERS);
            body.entry("description").or_insert_with(|| json!(""));
            self.make_type(name, body, "").await?;
        }
        Ok(())
    }

    async fn make_type(&mut self, name: &str, body: Map<String, Value>, why: &str) -> Result<(), Exit> {
        let is_archived = body.get("archived") == Some(&Value::Bool(true));
        match self.make("/event-type", body).await? {
            Ok(_) => {
                self.types.insert(name.to_owned(), is_archived);
                self.report.add(Outcome::Made, EVENT_TYPE, name, "", why)
            }
            Err(refusal) => self.report.add(Outcome::Failed, EVENT_TYPE, name, "", &refusal),
        }
    }

    async fn apps(&mut self, named: &[String]) -> Result<(), Exit> {
        let apps = match named.is_empty() {
            true => self.from.list("/app", "").await?,
            false => {
                let mut apps = Vec::new();
                for name in named {
                    let app = self.from.find(&format!("/app/{}", encoded(name))).await?;
                    apps.push(app.ok_or_else(|| Exit::failed(format!("Svix has no application {name}")))?);
                }
                apps
            }
        };
        for app in &apps {
            self.app(app).await?;
        }
        Ok(())
    }

    async fn app(&mut self, app: &Value) -> Result<(), Exit> {
        let (id, name) = (text(app, "id"), text(app, "name"));
        let at = format!("/app/{}", encoded(id));
        let by_uid = format!("/app/{}", encoded(text(app, "uid")));
        let mut here = Some(at.clone());
        if self.here.find(&at).await?.is_some() {
            self.report.add(Outcome::Kept, APP, id, name, "")?;
        } else if !text(app, "uid").is_empty() && self.here.find(&by_uid).await?.is_some() {
            if let Err(refusal) = self.name_also(&by_uid, id).await? {
                return self.report.add(Outcome::Failed, APP, id, name, &refusal);
            }
            self.report.add(Outcome::Kept, APP, id, name, "an app here has its uid")?;
            here = Some(by_uid);
        } else {
            let mut body = members(app, &["name", "uid", "metadata", "rateLimit", "throttleRate"]);
            body.insert("alias".to_owned(), id.into());
            if let Err(refusal) = self.make("/app", body).await? {
                return self.report.add(Outcome::Failed, APP, id, name, &refusal);
            }
            self.report.add(Outcome::Made, APP, id, name, "")?;
            here = here.filter(|_| !self.is_dry);
        }
        for endpoint in self.from.list(&format!("{at}/endpoint"), "").await? {
            self.endpoint(&at, here.as_deref(), &endpoint).await?;
        }
        Ok(())
    }

    /// Makes an object here, except in a dry run. The inner `Err` is the refusal in words.
    async fn make(&self, path: &str, body: Map<String, Value>) -> Result<Result<Value, String>, Exit> {
        if self.is_dry { Ok(Ok(Value::Null)) } else { self.here.write(Method::POST, path, Value::Object(body)).await }
    }

    /// Gives an object here its id at the source as an alias, except in a dry run.
    async fn name_also(&self, path: &str, id: &str) -> Result<Result<Value, String>, Exit> {
        let body = json!({ "alias": id });
        if self.is_dry { Ok(Ok(Value::Null)) } else { self.here.write(Method::PATCH, path, body).await }
    }

    /// Brings an endpoint. `app` is the path of its app at the source, and `app_here` the one here. It is `None` in a dry
    /// run that would make the app.
    async fn endpoint(&mut self, app: &str, app_here: Option<&str>, endpoint: &Value) -> Result<(), Exit> {
        let (id, url) = (text(endpoint, "id"), text(endpoint, "url"));
        if let Some(here) = app_here {
            if let Some(found) = self.here.find(&format!("{here}/endpoint/{}", encoded(id))).await? {
                return self.report.add(Outcome::Kept, ENDPOINT, id, url, &differences(endpoint, &found));
            }
            let uid = text(endpoint, "uid");
            let by_uid = format!("{here}/endpoint/{}", encoded(uid));
            if !uid.is_empty() && self.here.find(&by_uid).await?.is_some() {
                return match self.name_also(&by_uid, id).await? {
                    Ok(_) => self.report.add(Outcome::Kept, ENDPOINT, id, url, "an endpoint here has its uid"),
                    Err(refusal) => self.report.add(Outcome::Failed, ENDPOINT, id, url, &refusal),
                };
            }
        }
        self.new_endpoint(app, app_here.unwrap_or(app), endpoint).await
    }

    async fn new_endpoint(&mut self, app: &str, app_here: &str, endpoint: &Value) -> Result<(), Exit> {
        let (id, url) = (text(endpoint, "id"), text(endpoint, "url"));
        let at = format!("{app}/endpoint/{}", encoded(id));
        let secret = self.from.get(&format!("{at}/secret")).await?;
        let key = text(&secret, "key");
        if !key.starts_with(SECRET_PREFIX) {
            let why = "it signs with a key that Svix does not give away: make it here with a new secret";
            return self.report.add(Outcome::Skipped, ENDPOINT, id, url, why);
        }
        let headers = self.from.get(&format!("{at}/headers")).await?;
        let mut body = members(endpoint, &["url", "description", "disabled", "channels", "metadata", "uid"]);
        body.extend(members(endpoint, &["rateLimit", "throttleRate"]));
        let types = ["filterTypes", "eventTypes"].into_iter().find_map(|member| endpoint[member].as_array());
        if let Some(types) = types.filter(|types| !types.is_empty()) {
            self.make_nameable(types).await?;
            body.insert("filterTypes".to_owned(), types.clone().into());
        }
        body.extend([("secret".to_owned(), key.into()), ("alias".to_owned(), id.into())]);
        body.insert("headers".to_owned(), headers.get("headers").cloned().unwrap_or_else(|| json!({})));
        if let Err(refusal) = self.make(&format!("{app_here}/endpoint"), body).await? {
            return self.report.add(Outcome::Failed, ENDPOINT, id, url, &refusal);
        }
        self.report.add(Outcome::Made, ENDPOINT, id, url, "")?;
        for name in headers["sensitive"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let why = "Svix does not show its value: set it here";
            self.report.add(Outcome::Skipped, HEADER, id, name, why)?;
        }
        Ok(())
    }

    /// Makes event types live that an endpoint names: archived ones, and those that Svix does not have any more.
    async fn make_nameable(&mut self, types: &[Value]) -> Result<(), Exit> {
        for name in types.iter().filter_map(Value::as_str) {
            match self.types.get(name) {
                Some(false) => {}
                Some(true) => {
                    self.set_archived(name, false).await?;
                    self.to_archive.insert(name.to_owned());
                }
                None => {
                    let body =
                        [("name", name), ("description", "")].map(|(member, text)| (member.to_owned(), json!(text)));
                    self.make_type(name, Map::from_iter(body), "an endpoint names it, and Svix does not list it")
                        .await?;
                    self.to_archive.insert(name.to_owned());
                }
            }
        }
        Ok(())
    }

    async fn archive(&mut self) -> Result<(), Exit> {
        for name in std::mem::take(&mut self.to_archive) {
            self.set_archived(&name, true).await?;
        }
        Ok(())
    }

    async fn set_archived(&mut self, name: &str, is_archived: bool) -> Result<(), Exit> {
        self.types.insert(name.to_owned(), is_archived);
        if self.is_dry {
            return Ok(());
        }
        let path = format!("/event-type/{}", encoded(name));
        let changed = self.here.write(Method::PATCH, &path, json!({ "archived": is_archived })).await?;
        match changed {
            Ok(_) => Ok(()),
            Err(refusal) => self.report.add(Outcome::Failed, EVENT_TYPE, name, "", &refusal),
        }
    }
}

/// The members in which an endpoint here differs from the source, in words.
fn differences(source: &Value, here: &Value) -> String {
    let normal = |value: &Value| match value {
        Value::Array(items) => {
            let mut items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.sort_unstable();
            json!(items)
        }
        Value::String(text) => json!(text.trim_end_matches('/')),
        other => other.clone(),
    };
    let differs = |name: &&&str| source.get(**name).is_some() && normal(&source[**name]) != normal(&here[**name]);
    let names: Vec<&str> = COMPARED.iter().filter(differs).copied().collect();
    if names.is_empty() { String::new() } else { format!("differs here in {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let source =
            json!({ "url": "http://a.example", "disabled": false, "filterTypes": ["b", "a"], "channels": null });
        let mut here = json!({ "url": "http://a.example/", "disabled": false, "filterTypes": ["a", "b"] });
        assert_eq!(differences(&source, &here), "");
        here["disabled"] = json!(true);
        here["channels"] = json!(["x"]);
        assert_eq!(differences(&source, &here), "differs here in disabled, channels");
    }
}
