//! Operations on agents and their files.

use serde_json::json;

use super::examples;
use super::operation::{Operation, binary, delete, get, object, patch, post, put, text};
use crate::wire::agent::{AgentBody, AgentFileList, AgentFilesBody, AgentList, AgentPatch, DeployBody};

const CHANGED: &str = "The agent's new version";

pub fn operations() -> Vec<Operation> {
    let agent = || json!({"agent": examples::agent()});
    let count = || json!({"type": "integer", "minimum": 0});
    let config = || json!({"schema": object([("config", json!({"type": "object"}))]), "example": {"config": {"model": "claude-sonnet-4-5"}}});
    vec![
        get("/api/agents", "listAgents", "List agents")
            .about("All of the tenant, by name.")
            .answers::<AgentList>(200, "The agents", json!({"agents": [examples::agent()]})),
        post("/api/agents", "deployAgent", "Deploy an agent")
            .about(
                "The first deploy of a name makes the agent, a later one its next version. The content is `files` as a whole, or a \
                 folder of the host by its `path`, where the operator opened some.",
            )
            .takes::<DeployBody>(json!({"name": "helper", "systemPrompt": "You answer in one sentence.", "env": {"LANG": "C.UTF-8"}}))
            .answers::<AgentBody>(201, "The agent at its new version", agent())
            .fails(403, "The folder is in none that the operator opened (`agents.path_roots`), or is not for callers on TCP"),
        get("/api/agents/{name}", "getAgent", "Show an agent").answers::<AgentBody>(200, "The agent", agent()),
        patch("/api/agents/{name}", "updateAgent", "Change an agent")
            .about("Its environment as a whole, its free-form configuration field by field. Its content stays.")
            .takes::<AgentPatch>(json!({"env": {"LANG": "C.UTF-8"}}))
            .or_nothing()
            .answers::<AgentBody>(200, "The agent", agent()),
        delete("/api/agents/{name}", "deleteAgent", "Delete an agent")
            .about("Its sessions are ended first; they can still be read.")
            .answers_as(200, "It is deleted", "application/json", super::host::done()),
        put("/api/agents/{name}/archive", "deployAgentArchive", "Deploy an agent from an archive")
            .about("The archive has the whole content of the version. It is read as it comes, so it may be large.")
            .takes_as("application/x-tar", json!({"schema": binary()}))
            .answers::<AgentBody>(201, "The agent at its new version", agent()),
        get("/api/agents/{name}/config", "getAgentConfig", "Show an agent's configuration")
            .answers_as(200, "The free-form configuration", "application/json", config()),
        patch("/api/agents/{name}/config", "updateAgentConfig", "Change an agent's configuration")
            .about("Merged field by field. No body, and an empty one, changes nothing.")
            .takes_as("application/json", json!({"schema": {"type": "object"}, "example": {"model": "claude-sonnet-4-5"}}))
            .or_nothing()
            .answers_as(200, "The free-form configuration", "application/json", config()),
        get("/api/agents/{name}/files", "listAgentFiles", "List an agent's files")
            .answers::<AgentFileList>(200, "The files of the newest version, by path", json!({"files": [examples::file()]})),
        post("/api/agents/{name}/files", "writeAgentFiles", "Write files of an agent")
            .about("They are put in or over those that are there, as a new version, of which later sessions are.")
            .takes::<AgentFilesBody>(json!({"files": [{"path": "CLAUDE.md", "content": "WW91IGFyZSBicmllZi4K"}]}))
            .answers_as(
                200,
                CHANGED,
                "application/json",
                json!({
                    "schema": object([("written", count()), ("version", count()), ("digest", text())]),
                    "example": {"written": 1, "version": 4, "digest": examples::agent()["digest"]},
                }),
            ),
        get("/api/agents/{name}/files/{*path}", "getAgentFile", "Read a file of an agent")
            .query("format", json!({"type": "string", "enum": ["json", "raw"], "default": "json"}), "As text in JSON, at most 1 MiB, or as it is, at most 100 MiB")
            .answers_as(
                200,
                "The file",
                "application/json",
                json!({
                    "schema": object([("path", text()), ("content", text()), ("size", count())]),
                    "example": {"path": "CLAUDE.md", "content": "You are brief.\n", "size": 15},
                }),
            )
            .answers_as(200, "The file", "*/*", json!({"schema": binary()}))
            .with_header(200, "Content-Disposition", text(), "The name of the file; only with `format=raw`"),
        delete("/api/agents/{name}/files/{*path}", "deleteAgentFile", "Delete a file of an agent")
            .about("As a new version, of which later sessions are.")
            .answers_as(
                200,
                CHANGED,
                "application/json",
                json!({
                    "schema": object([("deleted", json!({"const": true})), ("version", count()), ("digest", text())]),
                    "example": {"deleted": true, "version": 5, "digest": examples::agent()["digest"]},
                }),
            ),
    ]
}
