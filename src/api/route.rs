//! Surfaces and their route tables: which handler a call belongs to, who may call it, and in whose words it fails.
//!
//! A surface is one family of routes with its own way to name callers and its own error envelope: the native API, or
//! one dialect. It knows no other surface.

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;

use crate::model::{Scope, Time};
use crate::store::Registry;

use super::ask::{Ask, Segments};
use super::auth::{self, Principal};
use super::call::{Call, Reply};
use super::context::{ApiSettings, Context, MetricsAccess};
use super::fault::Fault;
use super::media::Body;
use super::params::{Params, percent};
use super::step::Step;

pub type Handler = fn(&mut Context<'_>, &Ask<'_>) -> Result<Step, Fault>;
pub type OpenHandler = fn(&Context<'_>, &Call) -> Result<Reply, Fault>;
/// Finds the caller in a call's head, or says 401 (400 where the credentials contradict each other).
pub type Identify = fn(&Call, &Registry, Time) -> Result<Principal, Fault>;
/// Puts a fault into a surface's own envelope.
pub type Render = fn(&Fault, &Occasion<'_>) -> Reply;
/// 403 for a caller that may not do what a route does.
pub type Judge = fn(&Principal) -> Result<(), Fault>;

/// What an envelope may say beyond the fault: which request it was, when, and on what route.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    pub request_id: &'a str,
    pub now: Time,
    /// As `Found::pattern`.
    pub pattern: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        }
    }

    /// Whether a call of this method is the route's: HEAD goes where GET goes, the server leaves the body out.
    fn answers(self, method: &Method) -> bool {
        method.as_str() == self.as_str() || (self == Verb::Get && *method == Method::HEAD)
    }
}

/// Who may call a route, and what then runs.
pub enum Access {
    /// Everybody, without a key.
    Open(OpenHandler),
    /// As `ApiSettings::metrics` says.
    Metrics(OpenHandler),
    /// A key with this scope.
    Scope(Scope, Handler),
    /// A key that passes: for surfaces that have their own names for what a key may do.
    Judged(Judge, Handler),
    /// The installation's own key, with `admin`.
    Installation(Handler),
}

pub struct Route {
    pub verb: Verb,
    /// As in api.md: `/v1/events/{id}`.
    pub path: &'static str,
    pub access: Access,
    pub body: Body,
    /// The query parameters that there may be.
    pub query: &'static [&'static str],
}

pub struct Surface {
    pub name: &'static str,
    /// All paths below it are this surface's, also those that no route has; the native surface has none and takes the rest.
    prefix: &'static str,
    routes: &'static [Route],
    router: matchit::Router<Vec<&'static Route>>,
    identify: Identify,
    render: Render,
}

impl Surface {
    /// A surface over a constant table. Panics on a path that cannot be a route: the table is wrong.
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
        Surface { name, prefix, routes, router, identify, render }
    }
}

impl Surface {
    /// The whole table, for whoever has to look at every route there is.
    pub fn routes(&self) -> &'static [Route] {
        self.routes
    }

    /// Whether a path is the prefix or lies below it.
    fn claims(&self, path: &str) -> bool {
        path.strip_prefix(self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// All surfaces of this daemon.
pub struct Api {
    surfaces: Vec<Arc<Surface>>,
    native: Arc<Surface>,
}

impl Api {
    /// The native surface, and those beside it that are switched on.
    pub fn new(surfaces: Vec<Surface>) -> Api {
        Api { surfaces: surfaces.into_iter().map(Arc::new).collect(), native: Arc::new(super::native::surface()) }
    }

    /// Where a call belongs, by method and path alone: on the surface that claims the path, on the native one otherwise.
    pub fn find(&self, call: &Call) -> Found {
        let surface = self.surfaces.iter().find(|surface| surface.claims(&call.path)).unwrap_or(&self.native);
        Found { surface: surface.clone(), place: place(surface, call).unwrap_or(Place::Nowhere) }
    }
}

fn place(surface: &Surface, call: &Call) -> Option<Place> {
    let hit = surface.router.at(&call.path).ok()?;
    let Some(route) = hit.value.iter().find(|route| route.verb.answers(&call.method)) else {
        return Some(Place::OtherMethod(hit.value.clone()));
    };
    let mut segments = Segments::default();
    for (name, value) in hit.params.iter() {
        let value = percent(value).map(Cow::into_owned)?;
        segments.0.push((name.to_owned(), value));
    }
    Some(Place::Route(route, segments))
}

enum Place {
    Route(&'static Route, Segments),
    /// The path is served, by these.
    OtherMethod(Vec<&'static Route>),
    Nowhere,
}

/// A call's place in the API.
pub struct Found {
    surface: Arc<Surface>,
    place: Place,
}

impl Found {
    pub fn surface(&self) -> &'static str {
        self.surface.name
    }

    /// The route that the call is on.
    pub fn route(&self) -> Option<&'static Route> {
        match &self.place {
            Place::Route(route, _) => Some(route),
            Place::OtherMethod(_) | Place::Nowhere => None,
        }
    }

    /// The route's pattern, for logs and metrics: never the path itself, which callers choose.
    pub fn pattern(&self) -> &'static str {
        match &self.place {
            Place::Route(route, _) => route.path,
            Place::OtherMethod(routes) => routes.first().map_or("", |route| route.path),
            Place::Nowhere => "",
        }
    }

    /// Who calls: none where nobody has to be known. Before `Host` and `Origin` are judged; also where there is no route,
    /// so that paths cannot be probed without a key.
    pub fn identify(
        &self,
        call: &Call,
        registry: &Registry,
        settings: &ApiSettings,
        now: Time,
    ) -> Result<Option<Principal>, Fault> {
        let open = |route: &Route| matches!(route.access, Access::Open(_) | Access::Metrics(_));
        match &self.place {
            Place::Route(Route { access: Access::Metrics(_), .. }, _) => {
                metrics_access(call, settings.metrics).map(|()| None)
            }
            Place::Route(route, _) if open(route) => Ok(None),
            Place::OtherMethod(routes) if routes.iter().all(|route| open(route)) => Ok(None),
            _ => (self.surface.identify)(call, registry, now).map(Some),
        }
    }

    /// Whether the caller may, and whether the route takes such a body: 403, 404, 405, 415. Gives the bytes that the
    /// body may have; more of them is `Fault::too_large`.
    pub fn admit(&self, call: &Call, principal: Option<&Principal>, settings: &ApiSettings) -> Result<usize, Fault> {
        let route = match &self.place {
            Place::Route(route, _) => route,
            Place::OtherMethod(routes) => return Err(Fault::method_not_allowed(&allow(routes))),
            Place::Nowhere => return Err(Fault::no_route()),
        };
        match (&route.access, principal) {
            (Access::Open(_) | Access::Metrics(_), _) => {}
            (Access::Scope(scope, _), Some(principal)) => principal.need(*scope)?,
            (Access::Judged(judge, _), Some(principal)) => judge(principal)?,
            (Access::Installation(_), Some(principal)) => {
                principal.need(Scope::Admin)?;
                if !principal.key.installation {
                    return Err(Fault::forbidden("installation_only", "only a key of the installation may do this"));
                }
            }
            (_, None) => return Err(Fault::internal("a route that needs a key was reached without one")),
        }
        route.body.admit(&call.headers)?;
        Ok(route.body.bytes_max(settings))
    }

    /// Does what the call asks, as far as that goes without IO. To be called after `admit`, with the whole body.
    pub fn handle(&self, context: &mut Context<'_>, principal: Option<&Principal>, call: &Call) -> Result<Step, Fault> {
        let Place::Route(route, path) = &self.place else {
            return Err(Fault::no_route());
        };
        let bytes_max = route.body.bytes_max(context.settings);
        if call.body.len() > bytes_max {
            return Err(Fault::too_large(bytes_max));
        }
        route.body.admit_bytes(&call.headers, &call.body)?;
        let query = Params::parse(call.query.as_deref(), route.query)?;
        match (&route.access, principal) {
            (Access::Open(run) | Access::Metrics(run), _) => run(context, call).map(Step::Reply),
            (Access::Scope(_, run) | Access::Judged(_, run) | Access::Installation(run), Some(principal)) => {
                run(context, &Ask { call, principal, path, query })
            }
            (_, None) => Err(Fault::internal("a route that needs a key was reached without one")),
        }
    }

    /// A fault as this call's surface says it, with the headers that the fault carries.
    pub fn render(&self, fault: &Fault, request_id: &str, now: Time) -> Reply {
        let occasion = Occasion { request_id, now, pattern: self.pattern() };
        let mut reply = (self.surface.render)(fault, &occasion);
        for (name, value) in &fault.headers {
            reply.headers.append(name, value.clone());
        }
        reply
    }
}

fn metrics_access(call: &Call, access: MetricsAccess) -> Result<(), Fault> {
    match access {
        MetricsAccess::Everybody => Ok(()),
        MetricsAccess::Elsewhere => Err(Fault::no_route()),
        MetricsAccess::Key(hash) => match auth::key_hash(auth::bearer(&call.headers)?) == hash {
            true => Ok(()),
            false => Err(Fault::unauthorized("credentials_wrong", "this is not the key of the metrics")),
        },
    }
}

fn allow(routes: &[&Route]) -> String {
    let mut methods = Vec::new();
    for route in routes {
        methods.push(route.verb.as_str());
        if route.verb == Verb::Get {
            methods.push("HEAD");
        }
    }
    methods.join(", ")
}

#[cfg(test)]
mod tests;
