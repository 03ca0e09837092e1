use http_body_util::BodyExt;
use hyper::header::HeaderValue;
use proptest::prelude::*;

use super::*;

const STREAM: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"m","role":"assistant","model":"claude-x-1","content":[],"usage":{"input_tokens":10,"cache_creation_input_tokens":300,"cache_read_input_tokens":7,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},"output_tokens":1,"service_tier":"standard"}}}"#,
    "\n\n: a comment\n\nevent: ping\r\ndata: {\"type\": \"ping\"}\r\n\r\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\"usage\":{\"output_tokens\":99} message_delta"}}"#,
    "\n\ndata:{\"type\":\"message_delta\",\ndata: \"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":20}}\n\n",
    "data: not JSON\r\rdata: {\"type\":\"message_delta\",\"usage\":\"none\"}\n\n",
    r#"data: {"type":"message_delta","delta":{},"usage":{"input_tokens":12,"cache_creation_input_tokens":310,"cache_read_input_tokens":null,"output_tokens":25}}"#,
    "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

const WHOLE: &str = concat!(
    " { \"id\": \"m\", \"model\" : \"claude-x-1\", \"content\": [{\"type\":\"text\",\"text\":\"} \\\" ,\\\"usage\\\":{\\\\\",\"usage\":{\"input_tokens\":1}}],",
    r#""usage": {"input_tokens":12,"output_tokens":25,"cache_creation_input_tokens":310,"cache_read_input_tokens":7,"#,
    r#""cache_creation":{"ephemeral_5m_input_tokens":110,"ephemeral_1h_input_tokens":200}}, "stop_reason":null}"#,
    "\n"
);

const WANTED: ModelUsage = ModelUsage {
    calls: 1,
    input_tokens: 12,
    output_tokens: 25,
    cache_read_tokens: 7,
    cache_write_tokens: 110,
    cache_write_1h_tokens: 200,
};

fn headers(kind: &'static str) -> HeaderMap {
    [(header::CONTENT_TYPE, HeaderValue::from_static(kind))].into_iter().collect()
}

fn kind_of(answer: &str) -> &'static str {
    if answer.trim_start().starts_with('{') { "application/json" } else { "text/event-stream; charset=utf-8" }
}

fn begin(answer: &str) -> (Arc<Ledger>, Call) {
    let ledger = Arc::new(Ledger::default());
    let call = ledger.call(&headers(kind_of(answer)), None).expect("plain text");
    (ledger, call)
}

/// What is on the bill of an answer that comes in these pieces.
fn count(pieces: &[&str]) -> Vec<(String, ModelUsage)> {
    let (ledger, mut call) = begin(pieces[0]);
    for piece in pieces {
        call.look(piece.as_bytes());
    }
    drop(call);
    assert!(ledger.book().open.is_empty());
    ledger.take(false).into_iter().collect()
}

fn wanted() -> Vec<(String, ModelUsage)> {
    vec![("claude-x-1".to_owned(), WANTED)]
}

#[test]
fn an_answer_cut_in_two_anywhere_counts_the_same() {
    for answer in [STREAM, WHOLE] {
        assert_eq!(count(&[answer]), wanted());
        for at in 0..=answer.len() {
            let (a, b) = answer.split_at(at);
            let (ledger, mut call) = begin(answer);
            call.look(a.as_bytes());
            call.look(b.as_bytes());
            assert_eq!(ledger.take(false).into_iter().collect::<Vec<_>>(), wanted(), "cut at {at}, before the body is dropped");
        }
        let (ledger, mut call) = begin(answer);
        for byte in answer.as_bytes() {
            call.look(&[*byte]);
        }
        assert_eq!(ledger.take(false).into_iter().collect::<Vec<_>>(), wanted());
    }
}

#[test]
fn an_answer_that_breaks_off_counts_as_far_as_it_told() {
    let mut seen = Vec::new();
    for at in 0..=STREAM.len() {
        let (ledger, mut call) = begin(STREAM);
        call.look(&STREAM.as_bytes()[..at]);
        drop(call);
        let output = ledger.take(false).get("claude-x-1").map(|usage| (usage.calls, usage.output_tokens));
        if seen.last() != Some(&output) {
            seen.push(output);
        }
    }
    assert_eq!(seen, [None, Some((1, 1)), Some((1, 20)), Some((1, 25))]);
    let end = WHOLE.find(", \"stop_reason\"").expect("there");
    assert_eq!(count(&[&WHOLE[..=end]]), wanted());
    assert_eq!(count(&[&WHOLE[..end - 1]]), []);
}

#[test]
fn a_call_that_runs_on_is_on_two_bills_but_never_twice() {
    let (ledger, mut call) = begin(STREAM);
    let delta = STREAM.find("data:{\"type\":\"message_delta\"").expect("there");
    call.look(&STREAM.as_bytes()[..delta]);
    assert!(ledger.take(false).is_empty(), "it is not over");
    let left = ledger.leftover()["claude-x-1"];
    let first = ledger.take(true)["claude-x-1"];
    assert_eq!(left, first, "a look takes nothing");
    assert!(ledger.leftover().is_empty());
    assert_eq!((first.calls, first.input_tokens, first.output_tokens), (1, 10, 1));
    assert!(ledger.take(true).values().all(|usage| *usage == ModelUsage::default()));
    call.look(&STREAM.as_bytes()[delta..]);
    let mut both = ledger.take(false)["claude-x-1"];
    assert_eq!((both.calls, both.input_tokens, both.output_tokens), (0, 2, 24));
    both.add(&first);
    assert_eq!(both, WANTED);
}

#[test]
fn what_is_no_answer_counts_nothing() {
    for text in [
        r#"{"type":"error","error":{"type":"overloaded_error","message":"x"},"model":"m"}"#,
        r#"{"model":"m","usage":null}"#,
        r#"{"model":"m","usage":{"input_tokens":-1}}"#,
        r#"{"model":"m","usage":["1"]}"#,
        r#"{"message":{"model":"m","usage":{"input_tokens":1}}}"#,
        "[{\"usage\":{\"input_tokens\":1}}]",
        "}}}}]]",
        "",
        "data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":1.5}}\n\n",
        "data: {\"type\":\"message_start\",\"message\":7}\n\n",
        "data: {\"type\":\"message_start\",\"usage\":{\"output_tokens\":1}}",
        "data: [[[[[[[\n\n\n\n",
    ] {
        let (ledger, mut call) = begin(text);
        call.look(text.as_bytes());
        drop(call);
        assert_eq!(ledger.take(true), BTreeMap::new(), "{text}");
    }
    let ledger = Arc::new(Ledger::default());
    let mut packed = headers("application/json");
    packed.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    assert!(ledger.call(&packed, None).is_none());
    packed.insert(header::CONTENT_ENCODING, HeaderValue::from_static("identity"));
    assert!(ledger.call(&packed, None).is_some() && ledger.call(&HeaderMap::new(), None).is_some());
}

#[test]
fn without_its_parts_the_sum_written_to_the_cache_is_kept_five_minutes() {
    let answer = r#"{"model":"m","usage":{"input_tokens":1,"output_tokens":2,"cache_creation_input_tokens":3}}"#;
    let usage = count(&[answer])[0].1;
    assert_eq!((usage.cache_write_tokens, usage.cache_write_1h_tokens), (3, 0));
    let answer = r#"{"usage":{"cache_creation_input_tokens":3,"cache_creation":{"ephemeral_1h_input_tokens":2}}}"#;
    let (model, usage) = count(&[answer]).remove(0);
    assert_eq!((model.as_str(), usage.cache_write_tokens, usage.cache_write_1h_tokens), (OTHER, 1, 2));
}

#[test]
fn large_content_is_passed_over_and_what_is_kept_is_bounded() {
    let filler = "x".repeat(1 << 20);
    let large = WHOLE.replace("\"content\": [", &format!("\"{filler}\": 1, \"content\": [\"{filler}\", "));
    assert_eq!(count(&[&large]), wanted());
    let event = format!("data: {{\"type\":\"message_delta\",\"x\":\"{filler}\",\"usage\":{{\"output_tokens\":7}}}}\n\n");
    let lines = format!("{}\n", format!("data: {}\n", &filler[..60_000]).repeat(20));
    let start = STREAM.find("\n\n").expect("there") + 2;
    let large = format!("{}{event}{lines}{}", &STREAM[..start], &STREAM[start..]);
    assert_eq!(count(&[&large]), wanted());

    let (_ledger, mut call) = begin("");
    for _ in 0..100 {
        call.look(b"data: x");
        call.look(filler.as_bytes());
        let Reader::Events(events) = &call.reader else { panic!("it goes on") };
        assert!(events.line.capacity() + events.data.capacity() < 4 * PIECE_MAX);
    }
    let (_ledger, mut call) = begin("{");
    for _ in 0..100 {
        call.look(b"{\"");
        call.look(filler.as_bytes());
        let Reader::Object(object) = &call.reader else { panic!("it goes on") };
        assert!(object.name.capacity() + object.part.capacity() < 4 * PIECE_MAX);
    }
}

#[test]
fn models_beyond_those_of_any_turn_are_summed_up() {
    let ledger = Arc::new(Ledger::default());
    let answer = |model: &str| {
        let mut call = ledger.call(&headers("application/json"), None).expect("plain text");
        call.look(format!(r#"{{"model":"{model}","usage":{{"input_tokens":{}}}}}"#, u64::MAX).as_bytes());
    };
    for n in 0..1000 {
        answer(&format!("m-{n}"));
        answer(&format!("{n}").repeat(NAME_MAX + 1));
    }
    let models = ledger.take(false);
    assert!(models.len() <= MODELS_MAX + 1, "{}", models.len());
    assert_eq!(models.values().map(|usage| usage.calls).sum::<u64>(), 2000);
    assert_eq!(models[OTHER].input_tokens, u64::MAX, "as much as can be told");
    assert!(ledger.take(true).is_empty());
}

/// A body of these pieces, which may end in an error.
struct Pieces(std::vec::IntoIter<Result<Bytes, &'static str>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(self.0.next().map(|piece| piece.map(Frame::data)))
    }
}

fn pass(pieces: Vec<Result<Bytes, &'static str>>, kind: &'static str) -> Vec<Result<Bytes, &'static str>> {
    let ledger = Arc::new(Ledger::default());
    let mut body = Counted::new(Pieces(pieces.into_iter()), ledger.call(&headers(kind), None));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut passed = Vec::new();
    runtime.block_on(async {
        while let Some(frame) = body.frame().await {
            passed.push(frame.map(|frame| frame.into_data().expect("data")));
        }
    });
    assert!(body.call.is_none() && ledger.book().open.is_empty(), "it is over");
    passed
}

proptest! {
    #[test]
    fn what_passes_is_unchanged(
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "(data: |\\{|\\}|\\[|\"usage\":|\"model\"|\"type\":\"message_start\"|,|:|\r|\n|\\\\|\"){0,30}".prop_map(String::into_bytes),
            ],
            0..20,
        ),
        is_cut in any::<bool>(),
        is_stream in any::<bool>(),
    ) {
        let mut pieces: Vec<_> = pieces.into_iter().map(|piece| Ok(Bytes::from(piece))).collect();
        if is_cut {
            pieces.push(Err("cut"));
        }
        let kind = if is_stream { "text/event-stream" } else { "application/json" };
        prop_assert_eq!(pass(pieces.clone(), kind), pieces);
    }

    #[test]
    fn any_object_counts_as_a_parser_reads_it(
        before in any_json(), after in any_json(), name in ".*", input in any::<u32>(), at in any::<proptest::sample::Index>(),
    ) {
        let name = if ["model", "usage"].contains(&name.as_str()) { String::new() } else { name };
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let answer = format!(
            "{{{}:{before},\"usage\":{{\"x\":{before},\"input_tokens\":{input}}},\"b\":{after},\"model\":\"m\",\"c\":{after}}}",
            text(&name)
        );
        let at = answer.char_indices().nth(at.index(answer.chars().count())).map_or(0, |(at, _)| at);
        let (a, b) = answer.split_at(at);
        let (ledger, mut call) = begin("{");
        call.look(a.as_bytes());
        call.look(b.as_bytes());
        let usage = ModelUsage { calls: 1, input_tokens: u64::from(input), ..ModelUsage::default() };
        prop_assert_eq!(ledger.take(false), BTreeMap::from([("m".to_owned(), usage)]));
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf =
        prop_oneof![Just(serde_json::Value::Null), any::<i32>().prop_map(Into::into), ".*".prop_map(serde_json::Value::from)];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map(".*", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

#[test]
fn the_size_of_a_body_is_still_known() {
    let full = http_body_util::Full::new(Bytes::from_static(b"four"));
    let body = Counted::new(full, None);
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(4), false));
}

/// What is on the bill of a call with such a usage.
fn models(usage: &str) -> BTreeMap<String, (u64, u64, u64)> {
    let whole = format!(r#"{{"model":"m","usage":{usage}}}"#);
    let stream = format!(
        "data: {{\"type\":\"message_start\",\"message\":{{\"model\":\"m\",\"usage\":{{\"input_tokens\":1,\"output_tokens\":1}}}}}}\n\n\
         data: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{usage}}}\n\n\
         data: {{\"type\":\"message_stop\"}}\n\n"
    );
    let [whole, stream] = [whole, stream].map(|answer| count(&[&answer]));
    assert_eq!(whole, stream);
    whole.into_iter().map(|(model, usage)| (model, (usage.calls, usage.input_tokens, usage.output_tokens))).collect()
}

#[test]
fn what_the_model_api_does_beside_a_call_is_counted_with_it() {
    let all = |all: &[(&str, (u64, u64, u64))]| all.iter().map(|(model, usage)| ((*model).to_owned(), *usage)).collect();
    for (usage, wanted) in [
        // The summary is in none of the counts of the call.
        (
            r#"{"input_tokens":23000,"output_tokens":1000,"iterations":[
                {"type":"compaction","input_tokens":180000,"output_tokens":3500,"cache_read_input_tokens":0},
                {"type":"message","input_tokens":23000,"output_tokens":1000}]}"#,
            all(&[("m", (1, 203_000, 4500))]),
        ),
        // Where the counts have all turns of it, none is counted twice.
        (
            r#"{"input_tokens":30,"output_tokens":3,"iterations":[
                {"type":"message","model":"m","input_tokens":10,"output_tokens":1},
                {"type":"message","model":"m","input_tokens":20,"output_tokens":2}]}"#,
            all(&[("m", (1, 30, 3))]),
        ),
        // Nor is any lost where they have the last alone.
        (
            r#"{"input_tokens":20,"output_tokens":2,"iterations":[
                {"type":"message","input_tokens":10,"output_tokens":1},{"type":"message","input_tokens":20,"output_tokens":2}]}"#,
            all(&[("m", (1, 30, 3))]),
        ),
        // Another model that was asked has its own name, and price.
        (
            r#"{"input_tokens":30,"output_tokens":3,"iterations":[
                {"type":"message","input_tokens":10,"output_tokens":1},
                {"type":"advisor_message","model":"large","input_tokens":500,"output_tokens":50},
                {"type":"message","input_tokens":20,"output_tokens":2}]}"#,
            all(&[("m", (1, 30, 3)), ("large", (0, 500, 50))]),
        ),
        // One that declined was paid as well; the counts are those of the one that answered.
        (
            r#"{"input_tokens":40,"output_tokens":4,"iterations":[
                {"type":"message","model":"m","input_tokens":10,"output_tokens":1},
                {"type":"fallback_message","model":"n","input_tokens":40,"output_tokens":4}]}"#,
            all(&[("m", (0, 10, 1)), ("n", (1, 40, 4))]),
        ),
        (
            r#"{"input_tokens":2,"output_tokens":1,"iterations":[{"type":"of_later","input_tokens":5},7,{"input_tokens":-1}]}"#,
            all(&[("m", (1, 7, 1))]),
        ),
        (r#"{"input_tokens":2,"output_tokens":1,"iterations":null}"#, all(&[("m", (1, 2, 1))])),
        (r#"{"input_tokens":2,"output_tokens":1,"iterations":"none"}"#, all(&[("m", (1, 2, 1))])),
    ] {
        assert_eq!(models(&usage.replace('\n', "")), wanted, "{usage}");
    }
}

#[test]
fn what_was_written_to_the_cache_is_counted_once_however_it_is_parted() {
    let answer = r#"{"model":"m","usage":{"input_tokens":1,"cache_creation_input_tokens":300,"cache_creation":{"ephemeral_1h_input_tokens":300},
        "iterations":[{"type":"message","input_tokens":1,"cache_creation_input_tokens":300}]}}"#;
    let usage = count(&[answer])[0].1;
    assert_eq!((usage.input_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens), (1, 0, 300));
}

#[test]
fn parts_of_a_call_are_on_a_bill_once_also_if_it_runs_on() {
    let (ledger, mut call) = begin("data");
    let delta = |output: u64| {
        format!(
            "data: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":1,\"iterations\":[{{\"type\":\"advisor_message\",\
             \"model\":\"large\",\"output_tokens\":{output}}}]}}}}\n\n"
        )
    };
    call.look(&STREAM.as_bytes()[..STREAM.find("\n\n").expect("there") + 2]);
    call.look(delta(5).as_bytes());
    assert_eq!(ledger.take(true)["large"].output_tokens, 5);
    call.look(delta(12).as_bytes());
    assert_eq!(ledger.leftover()["large"].output_tokens, 7);
    drop(call);
    assert_eq!(ledger.take(false)["large"].output_tokens, 7);
    assert_eq!(ledger.all()["large"].output_tokens, 12);
}
