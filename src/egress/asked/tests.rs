use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn read(body: &[u8]) -> Result<Asked, Unread> {
    let mut reader = Reader::default();
    match reader.read(body)? {
        true => Ok(reader.take()),
        false => Err(Unread::Cut),
    }
}

/// What is fetched by a request with these members, as text.
fn fetched(members: &str) -> Result<String, Unread> {
    read(format!("{{\"model\":\"m\",{members}}}").as_bytes()).map(|asked| format!("{:?}", asked.fetches))
}

fn content(block: &str) -> String {
    format!(r#""messages":[{{"role":"user","content":[{{"type":"text","text":"x"}},{block}]}}]"#)
}

#[test]
fn what_is_to_be_fetched_is_found_wherever_the_model_api_takes_it() {
    let source = r#"{"type":"url","url":"https://evil.example/x"}"#;
    let image = format!(r#"{{"type":"image","source":{source}}}"#);
    for members in [
        format!(r#""mcp_servers":[{source}]"#),
        r#""mcp_servers":[{"url":"https://evil.example/x","name":"n"}]"#.to_owned(),
        r#""fallbacks":[{"mcp_servers":[{"url":"https://evil.example/x"}]}]"#.to_owned(),
        content(&image),
        content(r#"{"source":{"url":"https://evil.example/x","type":"url"},"type":"document"}"#),
        content(&format!(r#"{{"type":"tool_result","content":[{image}]}}"#)),
        content(&format!(r#"{{"type":"document","source":{{"type":"content","content":[{image}]}}}}"#)),
        content(r#"{"type":"image","source":{"url":"https://evil.example/x"}}"#),
        format!(r#""system":[{image}]"#),
        format!(r#""tools":[{{"name":"t","source":{source}}}]"#),
        format!(r#""input":{image}"#),
        // Names and types in another spelling.
        r#""mcp\u005fservers":[{"\u0075rl":"https:\/\/evil.example/x"}]"#.to_owned(),
        r#""MCP_Servers":[{"URL":"https://evil.example/x"}]"#.to_owned(),
        content(r#"{"type":"image","\u0073ource":{"t\u0079pe":"\u0075rl","url":"https://evil\u002eexample/x"}}"#),
    ] {
        let found = fetched(&members).expect(&members);
        assert!(found.contains("evil.example:443"), "{members}: {found}");
    }
}

#[test]
fn what_only_looks_like_it_passes() {
    for members in [
        content(r#"{"type":"tool_use","id":"t","name":"n","input":{"type":"url","url":"https://a.example","source":{"url":"x","url":"y"}}}"#),
        content(r#"{"type":"text","text":"{\"type\":\"url\",\"url\":\"https://a.example\"}"}"#),
        content(r#"{"type":"tool_result","content":"{\"source\":{\"type\":\"url\",\"url\":\"https://a.example\"}}"}"#),
        content(r#"{"type":"web_search_tool_result","content":[{"type":"web_search_result","url":"https://a.example","title":"t"}]}"#),
        content(r#"{"type":"web_fetch_tool_result","content":{"type":"web_fetch_tool_error","error_code":"url_not_allowed"}}"#),
        content(r#"{"type":"web_fetch_tool_result","content":{"type":"web_fetch_result","url":"https://a.example","content":{"type":"document","source":{"type":"text","data":"x"}}}}"#),
        content(r#"{"type":"search_result","source":"https://a.example","title":"t","content":[]}"#),
        content(r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}"#),
        r#""tools":[{"name":"t","input_schema":{"type":"object","properties":{"url":{"type":"string"},"type":{"const":"url"}}}}]"#.to_owned(),
        r#""tools":[{"type":"web_search_20250305","name":"web_search","allowed_domains":["a.example"]}]"#.to_owned(),
        r#""output_config":{"format":{"type":"json_schema","schema":{"type":"url","url":"x"}}}"#.to_owned(),
    ] {
        let found = read(format!("{{{members}}}").as_bytes()).expect(&members);
        assert!(found.fetches.is_empty(), "{members}: {found:?}");
    }
}

#[test]
fn the_tool_that_fetches_pages_says_of_which_sites() {
    let tool = |more: &str| format!(r#""tools":[{{"name":"web_fetch"{more},"type":"web_fetch_20250910"}}]"#);
    for (more, wanted) in [
        (r#","allowed_domains":["a.example","b.example/x"]"#, r#"sites: {"a.example", "b.example"}, anywhere: false"#),
        (r#","allowed_domains":[]"#, "sites: {}, anywhere: true"),
        (r#","allowed_domains":null"#, "sites: {}, anywhere: true"),
        (r#","blocked_domains":["a.example"]"#, "sites: {}, anywhere: true"),
        ("", "sites: {}, anywhere: true"),
    ] {
        let found = fetched(&tool(more)).expect(more);
        assert!(found.contains(wanted), "{more}: {found}");
    }
    for bad in [r#"["a.example",1]"#, r#"[["a.example"]]"#, r#"[{}]"#, r#""a.example""#, r#"{"a":1}"#, "7"] {
        let found = fetched(&tool(&format!(r#","allowed_domains":{bad}"#)));
        assert!(
            found.as_ref().is_err() || found.as_ref().is_ok_and(|found| found.contains("anywhere: true")),
            "{bad}: {found:?}"
        );
    }
    let twice = tool(r#","allowed_domains":["evil.example"],"allowed_domains":["a.example"]"#);
    assert_eq!(fetched(&twice).expect_err("refused"), Unread::Twice("allowed_domains"));
}

#[test]
fn what_two_readers_may_take_for_different_things_is_refused() {
    let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(read(deep(DEPTH_MAX - 1).as_bytes()).is_ok());
    let (long, wide) =
        ("x".repeat(VALUE_MAX), format!(r#","allowed_domains":[{}"x"]"#, r#""some.example","#.repeat(KEPT_MAX / 12)));
    for (body, wanted) in [
        (deep(DEPTH_MAX), Unread::Depth),
        (content(r#"{"type":"text","type":"url","url":"x"}"#), Unread::Twice("type")),
        (content(r#"{"type":"image","source":{"type":"base64"},"source":{"type":"url"}}"#), Unread::Twice("source")),
        (r#""mcp_servers":[],"mcp\u005fservers":[]"#.to_owned(), Unread::Twice("mcp_servers")),
        (r#""mcp_servers":[{"url":["https://a.example"]}]"#.to_owned(), Unread::Member("url")),
        (r#""mcp_servers":[{"url":7}]"#.to_owned(), Unread::Member("url")),
        (format!(r#""mcp_servers":[{{"url":"https://{long}"}}]"#), Unread::Member("url")),
        (content(&format!(r#"{{"type":"{long}x"}}"#)), Unread::Member("type")),
        (format!(r#""tools":[{{"type":"web_fetch_1"{wide}}}]"#), Unread::Kept),
        (r#""a":1,"#.to_owned(), Unread::Form),
        (r#""a":[1,]"#.to_owned(), Unread::Form),
        (r#""a":[1 2]"#.to_owned(), Unread::Form),
        (r#""a" 1"#.to_owned(), Unread::Form),
        (r#""a":{]}"#.to_owned(), Unread::Form),
        (r#""a":1}}"#.to_owned(), Unread::Form),
        (r#""a":/* "*/1"#.to_owned(), Unread::Form),
        ("\"a\":'x'".to_owned(), Unread::Form),
        ("\"a\":\"\n\"".to_owned(), Unread::Form),
        ("\"\\ud800\":1".to_owned(), Unread::Form),
        ("\"a\":1\0".to_owned(), Unread::Form),
        ("a:1".to_owned(), Unread::Form),
    ] {
        let body = if body.starts_with('{') { body } else { format!("{{{body}}}") };
        assert_eq!(read(body.as_bytes()).err(), Some(wanted), "{body:.90}");
    }
    let wide: Vec<u8> = r#"{"mcp_servers":[{"url":"https://evil.example"}]}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (body, wanted) in [
        (wide.as_slice(), Unread::Form),
        (b"\xef\xbb\xbf{}", Unread::Form),
        (b"[{\"mcp_servers\":[]}]", Unread::Form),
        (b"{\"u\xffrl\":1}", Unread::Form),
        (b"{\"a\":\"\xc3", Unread::Cut),
        (b"\x1f\x8b", Unread::Form),
        (b"{", Unread::Cut),
        (b"", Unread::Cut),
    ] {
        assert_eq!(read(body).err(), Some(wanted), "{body:?}");
    }
}

#[test]
fn the_most_that_a_request_may_write_is_read_as_a_parser_would() {
    let long = format!(r#"{{"max_tokens":1,{}"max_tokens":{}90}}"#, " ".repeat(1 << 17), "\n".repeat(1 << 17));
    let digits = format!(r#"{{"max_tokens":1,"max_tokens":9{}}}"#, "0".repeat(1 << 17));
    for (request, wanted) in [
        (r#"{"model":"m","max_tokens":90,"stream":true}"#, Some(90)),
        (r#"{"messages":[{"max_tokens":1}],"max_tokens":90}"#, Some(90)),
        (r#"{"max\u005ftokens" : 90.0}"#, Some(90)),
        (r#"{"max_tokens":90,"max_tokens":1}"#, Some(90)),
        (long.as_str(), Some(90)),
        // What can not be read may be any number.
        (digits.as_str(), Some(u64::MAX)),
        (r#"{"max_tokens":1,"max_tokens":"90"}"#, Some(u64::MAX)),
        (r#"{"max_tokens":[]}"#, Some(u64::MAX)),
        (r#"{"max_tokens":1e300}"#, Some(u64::MAX)),
        (r#"{"model":"m"}"#, None),
    ] {
        let asked = read(request.as_bytes()).expect(request);
        assert_eq!((asked.max_tokens, asked.bytes), (wanted, request.len() as u64), "{request:.60}");
    }
    assert_eq!(read(br#"{"model":"m-1","messages":[{"model":"n"}]}"#).expect("read").model, "m-1");
}

#[test]
fn a_call_takes_more_than_its_size_tells_if_it_names_what_is_not_in_it() {
    for (members, is_open) in [
        (content(r#"{"type":"document","source":{"type":"url","url":"https://a.example/a.pdf"}}"#), true),
        (content(r#"{"type":"document","source":{"type":"file","file_id":"file_1"}}"#), true),
        (content(r#"{"type":"container_upload","file_id":"file_1"}"#), true),
        (r#""mcp_servers":[{"type":"url","url":"https://a.example"}]"#.to_owned(), true),
        (r#""container":"c_1""#.to_owned(), true),
        (r#""container":{"skills":[]}"#.to_owned(), true),
        (r#""tools":[{"type":"web_search_20250305","name":"web_search"}]"#.to_owned(), true),
        (r#""tools":[{"type":"code_execution_20250825","name":"code_execution"}]"#.to_owned(), true),
        (r#""tools":[{"type":"advisor_20260301","name":"advisor","model":"m"}]"#.to_owned(), true),
        (r#""tools":[{"type":"mcp_toolset","mcp_server_name":"s"}]"#.to_owned(), true),
        (content(r#"{"type":"tool_addition","tool":{"type":"web_search_20250305","name":"web_search"}}"#), true),
        (content(r#"{"type":"web_search_tool_result","content":[]}"#), false),
        (r#""context_management":{"edits":[{"type":"compact_20260112"}]}"#.to_owned(), true),
        (r#""context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#.to_owned(), false),
        (r#""tools":[{"name":"Bash","input_schema":{"type":"object"}},{"type":"custom","name":"x"}]"#.to_owned(), false),
        (r#""tools":[{"type":"bash_20250124","name":"bash"},{"type":"text_editor_20250728","name":"e"}]"#.to_owned(), false),
        (content(r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}"#), false),
        (content(r#"{"type":"tool_use","id":"t","name":"n","input":{"file_id":"x","type":"web_search_1"}}"#), false),
        (r#""container":null"#.to_owned(), false),
        (content(r#"{"type":"compaction","content":"x"}"#), false),
    ] {
        assert_eq!(read(format!("{{{members}}}").as_bytes()).expect(&members).is_open, is_open, "{members}");
    }
}

#[test]
fn what_is_kept_of_a_request_is_bounded() {
    let mut reader = Reader::default();
    let filler = "x".repeat(1 << 20);
    reader.read(b"{\"a\":[{\"type\":\"web_search_result\",\"url\":\"").expect("read");
    for _ in 0..100 {
        reader.read(filler.as_bytes()).expect("read");
        assert!(reader.part.capacity() < 4 * VALUE_MAX);
    }
    reader.read(b"\"}").expect("read");
    for _ in 0..10_000 {
        reader.read(br#",{"type":"web_search_result","url":"https://a.example/","allowed_domains":["a","b"]}"#).expect("read");
        assert!(reader.kept == 0 && reader.frames.len() == 2);
    }
    assert!(reader.read(b"]}").expect("read"));
}

fn any_json() -> impl Strategy<Value = Json> {
    let word =
        prop_oneof![Just("url"), Just("type"), Just("source"), Just("input"), Just("mcp_servers"), Just("a\"\\é\u{1F600}")];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<i32>().prop_map(Into::into),
        ".*".prop_map(Json::from),
        Just(json!("url")),
        Just(json!("https://a.example/x")),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Whether something is fetched, found by looking at the whole.
fn is_fetched(value: &Json, is_source: bool, is_server: bool) -> bool {
    match value {
        Json::Object(map) => {
            let is_here = is_source || is_server || map.get("type") == Some(&json!("url"));
            let has_url = map.get("url").is_some_and(|url| !url.is_null());
            let below = |(name, value): (&String, &Json)| match name.as_str() {
                "input" if !is_server => false,
                name => is_fetched(value, name == "source", is_server || name == "mcp_servers"),
            };
            (is_here && has_url) || map.iter().any(below)
        }
        Json::Array(values) => values.iter().any(|value| is_fetched(value, is_source, is_server)),
        _ => false,
    }
}

proptest! {
    #[test]
    fn any_request_is_read_as_a_parser_reads_it_in_any_pieces(
        value in any_json(), is_pretty in any::<bool>(), size in 1_usize..40,
    ) {
        let value = json!({"x": value, "max_tokens": 7, "z": {"model": 1}});
        let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("JSON");
        let mut reader = Reader::default();
        let mut outcome = Ok(false);
        for piece in text.as_bytes().chunks(size) {
            outcome = reader.read(piece);
            if outcome.is_err() {
                break;
            }
        }
        let wanted = is_fetched(&value, false, false);
        match outcome {
            Ok(is_over) => {
                let asked = reader.take();
                prop_assert!(is_over);
                prop_assert_eq!((asked.max_tokens, !asked.fetches.is_empty()), (Some(7), wanted), "{}", text);
            }
            Err(why) => prop_assert!(why == Unread::Member("url") && wanted, "{why}: {text}"),
        }
    }

    #[test]
    fn no_bytes_are_too_much_for_it(
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..50),
                "(\\{|\\}|\\[|\\]|\"|:|,|\\\\|\"url\":|\"source\":|\"allowed_domains\":|1|null){0,30}".prop_map(String::into_bytes),
            ],
            0..10,
        ),
    ) {
        let mut reader = Reader::default();
        let whole = pieces.concat();
        let is_taken = pieces.iter().all(|piece| reader.read(piece).is_ok()) && reader.expects == Expects::End;
        if is_taken {
            // The form of numbers is left to the other end.
            let first = whole.trim_ascii_start().first();
            prop_assert_eq!(first, Some(&b'{'));
        }
    }
}

#[test]
fn a_block_is_read_as_in_a_request() {
    let named = |block: &str| of_block(block).map(|fetches| format!("{fetches:?}"));
    for block in [
        r#"{"type":"image","source":{"type":"url","url":"https://a.example/x"}}"#,
        r#"{"type":"document","source":{"type":"content","content":[{"type":"image","source":{"type":"URL","url":"https://a.example/x"}}]}}"#,
        r#"{"type":"tool_result","content":[{"type":"image","source":{"url":"https://a.example/x"}}]}"#,
    ] {
        assert!(named(block).is_ok_and(|found| found.contains("a.example:443")), "{block}");
    }
    assert!(
        of_block(r#"{"type":"tool_use","input":{"source":{"url":"https://a.example"}}}"#).is_ok_and(|found| found.is_empty())
    );
    assert!(of_block(r#""a text""#).is_ok_and(|found| found.is_empty()));
    assert_eq!(named(r#"{"type":"text","type":"url"}"#), Err(Unread::Twice("type")));
}
