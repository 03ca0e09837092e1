use super::*;
use proptest::prelude::*;
use uuid::Uuid;

fn sandbox() -> impl Strategy<Value = SandboxId> {
    any::<u128>().prop_map(|bits| SandboxId::from_uuid(Uuid::from_u128(bits)))
}

fn limits() -> impl Strategy<Value = Limits> {
    let some = proptest::option::of::<RangeInclusive<u64>>;
    let usual = (bounds::MEMORY, bounds::CPU, bounds::TASKS, bounds::DISK);
    let rare = (
        some(bounds::MEMORY_HIGH),
        bounds::SWAP,
        proptest::option::of(bounds::IO_WEIGHT),
        some(bounds::IO_RATE),
        some(bounds::IO_RATE),
    );
    (usual, rare).prop_map(|((memory, cpu, tasks, disk), (high, swap, io_weight, read, write))| Limits {
        memory: ByteCount(memory),
        memory_high: high.map(ByteCount),
        swap: ByteCount(swap),
        cpu: Percent(cpu),
        tasks,
        disk: ByteCount(disk),
        io_weight,
        io_read: read.map(ByteCount),
        io_write: write.map(ByteCount),
    })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (sandbox(), any::<u128>(), "[a-zA-Z0-9_-]{1,255}", limits()).prop_map(|(sandbox, session, agent, limits)| {
            Request::Start(Spec { sandbox, session: SessionId::from_uuid(Uuid::from_u128(session)), agent, limits })
        }),
        (sandbox(), bounds::GRACE_MS).prop_map(|(sandbox, grace_ms)| Request::Stop { sandbox, grace_ms }),
        sandbox().prop_map(Request::Kill),
        sandbox().prop_map(Request::Freeze),
        sandbox().prop_map(Request::Thaw),
        (sandbox(), limits()).prop_map(|(sandbox, limits)| Request::Limit(sandbox, limits)),
        Just(Request::List),
        sandbox().prop_map(Request::Remove),
        Just(Request::Host),
        proptest::option::of(sandbox()).prop_map(Request::Quota),
    ]
}

fn ended() -> impl Strategy<Value = Ended> {
    prop_oneof![
        (1..=u8::MAX).prop_map(|code| Ended::Exited { code }),
        (1..=u8::MAX).prop_map(|number| Ended::Signal { number }),
        Just(Ended::OutOfMemory),
        Just(Ended::Timeout),
        "[a-z-]{1,32}".prop_map(|result| Ended::Failed { result }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Done),
        any::<(bool, bool)>().prop_map(|(fresh, running)| Answer::Started { fresh, running }),
        any::<bool>().prop_map(|stopping| Answer::Host { stopping }),
        any::<bool>().prop_map(|enforced| Answer::Quota { enforced }),
        (sandbox(), any::<bool>()).prop_map(|(sandbox, running)| Answer::Item { sandbox, running, ended: None }),
        (sandbox(), ended()).prop_map(|(sandbox, ended)| Answer::Item { sandbox, running: false, ended: Some(ended) }),
        "[ -~]{0,200}".prop_map(Answer::Refused),
        "[ -~]{0,200}".prop_map(Answer::Failed),
    ]
}

fn read(line: &str) -> Result<Request, LineError> {
    Request::parse(split_tag(line.as_bytes())?.1)
}

proptest! {
    #[test]
    fn requests_read_back(tag: Tag, request in request()) {
        let line = request.encode(tag).expect("within bounds");
        prop_assert!(line.len() <= LINE_MAX, "{} bytes", line.len());
        let (read_tag, words) = split_tag(line.strip_suffix('\n').expect("ends").as_bytes()).expect("has a tag");
        prop_assert_eq!(read_tag, tag);
        prop_assert!(words.starts_with(request.verb()));
        prop_assert_eq!(Request::parse(words), Ok(request));
    }

    #[test]
    fn answers_read_back(tag: Tag, answer in answer()) {
        let line = answer.encode(tag);
        let (read_tag, words) = split_tag(line.strip_suffix('\n').expect("ends").as_bytes()).expect("has a tag");
        prop_assert_eq!(read_tag, tag);
        prop_assert_eq!(Answer::parse(words), Ok(answer));
    }

    #[test]
    fn any_sentence_makes_one_line_that_fits(tag: Tag, why: String) {
        let line = Answer::Failed(why).encode(tag);
        prop_assert!(line.len() <= LINE_MAX);
        let (_, words) = split_tag(line.strip_suffix('\n').expect("ends").as_bytes()).expect("has a tag");
        prop_assert!(matches!(Answer::parse(words), Ok(Answer::Failed(_))));
    }

    #[test]
    fn any_failure_is_one_word(result: String) {
        let item = Answer::Item { sandbox: SandboxId::new(), running: false, ended: Some(Ended::Failed { result }) };
        let line = item.encode(1);
        let (_, words) = split_tag(line.strip_suffix('\n').expect("ends").as_bytes()).expect("has a tag");
        let failed = matches!(Answer::parse(words), Ok(Answer::Item { ended: Some(Ended::Failed { .. }), .. }));
        prop_assert!(failed, "{}", line);
    }

    #[test]
    fn a_changed_byte_of_an_answer_is_refused_or_another_one(
        answer in answer(),
        at: prop::sample::Index,
        byte in b' '..=b'~',
    ) {
        let line = answer.encode(1);
        let mut bytes = line.trim_end_matches('\n').as_bytes().to_vec();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok((tag, words)) = split_tag(&bytes) && let Ok(other) = Answer::parse(words) {
            bytes.push(b'\n');
            prop_assert_eq!(other.encode(tag).into_bytes(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(line: Vec<u8>) {
        if let Ok((_, words)) = split_tag(&line) {
            // What is read has one spelling, so that it is written the same again.
            if let Ok(request) = Request::parse(words) {
                prop_assert_eq!(request.encode(0).expect("was checked"), format!("0 {words}\n"));
            }
            if let Ok(answer) = Answer::parse(words) {
                prop_assert_eq!(answer.encode(0), format!("0 {words}\n"));
            }
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_request(request in request(), at: prop::sample::Index, byte in b' '..=b'~') {
        let line = request.encode(1).expect("within bounds");
        let mut bytes = line.trim_end().as_bytes().to_vec();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok((tag, words)) = split_tag(&bytes) && let Ok(other) = Request::parse(words) {
            bytes.push(b'\n');
            prop_assert_eq!(other.encode(tag).expect("was checked").into_bytes(), bytes);
        }
    }
}

#[test]
fn no_bytes_are_too_much_for_the_launchers_protocol() {
    let id = "0198c1a5-0000-7000-8000-000000000001";
    let limits = "memory=1073741824 cpu=200 tasks=256 disk=5368709120";
    let seeds = [
        format!("1 start {id} session={id} agent=helper {limits}"),
        format!(
            "2 start {id} session={id} agent=a {limits} high=536870912 io_weight=100 io_read=1000000 io_write=1000000 swap=0"
        ),
        format!("3 stop {id} grace_ms=5000"),
        format!("4 kill {id}"),
        format!("5 limit {id} {limits}"),
        "6 list".to_owned(),
        "7 host".to_owned(),
        "13 quota".to_owned(),
        format!("14 quota {id}"),
        "15 ok quota=yes".to_owned(),
        "8 ok".to_owned(),
        "9 ok fresh=yes running=no".to_owned(),
        format!("10 item {id} running=no ended=failed:start-limit-hit"),
        format!("11 item {id} running=no ended=exited:1"),
        "12 failed the unit is gone".to_owned(),
    ];
    let words = [
        &b" "[..],
        b"=",
        b"start ",
        b"limit ",
        b"agent=",
        b"memory=",
        b"ExecStart=/bin/sh",
        b"../..",
        b" ended=",
        b"out-of-memory",
    ];
    let target = crate::hostile::Target {
        name: "the launcher's protocol",
        seeds: seeds.map(String::into_bytes).to_vec(),
        words: &words,
        memory: 64 << 10,
        ..Default::default()
    };
    target.attack(|line| {
        let Ok((tag, words)) = split_tag(line) else { return };
        // What is read has one spelling, so that it is written the same again, and is within its bounds.
        if let Ok(request) = Request::parse(words) {
            assert_eq!(request.encode(tag).expect("within bounds"), format!("{tag} {words}\n"));
        }
        if let Ok(answer) = Answer::parse(words) {
            assert_eq!(answer.encode(tag), format!("{tag} {words}\n"));
        }
    });
}

#[test]
fn only_the_one_spelling_is_taken() {
    let id = "0198c1a5-0000-7000-8000-000000000001";
    let limits = "memory=1073741824 cpu=200 tasks=256 disk=5368709120";
    assert!(read(&format!("1 start {id} session={id} agent=a {limits}")).is_ok());
    let cases = [
        ("", LineError::Tag),
        ("1", LineError::Tag),
        ("01 list", LineError::Tag),
        ("+1 list", LineError::Tag),
        ("4294967296 list", LineError::Tag),
        (" 1 list", LineError::Tag),
        ("1 list\r", LineError::Tag),
        ("1 list\u{e9}", LineError::Tag),
        ("1 ", LineError::Word),
        ("1  list", LineError::Word),
        ("1 LIST", LineError::Word),
        ("1 exec", LineError::Word),
        ("1 list ", LineError::Surplus),
        ("1 host down", LineError::Surplus),
        ("1 quota ", LineError::Value("sandbox")),
        (&format!("1 quota {id} {id}"), LineError::Surplus),
        ("1 kill", LineError::Missing("sandbox")),
        ("1 kill ../../etc", LineError::Value("sandbox")),
        ("1 kill 0198C1A5-0000-7000-8000-000000000001", LineError::Value("sandbox")),
        (&format!("1 kill {id} {id}"), LineError::Surplus),
        (&format!("1 stop {id}"), LineError::Missing("grace_ms")),
        (&format!("1 stop {id} grace_ms=-1"), LineError::Value("grace_ms")),
        (&format!("1 stop {id} grace_ms=007"), LineError::Value("grace_ms")),
        (
            &format!("1 stop {id} grace_ms=60001"),
            LineError::Spec(SpecError::Bound { name: "grace_ms", value: 60_001, least: 0, most: 60_000 }),
        ),
        (&format!("1 start {id} agent=a session={id} {limits}"), LineError::Missing("session")),
        (&format!("1 start {id} session={id} agent= {limits}"), LineError::Spec(SpecError::Agent)),
        (&format!("1 start {id} session={id} agent=a/b {limits}"), LineError::Spec(SpecError::Agent)),
        (&format!("1 start {id} session={id} agent={} {limits}", "a".repeat(256)), LineError::Spec(SpecError::Agent)),
        (&format!("1 start {id} session={id} agent=a {limits} ExecStart=/bin/sh"), LineError::Surplus),
        (
            &format!("1 limit {id} memory=1 cpu=200 tasks=256 disk=5368709120"),
            LineError::Spec(SpecError::Bound { name: "memory", value: 1, least: 128 << 20, most: 1 << 50 }),
        ),
        (&format!("1 limit {id} memory=18446744073709551616 cpu=1 tasks=1 disk=1"), LineError::Value("memory")),
    ];
    for (line, error) in cases {
        assert_eq!(read(line), Err(error), "{line:?}");
    }
}

#[test]
fn only_the_one_spelling_of_the_hosts_state_is_taken() {
    assert_eq!(Answer::parse("ok stopping=yes"), Ok(Answer::Host { stopping: true }));
    assert_eq!(Answer::parse("ok stopping=no"), Ok(Answer::Host { stopping: false }));
    for bad in ["", "maybe", "YES", "yes ", " yes", "yes fresh=no"] {
        assert_eq!(Answer::parse(&format!("ok stopping={bad}")), Err(LineError::Value("stopping")), "{bad:?}");
    }
}

#[test]
fn only_the_one_spelling_of_a_quota_is_taken() {
    assert_eq!(read("1 quota"), Ok(Request::Quota(None)));
    assert_eq!(Answer::parse("ok quota=yes"), Ok(Answer::Quota { enforced: true }));
    for bad in ["", "on", "Yes", "yes "] {
        assert_eq!(Answer::parse(&format!("ok quota={bad}")), Err(LineError::Value("quota")), "{bad:?}");
    }
}

#[test]
fn only_the_one_spelling_of_an_end_is_taken() {
    let id = "0198c1a5-0000-7000-8000-000000000001";
    let long = "a".repeat(33);
    for end in
        ["", " ended=exited:1", " ended=signal:9", " ended=out-of-memory", " ended=timeout", " ended=failed:start-limit-hit"]
    {
        assert!(Answer::parse(&format!("item {id} running=no{end}")).is_ok(), "{end}");
    }
    let cases = [
        (" ", LineError::Missing("ended")),
        (" ended", LineError::Missing("ended")),
        (" ended=", LineError::Value("ended")),
        (" ended=exited", LineError::Value("ended")),
        (" ended=exited:0", LineError::Value("ended")),
        (" ended=exited:01", LineError::Value("ended")),
        (" ended=exited:256", LineError::Value("ended")),
        (" ended=exited:-1", LineError::Value("ended")),
        (" ended=signal:KILL", LineError::Value("ended")),
        (" ended=timeout:1", LineError::Value("ended")),
        (" ended=Timeout", LineError::Value("ended")),
        (" ended=failed:", LineError::Value("ended")),
        (" ended=failed:a1", LineError::Value("ended")),
        (&format!(" ended=failed:{long}"), LineError::Value("ended")),
        ("  ended=timeout", LineError::Missing("ended")),
        (" ended=timeout ", LineError::Surplus),
        (" ended=timeout ended=timeout", LineError::Surplus),
    ];
    for (end, error) in cases {
        assert_eq!(Answer::parse(&format!("item {id} running=no{end}")), Err(error), "{end:?}");
    }
    let both = format!("item {id} running=yes ended=timeout");
    assert_eq!(Answer::parse(&both), Err(LineError::Surplus), "what runs has not ended");
}

#[test]
fn a_request_that_would_be_refused_is_not_written() {
    let limits = Limits {
        memory: ByteCount(1 << 30),
        memory_high: None,
        swap: ByteCount(0),
        cpu: Percent(200),
        tasks: 256,
        disk: ByteCount(1 << 30),
        io_weight: None,
        io_read: None,
        io_write: None,
    };
    let mut spec = Spec { sandbox: SandboxId::new(), session: SessionId::new(), agent: "a\n2 kill".to_owned(), limits };
    assert_eq!(Request::Start(spec.clone()).encode(1), Err(SpecError::Agent));
    spec.agent = "a".to_owned();
    spec.limits.tasks = 1;
    assert!(matches!(Request::Start(spec).encode(1), Err(SpecError::Bound { name: "tasks", .. })));
    let stop = Request::stop(SandboxId::new(), Duration::from_secs(3600));
    assert!(stop.encode(1).expect("is cut").ends_with("grace_ms=60000\n"));
}

#[tokio::test]
async fn lines_are_read_one_by_one_and_bounded() {
    let mut from = tokio::io::BufReader::with_capacity(3, &b"1 list\n\n2 list\n"[..]);
    for line in [&b"1 list"[..], b"", b"2 list"] {
        assert_eq!(read_line(&mut from).await.expect("reads").as_deref(), Some(line));
    }
    assert_eq!(read_line(&mut from).await.expect("ends"), None);

    let cut = read_line(&mut &b"1 lis"[..]).await.expect_err("ends inside a line");
    assert_eq!(cut.kind(), std::io::ErrorKind::UnexpectedEof);

    let endless = [b'x'; 4 * LINE_MAX];
    let mut from = tokio::io::BufReader::with_capacity(7, &endless[..]);
    let long = read_line(&mut from).await.expect_err("is too long");
    assert_eq!(long.kind(), std::io::ErrorKind::InvalidData);
    assert!(from.get_ref().len() > 2 * LINE_MAX, "stops reading at the limit");
}
