//! Operations on attachments.

use serde_json::json;

use super::host::done;
use super::operation::{Operation, binary, delete, get, post, text};
use crate::wire::attachment::{AttachBody, AttachmentBody, AttachmentList};

pub fn operations() -> Vec<Operation> {
    let attachment = || {
        json!({
            "id": "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a32", "sessionId": "019ad5b1-7c40-7c3a-9f0e-3c1f4b6d2a10",
            "filename": "report.pdf", "mimeType": "application/pdf", "size": 48_213, "createdAt": "2026-01-31T12:00:00.000Z",
            "tenantId": "default", "messageId": "unlinked", "path": "attachments/report.pdf", "placed": true,
        })
    };
    vec![
        get("/api/sessions/{id}/attachments", "listAttachments", "List the attachments of a session").answers::<AttachmentList>(
            200,
            "The attachments, oldest first",
            json!({"attachments": [attachment()]}),
        ),
        post("/api/sessions/{id}/attachments", "addAttachment", "Give a session a file")
            .about(
                "It lies in the workspace before the next turn, and a message can name it in a block of the type `attachment`.",
            )
            .takes::<AttachBody<'static>>(json!({"filename": "notes.txt", "content": "SGVsbG8K", "mimeType": "text/plain"}))
            .answers::<AttachmentBody>(201, "The attachment", json!({"attachment": attachment()}))
            .fails(409, "The session has as many attachments as it may")
            .fails(410, "The session has ended"),
        get("/api/attachments/{id}", "getAttachment", "Read an attachment")
            .answers_as(200, "What is in it, of the type that was given with it", "*/*", json!({"schema": binary()}))
            .with_header(200, "Content-Disposition", text(), "The name of the file"),
        delete("/api/attachments/{id}", "deleteAttachment", "Delete an attachment")
            .about("The copy in the workspace stays.")
            .answers_as(200, "It is deleted", "application/json", done()),
    ]
}
