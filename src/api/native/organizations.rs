//! Organizations, which only the installation's own key may manage.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::auth::{key_hash, key_text};
use crate::api::context::ApiContext;
use crate::api::cursor::CursorKind;
use crate::api::doc::schema::extends;
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::{AppId, KeyId, Organization, OrganizationId, Scope, Time};
use crate::store::{NewKey, Receipt, StateCommand};

use super::apps::{AppView, read_name};
use super::keys::first_text;
use super::page;

/// The name of an organization's first key.
const FIRST_KEY_NAME: &str = "first key";

/// An organization.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Organization")]
pub struct OrganizationView<'a> {
    id: OrganizationId,
    name: &'a str,
    default_app_id: AppId,
    created_at: Time,
}

impl<'a> OrganizationView<'a> {
    fn new(organization: &'a Organization) -> Self {
        OrganizationView {
            id: organization.id,
            name: &organization.name,
            default_app_id: organization.default_app_id,
            created_at: organization.created_at,
        }
    }
}

/// A new organization, this once with its first key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedOrganization")]
pub struct NewOrganizationView<'a> {
    #[serde(flatten)]
    #[schemars(schema_with = "extends::<OrganizationView>")]
    organization: OrganizationView<'a>,
    default_app: AppView<'a>,
    key_id: KeyId,
    key: &'a str,
}

/// `POST /v1/organizations`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let name = object.required("name", &mut field_errors, read_name);
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    let text = key_text(context.draw());
    let key = NewKey {
        name: FIRST_KEY_NAME.to_owned(),
        scopes: vec![Scope::Admin],
        hash: key_hash(&text),
        ..NewKey::default()
    };
    let command = StateCommand::CreateOrganization { name: name.unwrap_or_default(), key };
    let write_request = request.write_secret(command, Some(text.clone().into()))?;
    Ok(Step::apply(write_request, move |mut applied| {
        let text = first_text(applied.extra.take(), text);
        let Receipt::Organization { organization, app, key } = &applied.receipt else {
            return Err(super::unexpected());
        };
        let view = NewOrganizationView {
            organization: OrganizationView::new(organization),
            default_app: AppView::new(app, true),
            key_id: key.id,
            key: &text,
        };
        Ok(HttpResponse::json(StatusCode::CREATED, &view))
    }))
}

/// `GET /v1/organizations`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let rows = context.registry.organizations().rev();
    let page = page::cut(CursorKind::Organizations, &request.query, rows, |organization| organization.id.as_u128())?;
    Ok(Step::Reply(page::response(CursorKind::Organizations, &page, |organization| {
        OrganizationView::new(organization)
    })))
}
