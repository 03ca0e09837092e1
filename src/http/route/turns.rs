//! `/api/sessions/{id}/turns`.

use axum::Json as JsonBody;
use axum::extract::State;
use serde::Deserialize;

use crate::auth::Principal;
use crate::http::App;
use crate::http::extract::{Id, Ids, Params, page};
use crate::http::problem::Failure;
use crate::session::view;
use crate::store::{TurnFilter, TurnState};
use crate::wire::turn::{TurnBody, TurnList};
use crate::wire::{SessionId, TurnId};

#[derive(Debug, Deserialize)]
pub struct ListParams {
    limit: Option<i64>,
    after: Option<i64>,
    state: Option<String>,
}

pub async fn list(
    State(app): State<App>,
    caller: Principal,
    Id(id): Id<SessionId>,
    Params(params): Params<ListParams>,
) -> Result<JsonBody<TurnList>, Failure> {
    let (after, limit) = page(params.after, params.limit, 100)?;
    let state = params.state.map(|state| state.parse::<TurnState>()).transpose().map_err(|e| Failure::field("state", e))?;
    let session = app.sessions.get(&caller.tenant, id).await?;
    let turns = app.store.turns(id, TurnFilter { after, state, limit }).await?;
    let queue = app.store.queue(id).await?;
    let turns = turns.into_iter().map(|turn| view::turn(session.id, turn, &queue)).collect();
    Ok(JsonBody(TurnList { turns }))
}

pub async fn show(
    State(app): State<App>,
    caller: Principal,
    Ids(id, turn): Ids<SessionId, TurnId>,
) -> Result<JsonBody<TurnBody>, Failure> {
    let turn = app.sessions.turn(&caller.tenant, id, turn).await?;
    let queue = app.store.queue(id).await?;
    Ok(JsonBody(TurnBody { turn: view::turn(id, turn, &queue) }))
}

pub async fn cancel(
    State(app): State<App>,
    caller: Principal,
    Ids(id, turn): Ids<SessionId, TurnId>,
) -> Result<JsonBody<TurnBody>, Failure> {
    app.sessions.cancel(&caller.tenant, id, turn).await?;
    show(State(app), caller, Ids(id, turn)).await
}
