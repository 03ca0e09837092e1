//! An endpoint that fails for a while.

use super::*;

/// A gateway that tries again for so long, its address, what it tells of waits, and the endpoint behind it.
async fn patient(patience: Duration) -> (Gateway, SocketAddr, mpsc::Receiver<Wait>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let inner = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = inner.local_addr().expect("an address");
    let (gateway, waits) = Gateway::new(Egress::new().0);
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let retry_ms = patience.as_millis() as u64;
    gateway.aim(&Settings { retry_ms, ..settings(&base) }).expect("an address");
    tokio::spawn(gateway.clone().serve(inner));
    (gateway, address, waits, listener)
}

async fn request(listener: &TcpListener, end: &str) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().await.expect("a call");
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(end) {
        assert_ne!(stream.read_buf(&mut seen).await.expect("read"), 0, "{}", String::from_utf8_lossy(&seen));
    }
    (stream, String::from_utf8(seen).expect("text"))
}

fn failing(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: 4\r\n\r\nbusy")
}

/// That no call is on its way to an endpoint, nor held by the gateway.
async fn is_over(gateway: &Gateway, listener: TcpListener) {
    let all = u32::try_from(CONNECTIONS_MAX - 1).expect("a small number");
    let slots = tokio::time::timeout(DEADLINE, gateway.shared.room.acquire_many(all)).await;
    drop(slots.expect("nothing waits").expect("open"));
    let came = listener.into_std().expect("a listener").accept().map(|(_, from)| from);
    assert!(came.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock), "another attempt");
}

#[tokio::test]
async fn a_call_is_tried_again_as_a_whole_until_it_is_answered_and_each_wait_is_told() {
    let (gateway, address, mut waits, listener) = patient(Duration::from_secs(60)).await;
    let call = tokio::spawn(async move { exchange(address, &post("/v1/messages", "x-mine: 1\r\n", BODY)).await });
    drop(request(&listener, BODY).await);
    let wait = waits.recv().await.expect("told");
    assert_eq!((wait.failed, wait.status), (1, None));
    assert!(wait.reason.starts_with("the model API can not be reached: "), "{}", wait.reason);
    let (mut model, _) = request(&listener, BODY).await;
    // The key changes while the call waits.
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    gateway.aim(&Settings { api_key: Some("sk-other".to_owned()), retry_ms: 60_000, ..settings(&base) }).expect("an address");
    model.write_all(failing("529 Busy", "retry-after: 1\r\n").as_bytes()).await.expect("written");
    let wait = waits.recv().await.expect("told");
    assert_eq!((wait.failed, wait.status, wait.reason.as_str()), (2, Some(529), "the model API answered 529"));
    assert!(wait.wait >= Duration::from_secs(1), "as long as it was asked to: {wait:?}");
    let (mut model, seen) = request(&listener, BODY).await;
    for kept in ["x-api-key: sk-other\r\n", "x-mine: 1\r\n", "content-length: 10\r\n"] {
        assert!(seen.contains(kept), "{kept:?} in {seen}");
    }
    model.write_all(told(3).as_bytes()).await.expect("written");
    assert!(call.await.expect("answered").starts_with("HTTP/1.1 200"));
    assert_eq!(output(&gateway), 3);
    is_over(&gateway, listener).await;
}

#[tokio::test]
async fn without_time_for_another_attempt_the_answer_passes_and_says_that_it_is_the_last() {
    for (patience, answer, is_last) in [
        (60, failing("429 Too Many", "retry-after: 61\r\n"), true),
        (0, failing("529 Busy", ""), false),
        (60, failing("400 Bad", ""), false),
        (60, failing("401 Nobody", "retry-after: 1\r\n"), false),
    ] {
        let (gateway, address, mut waits, listener) = patient(Duration::from_secs(patience)).await;
        let call = tokio::spawn(async move { exchange(address, &post("/v1/messages", "", BODY)).await });
        let (mut model, _) = request(&listener, BODY).await;
        model.write_all(answer.as_bytes()).await.expect("written");
        let passed = call.await.expect("answered");
        assert_eq!((passed.get(..12), passed.ends_with("\r\n\r\nbusy")), (answer.get(..12), true), "{passed}");
        assert_eq!(passed.contains("x-should-retry: false\r\n"), is_last, "{passed}");
        assert!(waits.try_recv().is_err());
        is_over(&gateway, listener).await;
    }
}

#[tokio::test]
async fn who_goes_while_a_call_waits_ends_it() {
    for has_budget in [false, true] {
        let (gateway, address, mut waits, listener) = patient(Duration::from_secs(3600)).await;
        if has_budget {
            gateway.budget(&BudgetSettings { tokens: Some(1000), ..BudgetSettings::default() });
        }
        let mut caller = TcpStream::connect(address).await.expect("connected");
        caller.write_all(post("/v1/messages", "", ASKED).as_bytes()).await.expect("written");
        let (mut model, _) = request(&listener, ASKED).await;
        model.write_all(failing("503 Away", "retry-after: 1800\r\n").as_bytes()).await.expect("written");
        assert!(waits.recv().await.expect("told").wait >= Duration::from_secs(1800));
        drop(caller);
        is_over(&gateway, listener).await;
        assert!(gateway.shared.reserves.take(&Asked::default(), BTreeMap::is_empty).is_some(), "nor is anything reserved");
    }
}

#[tokio::test]
async fn a_budget_that_is_spent_meanwhile_ends_the_wait() {
    let (gateway, address, mut waits, listener) = patient(Duration::from_secs(60)).await;
    let call = tokio::spawn(async move { exchange(address, &post("/v1/messages", "", ASKED)).await });
    let (mut model, _) = request(&listener, ASKED).await;
    model.write_all(failing("529 Busy", "").as_bytes()).await.expect("written");
    waits.recv().await.expect("told");
    gateway.budget(&BudgetSettings { tokens: Some(0), ..BudgetSettings::default() });
    let answer = tokio::time::timeout(DEADLINE, call).await.expect("answered in time").expect("answered");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("the session has 0 tokens"), "{answer}");
    is_over(&gateway, listener).await;
}

#[tokio::test]
async fn without_a_key_nothing_leaves_also_of_what_waits() {
    let (gateway, address, mut waits, listener) = patient(Duration::from_secs(60)).await;
    let call = tokio::spawn(async move { exchange(address, &post("/v1/messages", "", BODY)).await });
    let (mut model, _) = request(&listener, BODY).await;
    model.write_all(failing("529 Busy", "").as_bytes()).await.expect("written");
    waits.recv().await.expect("told");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let gone = Settings { api_key: None, refusal: Some("the credential is gone".to_owned()), ..settings(&base) };
    gateway.aim(&gone).expect("an address");
    let waited = tokio::time::timeout(DEADLINE, call).await.expect("answered in time").expect("answered");
    let others = [waited, exchange(address, &post("/v1/messages", "", BODY)).await];
    let counted = exchange(address, &post("/v1/messages/count_tokens", "", BODY)).await;
    for answer in others.iter().chain([&counted]) {
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("x-should-retry: false\r\n"), "{answer}");
        assert!(answer.contains("authentication_error") && answer.contains("Ash: the credential is gone"), "{answer}");
    }
    is_over(&gateway, listener).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_tried_again() {
    let (gateway, address, mut waits, listener) = patient(Duration::from_secs(60)).await;
    let mut caller = TcpStream::connect(address).await.expect("connected");
    caller.write_all(post("/v1/messages", "", BODY).as_bytes()).await.expect("written");
    let (mut model, _) = request(&listener, BODY).await;
    model.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst").await.expect("written");
    read_until(&mut caller, "first").await;
    drop(model);
    let mut rest = Vec::new();
    // It ends early, as an error or not.
    let _ended = caller.read_to_end(&mut rest).await;
    assert!(rest.is_empty() && waits.try_recv().is_err());
    is_over(&gateway, listener).await;
}

#[tokio::test]
async fn a_call_that_waits_for_its_budget_when_the_endpoint_fails_is_sent_whole() {
    let (gateway, address, mut waits, listener) = patient(Duration::from_secs(60)).await;
    gateway.budget(&BudgetSettings { tokens: Some(100), ..BudgetSettings::default() });
    let call = || {
        let call = post("/v1/messages", "", ASKED);
        tokio::spawn(async move { exchange(address, &call).await })
    };
    let first = call();
    let (mut model, _) = request(&listener, ASKED).await;
    let second = call();
    // Nothing of its body has come, as it may be that nothing is left for it.
    let (mut other, _) = request(&listener, "\r\n\r\n").await;
    other.write_all(failing("529 Busy", "").as_bytes()).await.expect("written");
    waits.recv().await.expect("told");
    let (mut other, seen) = request(&listener, "\r\n\r\n").await;
    assert!(seen.contains(&format!("content-length: {}\r\n", ASKED.len())), "{seen}");
    model.write_all(told(20).as_bytes()).await.expect("written");
    assert!(first.await.expect("answered").starts_with("HTTP/1.1 200"));
    read_until(&mut other, ASKED).await;
    other.write_all(told(1).as_bytes()).await.expect("written");
    assert!(second.await.expect("answered").starts_with("HTTP/1.1 200"));
    assert_eq!(output(&gateway), 21);
}
