//! Schemas of what is written as something else than its fields: as a text, or as a number.

use std::borrow::Cow;

use serde_json::json;
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::audit::{Action, Outcome};
use super::egress::{ENTRIES_MAX, List};
use super::prompt_version::VersionRef;
use super::quantity::Dollars;
use super::scope::{Scope, Scopes};
use super::secret::Secret;
use super::webhook::WebhookEvent;
use super::{
    AttachmentId, CredentialId, EvalCaseId, EvalResultId, EvalRunId, FileId, KeyId, PermissionId, PromptVersionId, QueueId,
    SandboxId, ScheduleId, SessionId, Timestamp, TurnId, WebhookId,
};

/// A UUID has one spelling only.
const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
/// Longest text of a message, and most blocks of one.
const TEXT_MAX: usize = 500_000;
const BLOCKS_MAX: usize = 20;
/// Longest secret of a credential.
const SECRET_MAX: usize = 16 << 10;

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

macro_rules! id_schema {
    ($($name:ident: $what:literal),* $(,)?) => { $(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let format = SchemaFormat::Custom("uuid".to_owned());
                text().format(Some(format)).pattern(Some(UUID)).description(Some($what)).into()
            }
        }
        impl ToSchema for $name {}
    )* };
}

id_schema! {
    SessionId: "Names a session.",
    SandboxId: "Names a sandbox.",
    TurnId: "Names a turn.",
    PermissionId: "Names a request for permission.",
    KeyId: "Names an API key, without being secret.",
    CredentialId: "Names a credential, without being secret.",
    WebhookId: "Names a webhook, without being secret.",
    ScheduleId: "Names a schedule.",
    QueueId: "Names an item of the queue.",
    EvalCaseId: "Names an eval case.",
    EvalRunId: "Names an eval run.",
    EvalResultId: "Names what one case came to in one eval run.",
    AttachmentId: "Names an attachment.",
    FileId: "Names a file of a tenant.",
    PromptVersionId: "Names a version of an agent's prompt.",
}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        text()
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A time in UTC, with milliseconds."))
            .examples([json!("2026-01-31T12:00:00.000Z")])
            .into()
    }
}
impl ToSchema for Timestamp {}

impl PartialSchema for Secret {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Password);
        text().format(Some(format)).min_length(Some(1)).max_length(Some(SECRET_MAX)).write_only(true).into()
    }
}
impl ToSchema for Secret {}

impl PartialSchema for Dollars {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Number).description(Some("US dollars.")).into()
    }
}
impl ToSchema for Dollars {}

impl PartialSchema for List {
    fn schema() -> RefOr<Schema> {
        let entry = text().description(Some("A host with an optional port, `*.example.com`, `*`, or the name of a preset."));
        ArrayBuilder::new().items(entry).max_items(Some(ENTRIES_MAX)).examples([json!(["api.example.com", "pypi"])]).into()
    }
}
impl ToSchema for List {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("EgressList")
    }
}

macro_rules! word_schema {
    ($($name:ty: $what:literal),* $(,)?) => { $(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let words = <$name>::ALL.iter().map(|word| word.as_str());
                text().enum_values(Some(words.collect::<Vec<_>>())).description(Some($what)).into()
            }
        }
        impl ToSchema for $name {}
    )* };
}

word_schema! {
    Action: "What was done.",
    Outcome: "What came of it.",
    WebhookEvent: "What happened; `*` is everything.",
}

impl PartialSchema for VersionRef {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        OneOfBuilder::new().item(number).item(text()).description(Some("The number or the id of a version.")).into()
    }
}
impl ToSchema for VersionRef {}

impl PartialSchema for Scopes {
    fn schema() -> RefOr<Schema> {
        let word = text().enum_values(Some(Scope::ALL.map(Scope::as_str)));
        ArrayBuilder::new().items(word).description(Some("What it allows; `admin` implies the others.")).into()
    }
}
impl ToSchema for Scopes {}

/// What a message says.
pub fn content() -> Schema {
    let kind = text().enum_values(Some(["text", "image", "document"]));
    let block = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("type", kind)
        .required("type")
        .additional_properties(Some(AdditionalProperties::FreeForm(true)));
    OneOfBuilder::new()
        .item(text().max_length(Some(TEXT_MAX)))
        .item(ArrayBuilder::new().items(block).min_items(Some(1)).max_items(Some(BLOCKS_MAX)))
        .description(Some("A text, or content blocks of the model API. Goes to the runtime exactly as it came."))
        .into()
}
