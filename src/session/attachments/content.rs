//! Attachments in messages: `{"type":"attachment","attachmentId":…}` among the blocks of a message becomes
//! what the model API takes, when the message goes to the runtime. What is stored stays what came.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::read;
use crate::report::chain;
use crate::session::{Context, SessionError, egress};
use crate::store::{AttachmentRow, SessionRow};
use crate::wire::{AttachmentId, SessionId};

/// Bytes of a message with what is put into it, as of one that holds it itself.
const EXPANDED_MAX: u64 = 50 << 20;
/// Bytes of a text that the model is shown. One that is longer lies in the workspace.
const TEXT_MAX: u64 = 500_000;
/// What the model API takes as pictures, and as documents (Anthropic Messages API, 2023-06-01).
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";
/// Texts beside those of `text/…`.
const TEXTS: [&str; 6] = [
    "application/json",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/javascript",
    "application/toml",
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    #[serde(default)]
    r#type: String,
    attachment_id: Option<Value>,
}

/// The blocks of a message, if it has any.
fn blocks(content: &RawValue) -> Vec<&RawValue> {
    if content.get().starts_with('[') { serde_json::from_str(content.get()).unwrap_or_default() } else { Vec::new() }
}

/// What a block names, if it names an attachment; `Err` if that can be none.
fn named(block: &RawValue) -> Option<Result<AttachmentId, ()>> {
    let block: Block = serde_json::from_str(block.get()).ok()?;
    let id = (block.r#type == "attachment").then_some(block.attachment_id)?;
    Some(id.as_ref().and_then(Value::as_str).and_then(|id| id.parse().ok()).ok_or(()))
}

/// Bytes of an attachment in a message.
fn expanded_size(row: &AttachmentRow) -> u64 {
    match kind(row) {
        Kind::Image | Kind::Document => row.size.div_ceil(3) * 4,
        // JSON writes a control character with six.
        Kind::Text => row.size * 6,
        Kind::Other => 0,
    }
}

/// Sees that a message names attachments of its session alone, and has room for them, and that the model API may fetch
/// the sources that it names. With one that it may not, every later call of the conversation would be refused, too.
pub async fn check(context: &Context, session: &SessionRow, content: &RawValue) -> Result<(), SessionError> {
    let blocks = blocks(content);
    egress::check_blocks(context, session, &blocks)?;
    let names: Vec<_> = blocks.into_iter().map(named).collect();
    if names.iter().all(Option::is_none) {
        return Ok(());
    }
    let rows = context.store.attachments(session.id).await?;
    let mut bytes = content.get().len() as u64;
    for (at, name) in names.into_iter().enumerate() {
        let Some(name) = name else { continue };
        let row = name.ok().and_then(|id| rows.iter().find(|row| row.id == id));
        let invalid = || SessionError::Invalid {
            field: format!("content[{at}].attachmentId"),
            reason: "names no attachment of this session".to_owned(),
        };
        bytes += expanded_size(row.ok_or_else(invalid)?);
    }
    if bytes > EXPANDED_MAX {
        let reason = format!("has more than {EXPANDED_MAX} bytes with its attachments");
        return Err(SessionError::Invalid { field: "content".to_owned(), reason });
    }
    Ok(())
}

/// The message as the runtime is given it.
pub async fn expand(context: &Context, session: SessionId, content: &RawValue) -> Box<RawValue> {
    let all = blocks(content);
    if !all.iter().any(|block| named(block).is_some()) {
        return content.to_owned();
    }
    // Without their rows the model is told that they are missing.
    let rows = context.store.attachments(session).await.unwrap_or_default();
    let mut shown = Vec::new();
    for block in all {
        shown.push(match named(block) {
            None => block.get().to_owned(),
            Some(name) => {
                let row = name.ok().and_then(|id| rows.iter().find(|row| row.id == id));
                match row {
                    Some(row) => show(context, row).await,
                    None => text("A file was attached here, and was deleted since."),
                }
            }
        });
    }
    // A list of JSON values is one.
    RawValue::from_string(format!("[{}]", shown.join(","))).unwrap_or_else(|_| content.to_owned())
}

enum Kind {
    Image,
    Document,
    Text,
    Other,
}

fn kind(row: &AttachmentRow) -> Kind {
    let essence = row.mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        image if IMAGES.contains(&image) => Kind::Image,
        PDF => Kind::Document,
        text if (text.starts_with("text/") || TEXTS.contains(&text)) && row.size <= TEXT_MAX => Kind::Text,
        _ => Kind::Other,
    }
}

/// The block that stands for an attachment.
async fn show(context: &Context, row: &AttachmentRow) -> String {
    let kind = kind(row);
    let bytes = match kind {
        Kind::Other => return text(&where_it_lies(row)),
        _ => read(context, row).await,
    };
    match (kind, bytes) {
        (Kind::Image, Ok(bytes)) => json!({"type": "image", "source": source(row, &bytes)}).to_string(),
        (Kind::Document, Ok(bytes)) => {
            json!({"type": "document", "source": source(row, &bytes), "title": row.filename}).to_string()
        }
        (Kind::Text | Kind::Other, Ok(bytes)) => match String::from_utf8(bytes) {
            Ok(content) => text(&format!("The file \"{}\" ({} in the workspace):\n\n{content}", row.filename, row.path)),
            Err(_) => text(&where_it_lies(row)),
        },
        (_, Err(error)) => {
            tracing::warn!(session_id = %row.session, attachment = %row.id, error = chain(&error), "an attachment can not be read, ignoring");
            text(&format!("The file \"{}\" was attached here, and can not be read.", row.filename))
        }
    }
}

fn where_it_lies(row: &AttachmentRow) -> String {
    let AttachmentRow { filename, mime_type, size, path, .. } = row;
    format!("The file \"{filename}\" ({mime_type}, {size} bytes) is attached. It lies in the workspace: {path}")
}

fn text(text: &str) -> String {
    json!({"type": "text", "text": text}).to_string()
}

fn source(row: &AttachmentRow, bytes: &[u8]) -> Value {
    let media_type = row.mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    json!({"type": "base64", "media_type": media_type, "data": STANDARD.encode(bytes)})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn blocks_that_name_attachments_are_found_however_they_are_written() {
        let id = AttachmentId::new();
        let content = raw(&format!(
            r#"[{{"type":"text","text":"attachment"}},{{"attachmentId":"{id}","t\u0079pe":"\u0061ttachment"}},{{"type":"attachment"}},
            {{"type":"attachment","attachmentId":1}},{{"type":"image","attachmentId":"{id}"}}]"#
        ));
        let names: Vec<_> = blocks(&content).into_iter().map(named).collect();
        assert_eq!(names, [None, Some(Ok(id)), Some(Err(())), Some(Err(())), None]);
        assert!(blocks(&raw(r#""[{\"type\":\"attachment\"}]""#)).is_empty(), "a text has no blocks");
    }
}
