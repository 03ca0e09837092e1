//! Operations in the workspace of a session.

use serde_json::json;

use super::examples;
use super::operation::{Operation, binary, delete, flag, get, object, post, reference, text, word};
use crate::http::route::files::WriteBody;
use crate::wire::exec::{ExecBody, ExecEnd, ExecPiece, ExecResult, ExecSaid, ExecTold, QUERY_COMMAND_MAX, SOCKET_TIMEOUT_MAX_MS};
use crate::wire::file::{DeletedFile, FileBody, FileList, WrittenList};
use crate::wire::log::LogList;
use crate::wire::snapshot::UploadedBody;

const NO_WORKSPACE: &str = "There is no such session, or it has neither a sandbox nor a snapshot";
const OVER: &str = "The session has ended";
const FAILED: &str = "The workspace could not be read or written, or a fault in Ash or on its host";

pub fn operations() -> Vec<Operation> {
    let cells = |default: u16| json!({"type": "integer", "minimum": 1, "maximum": u16::MAX, "default": default});
    let source = || word(&["sandbox", "snapshot"]);
    let bundle = json!({"schema": object([("bundle", json!({"type": "string", "contentEncoding": "base64"}))])});
    vec![
        get("/api/sessions/{id}/files", "listFiles", "List files of a workspace")
            .query("includeHidden", flag(true), "Caches and the like, too")
            .answers::<FileList>(200, "The files, at most 100 000", json!({"files": [examples::file()], "source": "sandbox"}))
            .fails(404, NO_WORKSPACE)
            .fails(500, FAILED),
        post("/api/sessions/{id}/files", "writeFiles", "Write files of a workspace")
            .about("Each file is written or not on its own, and the answer says why not. At most 50 MiB for one, 100 MiB for all.")
            .takes::<WriteBody<'static>>(json!({"files": [{"path": "notes.md", "content": "SGVsbG8K"}], "targetPath": "docs"}))
            .answers::<WrittenList>(200, "What became of each file", json!({"files": [{"path": "notes.md", "written": true, "size": 6}]}))
            .fails(409, "The disk is full")
            .fails(410, OVER)
            .fails(422, "The sandbox can not be brought up for it")
            .fails(500, FAILED),
        get("/api/sessions/{id}/files/{*path}", "getFile", "Read a file of a workspace")
            .query("format", json!({"type": "string", "enum": ["raw", "json"], "default": "raw"}), "As it is, at most 100 MiB, or as text in JSON, at most 1 MiB")
            .answers::<FileBody>(200, "The file", json!({"path": "notes.md", "content": "Hello\n", "size": 6, "source": "sandbox"}))
            .answers_as(200, "The file", "*/*", json!({"schema": binary()}))
            .with_header(200, "Content-Disposition", text(), "The name of the file; only with `format=raw`")
            .with_header(200, "x-ash-source", source(), "Where the file is; only with `format=raw`")
            .fails(404, "There is no such session or file, or the session has neither a sandbox nor a snapshot")
            .fails(500, FAILED),
        delete("/api/sessions/{id}/files/{*path}", "deleteFile", "Delete a file of a workspace")
            .answers::<DeletedFile>(200, "It is deleted", json!({"path": "notes.md", "deleted": true}))
            .fails(404, "There is no such session or file")
            .fails(409, "The disk is full")
            .fails(410, OVER)
            .fails(422, "The sandbox can not be brought up for it")
            .fails(500, FAILED),
        get("/api/sessions/{id}/workspace", "downloadWorkspace", "Download a workspace")
            .about("As a bundle, `tar.gz`. A body that breaks off is not whole.")
            .query("all", flag(false), "Also what is left out otherwise: caches, `.git`, `.env` and the like")
            .answers_as(200, "The bundle", "application/gzip", json!({"schema": binary()}))
            .with_header(200, "Content-Disposition", text(), "A name for the bundle")
            .with_header(200, "x-ash-source", source(), "Where the files are")
            .fails(404, NO_WORKSPACE)
            .fails(500, FAILED),
        post("/api/sessions/{id}/workspace", "uploadWorkspace", "Upload a workspace")
            .about("The bundle is looked at as a whole first; a bad one changes nothing. A snapshot is taken before.")
            .query("replace", flag(false), "Whether what is there goes")
            .takes_as("application/gzip", json!({"schema": binary()}))
            .takes_as("application/json", bundle)
            .answers::<UploadedBody>(200, "The files are in the workspace", json!({"message": "Workspace restored to live sandbox"}))
            .fails(409, "The disk is full")
            .fails(410, OVER)
            .fails(422, "The sandbox can not be brought up for it")
            .fails(500, FAILED),
        post("/api/sessions/{id}/exec", "runCommand", "Run a command in a workspace")
            .about("In the session's sandbox, by its shell. It is killed when its caller goes away.")
            .takes::<ExecBody>(json!({"command": "ls -l", "timeout": 10_000}))
            .takes_as(
                "application/x-ash-exec",
                json!({"schema": {"type": "string", "format": "binary", "description": "A line of JSON as in the other form, then the bytes of the standard input"}}),
            )
            .answers::<ExecResult>(
                200,
                "How it ended and what it wrote; with `stream` the same as it comes",
                json!({"exitCode": 0, "signal": null, "timedOut": false, "stdout": "total 0\n", "stderr": "", "truncated": false}),
            )
            .needs::<ExecPiece>()
            .needs::<ExecEnd>()
            .answers_as(200, "", "text/event-stream", json!({"schema": reference("ExecFrame")}))
            .fails(400, "The session is not `active` (code `conflict`), or the request is wrong")
            .fails(409, "The disk is full")
            .fails(429, "As many programs run in the session as may, which are eight")
            .fails(500, "It could not be run, or its end is not known, or a fault in Ash or on its host"),
        get("/api/sessions/{id}/exec", "openTerminal", "Run a command on a WebSocket")
            .about(
                "With a terminal in the sandbox, unless `tty` is false. Needs the scope `run`. The subprotocol is `ash.exec.v1`. Binary \
                 messages of the client are typed; a text message is `{\"resize\": {\"rows\", \"cols\"}}` or `{\"end\": true}`. Binary messages of \
                 the server are a byte, 1 for standard output and the terminal, 2 for standard error, and what was written; the one \
                 text message is `{\"exit\": …}` or `{\"error\": …}` and the last. It is killed when its caller goes away.",
            )
            .query("command", json!({"type": "string", "minLength": 1, "maxLength": QUERY_COMMAND_MAX}), "What the shell runs; default: a shell")
            .query("tty", flag(true), "Whether it gets a terminal")
            .query("rows", cells(24), "Lines of the terminal")
            .query("cols", cells(80), "Characters of a line")
            .query("term", json!({"type": "string", "pattern": "^[A-Za-z0-9+._-]{1,64}$", "default": "xterm-256color"}), "Kind of the terminal")
            .query(
                "timeout",
                json!({"type": "integer", "minimum": 1, "maximum": SOCKET_TIMEOUT_MAX_MS, "default": SOCKET_TIMEOUT_MAX_MS}),
                "Milliseconds after which it is killed",
            )
            .needs::<ExecSaid>()
            .needs::<ExecTold>()
            .answers_with_nothing(101, "The command runs, and the connection is its")
            .fails(400, "The session is not `active` (code `conflict`), or the request is wrong, or opens no WebSocket")
            .fails(409, "The disk is full"),
        get("/api/sessions/{id}/logs", "listLogs", "List what was said in the sandbox")
            .about("At most 10 000 lines and 2 MiB. None without a sandbox, or of one that is frozen.")
            .query("after", json!({"type": "integer", "format": "int64", "minimum": -1}), "Only lines behind this `index`")
            .query("wake", flag(false), "Whether a sandbox that is frozen is thawed for it")
            .answers::<LogList>(
                200,
                "The last lines, oldest first",
                json!({"logs": [{"index": 0, "level": "stderr", "text": "ready", "ts": "2026-01-31T12:00:00.000Z"}], "source": "sandbox"}),
            ),
    ]
}
