//! Organizations, apps, keys and webhooks in the oracle, and the audit of every change.

use std::sync::Arc;

use postrider::model::id::{AppId, KeyId, OrganizationId, PortalLinkId, WebhookId};
use postrider::model::portal::RevokedPortalLink;
use postrider::model::webhook::{DeliveryOrder, DisabledReason, SigningSecret, Webhook, WebhookStatus};
use postrider::model::{ApiKey, App, Organization, Time};
use postrider::rules::{circuit, patterns};
use postrider::store::{Command, NewKey, Receipt, StateCommand, TenantScope};

use super::Check;
use super::drawn_values::Found;
use super::oracle::{Asked, AuditLine, Oracle};

/// Secrets that sign at the same time.
const LIVE_SECRETS_MAX: usize = 11;

type Answered = Check<Result<Receipt, String>>;

impl Oracle {
    pub fn on_state(&mut self, asked: &Asked<'_>, found: &mut Found) -> Answered {
        match &asked.request.command {
            Command::State(StateCommand::CreateOrganization { name, key }) => {
                self.create_organization(name, key, asked, found)
            }
            Command::State(StateCommand::CreateApp { app }) => {
                self.create_app(&app.name, app.uid.as_ref(), asked, found)
            }
            Command::State(StateCommand::UpdateApp { id, change }) => {
                self.update_app(*id, change.name.as_ref(), change.uid.as_ref(), asked)
            }
            Command::State(StateCommand::RemoveApp { id }) => self.remove_app(*id, asked),
            Command::State(StateCommand::CreateKey { key }) => self.create_key(key, asked, found),
            Command::State(StateCommand::RevokeKey { id }) => self.revoke_key(*id, asked),
            Command::State(StateCommand::CreateWebhook { webhook, .. }) => self.create_webhook(webhook, asked, found),
            Command::State(StateCommand::UpdateWebhook { webhook }) => self.update_webhook(webhook, asked),
            Command::State(StateCommand::RemoveWebhook { id }) => self.remove_webhook(*id, asked),
            Command::State(StateCommand::SetStatus { id, status }) => self.set_status(*id, *status, asked),
            Command::State(StateCommand::AutoDisable { id, reason, seen_at }) => {
                self.give_up(*id, *reason, *seen_at, asked)
            }
            Command::State(StateCommand::RotateSecret { id, secret, overlap_s }) => {
                self.rotate(*id, &secret.text, *overlap_s, asked)
            }
            Command::State(StateCommand::ReadSecret { id }) => self.read_secret(*id, asked),
            Command::State(StateCommand::CreateJob { spec }) => self.create_job(spec, asked, found),
            Command::State(StateCommand::CancelJob { id }) => self.cancel_job(*id, asked),
            Command::State(StateCommand::SaveJob(job)) => self.save_job(job),
            Command::State(StateCommand::RevokePortalLink { id, until, .. }) => self.revoke_link(*id, *until, asked),
            Command::State(StateCommand::NoteShownAgain { receipt }) => {
                self.note_shown_again(asked, receipt);
                Ok(Ok(Receipt::Done))
            }
            Command::State(StateCommand::StoreAnswer { body }) => Ok(Ok(Receipt::Kept(body.to_vec()))),
            other => Err(format!("{other:?} does not belong to the state file")),
        }
    }

    pub fn note(&mut self, asked: &Asked<'_>, org: OrganizationId, action: &'static str, target: String) {
        let request_id = asked.request.caller.as_ref().map(|by| by.request_id.clone());
        self.audit.push(AuditLine { org, action, target, request_id });
    }

    /// Records that a stored answer with a secret was repeated.
    pub fn note_shown_again(&mut self, asked: &Asked<'_>, receipt: &Receipt) {
        match receipt {
            Receipt::Webhook(webhook) => {
                self.note(asked, webhook.org_id, "webhook.read_secret", webhook.id.to_string())
            }
            Receipt::Key(key) => self.note(asked, key.org_id, "key.read", key.id.to_string()),
            Receipt::Organization { organization, key, .. } => {
                let reader = asked.request.caller.as_ref().map_or(organization.id, |by| by.tenant.org);
                self.note(asked, reader, "key.read", key.id.to_string());
            }
            _ => {}
        }
    }

    fn create_organization(&mut self, name: &str, new: &NewKey, asked: &Asked<'_>, found: &mut Found) -> Answered {
        let shown = found.registry.organizations().find(|o| o.name == name && !self.organizations.contains_key(&o.id));
        let shown = shown.ok_or_else(|| format!("no organization {name:?} is there"))?;
        let (id, app_id) = (shown.id, shown.default_app_id);
        let now = asked.now;
        let organization = Organization {
            id,
            name: name.to_owned(),
            default_app_id: app_id,
            created_at: now,
            revoked_links: Vec::new(),
            operational_app_id: None,
        };
        let app = App {
            id: app_id,
            org_id: id,
            name: "default".into(),
            uid: None,
            created_at: now,
            updated_at: now,
            metadata: Default::default(),
            throttle_rate_per_s: None,
            alias: None,
            portal_ended_at: None,
        };
        let key = self.put_key(id, new, now, found)?;
        self.organizations.insert(id, organization.clone());
        self.apps.insert(app_id, app.clone());
        if let Some(by) = &asked.request.caller {
            self.note(asked, by.tenant.org, "organization.create", id.to_string());
        }
        self.audit.push(AuditLine { org: id, action: "organization.create", target: id.to_string(), request_id: None });
        let (organization, app, key) = (Box::new(organization), Box::new(app), Box::new(key));
        Ok(Ok(Receipt::Organization { organization, app, key }))
    }

    fn revoke_link(&mut self, id: PortalLinkId, until: Time, asked: &Asked<'_>) -> Answered {
        let org = asked.request.caller.as_ref().map(|by| by.tenant.org);
        let Some(organization) = org.and_then(|org| self.organizations.get_mut(&org)) else {
            return Ok(Err("not_found organization".into()));
        };
        organization.revoked_links.retain(|link| link.until > asked.now && link.id != id);
        organization.revoked_links.push(RevokedPortalLink { id, until });
        let org = organization.id;
        self.note(asked, org, "portal_link.revoke", id.to_string());
        Ok(Ok(Receipt::Done))
    }

    fn put_key(&mut self, org_id: OrganizationId, new: &NewKey, now: Time, found: &mut Found) -> Check<ApiKey> {
        let shown = found.registry.key_by_hash(&new.hash).ok_or_else(|| format!("no key {:?} is there", new.name))?;
        let key = ApiKey {
            id: shown.id,
            org_id,
            app_id: new.app,
            name: new.name.clone(),
            scopes: new.scopes.clone(),
            hash: new.hash,
            created_at: now,
            expires_at: new.expires_at,
            rate_per_s: new.rate_per_s,
            installation: new.installation,
            makers: new.makers.clone(),
            feature_flags: new.feature_flags.clone(),
            portal: new.portal,
        };
        self.keys.insert(key.id, key.clone());
        Ok(key)
    }

    fn is_taken(&self, org: OrganizationId, uid: Option<&String>, own: Option<AppId>) -> bool {
        uid.is_some() && self.apps.values().any(|a| a.org_id == org && a.uid.as_ref() == uid && Some(a.id) != own)
    }

    fn create_app(&mut self, name: &str, uid: Option<&String>, asked: &Asked<'_>, found: &mut Found) -> Answered {
        let Some(by) = &asked.request.caller else { return Ok(Err("not_found organization".into())) };
        if self.is_taken(by.tenant.org, uid, None) {
            return Ok(Err("conflict uid_taken".into()));
        }
        let shown = found.registry.apps().find(|app| app.name == name && !self.apps.contains_key(&app.id));
        let shown = shown.ok_or_else(|| format!("no app {name:?} is there"))?;
        let app = App {
            id: shown.id,
            org_id: by.tenant.org,
            name: name.to_owned(),
            uid: uid.cloned(),
            created_at: asked.now,
            updated_at: asked.now,
            metadata: Default::default(),
            throttle_rate_per_s: None,
            alias: None,
            portal_ended_at: None,
        };
        self.apps.insert(app.id, app.clone());
        self.note(asked, app.org_id, "app.create", app.id.to_string());
        Ok(Ok(Receipt::App(app)))
    }

    fn app_within(&self, tenant: Option<TenantScope>, id: AppId) -> Option<App> {
        self.apps.get(&id).filter(|_| tenant.is_none_or(|tenant| self.covers(tenant, id))).cloned()
    }

    fn update_app(
        &mut self,
        id: AppId,
        name: Option<&String>,
        uid: Option<&Option<String>>,
        asked: &Asked<'_>,
    ) -> Answered {
        let tenant = asked.request.caller.as_ref().map(|by| by.tenant);
        let Some(mut app) = self.app_within(tenant, id) else { return Ok(Err("not_found app".into())) };
        if let Some(uid) = uid {
            if self.is_taken(app.org_id, uid.as_ref(), Some(id)) {
                return Ok(Err("conflict uid_taken".into()));
            }
            app.uid.clone_from(uid);
        }
        app.name = name.cloned().unwrap_or(app.name);
        app.updated_at = asked.now;
        self.apps.insert(id, app.clone());
        self.note(asked, app.org_id, "app.update", id.to_string());
        Ok(Ok(Receipt::App(app)))
    }

    fn remove_app(&mut self, id: AppId, asked: &Asked<'_>) -> Answered {
        let tenant = asked.request.caller.as_ref().map(|by| by.tenant);
        let Some(app) = self.app_within(tenant, id) else { return Ok(Err("not_found app".into())) };
        if self.organizations.values().any(|o| o.default_app_id == id) {
            return Ok(Err("conflict default_app".into()));
        }
        let webhooks: Vec<WebhookId> = self.webhooks.values().filter(|w| w.app_id == id).map(|w| w.id).collect();
        webhooks.into_iter().for_each(|webhook| self.drop_webhook(webhook, asked.now));
        self.keys.retain(|_, key| key.app_id != Some(id));
        self.apps.remove(&id);
        self.note(asked, app.org_id, "app.delete", id.to_string());
        Ok(Ok(Receipt::Done))
    }

    fn create_key(&mut self, new: &NewKey, asked: &Asked<'_>, found: &mut Found) -> Answered {
        let Some(by) = &asked.request.caller else { return Ok(Err("not_found organization".into())) };
        if self.keys.values().any(|key| key.hash == new.hash) {
            return Ok(Err("conflict key_taken".into()));
        }
        if new.app.is_some_and(|app| !self.covers(by.tenant, app)) {
            return Ok(Err("invalid /app_id".into()));
        }
        let key = self.put_key(by.tenant.org, new, asked.now, found)?;
        self.note(asked, key.org_id, "key.create", key.id.to_string());
        Ok(Ok(Receipt::Key(key)))
    }

    fn revoke_key(&mut self, id: KeyId, asked: &Asked<'_>) -> Answered {
        let visible =
            |key: &&ApiKey| {
                asked.request.caller.as_ref().is_none_or(|by| {
                    key.org_id == by.tenant.org && by.tenant.app.is_none_or(|app| key.app_id == Some(app))
                })
            };
        let Some(key) = self.keys.get(&id).filter(visible).cloned() else { return Ok(Err("not_found key".into())) };
        self.keys.remove(&id);
        self.note(asked, key.org_id, "key.delete", id.to_string());
        Ok(Ok(Receipt::Done))
    }

    pub fn webhook_within(&self, tenant: Option<TenantScope>, id: WebhookId) -> Option<&Webhook> {
        self.webhooks.get(&id).filter(|w| tenant.is_none_or(|tenant| tenant.covers(w.org_id, w.app_id)))
    }

    fn create_webhook(&mut self, draft: &Webhook, asked: &Asked<'_>, found: &mut Found) -> Answered {
        let Some(by) = &asked.request.caller else { return Ok(Err("not_found organization".into())) };
        let named = (draft.app_id != AppId::MIN).then_some(draft.app_id);
        let Some(app_id) = named.or_else(|| self.app_of(by.tenant)) else {
            return Ok(Err("not_found organization".into()));
        };
        if !self.covers(by.tenant, app_id) {
            return Ok(Err("invalid /app_id".into()));
        }
        let shown = found.registry.webhooks().find(|w| w.name == draft.name && !self.webhooks.contains_key(&w.id));
        let shown = shown.ok_or_else(|| format!("no webhook {:?} is there", draft.name))?;
        let now = asked.now;
        let secrets = draft.secrets.iter().map(|secret| SigningSecret { created_at: now, ..secret.clone() }).collect();
        let webhook = Webhook {
            id: shown.id,
            org_id: by.tenant.org,
            app_id,
            created_at: now,
            updated_at: now,
            status_since: Some(now),
            disabled_reason: match draft.status {
                WebhookStatus::Disabled => draft.disabled_reason.or(Some(DisabledReason::Manual)),
                _ => None,
            },
            version: 1,
            secret_headers: Vec::new(),
            secrets,
            ..draft.clone()
        };
        self.note(asked, webhook.org_id, "webhook.create", webhook.id.to_string());
        let receipt = self.put_webhook(webhook.clone());
        self.tell_change(&webhook, "webhook.created");
        Ok(Ok(receipt))
    }

    /// A change of a webhook is published if another one of its app wants that.
    fn tell_change(&mut self, webhook: &Webhook, kind: &str) {
        let event_type = format!("postrider.{kind}");
        let mut others = self.webhooks.values().filter(|one| one.app_id == webhook.app_id && one.id != webhook.id);
        if others.any(|one| {
            one.status != WebhookStatus::Disabled
                && one.channels.is_empty()
                && patterns::wants(&one.event_types, &event_type)
        }) {
            self.follow.push(format!("publish {kind}:{}:{}", webhook.id, webhook.version));
        }
    }

    fn put_webhook(&mut self, webhook: Webhook) -> Receipt {
        self.webhooks.insert(webhook.id, webhook.clone());
        Receipt::Webhook(Arc::new(webhook))
    }

    fn update_webhook(&mut self, new: &Webhook, asked: &Asked<'_>) -> Answered {
        let tenant = asked.request.caller.as_ref().map(|by| by.tenant);
        let Some(old) = self.webhook_within(tenant, new.id).cloned() else {
            return Ok(Err("not_found webhook".into()));
        };
        if old.version != new.version {
            return Ok(Err("stale".into()));
        }
        let manual = Some(DisabledReason::Manual);
        let disabled_reason = match (old.status, new.status) {
            (_, WebhookStatus::Enabled | WebhookStatus::Paused) => None,
            (WebhookStatus::Disabled, WebhookStatus::Disabled) => old.disabled_reason.or(manual),
            (_, WebhookStatus::Disabled) => manual,
        };
        let status_since = if old.status == new.status { old.status_since } else { Some(asked.now) };
        let (version, updated_at) = (old.version + 1, asked.now);
        let webhook = Webhook { version, updated_at, disabled_reason, status_since, ..new.clone() };
        let restarted = old.status == WebhookStatus::Disabled && new.status != WebhookStatus::Disabled;
        if restarted || old.url != new.url {
            let state = self.states.get(&new.id).copied().unwrap_or_default();
            self.states.insert(new.id, circuit::reset(state));
        }
        if old.status != WebhookStatus::Disabled && new.status == WebhookStatus::Disabled {
            self.follow.push(format!("publish webhook.disabled:{}:by-hand-{}", webhook.id, webhook.version));
        }
        if old.ordered != DeliveryOrder::No && webhook.ordered == DeliveryOrder::No {
            self.follow.extend(self.dissolutions(webhook.id));
        }
        self.note(asked, webhook.org_id, "webhook.update", webhook.id.to_string());
        self.tell_change(&webhook, "webhook.updated");
        Ok(Ok(self.put_webhook(webhook)))
    }

    fn remove_webhook(&mut self, id: WebhookId, asked: &Asked<'_>) -> Answered {
        let tenant = asked.request.caller.as_ref().map(|by| by.tenant);
        let Some(webhook) = self.webhook_within(tenant, id).cloned() else {
            return Ok(Err("not_found webhook".into()));
        };
        self.drop_webhook(id, asked.now);
        self.tell_change(&webhook, "webhook.deleted");
        self.note(asked, webhook.org_id, "webhook.delete", id.to_string());
        Ok(Ok(Receipt::Done))
    }

    fn drop_webhook(&mut self, id: WebhookId, now: Time) {
        self.webhooks.remove(&id);
        self.removed.insert(id, now);
    }

    /// Replaces a webhook by the result of `change`.
    fn change(&mut self, old: &Webhook, now: Time, change: impl FnOnce(&mut Webhook)) -> Receipt {
        let mut webhook = Webhook { version: old.version + 1, updated_at: now, ..old.clone() };
        change(&mut webhook);
        self.put_webhook(webhook)
    }

    fn told_update(&mut self, receipt: Receipt) -> Receipt {
        if let Receipt::Webhook(webhook) = &receipt {
            self.tell_change(webhook, "webhook.updated");
        }
        receipt
    }

    fn set_status(&mut self, id: WebhookId, status: WebhookStatus, asked: &Asked<'_>) -> Answered {
        let tenant = asked.request.caller.as_ref().map(|by| by.tenant);
        let Some(old) = self.webhook_within(tenant, id).cloned() else { return Ok(Err("not_found webhook".into())) };
        if old.status == WebhookStatus::Disabled {
            return Ok(Err("conflict webhook_disabled".into()));
        }
        let state = self.states.get(&id).copied().unwrap_or_default();
        let is_released = status == WebhookStatus::Enabled && circuit::held_until(state, asked.now).is_some();
        if is_released {
            self.states.insert(id, circuit::released(state));
        }
        if old.status == status && !is_released {
            return Ok(Ok(Receipt::Webhook(Arc::new(old))));
        }
        let action = if status == WebhookStatus::Paused { "webhook.pause" } else { "webhook.resume" };
        self.note(asked, old.org_id, action, id.to_string());
        if old.status == status {
            return Ok(Ok(Receipt::Webhook(Arc::new(old))));
        }
        let receipt = self.change(&old, asked.now, |webhook| {
            webhook.status = status;
            webhook.status_since = Some(asked.now);
        });
        Ok(Ok(self.told_update(receipt)))
    }

    fn give_up(&mut self, id: WebhookId, reason: DisabledReason, seen_at: Time, asked: &Asked<'_>) -> Answered {
        let Some(old) = self.webhooks.get(&id).cloned() else { return Ok(Err("not_found webhook".into())) };
        if old.status != WebhookStatus::Disabled && old.updated_at <= seen_at {
            self.change(&old, asked.now, |webhook| {
                webhook.status = WebhookStatus::Disabled;
                webhook.status_since = Some(asked.now);
                webhook.disabled_reason = Some(reason);
            });
            self.note(asked, old.org_id, "webhook.disable", id.to_string());
        }
        Ok(Ok(Receipt::Done))
    }

    fn rotate(&mut self, id: WebhookId, secret: &str, overlap_s: u32, asked: &Asked<'_>) -> Answered {
        let tenant = asked.request.caller.as_ref().map(|by| by.tenant);
        let Some(old) = self.webhook_within(tenant, id).cloned() else { return Ok(Err("not_found webhook".into())) };
        let now = asked.now;
        let end = now.plus_ms(i64::from(overlap_s) * 1_000);
        let mut secrets = vec![SigningSecret { text: secret.to_owned(), created_at: now, expires_at: None }];
        for past in old.secrets.iter().filter(|past| past.expires_at.is_none_or(|own| now < own) && past.text != secret)
        {
            let own = past.expires_at.unwrap_or(end).min(end);
            if own > now {
                secrets.push(SigningSecret { expires_at: Some(own), ..past.clone() });
            }
        }
        if secrets.len() > LIVE_SECRETS_MAX {
            return Ok(Err("conflict too_many_secrets".into()));
        }
        self.note(asked, old.org_id, "webhook.rotate_secret", id.to_string());
        let receipt = self.change(&old, now, |webhook| webhook.secrets = secrets);
        Ok(Ok(self.told_update(receipt)))
    }

    fn read_secret(&mut self, id: WebhookId, asked: &Asked<'_>) -> Answered {
        let tenant = asked.request.caller.as_ref().map(|by| by.tenant);
        let Some(webhook) = self.webhook_within(tenant, id).cloned() else {
            return Ok(Err("not_found webhook".into()));
        };
        self.note(asked, webhook.org_id, "webhook.read_secret", id.to_string());
        Ok(Ok(Receipt::Webhook(Arc::new(webhook))))
    }
}
