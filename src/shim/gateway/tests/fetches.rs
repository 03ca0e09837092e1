//! What the model API is asked to fetch.

use super::*;
use crate::egress::fetch::Note;
use crate::link::shim::Egress as Policy;
use crate::wire::egress::Verdict;

/// A gateway of a session that reaches `ok.example`, its address, what is told, and the endpoint behind it.
async fn bounded() -> (Egress, SocketAddr, mpsc::Receiver<Note>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let inner = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = inner.local_addr().expect("an address");
    let (egress, notes) = Egress::new();
    egress.apply(&policy("ok.example"));
    let (gateway, _) = Gateway::new(egress.clone());
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    gateway.aim(&Settings { retry_ms: 5_000, ..settings(&base) }).expect("an address");
    tokio::spawn(gateway.serve(inner));
    (egress, address, notes, listener)
}

fn policy(host: &str) -> Policy {
    let said = host.to_owned();
    Policy { allow: vec![host.to_owned()], bound: vec!["*:*".to_owned()], said, ..Policy::default() }
}

/// All that came of a call which was broken off.
async fn rest(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.expect("a call");
    let mut seen = Vec::new();
    // It may also be reset.
    let _end = stream.read_to_end(&mut seen).await;
    String::from_utf8_lossy(&seen).into_owned()
}

const SERVER: &str = r#"{"model":"m","mcp_servers":[{"type":"url","url":"https://HOST/x","authorization_token":"secret"}]}"#;
const IMAGE: &str = r#"{"messages":[{"content":[{"type":"image","source":{"type":"url","url":"https://HOST/x"}}]}]}"#;

#[tokio::test]
async fn what_the_session_may_not_reach_is_not_fetched_for_it_either() {
    let (egress, address, mut notes, listener) = bounded().await;
    for (path, body) in [(MESSAGES, SERVER), (MESSAGES, IMAGE), ("/v1/messages/count_tokens", IMAGE)] {
        let body = body.replace("HOST", "evil.example");
        let call = post(path, "anthropic-beta: mcp-client-2025-11-20\r\n", &body);
        let (answer, seen) = tokio::join!(exchange(address, &call), rest(&listener));
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_request_error"), "{answer}");
        let said = "Ash: egress to evil.example:443 is not allowed by this agent's policy (allowed: ok.example)";
        assert!(answer.contains(said), "{answer}");
        assert!(!seen.contains(&body) && !seen.contains("evil.example"), "its end does not leave: {seen}");
        let note = notes.recv().await.expect("told");
        assert_eq!((note.verdict, note.host.as_str(), note.port), (Verdict::Denied, "evil.example", Some(443)));
        assert_eq!(note.reason.as_deref(), Some(said));
    }
    // The policy counts as it is when the request comes.
    for host in ["ok.example", "evil.example"] {
        egress.apply(&policy(host));
        let body = SERVER.replace("HOST", host);
        let call = post(MESSAGES, "", &body);
        let (answer, ()) = tokio::join!(exchange(address, &call), async {
            let (mut model, _) = listener.accept().await.expect("a call");
            read_until(&mut model, &body).await;
            model.write_all(told(1).replace("200 OK", "200 OK\r\nconnection: close").as_bytes()).await.expect("written");
        });
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let note = notes.recv().await.expect("told");
        assert_eq!((note.verdict, note.host.as_str(), note.reason), (Verdict::Allowed, host, None));
    }
}

#[tokio::test]
async fn a_call_that_waits_is_held_to_the_policy_of_its_next_attempt() {
    let (egress, address, mut notes, listener) = bounded().await;
    let body = SERVER.replace("HOST", "ok.example");
    let call = tokio::spawn({
        let call = post(MESSAGES, "", &body);
        async move { exchange(address, &call).await }
    });
    let (mut model, _) = listener.accept().await.expect("a call");
    read_until(&mut model, &body).await;
    egress.apply(&policy("other.example"));
    model.write_all(b"HTTP/1.1 529 Busy\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbusy").await.expect("written");
    let answer = tokio::time::timeout(DEADLINE, call).await.expect("answered in time").expect("answered");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("(allowed: other.example)"), "{answer}");
    let verdicts = [notes.recv().await, notes.recv().await].map(|note| note.expect("told").verdict);
    assert_eq!(verdicts, [Verdict::Allowed, Verdict::Denied]);
}

#[tokio::test]
async fn a_body_that_others_may_read_in_another_way_is_refused() {
    let (_egress, address, mut notes, listener) = bounded().await;
    let hidden = SERVER.replace("HOST", "ok.example").replace("\"type\"", "\"url\":\"https://evil.example\",\"type\"");
    for (headers, body, why) in [
        ("", hidden.as_str(), "has the member \"url\" twice"),
        ("", "{\"model\":\"m\"", "no whole JSON object"),
        ("", "{\"model\":\"m\"}{\"model\":\"n\"}", "not JSON in UTF-8"),
        ("", "GET /v1/keys HTTP/1.1\r\n\r\n", "not JSON in UTF-8"),
        ("content-encoding: gzip\r\n", BODY, "content-encoding"),
        ("content-encoding: identity, gzip\r\n", BODY, "content-encoding"),
    ] {
        let answer = exchange(address, &post(MESSAGES, headers, body)).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_request_error"), "{body}: {answer}");
        assert!(answer.replace('\\', "").contains(why), "{body}: {answer}");
    }
    assert!(notes.try_recv().is_err());
    drop(listener);
    // Nor is it read in another way by what its headers say.
    let (base, seen) = endpoint("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
    let address = gateway(&base).await;
    let headers = "content-type: application/json; charset=utf-7\r\ncontent-encoding: identity\r\n";
    assert!(exchange(address, &post(MESSAGES, headers, BODY)).await.starts_with("HTTP/1.1 200"));
    let seen = seen.await.expect("the call");
    assert!(seen.contains("content-type: application/json\r\n") && !seen.contains("content-encoding"), "{seen}");
}

#[tokio::test]
async fn a_caller_may_send_all_of_what_is_refused() {
    let (_egress, address, _notes, _listener) = bounded().await;
    let mut body = SERVER.replace("HOST", "ok.example").replace("\"type\"", "\"url\":\"https://ok.example\",\"type\"");
    body.insert_str(body.len() - 1, &format!(",\"x\":\"{}\"", "x".repeat(4 << 20)));
    let answer = exchange(address, &post(MESSAGES, "", &body)).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer:.200}");
}
