//! Operations on versions of an agent's prompt.

use serde_json::json;

use super::host::done;
use super::operation::{Operation, delete, get, limit, patch, post, whole};
use crate::wire::prompt_version::{
    ActivatedBody, AgentVersionBody, AgentVersionList, ChangeAgentVersion, CreateAgentVersion, DeactivatedBody,
};

pub fn operations() -> Vec<Operation> {
    let version = || {
        json!({
            "id": "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a32", "agentName": "helper", "versionNumber": 2, "name": "v2", "isActive": true,
            "createdAt": "2026-01-31T12:00:00.000Z", "updatedAt": "2026-01-31T12:00:00.000Z", "tenantId": "default",
            "systemPrompt": "You answer in one sentence.", "releaseNotes": null, "knowledgeFiles": null, "createdBy": "uid:0",
        })
    };
    // The version under its name and its fields beside it.
    let body = || {
        let mut body = version();
        body["version"] = version();
        body
    };
    let none = "There is no such agent or version";
    vec![
        get("/api/agents/{name}/versions", "listAgentVersions", "List versions of an agent's prompt")
            .query("before", whole(1), "Only those with a lower number, to read in pages")
            .query("limit", limit(1000, 1000), "At most so many")
            .answers::<AgentVersionList>(200, "The versions, the newest first", json!({"versions": [version()]})),
        post("/api/agents/{name}/versions", "createAgentVersion", "Make a version of an agent's prompt")
            .takes::<CreateAgentVersion>(json!({"systemPrompt": "You answer in one sentence.", "releaseNotes": "Shorter"}))
            .or_nothing()
            .answers::<AgentVersionBody>(201, "The version", body())
            .fails(409, "The agent has as many versions as it may"),
        get("/api/agents/{name}/versions/{version}", "getAgentVersion", "Show a version of an agent's prompt")
            .answers::<AgentVersionBody>(200, "The version", body())
            .fails(404, none),
        patch("/api/agents/{name}/versions/{version}", "updateAgentVersion", "Change a version of an agent's prompt")
            .about("Sessions that are there keep what they were made with.")
            .takes::<ChangeAgentVersion>(json!({"releaseNotes": "Shorter answers"}))
            .or_nothing()
            .answers::<AgentVersionBody>(200, "The version", body())
            .fails(404, none),
        delete("/api/agents/{name}/versions/{version}", "deleteAgentVersion", "Delete a version of an agent's prompt")
            .about("If it was the active one, none is.")
            .answers_as(200, "It is deleted", "application/json", done())
            .fails(404, none),
        post("/api/agents/{name}/versions/{version}/activate", "activateAgentVersion", "Have new sessions made with a version")
            .answers::<ActivatedBody>(200, "It is the active one", json!({"activated": true, "versionNumber": 2}))
            .fails(404, none),
        post(
            "/api/agents/{name}/versions/{version}/deactivate",
            "deactivateAgentVersion",
            "Have new sessions made without a version",
        )
        .answers::<DeactivatedBody>(200, "It is not active", json!({"deactivated": true, "versionNumber": 2}))
        .fails(404, none),
    ]
}
