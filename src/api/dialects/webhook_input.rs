//! Members of a webhook's body that several dialects read alike.

use serde_json::value::RawValue;

use crate::api::fields::{self, FieldResult};
use crate::api::limits::EVENT_TYPES_MAX;
use crate::model::Webhook;

use super::writes::NativeForm;

/// Event types, at least one. `["*"]`, all of them, is an empty list natively. The list of the webhook stays if it is sent
/// back as it is shown.
pub fn event_types<'a>(raw: &'a RawValue, was: Option<&Webhook>) -> FieldResult<Vec<&'a RawValue>> {
    let types = fields::elements(raw, EVENT_TYPES_MAX)?;
    if types.is_empty() {
        return Err("must have at least one item".to_owned());
    }
    let names = types.iter().map(|name| fields::text(name).ok());
    if was.is_some_and(|was| names.eq(was.event_types.iter().cloned().map(Some))) {
        return Ok(types);
    }
    let is_all = types.iter().any(|name| name.get() == "\"*\"");
    Ok(if is_all { Vec::new() } else { types })
}

/// Sets the URL. A webhook that is named after the host of its URL is named after the new host.
pub fn set_url(form: &mut NativeForm, url: Option<&RawValue>, was: Option<&Webhook>) {
    let host = |url: &str| url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    if url.is_some() && was.is_some_and(|was| host(&was.url).is_some_and(|host| host == was.name)) {
        form.set("name", ());
    }
    form.set_raw("url", url);
}
