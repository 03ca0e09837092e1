//! Operations on credentials and API keys.

use serde_json::json;

use super::examples;
use super::host::done;
use super::operation::{Operation, delete, get, limit, patch, post, text, whole, word};
use crate::wire::audit::{Action, AuditList};
use crate::wire::credential::{ChangeCredential, CreateCredential, CredentialBody, CredentialList, Resealed};
use crate::wire::key::{CreateKey, CreatedKey, KeyList};

const NO_MASTER: &str = "Ash has no master key to seal it with, or a fault in Ash or on its host";

pub fn credentials() -> Vec<Operation> {
    let credential = || json!({"credential": examples::credential()});
    vec![
        get("/api/credentials", "listCredentials", "List credentials").answers::<CredentialList>(
            200,
            "The credentials without their secrets, oldest first",
            json!({"credentials": [examples::credential()]}),
        ),
        post("/api/credentials", "createCredential", "Keep a credential")
            .takes::<CreateCredential>(json!({"type": "anthropic", "key": "sk-ant-api03-0123456789", "label": "production"}))
            .answers::<CredentialBody>(201, "The credential without its secret", credential())
            .fails(500, NO_MASTER),
        patch("/api/credentials/{id}", "updateCredential", "Change a credential")
            .about("A new secret counts at once where sandboxes that run can be given it.")
            .takes::<ChangeCredential>(json!({"key": "sk-ant-api03-0123456789"}))
            .or_nothing()
            .answers::<CredentialBody>(200, "The credential without its secret", credential())
            .fails(500, NO_MASTER),
        delete("/api/credentials/{id}", "deleteCredential", "Delete a credential")
            .about("It is taken from sandboxes that run, as far as it is not in their environment.")
            .answers_as(200, "It is deleted", "application/json", done()),
        post("/api/credentials/reseal", "resealCredentials", "Seal all credentials anew")
            .about("Under the newest master key; those of all tenants. For callers on the control socket.")
            .answers::<Resealed>(200, "What was done", json!({"masterKey": "b6f0c2a1", "resealed": 3, "environments": 12}))
            .fails(422, "A credential can not be opened with the master keys that there are")
            .fails(500, NO_MASTER),
    ]
}

pub fn audit() -> Vec<Operation> {
    let entry = json!({
        "id": 7, "at": "2026-01-31T12:00:00.000Z", "tenant": "default", "principal": "uid:0", "action": "key.create",
        "object": "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a32", "requestId": "019ad5b1-7c40-7c3a-9f0e-3c1f4b6d2a10", "outcome": "ok",
    });
    let actions: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
    let time = || json!({"type": "string", "format": "date-time"});
    vec![
        get("/api/audit", "listAudit", "List the audit log")
            .query("action", word(&actions), "Only this was done")
            .query("principal", text(), "Only by this one: `uid:<number>`, `key:<id>` or `session:<id>`")
            .query("object", text(), "Only to this")
            .query("since", time(), "Not before")
            .query("until", time(), "Not after")
            .query("before", whole(1), "Only entries older than the one of this id, to read in pages")
            .query("limit", limit(100, 1000), "At most so many")
            .query("tenant", text(), "Of this tenant; over the control socket only")
            .answers::<AuditList>(200, "The entries, newest first", json!({"entries": [entry]})),
    ]
}

pub fn keys() -> Vec<Operation> {
    let id = "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a32";
    let key = json!({
        "id": id, "label": "ci", "keyPrefix": "ash_Zk3v••••••••", "createdAt": "2026-01-31T12:00:00.000Z", "tenant": "default",
        "scopes": ["read", "run"], "expiresAt": "2026-12-31T00:00:00.000Z",
    });
    vec![
        get("/api/api-keys", "listKeys", "List API keys").answers::<KeyList>(
            200,
            "The keys without their secrets, oldest first",
            json!({"keys": [key]}),
        ),
        post("/api/api-keys", "createKey", "Make an API key")
            .takes::<CreateKey>(json!({"label": "ci", "scopes": ["read", "run"], "expiresIn": "90d"}))
            .or_nothing()
            .answers::<CreatedKey>(201, "The key; its secret is shown this once", json!({"id": id, "key": "ash_…"})),
        delete("/api/api-keys/{id}", "revokeKey", "Revoke an API key").about("At once.").answers_as(
            200,
            "It is revoked",
            "application/json",
            done(),
        ),
    ]
}
