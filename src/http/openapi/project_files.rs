//! Operations on files of tenants.

use serde_json::json;

use super::host::done;
use super::operation::{Operation, binary, delete, get, limit, post, text};
use crate::wire::project_file::{FileLink, ProjectFileBody, ProjectFileList, UploadFile};

const ID: &str = "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a32";
const GONE: &str = "There is no such file, or it has expired";

pub fn operations() -> Vec<Operation> {
    let file = || {
        json!({
            "id": ID, "tenantId": "default", "filename": "report.pdf", "storagePath": format!("files/{ID}"),
            "mimeType": "application/pdf", "size": 48_213, "ttl": "7d", "expiresAt": "2026-02-07T12:00:00.000Z",
            "createdAt": "2026-01-31T12:00:00.000Z",
        })
    };
    let url = format!("https://ash.example/api/files/{ID}/download?expires=1769864400&signature=3q2-7w");
    let seconds = json!({"type": "integer", "minimum": 1, "maximum": 604_800, "default": 3600});
    vec![
        post("/api/files", "uploadFile", "Keep a file")
            .about("It is of no session; `fileId` of a new attachment gives a session a copy.")
            .takes::<UploadFile<'static>>(
                json!({"filename": "notes.txt", "content": "SGVsbG8K", "mimeType": "text/plain", "ttl": "7d"}),
            )
            .answers::<ProjectFileBody>(201, "The file", json!({"file": file()}))
            .fails(409, "The tenant has as many files as it may"),
        get("/api/files", "listProjectFiles", "List the files that are of no session")
            .query("limit", limit(100, 1000), "At most so many")
            .query("before", json!({"type": "string", "format": "uuid"}), "Only files older than this one")
            .answers::<ProjectFileList>(200, "The files, newest first", json!({"files": [file()]})),
        get("/api/files/{id}", "getProjectFile", "Show what is known of a file")
            .answers::<ProjectFileBody>(200, "The file", json!({"file": file()}))
            .fails(404, GONE),
        get("/api/files/{id}/content", "readProjectFile", "Read a file")
            .answers_as(200, "What is in it, of the type that was given with it", "*/*", json!({"schema": binary()}))
            .with_header(200, "Content-Disposition", text(), "The name of the file")
            .fails(404, GONE),
        get("/api/files/{id}/url", "getFileUrl", "Make a link to a file")
            .about("Whoever has it reads the file without an API key, until the link or the file ends.")
            .query("expiresIn", seconds, "For so many seconds")
            .answers::<FileLink>(200, "The link", json!({"url": url, "expiresAt": "2026-01-31T13:00:00.000Z"}))
            .fails(404, GONE),
        get("/api/files/{id}/download", "downloadFile", "Read a file by a link")
            .open()
            .query("expires", json!({"type": "integer", "format": "int64"}), "When the link ends, in seconds since 1970")
            .query("signature", text(), "Made with the link")
            .answers_as(200, "What is in it, of the type that was given with it", "*/*", json!({"schema": binary()}))
            .with_header(200, "Content-Disposition", text(), "The name of the file")
            .fails(404, "There is no such file, or the link is not good or has ended")
            .fails(429, "This address has used too many links that are not good"),
        delete("/api/files/{id}", "deleteProjectFile", "Delete a file")
            .about("What was attached to sessions stays there.")
            .answers_as(200, "It is deleted", "application/json", done())
            .fails(404, GONE),
    ]
}
