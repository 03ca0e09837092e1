//! A conversation that was had elsewhere, in the form in which the program keeps its own: a pure function.
//!
//! The program resumes it (seen with 2.1.330), and the model is sent each message as one of its role. Of a line, it needs
//! what stands here; all else it writes is left out.

use serde_json::json;
use uuid::Uuid;

use crate::wire::eval::{ChatMessage, ChatRole};
use crate::wire::{SessionId, Timestamp};

/// Where the program looks for the conversation of this id, below HOME: in a folder that is named after the workspace.
pub fn path(conversation: &str) -> String {
    format!(".claude/projects/-work/{conversation}.jsonl")
}

/// The conversation of a session that begins with these messages. `version` is that of the program.
pub fn write(session: SessionId, history: &[ChatMessage], at: Timestamp, version: &str) -> Vec<u8> {
    let id = |index: usize| Uuid::from_u128(session.as_uuid().as_u128().wrapping_add(1 + index as u128));
    let mut text = Vec::new();
    for (index, ChatMessage { role, content }) in history.iter().enumerate() {
        let message = match role {
            ChatRole::User => json!({"role": "user", "content": content}),
            ChatRole::Assistant => json!({
                "id": format!("msg_{}", id(index).simple()),
                "type": "message",
                "role": "assistant",
                "model": "",
                "content": [{"type": "text", "text": content}],
                "stop_reason": "end_turn",
                "stop_sequence": null,
                "usage": {"input_tokens": 0, "output_tokens": 0},
            }),
        };
        let line = json!({
            "parentUuid": index.checked_sub(1).map(id),
            "isSidechain": false,
            "type": role.as_str(),
            "message": message,
            "uuid": id(index),
            "timestamp": at,
            "userType": "external",
            "cwd": "/work",
            "sessionId": session,
            "version": version,
        });
        // JSON takes these for letters, and many a reader of lines for the end of one.
        let line = line.to_string().replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029").replace('\u{85}', "\\u0085");
        text.extend(line.into_bytes());
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn messages_are_lines_of_their_roles_each_behind_the_one_before() {
        let said = |role, content: &str| ChatMessage { role, content: content.to_owned() };
        let odd = "a\nb\r\u{2028}{\"type\":\"user\"}\u{2029}\u{85}\u{b}\u{c}\u{0}";
        let history = [said(ChatRole::User, odd), said(ChatRole::Assistant, "c"), said(ChatRole::User, "d")];
        let session = SessionId::new();
        let text = String::from_utf8(write(session, &history, Timestamp(0), "1.2.3")).expect("text");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 3);
        let ends = |letter: &char| matches!(letter, '\u{2028}' | '\u{2029}' | '\u{85}') || letter.is_control();
        assert_eq!(text.chars().filter(ends).collect::<String>(), "\n\n\n", "nothing else ends a line");
        assert_eq!(lines[0]["parentUuid"], Value::Null);
        for (before, after) in lines.iter().zip(&lines[1..]) {
            assert_eq!(before["uuid"], after["parentUuid"]);
        }
        assert_eq!((&lines[0]["type"], &lines[0]["message"]["content"]), (&json!("user"), &json!(odd)));
        assert_eq!((&lines[1]["type"], &lines[1]["message"]["content"][0]["text"]), (&json!("assistant"), &json!("c")));
        assert!(lines.iter().all(|line| line["sessionId"] == json!(session)));
    }
}
