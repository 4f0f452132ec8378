//! The frame of every page: head, navigation, notices and foot.

use std::sync::Arc;

use http::StatusCode;
use maud::{DOCTYPE, Markup, html};

use crate::api::dialects::{self, WebhookPreset};
use crate::api::logins::PageSettings;
use crate::api::{ApiContext, HealthIssue, HttpResponse, RequestContext};
use crate::model::time::DAY_MS;
use crate::model::{ApiKey, Scope, Time, Webhook};
use crate::store::TimeSpan;

use super::filter::{self, DroppedFilter};
use super::form::{ONCE_FIELD, OTHER_TOKEN_NAME, TOKEN_FIELD};
use super::mood::{PageReader, WebhookMood};
use super::page_query::PageQuery;
use super::portal_access as access;
use super::resend::SENT_BEFORE;
use super::session::{SESSION_COOKIE, Session, cookies};
use super::{assets, counts, format, login, respond};

/// The end of a page's title.
const SITE: &str = "Postrider";
/// The same in a portal without a name.
const PORTAL_TITLE: &str = "Webhooks";
/// The cookie with the chosen colours.
pub const THEME_COOKIE: &str = "pr_theme";

/// An entry of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Overview,
    Deliveries,
    Webhooks,
    Events,
    Live,
    Replays,
    Apps,
    Keys,
    Audit,
    System,
    /// Of the portal.
    EventTypes,
    /// Of the portal.
    Help,
    /// A page that is in no list of the navigation.
    Aside,
}

struct NavEntry {
    section: Section,
    path: &'static str,
    name: &'static str,
    icon: &'static str,
    scope: Scope,
}

const fn entry(section: Section, path: &'static str, name: &'static str, icon: &'static str, scope: Scope) -> NavEntry {
    NavEntry { section, path, name, icon, scope }
}

const MAIN: [NavEntry; 6] = [
    entry(Section::Overview, "./", "Overview", "#i-home", Scope::WebhooksRead),
    entry(Section::Deliveries, "deliveries", "Deliveries", "#i-deliv", Scope::EventsRead),
    entry(Section::Webhooks, "webhooks", "Webhooks", "#i-hook", Scope::WebhooksRead),
    entry(Section::Events, "events", "Events", "#i-event", Scope::EventsRead),
    entry(Section::Live, "live", "Live", "#i-live", Scope::EventsRead),
    entry(Section::Replays, "replays", "Replays", "#i-replay", Scope::DeliveriesRetry),
];
const INSTALLATION: [NavEntry; 4] = [
    entry(Section::Apps, "apps", "Apps", "#i-app", Scope::AppsRead),
    entry(Section::Keys, "keys", "Keys", "#i-key", Scope::KeysRead),
    entry(Section::Audit, "audit", "Audit", "#i-audit", Scope::Admin),
    entry(Section::System, "system", "System", "#i-sys", Scope::Admin),
];

/// The navigation of the portal.
const PORTAL: [NavEntry; 4] = [
    entry(Section::Webhooks, "./", "Webhooks", "#i-hook", Scope::WebhooksRead),
    entry(Section::Deliveries, "deliveries", "Deliveries", "#i-deliv", Scope::EventsRead),
    entry(Section::EventTypes, "event-types", "Event types", "#i-event", Scope::EventsRead),
    entry(Section::Help, "help", "Help", "#i-home", Scope::WebhooksRead),
];

/// The frame of the portal, which shows a tenant nothing of the machine and of others.
pub struct PortalFrame {
    /// The operator's name. Empty for none.
    pub operator: String,
    pub has_logo: bool,
    pub app: String,
    pub expires_at: Time,
    pub return_url: Option<String>,
    /// The defaults of a webhook that is made here. `None` for the native ones.
    pub preset: Option<WebhookPreset>,
}

impl PortalFrame {
    fn of(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Option<PortalFrame> {
        request.principal.portal_link?;
        let portal = &context.settings.pages.portal;
        let link = access::link_of(request.http, &context.settings.pages, context.now).map(|(link, _)| link)?;
        Some(PortalFrame {
            operator: portal.name.clone(),
            has_logo: portal.logo.is_some(),
            app: context.registry.app_by_id(link.app_id).map(|app| app.name.clone()).unwrap_or_default(),
            expires_at: link.expires_at,
            return_url: link.return_url,
            preset: link.preset.as_deref().and_then(dialects::preset),
        })
    }

    fn title(&self) -> &str {
        if self.operator.is_empty() { PORTAL_TITLE } else { &self.operator }
    }
}

/// The parts that every page shows beside its own content, and the tokens of its forms.
pub struct Frame {
    pub section: Section,
    /// The way up to `/ui/`, or to `/ui/portal/` in the portal, as `../` for each folder.
    pub up: String,
    pub key: Arc<ApiKey>,
    pub now: Time,
    pub theme: Option<&'static str>,
    pub failing: usize,
    /// Failed deliveries of the last 24 hours, and those that wait. `None` where they are not shown or cannot be read.
    pub failed: Option<String>,
    pub waiting: Option<u64>,
    pub reasons: Vec<HealthIssue>,
    pub warnings: usize,
    /// A sentence about the form that led here.
    pub notice: Option<&'static str>,
    /// Fields of the address that mean nothing here, and were left out.
    pub unknown: Vec<String>,
    /// Filters of the address whose values cannot be read.
    pub dropped: Vec<DroppedFilter>,
    /// A value that is new in each page, for `Idempotency-Key`.
    pub once: String,
    pub session: Session,
    pub pages: PageSettings,
    /// Whether the cookie may be renewed from here: a browser would keep it for a deeper folder only.
    is_at_top: bool,
    /// `None` for the dashboard.
    pub portal: Option<PortalFrame>,
}

impl Frame {
    /// The frame of a request with a session.
    pub fn new(context: &mut ApiContext<'_>, request: &RequestContext<'_>, section: Section) -> Frame {
        let (pages, page_query) = (context.settings.pages.clone(), PageQuery::of(request.http));
        let random = context.draw::<16>();
        let session = Session::of(request.http, &pages, context.now)
            .unwrap_or_else(|| Session::begin(&request.principal.key, &pages, random, context.now));
        let portal = PortalFrame::of(context, request);
        let top = if portal.is_some() { 3 } else { 2 };
        let depth = request.http.path.bytes().filter(|byte| *byte == b'/').count().saturating_sub(top);
        let failing = match &portal {
            Some(_) => 0,
            None => {
                let webhooks = context.registry.webhooks_within(request.tenant());
                webhooks.filter(|webhook| WebhookMood::now(context, webhook).is_failing()).count()
            }
        };
        let owner = (request.tenant(), None);
        let is_counted = portal.is_none() && request.may(Scope::EventsRead);
        let day = TimeSpan { from: Some(context.now.minus_ms(DAY_MS)), to: None };
        let reasons = if portal.is_some() { Vec::new() } else { context.health_source.unready() };
        Frame {
            section,
            up: "../".repeat(depth),
            key: request.principal.key.clone(),
            now: context.now,
            theme: theme(request.http),
            failing,
            failed: is_counted.then(|| counts::failed(context, owner, day).ok().flatten()).flatten(),
            waiting: is_counted.then(|| counts::waiting(context, owner).ok()).flatten(),
            reasons,
            warnings: context.health_source.warnings().len(),
            notice: page_query.get("done").and_then(notice),
            unknown: page_query
                .unknown(filter::known(section))
                .into_iter()
                .filter(|name| *name != "done")
                .map(str::to_owned)
                .collect(),
            dropped: filter::dropped(section, &page_query),
            once: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            session,
            pages,
            is_at_top: depth == 0 && portal.is_none(),
            portal,
        }
    }

    /// A frame with fixed values, for tests of pages.
    #[cfg(test)]
    pub fn fixed(section: Section, key: ApiKey, now: Time) -> Frame {
        let pages = PageSettings::new([7; 32]);
        Frame {
            section,
            up: String::new(),
            session: Session::begin(&key, &pages, [1; 16], now),
            key: Arc::new(key),
            now,
            theme: None,
            failing: 1,
            failed: Some("41".to_owned()),
            waiting: Some(1_312),
            reasons: Vec::new(),
            warnings: 2,
            notice: None,
            unknown: Vec::new(),
            dropped: Vec::new(),
            once: "once".to_owned(),
            pages,
            is_at_top: true,
            portal: None,
        }
    }

    /// A new webhook with the defaults of the portal link. `None` for the native ones.
    pub fn preset(&self) -> Option<Webhook> {
        Some(self.portal.as_ref()?.preset?.webhook(self.key.org_id))
    }

    pub fn reader(&self) -> PageReader {
        if self.portal.is_some() { PageReader::Tenant } else { PageReader::Operator }
    }

    pub fn may(&self, scope: Scope) -> bool {
        self.key.may(scope)
    }

    /// The address of a page below `/ui/`.
    pub fn link(&self, path: &str) -> String {
        match path {
            "" | "./" if self.up.is_empty() => "./".to_owned(),
            "" | "./" => self.up.clone(),
            _ => format!("{}{path}", self.up),
        }
    }

    /// A link to a page below `/ui/`, or its words alone if the key lacks the scope of that page.
    pub fn link_if_may(&self, scope: Scope, path: &str, words: &str) -> Markup {
        html! {
            @if self.may(scope) { a href=(self.link(path)) { (words) } } @else { (words) }
        }
    }

    /// A form that posts to a path below `/ui/`, with its token.
    pub fn form(&self, class: &str, path: &str, fields: &Markup) -> Markup {
        self.form_of(class, path, None, fields)
    }

    /// The same around a list. A browser that comes back to the page ticks nothing, because it would tick by position,
    /// and other rows may stand there.
    pub fn list_form(&self, class: &str, path: &str, fields: &Markup) -> Markup {
        self.form_of(class, path, Some("off"), fields)
    }

    fn form_of(&self, class: &str, path: &str, autocomplete: Option<&str>, fields: &Markup) -> Markup {
        let action = if self.portal.is_some() { format!("portal/{path}") } else { path.to_owned() };
        html! {
            form class=(class) method="post" action=(self.link(path)) autocomplete=[autocomplete] {
                input type="hidden" name=(TOKEN_FIELD) value=(self.session.token(&self.pages, &action));
                input type="hidden" name=(ONCE_FIELD) value=(self.once);
                (fields)
            }
        }
    }

    /// A button for another action, within a form.
    pub fn other_button(&self, path: &str, class: &str, words: &str) -> Markup {
        let action = if self.portal.is_some() { format!("portal/{path}") } else { path.to_owned() };
        html! {
            button class=(class) type="submit" formaction=(self.link(path)) name=(OTHER_TOKEN_NAME)
                value=(self.session.token(&self.pages, &action)) { (words) }
        }
    }

    /// The notices of fields that mean nothing here, and of values that cannot be read.
    fn left_out(&self) -> Markup {
        html! {
            @for DroppedFilter { name, value, cure } in &self.dropped {
                p.note role="status" {
                    "Not a filter, and left out: " code { (name) "=" (format::foreign(value)) } ". To filter, " (cure) "."
                }
            }
            @if !self.unknown.is_empty() {
                p.note role="status" {
                    "Not known here, and left out: " (format::foreign(&self.unknown.join(", ")))
                }
            }
        }
    }

    /// A form that is one button.
    pub fn button(&self, path: &str, class: &str, words: &str) -> Markup {
        self.form("one", path, &html! { button class=(class) type="submit" { (words) } })
    }

    /// The whole page with its head and its lists.
    pub fn page(&self, title: &str, content: &Markup) -> Markup {
        if let Some(portal) = &self.portal {
            return self.portal_page(portal, title, content);
        }
        html! {
            (DOCTYPE)
            html lang="en" data-theme=[self.theme] {
                (head(title, &self.up, SITE, self.must_renew_above()))
                body {
                    (assets::sprite())
                    a.skip href="#main" { "Skip to the content" }
                    .frame {
                        (self.side())
                        main.page #main {
                            @for reason in &self.reasons {
                                .note.bad role="status" {
                                    (icon("bad"))
                                    div { p { b { "Not ready. " } (format::with_code(&reason.detail)) } }
                                }
                            }
                            @if let Some(notice) = self.notice {
                                .note role="status" { (icon("ok")) div { p { (notice) } } }
                            }
                            (self.left_out())
                            (content)
                        }
                    }
                }
            }
        }
    }

    /// A page of the portal.
    fn portal_page(&self, portal: &PortalFrame, title: &str, content: &Markup) -> Markup {
        let other = if self.theme == Some("dark") { "light" } else { "dark" };
        html! {
            (DOCTYPE)
            html lang="en" data-theme=[self.theme] {
                (head(title, &format!("{}../", self.up), portal.title(), false))
                body {
                    (assets::sprite())
                    a.skip href="#main" { "Skip to the content" }
                    .portal {
                        header {
                            a.brand href=(self.link("")) {
                                @if portal.has_logo { img src=(self.link("logo")) alt=""; }
                                (format::foreign(portal.title()))
                            }
                            nav.seg aria-label="Main" {
                                @for entry in PORTAL.iter().filter(|entry| self.may(entry.scope)) {
                                    a href=(self.link(entry.path))
                                        aria-current=[(entry.section == self.section).then_some("page")] {
                                        (entry.name)
                                    }
                                }
                            }
                            span.muted { (format::foreign(&portal.app)) }
                            @if let Some(url) = &portal.return_url {
                                a href=(url) rel="noreferrer" { "Back" }
                            }
                        }
                        main #main {
                            @if let Some(notice) = self.notice {
                                .note role="status" { (icon("ok")) div { p { (notice) } } }
                            }
                            (self.left_out())
                            (content)
                        }
                        footer.foot {
                            .row {
                                span { "This access ends at " (format::moment(portal.expires_at, self.now)) "." }
                                (self.button("leave", "plain", "Leave"))
                            }
                            .row {
                                span data-zone="" { "Times are UTC" }
                                a href=(self.link("shortcuts")) data-shortcuts="" { "Keys" }
                                (self.form("one", "theme", &html! {
                                    input type="hidden" name="theme" value=(other);
                                    button.plain type="submit" { (other) }
                                }))
                            }
                        }
                    }
                }
            }
        }
    }

    /// The page as a response, with a renewed cookie if its time has come.
    pub fn reply(&self, status: StatusCode, title: &str, content: &Markup) -> HttpResponse {
        self.renewing(respond::html(status, self.page(title, content)))
    }

    /// A response with a renewed cookie if its time has come. Only a page directly below `/ui/` can renew it, because the
    /// cookie has no path.
    pub fn renewing(&self, response: HttpResponse) -> HttpResponse {
        match self.session.renewed(&self.pages, self.now).filter(|_| self.is_at_top) {
            Some(session) => respond::with_cookie(
                response,
                &login::cookie(SESSION_COOKIE, &session.text(&self.pages), self.is_secure()),
            ),
            None => response,
        }
    }

    /// Whether the session is to be renewed, which the page cannot do itself. It then loads an empty file from `/ui/`,
    /// whose answer renews it.
    fn must_renew_above(&self) -> bool {
        !self.is_at_top && self.portal.is_none() && self.session.renewed(&self.pages, self.now).is_some()
    }

    fn is_secure(&self) -> bool {
        self.pages.is_secure
    }

    fn side(&self) -> Markup {
        html! {
            header.side {
                a.brand href=(self.link("")) { (icon("horn")) "Postrider" }
                form.find action=(self.link("find")) role="search" {
                    input type="search" name="q" aria-label="Find an id, event_id, subject or type"
                        placeholder="Find an id or event_id";
                    button type="submit" aria-label="Find" { "/" }
                }
                nav.nav aria-label="Main" {
                    ul { @for entry in &MAIN { (self.entry(entry)) } }
                    @if self.may(Scope::EventsRead) {
                        h2 { "Views" }
                        ul.views {
                            li {
                                a href=(self.link("deliveries?status=failed&last=24h")) {
                                    "Failed, last 24 hours"
                                    @if let Some(failed) = &self.failed { " " span.n { (failed) } }
                                }
                            }
                            li {
                                a href=(self.link("deliveries?status=waiting")) {
                                    "Waiting now"
                                    @if let Some(waiting) = self.waiting { " " span.n { (format::count(waiting)) } }
                                }
                            }
                        }
                    }
                    @if INSTALLATION.iter().any(|entry| self.may(entry.scope)) {
                        h2 { "Installation" }
                        ul { @for entry in &INSTALLATION { (self.entry(entry)) } }
                    }
                }
                (self.foot())
            }
        }
    }

    fn entry(&self, entry: &NavEntry) -> Markup {
        let current = (entry.section == self.section).then_some("page");
        html! {
            @if self.may(entry.scope) {
                li {
                    a href=(self.link(entry.path)) aria-current=[current] {
                        svg aria-hidden="true" { use href=(entry.icon) {} }
                        (entry.name)
                    }
                    @if entry.section == Section::Webhooks && self.failing > 0 {
                        " " a.n.bad href=(self.link("webhooks?state=failing")) { (format::count(self.failing as u64)) " failing" }
                    }
                }
            }
        }
    }

    fn foot(&self) -> Markup {
        let other = if self.theme == Some("dark") { "light" } else { "dark" };
        html! {
            .foot {
                .row {
                    @if self.reasons.is_empty() {
                        (state("ok", "ok", "Ready"))
                    } @else {
                        (state("bad", "bad", "Not ready"))
                    }
                    @if self.warnings > 0 && self.may(Scope::Admin) {
                        a href=(self.link("system")) {
                            (format::counted(self.warnings as u64, "warning", "warnings"))
                        }
                    }
                }
                .row {
                    span { (format::foreign(&self.key.name)) }
                    (self.button("logout", "plain", "Log out"))
                }
                .row {
                    span data-zone="" { "Times are UTC" }
                    a href=(self.link("shortcuts")) data-shortcuts="" { "Keys" }
                    (self.form("one", "theme", &html! {
                        input type="hidden" name="theme" value=(other);
                        button.plain type="submit" { (other) }
                    }))
                }
            }
        }
    }
}

/// The chosen colours of a browser. `None` if it follows the system.
fn theme(http_request: &crate::api::HttpRequest) -> Option<&'static str> {
    match cookies(http_request, THEME_COOKIE).next() {
        Some("light") => Some("light"),
        Some("dark") => Some("dark"),
        _ => None,
    }
}

/// The sentence of `?done=…`. Only these words exist, so that an address cannot put others on a page.
fn notice(word: &str) -> Option<&'static str> {
    Some(match word {
        SENT_BEFORE => "This form had been sent before, so nothing was done now. The page shows the present state.",
        "paused" => "Paused. What is published waits until the webhook is resumed.",
        "resumed" => "Resumed. What waits is sent now.",
        "enabled" => "Enabled again.",
        "none-chosen" => "Nothing was chosen.",
        "retried" => "It is due now.",
        "retried-many" => "The chosen deliveries are due now.",
        "retried-some" => "Not all of them are due now: some are not kept, or have no webhook that is enabled.",
        "retried-none" => "None of them is sent: they are not kept, or have no webhook that is enabled.",
        "cancelled" => "Cancelled.",
        "cancelled-many" => "The chosen deliveries are cancelled.",
        "none-open" => "None of the chosen deliveries waits.",
        "created" => "Made.",
        "saved" => "Saved.",
        "deleted" => "Deleted.",
        "revoked" => "Revoked. Its sessions have ended too.",
        "published" => "Published. It is on the disk.",
        "erased" => "Erased. The records stay.",
        "stopped" => "Stopped. The deliveries that it has made are still sent.",
        "logged-out" => "You are logged out.",
        _ => return None,
    })
}

/// The head of a page. `up` leads to `/ui/`.
fn head(title: &str, up: &str, site: &str, must_renew: bool) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            title { (format::foreign(title)) " · " (format::foreign(site)) }
            link rel="icon" href={ (up) (assets::HORN.name()) } type="image/svg+xml";
            link rel="stylesheet" href={ (up) (assets::CSS.name()) };
            @if must_renew { link rel="stylesheet" href={ (up) "renewed.css" }; }
            script type="module" src={ (up) (assets::MODULE.name()) } {}
        }
    }
}

/// An icon of the sprite.
pub fn icon(name: &str) -> Markup {
    html! { svg aria-hidden="true" { use href={ "#" (name) } {} } }
}

/// A state: icon, colour and word.
pub fn state(class: &str, icon_name: &str, word: &str) -> Markup {
    // The icon has no name, so that readers of screens say the word alone. A list has many of them.
    html! { span class={ "st " (class) } { svg { use href={ "#" (icon_name) } {} } span { (format::foreign(word)) } } }
}

/// A state on a tinted ground.
pub fn tag(class: &str, icon_name: &str, word: &str) -> Markup {
    state(&format!("{class} tag"), icon_name, word)
}

/// A page without navigation, for callers without a session.
pub fn alone(title: &str, up: &str, content: &Markup) -> Markup {
    alone_of(SITE, title, up, content)
}

/// The same of the portal, which does not name this program.
pub fn portal_alone(title: &str, up: &str, content: &Markup) -> Markup {
    alone_of(PORTAL_TITLE, title, up, content)
}

fn alone_of(site: &str, title: &str, up: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title, up, site, false))
            body {
                (assets::sprite())
                a.skip href="#main" { "Skip to the content" }
                main.alone #main { (content) }
            }
        }
    }
}
