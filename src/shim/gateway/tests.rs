use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::link::shim::KeyAs;

mod fetches;
mod retries;

/// What calls have as their body, where that is no matter.
const BODY: &str = r#"{"BODY":1}"#;
/// Reached only by a failing test.
const DEADLINE: Duration = Duration::from_secs(20);

fn settings(base_url: &str) -> Settings {
    Settings { base_url: base_url.to_owned(), api_key: Some("sk-real".to_owned()), ..Settings::default() }
}

#[test]
fn an_endpoint_has_a_scheme_a_host_and_maybe_a_path() {
    let cases = [
        ("https://api.example.com", Some("https://api.example.com/v1/messages?beta=true")),
        ("http://127.0.0.1:8099/", Some("http://127.0.0.1:8099/v1/messages?beta=true")),
        ("https://proxy.example.com/anthropic/", Some("https://proxy.example.com/anthropic/v1/messages?beta=true")),
        ("api.example.com", None),
        ("ftp://api.example.com", None),
        ("https://user:secret@api.example.com", None),
        ("https://api.example.com/?q=1", None),
        ("", None),
    ];
    for (base, wanted) in cases {
        let target = Target::new(&settings(base)).ok();
        let uri = target.map(|target| target.uri("/v1/messages", Some("beta=true")).expect("an address").to_string());
        assert_eq!(uri.as_deref(), wanted, "{base}");
    }
    let target = Target::new(&settings("http://h")).expect("an address");
    assert!(!format!("{target:?}").contains("sk-real"));
    let bad = Settings { api_key: Some("a\nb".to_owned()), ..settings("http://h") };
    assert!(matches!(Target::new(&bad), Err(GatewayError::Key)));
}

/// A gateway on a port of its own.
async fn gateway(base_url: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (gateway, _) = Gateway::new(Egress::new().0);
    if !base_url.is_empty() {
        gateway.aim(&settings(base_url)).expect("an address");
    }
    tokio::spawn(gateway.serve(listener));
    address
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    answer
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: inner\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// An endpoint that answers one call with `answer`, and the call as it came.
async fn endpoint(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a call");
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(BODY) {
            stream.read_buf(&mut seen).await.expect("read");
        }
        stream.write_all(answer.as_bytes()).await.expect("written");
        String::from_utf8(seen).expect("text")
    });
    (format!("http://{address}/base"), seen)
}

#[tokio::test]
async fn calls_go_out_with_the_real_key_and_their_own_headers() {
    let answer = "HTTP/1.1 529 \r\nx-up: 1\r\nconnection: x-hop, close\r\nx-hop: 1\r\ncontent-length: 4\r\n\r\nbusy";
    let (base, seen) = endpoint(answer).await;
    let address = gateway(&base).await;
    let headers = "x-api-key: placeholder\r\nauthorization: Bearer x\r\nproxy-authorization: y\r\ncookie: z\r\nanthropic-beta: b-1,b-2\r\nx-unknown: kept\r\nte: trailers\r\n";
    let answer = exchange(address, &post("/v1/messages?beta=true", headers, BODY)).await;
    let seen = seen.await.expect("the call").to_lowercase();
    assert!(seen.starts_with("post /base/v1/messages?beta=true http/1.1\r\n"), "{seen}");
    for kept in [
        "x-api-key: sk-real\r\n",
        "anthropic-beta: b-1,b-2\r\n",
        "x-unknown: kept\r\n",
        "content-length: 10\r\n",
        "content-type: application/json\r\n",
        "host: 127.0.0.1:",
    ] {
        assert!(seen.contains(kept), "{kept:?} in {seen}");
    }
    for dropped in ["placeholder", "bearer", "proxy-authorization", "cookie", "te: ", "host: inner"] {
        assert!(!seen.contains(dropped), "{dropped:?} in {seen}");
    }
    assert!(answer.starts_with("HTTP/1.1 529"), "{answer}");
    assert!(answer.contains("x-up: 1\r\n") && !answer.contains("x-hop") && answer.ends_with("busy"), "{answer}");
}

#[tokio::test]
async fn an_endpoint_of_the_operators_gets_key_headers_and_paths_as_it_wants_them() {
    let (base, seen) = endpoint("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
    let inner = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = inner.local_addr().expect("an address");
    let (gateway, _) = Gateway::new(Egress::new().0);
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let wanted = Settings {
        auth: KeyAs::Bearer,
        headers: [header("x-team", "agents"), header("x-api-key", "second"), header("authorization", "none")].into(),
        messages_path: Some("/chat".to_owned()),
        count_tokens_path: Some(String::new()),
        ..settings(&base)
    };
    assert!(!format!("{wanted:?}").contains("second"));
    gateway.aim(&wanted).expect("an address");
    tokio::spawn(gateway.clone().serve(inner));
    let refused = exchange(address, &post("/v1/messages/count_tokens", "", BODY)).await;
    assert!(refused.starts_with("HTTP/1.1 404") && refused.contains("has no /v1/messages/count_tokens"), "{refused}");
    let headers = "x-api-key: placeholder\r\nauthorization: Bearer x\r\nx-team: others\r\nx-team: more\r\n";
    let answer = exchange(address, &post("/v1/messages?beta=true", headers, BODY)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = seen.await.expect("the call").to_lowercase();
    assert!(seen.starts_with("post /base/chat?beta=true http/1.1\r\n"), "{seen}");
    for kept in ["authorization: bearer sk-real\r\n", "x-team: agents\r\n", "x-api-key: second\r\n"] {
        assert_eq!(seen.matches(kept).count(), 1, "{kept:?} in {seen}");
    }
    for gone in ["placeholder", "bearer x", "others", "more", "none"] {
        assert!(!seen.contains(gone), "{gone:?} in {seen}");
    }
    for bad in [header("a b", "1"), header("x-a", "1\r\nx-b: 2")] {
        let bad = Settings { headers: [bad].into(), ..settings(&base) };
        assert!(matches!(Target::new(&bad), Err(GatewayError::Header(_))));
    }
}

#[tokio::test]
async fn nothing_else_leaves() {
    let (base, seen) = endpoint("").await;
    let address = gateway(&base).await;
    let requests = [
        "GET /v1/messages HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_owned(),
        "GET http://elsewhere/ HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_owned(),
        "CONNECT elsewhere:443 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_owned(),
        post("/v1/models", "", BODY),
        post("/v1/messages/", "", BODY),
        post("/v1/messages/batches", "", BODY),
        post("/v1/../v1/messages", "", BODY),
        post("/V1/messages", "", BODY),
    ];
    for request in requests {
        let answer = exchange(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{request}: {answer}");
        let body = answer.split("\r\n\r\n").nth(1).expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("not_found_error")));
    }
    assert!(!seen.is_finished(), "the endpoint heard of none of them");
}

#[tokio::test]
async fn a_second_request_can_not_hide_in_the_body_of_the_first() {
    // An endpoint that went by the length would take the rest for a request of the gateway's own.
    let hidden = BODY;
    for headers in [
        "content-length: 0\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 0\r\n",
        "connection: content-length\r\ntransfer-encoding: chunked\r\n",
    ] {
        let (base, seen) = endpoint("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        let address = gateway(&base).await;
        let mut caller = TcpStream::connect(address).await.expect("connected");
        let body = format!("{:x}\r\n{hidden}\r\n", hidden.len());
        let head = format!("POST /v1/messages HTTP/1.1\r\nhost: h\r\n{headers}\r\n{body}");
        caller.write_all(head.as_bytes()).await.expect("written");
        let seen = tokio::time::timeout(DEADLINE, seen).await.expect("all of it arrives").expect("the call").to_lowercase();
        assert!(!seen.contains("content-length"), "{seen}");
        assert!(
            seen.contains("transfer-encoding: chunked")
                && seen.contains(&format!("\r\n\r\n{:x}\r\n{}", hidden.len(), hidden.to_lowercase())),
            "{seen}"
        );
    }
    let address = gateway("http://127.0.0.1:1").await;
    for headers in [
        "content-length: 4\r\ncontent-length: 5\r\n".to_owned(),
        "content-length: +4\r\n".to_owned(),
        "transfer-encoding: x-other\r\n".to_owned(),
        " folded: x\r\n".to_owned(),
        "x-many: 1\r\n".repeat(HEADERS_MAX + 1),
        format!("x-large: {}\r\n", "x".repeat(4 * HEAD_MAX)),
    ] {
        let answer = exchange(address, &format!("POST /v1/messages HTTP/1.1\r\nhost: h\r\n{headers}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{headers:.60}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let address = gateway("http://127.0.0.1:1").await;
    let head = format!("POST /v1/messages HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", BODY_MAX + 1);
    let answer = exchange(address, &head).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("request_too_large"), "{answer}");
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_named_with_the_cause() {
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let address = gateway(&format!("http://{unused}")).await;
    let answer = exchange(address, &post("/v1/messages", "", BODY)).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains(&unused.to_string()) && answer.contains("Connection refused"), "{answer}");
    let address = gateway("").await;
    let answer = exchange(address, &post("/v1/messages", "", BODY)).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("no session is set up"), "{answer}");
}

#[tokio::test]
async fn an_answer_streams_through_as_it_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let address = gateway(&base).await;
    let mut caller = TcpStream::connect(address).await.expect("connected");
    // Neither the request's body nor the answer is complete when the first part arrives.
    caller.write_all(b"POST /v1/messages HTTP/1.1\r\nhost: h\r\ncontent-length: 8\r\n\r\n{\"a\"").await.expect("written");
    let (mut model, _) = listener.accept().await.expect("a call");
    let mut seen = Vec::new();
    while !seen.ends_with(b"{\"a\"") {
        model.read_buf(&mut seen).await.expect("read");
    }
    model
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await
        .expect("written");
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("first") {
        caller.read_buf(&mut heard).await.expect("read");
    }
    // The model breaks off; the caller sees that the answer is not whole.
    drop(model);
    let rest = caller.read_to_end(&mut heard).await;
    assert!(rest.is_err() || !String::from_utf8_lossy(&heard).contains("\r\n0\r\n"), "{heard:?}");
}

#[tokio::test]
async fn an_endpoint_without_a_valid_certificate_is_not_spoken_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let inner = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = inner.local_addr().expect("an address");
    let (gateway, mut waits) = Gateway::new(Egress::new().0);
    let base = format!("https://{}", listener.local_addr().expect("an address"));
    gateway.aim(&Settings { retry_ms: 5_000, ..settings(&base) }).expect("an address");
    tokio::spawn(gateway.serve(inner));
    let endpoint = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a call");
        let mut seen = Vec::new();
        stream.read_buf(&mut seen).await.expect("read");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("written");
        seen
    });
    let answer = exchange(address, &post("/v1/messages", "", BODY)).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("can not be reached"), "{answer}");
    assert!(waits.try_recv().is_err(), "nor does it become another one");
    if endpoint.is_finished() {
        let seen = String::from_utf8_lossy(&endpoint.await.expect("the call")).into_owned();
        assert!(!seen.contains("sk-real") && !seen.contains("POST"), "{seen}");
    }
}

#[tokio::test]
async fn tokens_are_counted_before_the_caller_has_the_end_of_the_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let inner = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = inner.local_addr().expect("an address");
    let (gateway, _) = Gateway::new(Egress::new().0);
    gateway.aim(&settings(&base)).expect("an address");
    tokio::spawn(gateway.clone().serve(inner));
    let body = r#"{"model":"m","usage":{"input_tokens":3,"output_tokens":4}}"#;
    for (path, status, counted) in [
        ("/v1/messages?beta=true", "200 OK", true),
        ("/v1/messages/count_tokens", "200 OK", false),
        ("/v1/messages", "529 Busy", false),
    ] {
        let mut caller = TcpStream::connect(address).await.expect("connected");
        caller.write_all(post(path, "accept-encoding: gzip, br\r\n", BODY).as_bytes()).await.expect("written");
        let (mut model, _) = listener.accept().await.expect("a call");
        let mut seen = Vec::new();
        while !seen.ends_with(BODY.as_bytes()) {
            model.read_buf(&mut seen).await.expect("read");
        }
        let seen = String::from_utf8(seen).expect("text");
        assert!(seen.contains("accept-encoding: identity\r\n") && !seen.contains("gzip"), "{seen}");
        // One byte less than it says, so that the answer is not over when it is counted.
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len() + 1);
        model.write_all((head + body).as_bytes()).await.expect("written");
        let mut heard = Vec::new();
        while !heard.ends_with(body.as_bytes()) {
            caller.read_buf(&mut heard).await.expect("read");
        }
        let usage = ModelUsage { calls: 1, input_tokens: 3, output_tokens: 4, ..ModelUsage::default() };
        let wanted = if counted { BTreeMap::from([("m".to_owned(), usage)]) } else { BTreeMap::new() };
        assert_eq!(gateway.take(false), wanted, "{path} {status}");
    }
}

/// A gateway whose session has a budget of so many tokens, its address, and the endpoint behind it.
async fn budgeted(tokens: u64) -> (Gateway, SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let inner = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = inner.local_addr().expect("an address");
    let (gateway, _) = Gateway::new(Egress::new().0);
    gateway.aim(&settings(&format!("http://{}", listener.local_addr().expect("an address")))).expect("an address");
    gateway.budget(&BudgetSettings { tokens: Some(tokens), ..BudgetSettings::default() });
    tokio::spawn(gateway.clone().serve(inner));
    (gateway, address, listener)
}

async fn read_until(stream: &mut TcpStream, end: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(end) {
        assert_ne!(stream.read_buf(&mut seen).await.expect("read"), 0, "{}", String::from_utf8_lossy(&seen));
    }
}

fn output(gateway: &Gateway) -> u64 {
    gateway.shared.ledger.all().values().map(|usage| usage.output_tokens).sum()
}

fn told(output: u64) -> String {
    let body = format!(r#"{{"model":"m","usage":{{"input_tokens":0,"output_tokens":{output}}}}}"#);
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

const ASKED: &str = r#"{"model":"m","max_tokens":100}"#;

#[tokio::test]
async fn under_a_budget_an_answer_counts_to_its_end_without_its_caller() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    const START: &str = "data: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"output_tokens\":1}}}\n\n";
    const PING: &str = "data: {\"type\":\"ping\"}\n\n";
    const END: &str =
        "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":50}}\n\ndata: {\"type\":\"message_stop\"}\n\n";
    for is_answered in [true, false] {
        let (gateway, address, listener) = budgeted(1000).await;
        let mut caller = TcpStream::connect(address).await.expect("connected");
        caller.write_all(post("/v1/messages", "", ASKED).as_bytes()).await.expect("written");
        let (mut model, _) = listener.accept().await.expect("a call");
        read_until(&mut model, ASKED).await;
        if is_answered {
            model.write_all(format!("{HEAD}{START}").as_bytes()).await.expect("written");
            read_until(&mut caller, "message_start").await;
        }
        // All that it may take is reserved as long as it runs.
        assert!(gateway.shared.reserves.take(&Asked::default(), |others| others["m"].output_tokens == 100).is_some());
        drop(caller);
        if !is_answered {
            model.write_all(format!("{HEAD}{START}").as_bytes()).await.expect("written");
        }
        for _ in 0..100 {
            model.write_all(PING.as_bytes()).await.expect("nobody breaks the answer off");
            tokio::task::yield_now().await;
        }
        model.write_all(END.as_bytes()).await.expect("written");
        drop(model);
        // Over, its slot is free again as well.
        let all = u32::try_from(CONNECTIONS_MAX - 1).expect("a small number");
        let slots = tokio::time::timeout(DEADLINE, gateway.shared.room.acquire_many(all)).await;
        drop(slots.expect("the answer is read to its end").expect("open"));
        assert_eq!(output(&gateway), 50, "{is_answered}");
        assert!(gateway.shared.reserves.take(&Asked::default(), BTreeMap::is_empty).is_some());
    }
}

#[tokio::test]
async fn a_call_waits_while_those_under_way_may_take_all_that_is_left() {
    for (taken, is_refused) in [(100, true), (20, false)] {
        let (gateway, address, listener) = budgeted(100).await;
        let call = post("/v1/messages", "", ASKED);
        let first = tokio::spawn({
            let call = call.clone();
            async move { exchange(address, &call).await }
        });
        let (mut model, _) = listener.accept().await.expect("a call");
        read_until(&mut model, ASKED).await;
        // It begins while nothing is told to be spent.
        let second = tokio::spawn(async move { exchange(address, &call).await });
        let (mut other, _) = listener.accept().await.expect("a call");
        model.write_all(told(taken).as_bytes()).await.expect("written");
        assert!(first.await.expect("answered").starts_with("HTTP/1.1 200"));
        if !is_refused {
            read_until(&mut other, ASKED).await;
            other.write_all(told(1).as_bytes()).await.expect("written");
        }
        let answer = tokio::time::timeout(DEADLINE, second).await.expect("answered in time").expect("answered");
        if is_refused {
            assert!(
                answer.starts_with("HTTP/1.1 400") && answer.contains("the session has 100 tokens, and 100 are spent"),
                "{answer}"
            );
            assert!(gateway.take_refusal().is_some());
        } else {
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert_eq!(output(&gateway), 21);
        }
    }
}

#[tokio::test]
async fn a_call_that_ends_without_its_counts_takes_what_was_reserved() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    const START: &str =
        "data: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n";
    const DELTA: &str =
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9}}\n\n";
    const ERROR: &str = "data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    let begun = ModelUsage { calls: 1, input_tokens: 7, output_tokens: 100, ..ModelUsage::default() };
    let told = ModelUsage { output_tokens: 9, ..begun };
    let read = ASKED.len() as u64 / 2;
    let unknown = ModelUsage { input_tokens: 0, cache_write_1h_tokens: read, ..begun };
    for (answer, taken) in [
        (format!("{HEAD}{START}"), Some(begun)),
        (format!("{HEAD}{START}{ERROR}"), Some(begun)),
        (format!("{HEAD}{START}{DELTA}"), Some(told)),
        (HEAD.to_owned(), Some(unknown)),
        (HEAD.replace("connection", "content-encoding: gzip\r\nconnection"), Some(unknown)),
        (format!("{HEAD}{ERROR}"), None),
        (String::new(), None),
        ("HTTP/1.1 529 Busy\r\nconnection: close\r\n\r\nbusy".to_owned(), None),
    ] {
        let (gateway, address, listener) = budgeted(1000).await;
        let mut caller = TcpStream::connect(address).await.expect("connected");
        caller.write_all(post("/v1/messages", "", ASKED).as_bytes()).await.expect("written");
        let (mut model, _) = listener.accept().await.expect("a call");
        read_until(&mut model, ASKED).await;
        model.write_all(answer.as_bytes()).await.expect("written");
        drop(model);
        // The caller sees an end, or a connection that broke.
        let _broken = caller.read_to_end(&mut Vec::new()).await;
        let all = u32::try_from(CONNECTIONS_MAX - 1).expect("a small number");
        let slots = tokio::time::timeout(DEADLINE, gateway.shared.room.acquire_many(all)).await;
        drop(slots.expect("it is over").expect("open"));
        assert_eq!(gateway.shared.ledger.all().get("m").copied(), taken, "{answer}");
        assert!(gateway.shared.reserves.take(&Asked::default(), BTreeMap::is_empty).is_some());
    }
}

#[tokio::test]
async fn agents_beside_one_another_do_not_wait_for_an_ordinary_budget() {
    let (gateway, _address, _listener) = budgeted(1 << 40).await;
    let price = crate::wire::price::Price {
        input: 5_000_000,
        output: 25_000_000,
        cache_read: 500_000,
        cache_write: 6_250_000,
        cache_write_1h: 10_000_000,
    };
    let prices = crate::wire::price::PriceList([("m".to_owned(), price)].into());
    // Ten dollars.
    gateway.budget(&BudgetSettings { cost: Some(10_000_000), prices, ..BudgetSettings::default() });
    let asked = |is_open| Asked { model: "m".to_owned(), max_tokens: Some(32_000), bytes: 100_000, is_open, ..Asked::default() };
    let take = |is_open| gateway.shared.reserves.take(&asked(is_open), |others| gateway.is_left_beside(others.clone()));
    let mut side_by_side: Vec<_> = std::iter::from_fn(|| take(false)).take(100).collect();
    assert!((6..100).contains(&side_by_side.len()), "{}", side_by_side.len());
    side_by_side.truncate(1);
    let open = take(true).expect("beside one that leaves something");
    assert!(take(false).is_none(), "it may take all that is left");
    drop(open);
    assert!(take(false).is_some());
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_again() {
    let (base, seen) = endpoint("").await;
    let inner = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = inner.local_addr().expect("an address");
    let (gateway, _) = Gateway::new(Egress::new().0);
    gateway.aim(&settings(&base)).expect("an address");
    tokio::spawn(gateway.clone().serve(inner));
    for path in PATHS {
        // As if it were later, since what a call would wait becomes less until it comes.
        while gateway.shared.pace.take(Instant::now() + Duration::from_millis(800)).is_ok() {}
        let answer = exchange(address, &post(path, "", BODY)).await;
        assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("rate_limit_error"), "{answer}");
        assert!(answer.contains("retry-after: 3\r\n"), "{answer}");
    }
    assert!(!seen.is_finished());
    assert_eq!(gateway.take_calls().refused, 1, "that which costs something");
}
