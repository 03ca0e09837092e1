//! The table of routes, and who may use each.
//!
//! A route can not be added without saying what its callers need: reading takes the scope `read`,
//! changing takes the scope that stands beside the path, and where that is `admin`, so does reading.
//! A key for one agent gets only routes that know of it: those below `/api/agents/{name}` and
//! `/api/sessions/{id}`, which are decided here, and those that [`Table::route_of_one`] adds, whose
//! handlers look at [`Principal::agent`] themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};

use super::body::Room;
use super::problem::{Failure, request_id};
use super::{App, Origin};
use crate::agent::service::AgentError;
use crate::auth::Principal;
use crate::session::SessionError;
use crate::store::{NewAudit, Store, audit};
use crate::wire::SessionId;
use crate::wire::audit::{Action, Outcome};
use crate::wire::scope::Scope;

/// What the paths of one agent and of one session begin with.
const AGENT: &str = "/api/agents/{name}";
const SESSION: &str = "/api/sessions/{id}";
/// Characters of a path that are written down, as it may name anything.
const OBJECT_MAX: usize = 255;

/// A path, with what its callers need.
#[derive(Debug, Clone)]
pub struct Route {
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// What can be done there.
    pub methods: Vec<Method>,
    /// What of it goes into the audit log, and as what.
    audited: Vec<(Method, Action)>,
    scope: Scope,
    /// Whether its handlers know of keys for one agent.
    of_one: bool,
    /// Whether also a GET does something.
    get_acts: bool,
}

impl Route {
    /// What a caller needs for a method.
    pub fn scope(&self, method: &Method) -> Scope {
        let reads = matches!(*method, Method::GET | Method::HEAD) && !self.get_acts;
        if reads && self.scope != Scope::Admin { Scope::Read } else { self.scope }
    }

    /// As what it goes into the audit log, if it does.
    pub fn action(&self, method: &Method) -> Option<Action> {
        self.audited.iter().find(|(audited, _)| audited == method).map(|(_, action)| *action)
    }

    /// Whether a key for one agent gets past it at all.
    pub fn is_of_one(&self) -> bool {
        self.of_one || self.path.starts_with(AGENT) || self.path.starts_with(SESSION)
    }
}

/// The handlers of a path, by method.
#[derive(Debug, Default)]
pub struct Methods {
    router: MethodRouter<App>,
    methods: Vec<Method>,
    audited: Vec<(Method, Action)>,
    get_acts: bool,
}

impl Methods {
    /// Adds the handler of GET, for what does more than to read: a WebSocket can begin in no other way.
    pub fn get_to_act<H: Handler<T, App>, T: 'static>(mut self, handler: H) -> Self {
        self.methods.push(Method::GET);
        Self { router: self.router.get(handler), get_acts: true, ..self }
    }

    /// What was added last goes into the audit log as this.
    pub fn audited(mut self, action: Action) -> Self {
        self.audited.extend(self.methods.last().map(|method| (method.clone(), action)));
        self
    }
}

macro_rules! methods {
    (first: $($name:ident $method:ident),*; then: $($more:ident $other:ident),*) => {
        impl Methods {
            $(
                /// Adds the handler of this method.
                pub fn $more<H: Handler<T, App>, T: 'static>(mut self, handler: H) -> Self {
                    self.methods.push(Method::$other);
                    Self { router: self.router.$more(handler), ..self }
                }
            )*
        }
        $(
            /// Handlers, of which this is the first.
            pub fn $name<H: Handler<T, App>, T: 'static>(handler: H) -> Methods {
                Methods { router: routing::$name(handler), methods: vec![Method::$method], audited: Vec::new(), get_acts: false }
            }
        )*
    };
}

methods! {
    first: get GET, post POST, put PUT, patch PATCH, delete DELETE;
    then: post POST, patch PATCH, delete DELETE
}

/// Routes with what they need.
#[derive(Debug, Default)]
pub struct Table {
    router: Router<App>,
    routes: BTreeMap<&'static str, Route>,
}

impl Table {
    /// Adds a path. To change something there takes `scope`.
    pub fn route(self, path: &'static str, scope: Scope, handlers: Methods) -> Self {
        self.add(path, scope, handlers, false)
    }

    /// The same, with handlers that show and do for a key for one agent only what is of this agent.
    pub fn route_of_one(self, path: &'static str, scope: Scope, handlers: Methods) -> Self {
        self.add(path, scope, handlers, true)
    }

    fn add(mut self, path: &'static str, scope: Scope, handlers: Methods, of_one: bool) -> Self {
        let Methods { router, methods, audited, get_acts } = handlers;
        self.routes.insert(path, Route { path, methods, audited, scope, of_one, get_acts });
        Self { router: self.router.route(path, router), ..self }
    }

    /// The routes, and a router of them, still open to everybody.
    pub fn into_parts(self) -> (Router<App>, BTreeMap<&'static str, Route>) {
        (self.router, self.routes)
    }
}

/// What [`check`] goes by.
#[derive(Debug, Clone)]
pub struct Guard {
    /// To look things up.
    pub app: App,
    /// The table.
    pub routes: Arc<BTreeMap<&'static str, Route>>,
}

impl Guard {
    /// As what a request goes into the audit log, if it does.
    pub fn action(&self, path: &MatchedPath, method: &Method) -> Option<Action> {
        self.routes.get(path.as_str())?.action(method)
    }
}

/// What an act was done to, which its handler says in the answer's extensions where the path does not.
#[derive(Debug, Clone)]
pub struct Object(pub String);

/// Of whose things an act was, which its handler says where that is not the caller's tenant.
#[derive(Debug, Clone)]
pub struct OfTenant(pub String);

/// Lets pass who has what the route needs, and writes down what is audited.
pub async fn check(State(guard): State<Guard>, caller: Principal, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    // Until the handler has answered, and no longer: the answer may be a stream.
    let room = Room::of(&caller.tenant);
    parts.extensions.insert(room.clone());
    let (key, act) = (caller.key, begin(&guard, &caller, &mut parts).await);
    let response = match allow(&guard, &caller, &mut parts).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(failure) => failure.into_response(),
    };
    drop(room);
    if let Some((store, mut entry)) = act.and_then(|act| act.end(&response)) {
        // Whoever came over the control socket administers.
        let refused = key.filter(|_| entry.outcome == Outcome::Refused);
        match refused.map(|key| guard.app.limits.count_refusal(key, entry.action)) {
            Some(None) => return response,
            Some(Some(unwritten)) => entry.unwritten = unwritten,
            None => {}
        }
        // What has reached the database's queue is written, also if nobody waits for it any more.
        audit::record(&*store, entry).await;
    }
    response
}

/// An act that is under way. One that is broken off, as who asked went away, is written down as failed.
struct Act {
    store: Arc<dyn Store>,
    entry: Option<NewAudit>,
}

impl Act {
    /// The entry of one that is over.
    fn end(mut self, response: &Response) -> Option<(Arc<dyn Store>, NewAudit)> {
        let mut entry = self.entry.take()?;
        entry.outcome = match response.status().as_u16() {
            ..400 => Outcome::Ok,
            400..500 => Outcome::Refused,
            _ => Outcome::Failed,
        };
        // What it made counts more than where.
        entry.object = response.extensions().get::<Object>().map(|object| object.0.clone()).or(entry.object);
        entry.tenant = response.extensions().get::<OfTenant>().map_or(entry.tenant, |of| of.0.clone());
        Some((self.store.clone(), entry))
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            let store = self.store.clone();
            tokio::spawn(async move { audit::record(&*store, entry).await });
        }
    }
}

async fn begin(guard: &Guard, caller: &Principal, parts: &mut Parts) -> Option<Act> {
    let path = parts.extensions.get::<MatchedPath>().cloned()?;
    let action = guard.action(&path, &parts.method)?;
    let peer = match parts.extensions.get::<Origin>() {
        Some(Origin::Remote(address)) => Some(address.ip().to_string()),
        _ => None,
    };
    let named = RawPathParams::from_request_parts(parts, &()).await.ok();
    let object = named.and_then(|named| named.iter().next().map(|(_, value)| value.chars().take(OBJECT_MAX).collect()));
    let entry = NewAudit {
        tenant: caller.tenant.clone(),
        principal: caller.name.clone(),
        action,
        object,
        request_id: request_id(),
        peer,
        outcome: Outcome::Failed,
        unwritten: 0,
    };
    Some(Act { store: guard.app.store.clone(), entry: Some(entry) })
}

async fn allow(guard: &Guard, caller: &Principal, parts: &mut Parts) -> Result<(), Failure> {
    // Without one, it is the answer that there is no such route.
    let Some(path) = parts.extensions.get::<MatchedPath>().cloned() else { return Ok(()) };
    let Some(route) = guard.routes.get(path.as_str()) else {
        return Err(Failure::forbidden("Nobody may use this route"));
    };
    let scope = route.scope(&parts.method);
    if !caller.scopes.allow(scope) {
        return Err(Failure::forbidden(format!("This API key lacks the scope {scope}")));
    }
    let Some(agent) = &caller.agent else { return Ok(()) };
    if !route.is_of_one() {
        return Err(Failure::forbidden(format!("This API key is for the agent {agent} alone")));
    }
    let named = RawPathParams::from_request_parts(parts, &()).await;
    let named = named.as_ref().ok().and_then(|named| named.iter().next());
    match named {
        Some((_, name)) if route.path.starts_with(AGENT) && name != agent => Err(AgentError::NotFound.into()),
        // What is no id is refused for that.
        Some((_, id)) if route.path.starts_with(SESSION) => match id.parse::<SessionId>() {
            Ok(id) if guard.app.sessions.get(&caller.tenant, id).await?.agent != *agent => Err(SessionError::NotFound.into()),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::AuditFilter;
    use crate::store::sqlite::Sqlite;

    #[tokio::test]
    async fn an_act_that_is_broken_off_is_written_down_as_failed() {
        let folder = tempfile::tempdir().expect("folder");
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&folder.path().join("ash.db")).expect("opens"));
        let entry = NewAudit {
            tenant: "a".to_owned(),
            principal: "key:x".to_owned(),
            action: Action::AgentDeploy,
            object: None,
            request_id: None,
            peer: None,
            outcome: Outcome::Failed,
            unwritten: 0,
        };
        drop(Act { store: store.clone(), entry: Some(entry) });
        let written = async {
            loop {
                let filter = AuditFilter { limit: 1, ..AuditFilter::default() };
                match store.audit("a", filter).await.expect("reads").pop() {
                    Some(entry) => break entry,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        let written = tokio::time::timeout(Duration::from_secs(20), written).await.expect("it is written");
        assert_eq!((written.action, written.outcome), (Action::AgentDeploy, Outcome::Failed));
    }

    #[test]
    fn routes_say_what_they_need() {
        for route in super::super::routes() {
            let reads = route.scope(&Method::GET);
            assert!(route.get_acts || matches!(reads, Scope::Read | Scope::Admin), "{}", route.path);
            assert_eq!(reads, route.scope(&Method::HEAD), "{}", route.path);
            let of_one = route.path.starts_with(AGENT) || route.path.starts_with(SESSION);
            assert!(route.is_of_one() || !of_one, "{}", route.path);
            assert!(!(route.is_of_one() && reads == Scope::Admin), "{}: a key for one agent administers nothing", route.path);
        }
    }
}
