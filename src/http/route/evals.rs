//! `/api/agents/{name}/eval-cases`, and what is shown of evals.

use std::fmt;
use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::auth::Principal;
use crate::eval::ROOM;
use crate::http::App;
use crate::http::extract::{Id, Ids, Json, Params, in_range, json_text, parse, read};
use crate::http::list::{self, Source};
use crate::http::places::Places;
use crate::http::problem::Failure;
use crate::store::eval::{CaseFilter, CaseRow};
use crate::store::{Store, StoreError};
use crate::wire::EvalCaseId;
use crate::wire::eval::{ChangeEvalCase, CreateEvalCase, EvalCase, EvalCaseBody, ImportedBody};

/// Largest body of a case: its texts, of which some characters are written with an escape.
const CASE_MAX: usize = 8 << 20;
/// Largest body of an import: all that an agent may have, with some escapes more.
const IMPORT_MAX: usize = 32 << 20;
/// Imports at a time, each of which is in memory as a whole.
static IMPORTS: Places = Places::new(4);
/// Cases that one answer lists at most, and when the caller names no limit: all that an agent may have, as clients of the
/// contract know nothing of pages.
const LIST_MAX: i64 = ROOM.cases as i64;

fn shown(row: CaseRow) -> EvalCase {
    EvalCase {
        id: row.id,
        tenant_id: row.tenant,
        agent_name: row.agent,
        content: row.content,
        is_active: row.is_active,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

fn body(row: CaseRow) -> JsonBody<EvalCaseBody> {
    JsonBody(shown(row).into())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListParams {
    category: Option<String>,
    is_active: Option<String>,
    after: Option<String>,
    limit: Option<i64>,
}

pub async fn list(
    State(app): State<App>,
    caller: Principal,
    Id(agent): Id<String>,
    Params(params): Params<ListParams>,
) -> Result<Response, Failure> {
    let limit = in_range("limit", params.limit, 1..=LIST_MAX)?.unwrap_or(LIST_MAX);
    let is_active = params.is_active.filter(|text| !text.is_empty());
    let is_active =
        read::<bool>("isActive", is_active.as_deref()).map_err(|_| Failure::field("isActive", "has to be true or false"))?;
    app.agents.get(&caller.tenant, &agent).await?;
    let after = match read::<EvalCaseId>("after", params.after.as_deref())? {
        Some(id) => app.evals.case(&caller.tenant, &agent, id).await?.place,
        None => 0,
    };
    let filter = CaseFilter { category: params.category.filter(|category| !category.is_empty()), is_active };
    list::respond("cases", Cases { store: app.store, tenant: caller.tenant, agent, filter }, after, limit as usize).await
}

pub async fn export(State(app): State<App>, caller: Principal, Id(agent): Id<String>) -> Result<Response, Failure> {
    app.agents.get(&caller.tenant, &agent).await?;
    let filter = CaseFilter::default();
    list::respond("cases", Cases { store: app.store, tenant: caller.tenant, agent, filter }, 0, LIST_MAX as usize).await
}

struct Cases {
    store: Arc<dyn Store>,
    tenant: String,
    agent: String,
    filter: CaseFilter,
}

impl Source for Cases {
    type Place = i64;
    type Row = CaseRow;
    type Shown = EvalCase;

    async fn read(&self, &after: &i64, limit: usize, bytes: usize) -> Result<Vec<CaseRow>, StoreError> {
        self.store.cases(&self.tenant, &self.agent, self.filter.clone(), after, limit, bytes).await
    }

    fn show(&self, row: &CaseRow) -> (i64, Option<EvalCase>) {
        (row.place, Some(shown(row.clone())))
    }
}

pub async fn create(
    State(app): State<App>,
    caller: Principal,
    Id(agent): Id<String>,
    Json(request): Json<CreateEvalCase, CASE_MAX>,
) -> Result<(StatusCode, JsonBody<EvalCaseBody>), Failure> {
    let row = app.evals.create_case(&caller.tenant, &agent, request).await?;
    told(&caller, &agent, "created", 1);
    Ok((StatusCode::CREATED, body(row)))
}

fn told(caller: &Principal, agent: &str, change: &str, cases: usize) {
    tracing::info!(agent, change, cases, principal = caller.name, "eval cases changed");
}

/// Cases that are yet to be read, so that each can say what is wrong with it.
#[derive(Debug, Deserialize)]
struct Import<'a> {
    #[serde(borrow)]
    cases: Given<'a>,
}

/// No more of them than an agent may have: there are millions in a body that holds nothing else.
#[derive(Debug)]
struct Given<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Given<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Given<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of cases")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut cases = Vec::new();
                while let Some(case) = list.next_element()? {
                    if cases.len() as u64 == ROOM.cases {
                        return Err(A::Error::custom(format_args!("has to be at most {} cases", ROOM.cases)));
                    }
                    cases.push(case);
                }
                Ok(Given(cases))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

pub async fn import(
    State(app): State<App>,
    caller: Principal,
    Id(agent): Id<String>,
    request: Request,
) -> Result<JsonBody<ImportedBody>, Failure> {
    app.agents.get(&caller.tenant, &agent).await?;
    let _place = IMPORTS.take(&caller.tenant).ok_or_else(|| Failure::busy("Too many imports are under way; try again"))?;
    let text = json_text(request, IMPORT_MAX).await?;
    let request: Import<'_> = parse(&text)?;
    let cases = request.cases.0.iter().map(|case| parse(case.get().as_bytes()).map_err(|failure: Failure| failure.detail()));
    let imported = app.evals.import(&caller.tenant, &agent, cases.collect()).await?;
    told(&caller, &agent, "imported", imported);
    Ok(JsonBody(ImportedBody { imported: imported as u64 }))
}

pub async fn show(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, id): Ids<String, EvalCaseId>,
) -> Result<JsonBody<EvalCaseBody>, Failure> {
    Ok(body(app.evals.case(&caller.tenant, &agent, id).await?))
}

pub async fn change(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, id): Ids<String, EvalCaseId>,
    Json(request): Json<ChangeEvalCase, CASE_MAX>,
) -> Result<JsonBody<EvalCaseBody>, Failure> {
    let row = app.evals.change_case(&caller.tenant, &agent, id, request).await?;
    told(&caller, &agent, "changed", 1);
    Ok(body(row))
}

pub async fn delete(
    State(app): State<App>,
    caller: Principal,
    Ids(agent, id): Ids<String, EvalCaseId>,
) -> Result<JsonBody<Value>, Failure> {
    app.evals.delete_case(&caller.tenant, &agent, id).await?;
    told(&caller, &agent, "deleted", 1);
    Ok(JsonBody(json!({"ok": true})))
}
