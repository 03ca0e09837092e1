//! The OpenAPI document, and the page that shows it.
//!
//! Bodies are described by the types that read and write them (`ToSchema` in `wire`), operations by
//! the tables of this folder, one file for each group of resources. They are tables and not
//! attributes of the handlers since most of an operation follows from its form and is said once, in
//! `operation`. `docs/openapi.json` is the document as it is served; `tests/openapi.rs` holds it
//! against this code, and against what a daemon answers.
//!
//! # Adding a route
//!
//! 1. Put it into the table of [`router`](super::router).
//! 2. Describe it in the file of its resource here. The least is
//!    `get("/api/things/{id}", "getThing", "Show a thing").answers::<ThingBody>(200, "The thing", example)`;
//!    `takes` for a body, `query` for each parameter with its bounds, `fails` for each error that does not
//!    follow from the form. Types of bodies get
//!    `#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]`.
//! 3. `ASH_UPDATE=1 cargo test --features failpoints --test openapi` writes the document.
//!
//! The tests fail for a route without an operation, an operation without a route, an example that its
//! schema refuses, and an answer of the daemon that is not as described.

mod access;
mod agents;
mod attachments;
mod conversation;
mod evals;
mod examples;
mod frames;
mod host;
mod limits;
mod operation;
mod project_files;
mod queue;
mod schedules;
mod sessions;
pub mod ui;
mod usage;
mod versions;
mod webhooks;
mod workspace;

use serde_json::{Map, Value, json};

use self::operation::{Operation, error_components};
use crate::wire::VERSION;
use crate::wire::limits::BOUNDS;

/// A group of operations: tag, what it is about, and its operations.
type Group = (&'static str, &'static str, fn() -> Vec<Operation>);

const GROUPS: [Group; 18] = [
    ("agents", "Folders that can be run, and their versions.", agents::operations),
    ("versions", "Versions of an agent's prompt, of which one can be active.", versions::operations),
    ("sessions", "Conversations with an agent, their life and their snapshots.", sessions::operations),
    ("conversation", "Messages, turns, events, streams and permission.", conversation::operations),
    ("workspace", "Files of a session, commands in it, and what was said there.", workspace::operations),
    ("attachments", "Files that are given to a session.", attachments::operations),
    ("files", "Files of a tenant that are of no session.", project_files::operations),
    ("queue", "Messages that are answered when there is time.", queue::operations),
    ("schedules", "Messages that are queued at the times of a calendar.", schedules::operations),
    ("evals", "Questions that agents are asked again and again, and what the answers are worth.", evals::operations),
    ("usage", "What turns took, and what it cost.", usage::operations),
    ("webhooks", "Who is told of events.", webhooks::operations),
    ("limits", "What a session may use and reach, and what confines it.", limits::operations),
    ("credentials", "Secrets that sessions use and never see.", access::credentials),
    ("keys", "API keys: secrets with which programs call Ash.", access::keys),
    ("audit", "Who did what that others have to be able to ask about.", access::audit),
    ("host", "The daemon itself. Some of it is for callers on the control socket alone.", host::operations),
    ("health", "Whether it is up. Open to everybody.", host::open),
];

const ABOUT: &str = "\
Ash turns a folder with a `CLAUDE.md` into an API: deploy it as an **agent**, create **sessions** with it, and send them \
messages; each session lives in a sandbox of its own.

The same routes are on the control socket of the host, where the caller is known by his user, and on TCP, where \
every route but `/health`, `/docs` and links to files needs an API key (`Authorization: Bearer ash_…`, from `ashctl key create`).

Every answer has an `x-request-id`, and every error the one body `Problem`. `GET` routes answer `HEAD`, too; a method that a \
path has not is 405. Unknown fields are ignored on routes that other clients know, and refused on those that are Ash's own.";

/// The document.
pub fn document() -> Value {
    let mut schemas = frames::components();
    let mut paths = Map::new();
    for (tag, _, operations) in GROUPS {
        for mut operation in operations() {
            for (name, schema) in std::mem::take(&mut operation.schemas) {
                // A schema is made of texts and numbers, which JSON can hold.
                schemas.insert(name, serde_json::to_value(schema).unwrap_or_default());
            }
            let path = operation.path.replace("{*", "{");
            let (method, place) = (operation.method, paths.entry(path).or_insert_with(|| json!({})));
            place[method] = operation.finish(tag);
        }
    }
    bound_limits(&mut schemas);
    let mut schemas = Value::Object(schemas);
    tidy(&mut schemas);
    let tags: Vec<_> = GROUPS.iter().map(|(name, about, _)| json!({"name": name, "description": about})).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ash",
            "version": VERSION,
            "summary": "A host for AI agents, each session in a sandbox of its own",
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "externalDocs": {"description": "Guides", "url": "https://github.com/ash-host/ash/tree/main/docs"},
        "servers": [{"url": "/", "description": "The daemon that this document came from"}],
        "security": [{"apiKey": []}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": error_components(),
            "headers": {
                "RequestId": {
                    "description": "Names the request in the daemon's journal: the caller's own, or a UUID.",
                    "required": true,
                    "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9._-]+$"},
                },
                "RetryAfter": {
                    "description": "Seconds after which another try may help.",
                    "schema": {"type": "integer", "minimum": 0},
                },
            },
            "securitySchemes": {
                "apiKey": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "ash_…",
                    "description": "An API key. Not needed on the control socket.",
                },
            },
        },
    })
}

/// The document as YAML. Every text is written as in JSON, which YAML reads (YAML 1.2.2 §1.3), so none
/// can be taken for something else.
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    write_yaml(value, 0, &mut text);
    text
}

fn write_yaml(value: &Value, depth: usize, to: &mut String) {
    let mut item = |start: String, value: &Value| {
        to.push_str(&"  ".repeat(depth));
        to.push_str(&start);
        match value {
            Value::Object(fields) if !fields.is_empty() => to.push('\n'),
            Value::Array(items) if !items.is_empty() => to.push('\n'),
            scalar => return to.push_str(&format!(" {scalar}\n")),
        }
        write_yaml(value, depth + 1, to);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| item(format!("{}:", Value::from(name.as_str())), value)),
        Value::Array(items) => items.iter().for_each(|value| item("-".to_owned(), value)),
        _ => {}
    }
}

/// Limits are checked against a table of their own.
fn bound_limits(schemas: &mut Map<String, Value>) {
    for (field, least, most) in BOUNDS {
        let Some(schema) = schemas.get_mut("Limits").and_then(|limits| limits["properties"].get_mut(*field)) else { continue };
        let number = |bound: f64| if *field == "maxCostUsd" { json!(bound) } else { json!(bound as u64) };
        // A bound beside a reference counts, too (JSON Schema 2020-12).
        schema["minimum"] = number(*least);
        schema["maximum"] = number(*most);
    }
}

/// Makes of what was written for readers of the code what is for readers of the document.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(words)) = fields.get_mut("enum") {
                // How a client reads a word of a later daemon; no daemon says it.
                words.retain(|word| word != "unknown");
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = without_links(text);
            }
            // What is left out is not `null`.
            if fields.get("default") == Some(&Value::Null) {
                fields.remove("default");
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Takes links to the code out of a text: what is written ``[`X`]`` or ``[`X`](path)`` becomes `` `X` ``.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((name, after)) = link.split_once("`]") else { break };
        plain.push_str(&format!("{before}`{name}`"));
        rest = match after.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_has_its_operations_and_every_operation_its_route() {
        let routes = crate::http::routes();
        let paths = routes.iter().map(|route| route.path).chain(["/health", "/api/files/{id}/download"]);
        // A path that ends in a slash says only what is missing behind it.
        let routes: BTreeSet<_> = paths.filter(|path| !path.ends_with('/')).map(|path| path.replace("{*", "{")).collect();
        let document = document();
        let described: BTreeSet<_> = document["paths"].as_object().expect("paths").keys().cloned().collect();
        assert_eq!(routes, described, "left: the router; right: the document");
    }

    #[test]
    fn operation_ids_are_unique() {
        let mut ids = BTreeSet::new();
        for (tag, _, operations) in GROUPS {
            for operation in operations() {
                let id = operation.finish(tag)["operationId"].as_str().expect("an id").to_owned();
                assert!(ids.insert(id.clone()), "{id}");
            }
        }
    }

    #[test]
    fn links_to_the_code_are_plain_names() {
        assert_eq!(without_links("see [`A`] and [`B`](super::B), [not] `c`"), "see `A` and `B`, [not] `c`");
    }

    #[test]
    fn yaml_says_the_same_as_json() {
        let value = json!({"a": [], "b": {"c": [1, {"d": "x: \"y\"", "e": null}], "f": {}}, "g": "no"});
        let wanted = "\"a\": []\n\"b\":\n  \"c\":\n    - 1\n    -\n      \"d\": \"x: \\\"y\\\"\"\n      \"e\": null\n  \"f\": {}\n\"g\": \"no\"\n";
        assert_eq!(yaml(&value), wanted);
    }
}
