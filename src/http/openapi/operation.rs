//! One operation of the document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

/// Errors by status: name of the component, code, and when it is answered.
pub const ERRORS: [(u16, &str, &str, &str); 12] = [
    (400, "Invalid", "invalid_request", "The request can not be read, or a field of it is wrong: `details` says which"),
    (401, "Unauthorized", "unauthorized", "There is no key, or it is not a good one"),
    (
        403,
        "Forbidden",
        "forbidden",
        "The caller is known, but may not do this; on the control socket also a stranger, or a web page",
    ),
    (404, "NotFound", "not_found", "There is no such thing, or it belongs to another tenant"),
    (409, "Conflict", "conflict", "The state of the thing forbids it now"),
    (410, "Gone", "gone", "It is over for good"),
    (413, "TooLarge", "too_large", "The body is larger than this operation takes"),
    (415, "UnsupportedMediaType", "unsupported_media_type", "The body has not the content type that this operation takes"),
    (422, "Unprocessable", "unprocessable", "The request is well formed, but can not be carried out"),
    (429, "RateLimited", "rate_limited", "There are too many already; `Retry-After` says when to try again"),
    (500, "Internal", "internal", "A fault in Ash or on its host; the journal has the details under `requestId`"),
    (503, "Unavailable", "unavailable", "There is no room or no database right now; `Retry-After` says when to try again"),
];

/// Where the schema of this name is.
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A text.
pub fn text() -> Value {
    json!({"type": "string"})
}

/// One of these words.
pub fn word(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

/// A whole number from `least` on.
pub fn whole(least: i64) -> Value {
    json!({"type": "integer", "format": "int64", "minimum": least})
}

/// How many rows an answer has: 1 to `most`.
pub fn limit(default: i64, most: i64) -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": most, "default": default})
}

/// Yes or no.
pub fn flag(default: bool) -> Value {
    json!({"type": "boolean", "default": default})
}

/// Bytes as they are.
pub fn binary() -> Value {
    json!({"type": "string", "format": "binary"})
}

/// An object with these fields, all of which are there.
pub fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let required: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    json!({"type": "object", "required": required, "properties": Map::from_iter(fields.clone().map(|(name, schema)| (name.to_owned(), schema)))})
}

/// An operation. Errors that follow from its form are added by [`Self::finish`]: all can get a bad
/// request and meet a fault, those that need a key say who may not, those with a parameter in their
/// path can miss it, and those with a body can refuse it.
pub struct Operation {
    /// The path as the router has it.
    pub path: &'static str,
    /// The method, in lower case.
    pub method: &'static str,
    /// What its types need.
    pub schemas: Vec<(String, RefOr<Schema>)>,
    fields: Map<String, Value>,
    parameters: Vec<Value>,
    responses: BTreeMap<u16, Value>,
    has_body: bool,
    is_open: bool,
}

macro_rules! methods {
    ($($name:ident),*) => { $(
        /// The operation of this method, with its stable id and a few words.
        pub fn $name(path: &'static str, id: &str, summary: &str) -> Operation {
            Operation::new(stringify!($name), path, id, summary)
        }
    )* };
}
methods!(get, put, post, patch, delete);

impl Operation {
    fn new(method: &'static str, path: &'static str, id: &str, summary: &str) -> Self {
        let fields = Map::from_iter([("operationId".to_owned(), json!(id)), ("summary".to_owned(), json!(summary))]);
        Self {
            path,
            method,
            schemas: Vec::new(),
            fields,
            parameters: Vec::new(),
            responses: BTreeMap::new(),
            has_body: false,
            is_open: false,
        }
    }

    /// Says more of it than the summary.
    pub fn about(mut self, description: &str) -> Self {
        self.fields.insert("description".to_owned(), json!(description));
        self
    }

    /// It needs no key.
    pub fn open(mut self) -> Self {
        self.fields.insert("security".to_owned(), json!([]));
        self.is_open = true;
        self
    }

    /// It takes a parameter in the query.
    pub fn query(self, name: &str, schema: Value, description: &str) -> Self {
        self.parameter("query", name, schema, description)
    }

    /// It takes a parameter in the query that has to be there.
    pub fn query_required(self, name: &str, schema: Value, description: &str) -> Self {
        let mut operation = self.query(name, schema, description);
        if let Some(last) = operation.parameters.last_mut() {
            last["required"] = json!(true);
        }
        operation
    }

    /// It looks at a header.
    pub fn header(self, name: &str, schema: Value, description: &str) -> Self {
        self.parameter("header", name, schema, description)
    }

    fn parameter(mut self, place: &str, name: &str, schema: Value, description: &str) -> Self {
        let required = place == "path";
        self.parameters.push(json!({
            "name": name, "in": place, "required": required, "schema": schema, "description": description,
        }));
        self
    }

    /// It takes JSON of this type, such as `example`.
    pub fn takes<T: ToSchema>(mut self, example: Value) -> Self {
        let schema = self.schema::<T>();
        self.takes_as("application/json", json!({"schema": schema, "example": example}))
    }

    /// It takes a body of this media type.
    pub fn takes_as(mut self, media_type: &str, content: Value) -> Self {
        let body = self.fields.entry("requestBody").or_insert_with(|| json!({"content": {}, "required": true}));
        body["content"][media_type] = content;
        self.has_body = true;
        self
    }

    /// Its body may be left out.
    pub fn or_nothing(mut self) -> Self {
        self.fields["requestBody"]["required"] = json!(false);
        self
    }

    /// It answers with JSON of this type, such as `example`.
    pub fn answers<T: ToSchema>(mut self, status: u16, description: &str, example: Value) -> Self {
        let schema = self.schema::<T>();
        self.answers_as(status, description, "application/json", json!({"schema": schema, "example": example}))
    }

    /// It answers without a body.
    pub fn answers_with_nothing(mut self, status: u16, description: &str) -> Self {
        self.responses.insert(status, response(description));
        self
    }

    /// It answers with a body of this media type; a second one of a status stands beside the first.
    pub fn answers_as(mut self, status: u16, description: &str, media_type: &str, content: Value) -> Self {
        let response = self.responses.entry(status).or_insert_with(|| response(description));
        response["content"][media_type] = content;
        self
    }

    /// Its answer of a status, given before, has a header.
    pub fn with_header(mut self, status: u16, name: &str, schema: Value, description: &str) -> Self {
        if let Some(response) = self.responses.get_mut(&status) {
            response["headers"][name] = json!({"schema": schema, "description": description});
        }
        self
    }

    /// It can answer with an error that does not follow from its form, or for a reason of its own.
    pub fn fails(mut self, status: u16, when: &str) -> Self {
        let name = ERRORS.iter().find(|(code, ..)| *code == status).map_or("Internal", |(_, name, ..)| name);
        let mut refusal = json!({"$ref": format!("#/components/responses/{name}")});
        if !when.is_empty() {
            refusal["description"] = json!(when);
        }
        self.responses.insert(status, refusal);
        self
    }

    /// The document has a schema of this type, for those that are written by hand.
    pub fn needs<T: ToSchema>(mut self) -> Self {
        self.schema::<T>();
        self
    }

    fn schema<T: ToSchema>(&mut self) -> Value {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        reference(&T::name())
    }

    /// The operation as the document has it, under its tag.
    pub fn finish(mut self, tag: &str) -> Value {
        let mut statuses = vec![400, 500, 503];
        if !self.is_open {
            statuses.extend([401, 403, 429]);
        }
        if self.path.contains('{') {
            statuses.push(404);
        }
        if self.has_body {
            statuses.extend([413, 415]);
        }
        for status in statuses {
            if !self.responses.contains_key(&status) {
                self = self.fails(status, "");
            }
        }
        let names = self.path.split('{').skip(1).filter_map(|part| part.split('}').next());
        let in_path = names.map(|name| in_path(self.path, name.trim_start_matches('*')));
        let parameters: Vec<_> = in_path.chain(std::mem::take(&mut self.parameters)).collect();
        if !parameters.is_empty() {
            self.fields.insert("parameters".to_owned(), json!(parameters));
        }
        let responses = self.responses.into_iter().map(|(status, response)| (status.to_string(), response));
        self.fields.insert("responses".to_owned(), Value::Object(responses.collect()));
        self.fields.insert("tags".to_owned(), json!([tag]));
        Value::Object(self.fields)
    }
}

/// An answer, with the header that all have.
fn response(description: &str) -> Value {
    json!({"description": description, "headers": {"x-request-id": {"$ref": "#/components/headers/RequestId"}}})
}

/// A part of the path.
fn in_path(path: &str, name: &str) -> Value {
    let resource = path.split('/').nth(2).unwrap_or_default();
    let (schema, description) = match (resource, name) {
        ("sessions", "id") => (reference("SessionId"), "The session"),
        ("credentials", "id") => (reference("CredentialId"), "The credential"),
        ("api-keys", "id") => (reference("KeyId"), "The key"),
        (_, "name") => (text(), "The agent's name"),
        (_, "turn") => (reference("TurnId"), "The turn"),
        ("queue", "id") => (reference("QueueId"), "The item"),
        ("schedules", "id") => (reference("ScheduleId"), "The schedule"),
        ("webhooks", "id") => (reference("WebhookId"), "The webhook"),
        (_, "delivery") => (whole(1), "The delivery"),
        ("files", "id") => (reference("FileId"), "The file"),
        ("attachments", "id") => (reference("AttachmentId"), "The attachment"),
        (_, "case") => (reference("EvalCaseId"), "The case"),
        (_, "run") => (reference("EvalRunId"), "The run"),
        (_, "result") => (reference("EvalResultId"), "The result"),
        (_, "version") => (reference("VersionRef"), "The version, by its number or its id"),
        (_, "permission") => (reference("PermissionId"), "The request for permission"),
        (_, "path") => (
            json!({"type": "string", "minLength": 1}),
            "Path of the file, relative to the folder; a slash in it may stand as it is, or as `%2F`",
        ),
        _ => (json!({"type": "string", "format": "uuid"}), "Which one"),
    };
    json!({"name": name, "in": "path", "required": true, "schema": schema, "description": description})
}

/// The errors as components.
pub fn error_components() -> Map<String, Value> {
    let component = |(status, name, code, when): (u16, &str, &str, &str)| {
        let mut refusal = response(when);
        if matches!(status, 429 | 503) {
            refusal["headers"]["Retry-After"] = json!({"$ref": "#/components/headers/RetryAfter"});
        }
        let example = json!({
            "error": when, "statusCode": status, "code": code, "requestId": "019ad5b1-7c40-7c3a-9f0e-3c1f4b6d2a10",
        });
        refusal["content"]["application/json"] = json!({"schema": reference("Problem"), "example": example});
        (name.to_owned(), refusal)
    };
    ERRORS.map(component).into_iter().collect()
}
