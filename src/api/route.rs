//! Mounts and their route tables: the handler of a request, its permission, and the envelope of its errors.
//!
//! A mount is one family of routes with its own credentials and its own error envelope: the native API or one dialect.
//! It knows no other mount.

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;

use crate::model::feed_topic::FeedTopic;
use crate::model::{Scope, Time};
use crate::store::Registry;

use super::auth::{self, Principal};
use super::context::{ApiContext, ApiSettings, MetricsAccess};
use super::doc::RouteDoc;
use super::error::ApiError;
use super::media::BodyRule;
use super::params::{EmptyValues, Param, Params, percent};
use super::request::HttpRequest;
use super::request_context::{PathSegments, RequestContext};
use super::response::HttpResponse;
use super::step::Step;

pub type Handler = fn(&mut ApiContext<'_>, &RequestContext<'_>) -> Result<Step, ApiError>;
pub type OpenHandler = fn(&ApiContext<'_>, &HttpRequest) -> Result<HttpResponse, ApiError>;
pub type OpenStepHandler = fn(&mut ApiContext<'_>, &HttpRequest) -> Result<Step, ApiError>;
/// Identifies the caller by the request's headers. Rules of sessions and of foreign tokens are among the settings. 401 if
/// there is no caller, and 400 if the credentials contradict each other.
pub type Identify = fn(&HttpRequest, &Registry, &ApiSettings, Time) -> Result<Principal, ApiError>;
/// Renders an error in a mount's own envelope.
pub type Render = fn(&ApiError, &ErrorContext<'_>) -> HttpResponse;
/// 403 for a caller that lacks the permission of a route.
pub type Authorize = fn(&Principal) -> Result<(), ApiError>;

/// Values of an envelope beyond the error: the request, its time and its route.
#[derive(Debug, Clone, Copy)]
pub struct ErrorContext<'a> {
    pub request_id: &'a str,
    pub now: Time,
    /// The same as `MatchedRoute::pattern`.
    pub pattern: &'static str,
    /// The method of the matched route. `None` if no route matches.
    pub verb: Option<RouteMethod>,
    /// Number of slashes in the request's path, for links that are relative to it.
    pub slashes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl RouteMethod {
    pub const fn as_str(self) -> &'static str {
        match self {
            RouteMethod::Get => "GET",
            RouteMethod::Post => "POST",
            RouteMethod::Put => "PUT",
            RouteMethod::Patch => "PATCH",
            RouteMethod::Delete => "DELETE",
        }
    }
}

/// The access to a route, and its handler.
pub enum RouteAccess {
    /// No key is required.
    Open(OpenHandler),
    /// No key is required, and the handler may change the store.
    OpenStep(OpenStepHandler),
    /// Access by `ApiSettings::metrics`.
    Metrics(OpenHandler),
    /// A key with this scope.
    Scope(Scope, Handler),
    /// A key that the function accepts, for mounts with permissions of their own. The scope is the one that it
    /// requires.
    Authorized(Scope, Authorize, Handler),
    /// The installation's own key, with `admin`.
    Installation(Handler),
}

/// The place in which the dispatcher runs a handler, and the commits that it listens for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// On a blocking thread, because the handler may read the store.
    Blocking,
    /// On the request's own task: the handler never reads the store.
    Inline,
    /// On a blocking thread, one run at a time. Requests that came before a run began share its answer.
    Shared,
    /// On a blocking thread. The handler may return `Step::Wait` for the webhook whose id is this path parameter.
    Waiting(&'static str),
    /// On a blocking thread. The handler may return `Step::Wait` for attempts.
    WaitingForAttempts,
}

/// One row of a route table.
pub struct Route {
    pub verb: RouteMethod,
    /// The pattern as in api.md: `/v1/events/{id}`.
    pub path: &'static str,
    pub access: RouteAccess,
    pub body: BodyRule,
    /// The query parameters that the route accepts.
    pub query: &'static [Param],
    /// The parameters in the path.
    pub segments: &'static [Param],
    pub execution: Execution,
    /// Whether GET has an effect beyond an audit line, so that the route has no HEAD (RFC 9110 section 9.2.1).
    pub acts: bool,
    /// Whether the route takes `Idempotency-Key`. Every POST does.
    pub takes_key: bool,
    pub doc: RouteDoc,
}

impl Route {
    /// Whether the route needs no key of the API.
    pub fn is_open(&self) -> bool {
        matches!(self.access, RouteAccess::Open(_) | RouteAccess::OpenStep(_) | RouteAccess::Metrics(_))
    }

    /// A route without query parameters whose handler may read the store.
    pub const fn new(
        verb: RouteMethod,
        path: &'static str,
        access: RouteAccess,
        body: BodyRule,
        doc: RouteDoc,
    ) -> Route {
        let (execution, takes_key) = (Execution::Blocking, matches!(verb, RouteMethod::Post));
        Route { verb, path, access, body, query: &[], segments: &[], execution, acts: false, takes_key, doc }
    }

    /// The same GET route, whose effect only GET has.
    #[must_use]
    pub const fn acts(self) -> Route {
        Route { acts: true, ..self }
    }

    /// The same route, which takes `Idempotency-Key` although it is no POST.
    #[must_use]
    pub const fn with_key(self) -> Route {
        Route { takes_key: true, ..self }
    }

    #[must_use]
    pub const fn with_query(self, query: &'static [Param]) -> Route {
        Route { query, ..self }
    }

    /// The same route with these parameters in its path.
    #[must_use]
    pub const fn with_segments(self, segments: &'static [Param]) -> Route {
        Route { segments, ..self }
    }

    /// The same route for a handler that never reads the store.
    #[must_use]
    pub const fn inline(self) -> Route {
        Route { execution: Execution::Inline, ..self }
    }

    /// The same route for a handler whose answer depends on no request.
    #[must_use]
    pub const fn shared(self) -> Route {
        Route { execution: Execution::Shared, ..self }
    }

    /// The same route for a handler that waits for commits of the webhook in path parameter `webhook`.
    #[must_use]
    pub const fn waits(self, webhook: &'static str) -> Route {
        Route { execution: Execution::Waiting(webhook), ..self }
    }

    /// The same route for a handler that waits for commits of attempts.
    #[must_use]
    pub const fn waits_for_attempts(self) -> Route {
        Route { execution: Execution::WaitingForAttempts, ..self }
    }

    /// Whether the route also answers HEAD, for which the server omits the body.
    fn has_head(&self) -> bool {
        self.verb == RouteMethod::Get && !self.acts
    }

    /// Whether the route handles this method.
    fn answers(&self, method: &Method) -> bool {
        method.as_str() == self.verb.as_str() || (self.has_head() && *method == Method::HEAD)
    }
}

pub struct ApiMount {
    pub name: &'static str,
    /// Prefix of the mount. Every path below it belongs to the mount, with a route or not. The native mount has none
    /// and takes all other paths.
    prefix: &'static str,
    /// Whether some routes lie outside the prefix. They belong to the mount one by one.
    has_routes_outside: bool,
    routes: &'static [Route],
    router: matchit::Router<Vec<&'static Route>>,
    identify: Identify,
    render: Render,
    empty_values: EmptyValues,
    pages: Option<PageRules>,
    lenient: Option<LenientRules>,
}

/// The rules of a mount whose clients may send more than it knows. Its handlers read the query themselves and drop
/// unknown parameters. A slash at the end of a path is the same path. Web pages of the origins in
/// `server.allowed_origins` may call it.
#[derive(Clone, Copy)]
pub struct LenientRules {
    /// The reason why the mount serves a path deliberately not. `None` for any other path.
    pub absent: fn(&str) -> Option<&'static str>,
}

/// The rules of a mount of pages for browsers, which replace those of an API.
#[derive(Clone, Copy)]
pub struct PageRules {
    pub identify: Identify,
    /// Whether the mount also answers a request for `/`, which has no prefix.
    pub greets: fn(&HttpRequest) -> bool,
}

impl ApiMount {
    /// A mount over a constant table. Panics if a path of the table is invalid.
    pub fn new(
        name: &'static str,
        prefix: &'static str,
        routes: &'static [Route],
        identify: Identify,
        render: Render,
    ) -> Self {
        let mut paths: Vec<(&str, Vec<&Route>)> = Vec::new();
        for route in routes {
            match paths.iter_mut().find(|(path, _)| *path == route.path) {
                Some((_, at_path)) => at_path.push(route),
                None => paths.push((route.path, vec![route])),
            }
        }
        let mut router = matchit::Router::new();
        for (path, at_path) in paths {
            router.insert(path, at_path).expect("every path of the table is a route");
        }
        let has_routes_outside = routes.iter().any(|route| !lies_below(route.path, prefix));
        ApiMount {
            name,
            prefix,
            has_routes_outside,
            routes,
            router,
            identify,
            render,
            empty_values: EmptyValues::Refused,
            pages: None,
            lenient: None,
        }
    }

    /// The same mount, in which no path is found.
    #[must_use]
    pub fn without_routes(self) -> ApiMount {
        ApiMount { has_routes_outside: false, routes: &[], router: matchit::Router::new(), pages: None, ..self }
    }

    /// The same mount, in which a query parameter without a value is absent.
    #[must_use]
    pub fn without_empty_values(self) -> ApiMount {
        ApiMount { empty_values: EmptyValues::Absent, ..self }
    }

    /// The same mount, for clients that may send more than it knows.
    #[must_use]
    pub fn with_leniency(self, lenient: Option<LenientRules>) -> ApiMount {
        ApiMount { lenient, ..self }
    }

    /// The same mount with pages in place of an API. Its handlers read the query themselves, because a page drops
    /// unknown fields and does not refuse them.
    #[must_use]
    pub fn with_pages(self, pages: PageRules) -> ApiMount {
        ApiMount { pages: Some(pages), has_routes_outside: false, ..self }
    }
}

impl ApiMount {
    /// All routes of the mount.
    pub fn routes(&self) -> &'static [Route] {
        self.routes
    }

    /// Whether the request's path is the prefix, lies below it, or is one of the routes outside it.
    fn claims(&self, http_request: &HttpRequest) -> bool {
        let path = http_request.path.as_str();
        lies_below(path, self.prefix)
            || self.has_routes_outside && self.router.at(path).is_ok()
            || path == "/" && self.pages.is_some_and(|pages| (pages.greets)(http_request))
    }
}

/// Whether the path is the prefix or lies below it.
fn lies_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// All mounts of this daemon.
pub struct Api {
    dialects: Vec<Arc<ApiMount>>,
    native: Arc<ApiMount>,
}

impl Api {
    /// The native mount and the enabled dialects.
    pub fn new(native: ApiMount, dialects: Vec<ApiMount>) -> Api {
        Api { dialects: dialects.into_iter().map(Arc::new).collect(), native: Arc::new(native) }
    }

    /// The route of a request, by method and path alone. The mount that claims the path comes first, then the native
    /// one.
    pub fn find(&self, http_request: &HttpRequest) -> MatchedRoute {
        let mount = self.dialects.iter().find(|mount| mount.claims(http_request)).unwrap_or(&self.native);
        MatchedRoute {
            mount: mount.clone(),
            matched: place(mount, http_request).unwrap_or_else(|| nowhere(mount, http_request)),
            slashes: http_request.path.bytes().filter(|byte| *byte == b'/').count(),
        }
    }
}

/// The path by which a mount finds its route.
fn path_of<'a>(mount: &ApiMount, http_request: &'a HttpRequest) -> &'a str {
    let path = http_request.path.as_str();
    if mount.lenient.is_some() { path.strip_suffix('/').unwrap_or(path) } else { path }
}

fn nowhere(mount: &ApiMount, http_request: &HttpRequest) -> RouteMatch {
    RouteMatch::Nowhere(mount.lenient.and_then(|rules| (rules.absent)(path_of(mount, http_request))))
}

fn place(mount: &ApiMount, http_request: &HttpRequest) -> Option<RouteMatch> {
    let hit = mount.router.at(path_of(mount, http_request)).ok()?;
    let Some(route) = hit.value.iter().find(|route| route.answers(&http_request.method)) else {
        return Some(RouteMatch::OtherMethod(hit.value.clone()));
    };
    let mut segments = PathSegments::default();
    for (name, value) in hit.params.iter() {
        let value = percent(value).map(Cow::into_owned)?;
        segments.0.push((name.to_owned(), value));
    }
    Some(RouteMatch::Route(route, segments))
}

enum RouteMatch {
    Route(&'static Route, PathSegments),
    /// The path has these routes, with other methods.
    OtherMethod(Vec<&'static Route>),
    /// No path of the mount, with the reason if it has one.
    Nowhere(Option<&'static str>),
}

/// The route of a request, or the error in its place.
pub struct MatchedRoute {
    mount: Arc<ApiMount>,
    matched: RouteMatch,
    slashes: usize,
}

impl MatchedRoute {
    pub fn mount(&self) -> &'static str {
        self.mount.name
    }

    /// The matched route. `None` if no route matches.
    pub fn route(&self) -> Option<&'static Route> {
        match &self.matched {
            RouteMatch::Route(route, _) => Some(route),
            RouteMatch::OtherMethod(_) | RouteMatch::Nowhere(_) => None,
        }
    }

    /// Whether web pages of the origins in `server.allowed_origins` may call the mount.
    pub fn shares_origins(&self) -> bool {
        self.mount.lenient.is_some()
    }

    /// Whether the handler runs on the request's own task, because it never reads the store.
    pub fn runs_inline(&self) -> bool {
        self.route().is_some_and(|route| route.execution == Execution::Inline)
    }

    /// Whether requests that came before a run of the handler began share its answer.
    pub fn is_shared(&self) -> bool {
        self.route().is_some_and(|route| route.execution == Execution::Shared)
    }

    /// The commits that the handler may wait for. `None` if the route does not wait or the id is malformed.
    pub fn awaited(&self) -> Option<FeedTopic> {
        let RouteMatch::Route(route, path) = &self.matched else { return None };
        match route.execution {
            Execution::Waiting(name) => path.get(name).parse().ok().map(FeedTopic::Deliveries),
            Execution::WaitingForAttempts => Some(FeedTopic::Attempts),
            Execution::Blocking | Execution::Inline | Execution::Shared => None,
        }
    }

    /// The route's pattern, for logs and metrics. The path itself is never logged, because callers choose it.
    pub fn pattern(&self) -> &'static str {
        match &self.matched {
            RouteMatch::Route(route, _) => route.path,
            RouteMatch::OtherMethod(routes) => routes.first().map_or("", |route| route.path),
            RouteMatch::Nowhere(_) => "",
        }
    }

    /// Whether the route needs no key. Its answer is the same for every caller.
    pub fn is_open(&self) -> bool {
        matches!(&self.matched, RouteMatch::Route(route, _) if route.is_open())
    }

    /// The caller. `None` if the route needs none. Called before `Host` and `Origin` are checked, and also without a
    /// route, so that paths cannot be probed without a key.
    pub fn identify(
        &self,
        http_request: &HttpRequest,
        registry: &Registry,
        settings: &ApiSettings,
        now: Time,
    ) -> Result<Option<Principal>, ApiError> {
        match &self.matched {
            RouteMatch::Route(Route { access: RouteAccess::Metrics(_), .. }, _) => {
                metrics_access(http_request, settings.metrics).map(|()| None)
            }
            RouteMatch::Route(..) if self.is_open() => Ok(None),
            RouteMatch::OtherMethod(routes) if routes.iter().all(|route| route.is_open()) => Ok(None),
            _ => {
                let identify = self.mount.pages.map_or(self.mount.identify, |pages| pages.identify);
                identify(http_request, registry, settings, now).map(Some)
            }
        }
    }

    /// Checks the permission and the headers of the body: 403, 404, 405, 415. Returns the maximum size of the body. A
    /// larger one is `ApiError::too_large`.
    pub fn admit(
        &self,
        http_request: &HttpRequest,
        principal: Option<&Principal>,
        settings: &ApiSettings,
    ) -> Result<usize, ApiError> {
        let route = match &self.matched {
            RouteMatch::Route(route, _) => route,
            RouteMatch::OtherMethod(routes) => return Err(ApiError::method_not_allowed(&allow(routes))),
            RouteMatch::Nowhere(None) => return Err(ApiError::no_route()),
            RouteMatch::Nowhere(Some(why)) => return Err(ApiError::not_served(why)),
        };
        match (&route.access, principal) {
            (RouteAccess::Open(_) | RouteAccess::OpenStep(_) | RouteAccess::Metrics(_), _) => {}
            (RouteAccess::Scope(scope, _), Some(principal)) => principal.need(*scope)?,
            (RouteAccess::Authorized(_, authorize, _), Some(principal)) => authorize(principal)?,
            (RouteAccess::Installation(_), Some(principal)) => {
                principal.need(Scope::Admin)?;
                if !principal.key.installation {
                    return Err(ApiError::forbidden("installation_only", "only a key of the installation may do this"));
                }
            }
            (_, None) => return Err(ApiError::internal("a route that needs a key was reached without one")),
        }
        route.body.admit(&http_request.headers)?;
        Ok(route.body.bytes_max(settings))
    }

    /// Runs the handler without IO. Must be called after `admit`, with the whole body.
    pub fn handle(
        &self,
        context: &mut ApiContext<'_>,
        principal: Option<&Principal>,
        http_request: &HttpRequest,
    ) -> Result<Step, ApiError> {
        let RouteMatch::Route(route, path) = &self.matched else {
            return Err(ApiError::no_route());
        };
        let bytes_max = route.body.bytes_max(context.settings);
        if http_request.body.len() > bytes_max {
            return Err(ApiError::too_large(bytes_max));
        }
        route.body.admit_bytes(&http_request.headers, &http_request.body)?;
        let query = match (self.mount.pages, self.mount.lenient) {
            (Some(_), _) | (_, Some(_)) => Params::default(),
            (None, None) => Params::parse(http_request.query.as_deref(), route.query, self.mount.empty_values)?,
        };
        match (&route.access, principal) {
            (RouteAccess::Open(run) | RouteAccess::Metrics(run), _) => run(context, http_request).map(Step::Reply),
            (RouteAccess::OpenStep(run), _) => run(context, http_request),
            (
                RouteAccess::Scope(_, run) | RouteAccess::Authorized(_, _, run) | RouteAccess::Installation(run),
                Some(principal),
            ) => {
                let takes_key = route.takes_key;
                run(context, &RequestContext { http: http_request, principal, path, query, takes_key })
            }
            (_, None) => Err(ApiError::internal("a route that needs a key was reached without one")),
        }
    }

    /// Renders an error in this mount's envelope, with the headers that the error carries.
    pub fn render(&self, api_error: &ApiError, request_id: &str, now: Time) -> HttpResponse {
        let verb = self.route().map(|route| route.verb);
        let error_context = ErrorContext { request_id, now, pattern: self.pattern(), verb, slashes: self.slashes };
        let mut response = (self.mount.render)(api_error, &error_context);
        for (name, value) in &api_error.headers {
            response.headers.append(name, value.clone());
        }
        response
    }
}

/// Whether the request may read `/metrics`.
///
/// # Errors
/// 401 without the key, and 404 if the metrics are served elsewhere.
pub fn metrics_access(http_request: &HttpRequest, access: MetricsAccess) -> Result<(), ApiError> {
    match access {
        MetricsAccess::Everybody => Ok(()),
        MetricsAccess::Elsewhere => Err(ApiError::no_route()),
        MetricsAccess::Key(hash) => match auth::key_hash(auth::bearer(&http_request.headers)?) == hash {
            true => Ok(()),
            false => Err(ApiError::unauthorized("credentials_wrong", "this is not the key of the metrics")),
        },
    }
}

fn allow(routes: &[&Route]) -> String {
    let mut methods = Vec::new();
    for route in routes {
        methods.push(route.verb.as_str());
        if route.has_head() {
            methods.push("HEAD");
        }
    }
    methods.join(", ")
}

#[cfg(test)]
mod tests;
