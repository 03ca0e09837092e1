use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn target(text: &str) -> Target {
    Target::parse(text, None).expect(text)
}

fn list(entries: &[&str]) -> List {
    List::new(entries.iter().map(|entry| entry.parse().expect(entry)).collect()).expect("few")
}

fn admits(entry: &str, to: &str) -> bool {
    entry.parse::<Entry>().expect(entry).rules().iter().any(|rule| rule.admits(&target(to)))
}

#[test]
fn entries_read_and_are_told_in_one_form() {
    for (text, form) in [
        ("pypi", "pypi"),
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("example.com.:443", "example.com:443"),
        ("*.Example.com:8443", "*.example.com:8443"),
        ("*", "*"),
        ("*:*", "*:*"),
        ("example.com:*", "example.com:*"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a_b.example", "a_b.example"),
        ("localhost:8080", "localhost:8080"),
        ("8.8.8.8", "8.8.8.8"),
        ("8.8.8.8:53", "8.8.8.8:53"),
        ("[2606:4700::1111]:443", "[2606:4700::1111]:443"),
        ("[2606:4700:0:0::1111]", "[2606:4700::1111]"),
        ("0x1.example", "0x1.example"),
    ] {
        assert_eq!(text.parse::<Entry>().expect(text).to_string(), form, "{text}");
    }
}

#[test]
fn what_is_no_entry_is_refused_by_its_name_with_the_reason() {
    for (text, reason) in [
        ("", "a name has 1 to 253 characters"),
        (".", "a name has 1 to 253 characters"),
        ("https://example.com", "write the host alone"),
        ("example.com/path", "write the host alone"),
        ("example.com:", "\"\" is no port"),
        ("example.com:0", "\"0\" is no port"),
        ("example.com:65536", "\"65536\" is no port"),
        ("example.com:+443", "\"+443\" is no port"),
        ("example.com:https", "\"https\" is no port"),
        ("user@example.com", "'@' is in no host name"),
        ("exa mple.com", "' ' is in no host name"),
        ("example.com\0.evil.org", "'\\0' is in no host name"),
        ("example.com%00", "'%' is in no host name"),
        ("bücher.example", "ASCII form"),
        ("127。0。0。1", "ASCII form"),
        ("１２７.0.0.1", "ASCII form"),
        ("example..com", "each part between dots"),
        (".example.com", "each part between dots"),
        ("example.com..", "each part between dots"),
        ("-a.example", "begins or ends"),
        ("a-.example", "begins or ends"),
        ("a.*.example", "\"*\" stands alone"),
        ("*example.com", "\"*\" stands alone"),
        ("**", "\"*\" stands alone"),
        ("*.8.8.8.8", "below an address"),
        ("2606:4700::1111", "in brackets"),
        ("[2606:4700::1111", "no IPv6"),
        ("[2606:4700::1111]x", "no IPv6"),
        ("[fe80::1%eth0]", "no IPv6"),
        ("[example.com]", "no IPv6"),
        // Every spelling of 127.0.0.1 that inet_aton(3) takes, and some that look like it.
        ("2130706433", "ends in a number"),
        ("0x7f000001", "ends in a number"),
        ("0X7F000001", "ends in a number"),
        ("017700000001", "ends in a number"),
        ("127.1", "ends in a number"),
        ("127.0.1", "ends in a number"),
        ("0177.0.0.1", "ends in a number"),
        ("0x7f.0.0.1", "ends in a number"),
        ("127.0.0.0x1", "ends in a number"),
        ("127.0.0.01", "ends in a number"),
        ("127.0.0.1.", "ends in a number"),
        ("127.0.0.256", "ends in a number"),
        ("1.2.3.4.5", "ends in a number"),
        ("foo.0x", "ends in a number"),
    ] {
        let error = text.parse::<Entry>().expect_err(text);
        assert!(error.reason.contains(reason), "{text}: {error}");
        assert!(error.to_string().starts_with(&format!("{text:?} can not be allowed: ")), "{error}");
    }
    let long = format!("{}.example", "a".repeat(64));
    assert!(long.parse::<Entry>().is_err());
    assert!(format!("{}example", "a.".repeat(130)).parse::<Entry>().is_err());
}

#[test]
fn an_entry_admits_what_it_says_and_nothing_else() {
    for (entry, to, expected) in [
        ("example.com", "example.com:443", true),
        ("example.com", "EXAMPLE.com.:80", true),
        ("example.com", "example.com:8080", false),
        ("example.com", "www.example.com:443", false),
        ("example.com", "example.com.evil.org:443", false),
        ("example.com", "notexample.com:443", false),
        ("*.example.com", "www.example.com:443", true),
        ("*.example.com", "a.b.example.com:443", true),
        ("*.example.com", "example.com:443", false),
        ("*.example.com", "badexample.com:443", false),
        ("*.example.com:22", "git.example.com:22", true),
        ("*.example.com:22", "git.example.com:443", false),
        ("example.com:*", "example.com:1", true),
        ("*", "anything.org:443", true),
        ("*", "anything.org:25", false),
        ("*", "8.8.8.8:443", false),
        ("*:*", "[2606:4700::1111]:443", false),
        ("8.8.8.8", "8.8.8.8:443", true),
        ("8.8.8.8", "8.8.4.4:443", false),
        ("[2606:4700::1111]", "[2606:4700:0::1111]:443", true),
        ("pypi", "files.pythonhosted.org:443", true),
        ("pypi", "pythonhosted.org:443", false),
        ("github", "raw.githubusercontent.com:443", true),
        ("github", "github.com:22", false),
    ] {
        assert_eq!(admits(entry, to), expected, "{entry} {to}");
    }
}

#[test]
fn a_bound_covers_only_what_it_has_in_full() {
    for (bound, entry, expected) in [
        ("*:*", "8.8.8.8:22", true),
        ("*", "8.8.8.8", true),
        ("*", "8.8.8.8:22", false),
        ("*", "example.com:*", false),
        ("*", "pypi", true),
        ("pypi", "pypi", true),
        ("pypi", "pypi.org", true),
        ("pypi", "npm", false),
        ("*.example.com", "*.a.example.com", true),
        ("*.example.com", "*.example.com:443", true),
        ("*.example.com", "example.com", false),
        ("*.a.example.com", "*.example.com", false),
        ("*.example.com", "*", false),
        ("example.com:443", "example.com", false),
        ("example.com", "example.com:443", true),
        ("example.com", "*", false),
    ] {
        assert_eq!(list(&[bound]).first_beyond(&list(&[entry])).is_none(), expected, "{bound} {entry}");
    }
    let other = list(&["a.example.com", "pypi", "npm"]);
    let beyond = list(&["pypi", "*.example.com"]).first_beyond(&other);
    assert_eq!(beyond.map(|(at, entry)| (at, entry.to_string())), Some((2, "npm".to_owned())));
}

#[test]
fn presets_are_lists_of_names() {
    for preset in Preset::all() {
        assert_eq!(Preset::find(preset.name()), Some(preset));
        for host in preset.hosts() {
            assert_eq!(Host::parse(host), Ok(Host::Name((*host).to_owned())), "{host}");
        }
        assert!(Host::parse(preset.name()).is_ok(), "a preset hides the host of its name: {}", preset.name());
    }
}

#[test]
fn only_addresses_of_the_public_network_are_not_refused() {
    for (text, kind) in [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "this network"),
        ("10.0.0.1", "private"),
        ("100.64.0.1", "carrier"),
        ("100.127.255.255", "carrier"),
        ("100.100.100.200", "metadata"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("168.63.129.16", "metadata"),
        ("169.254.1.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.1", "IETF"),
        ("192.0.2.1", "documentation"),
        ("192.88.99.1", "6to4"),
        ("192.168.1.1", "private"),
        ("198.18.0.1", "benchmarks"),
        ("198.19.255.255", "benchmarks"),
        ("198.51.100.1", "documentation"),
        ("203.0.113.1", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::127.0.0.1", "no address of the public"),
        ("::8.8.8.8", "no address of the public"),
        ("::ffff:127.0.0.1", "no address of the public"),
        ("::ffff:8.8.8.8", "no address of the public"),
        ("::ffff:169.254.169.254", "metadata"),
        ("::ffff:0:127.0.0.1", "no address of the public"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("64:ff9b::169.254.169.254", "metadata"),
        ("64:ff9b:1::8.8.8.8", "local NAT64"),
        ("100::1", "leads nowhere"),
        ("2001::1", "IETF"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "IETF"),
        ("2001:2::1", "IETF"),
        ("2001:20::1", "IETF"),
        ("2001:db8::1", "documentation"),
        ("2002:7f00:1::", "6to4"),
        ("2002:808:808::", "6to4"),
        ("3fff::1", "documentation"),
        ("5f00::1", "no address of the public"),
        ("fc00::1", "private"),
        ("fd00::1", "private"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("fe80::1", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("4000::1", "no address of the public"),
    ] {
        let found = address::refusal(text.parse().expect(text));
        assert!(found.is_some_and(|found| found.contains(kind)), "{text}: {found:?}");
    }
    for text in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00:1450::1",
        "64:ff9b::8.8.8.8",
    ] {
        assert_eq!(address::refusal(text.parse().expect(text)), None, "{text}");
    }
}

#[test]
fn ranges_read_and_have_their_addresses() {
    for (text, inside, outside) in [
        ("10.1.0.0/16", "10.1.255.255", "10.2.0.0"),
        ("127.0.0.1/32", "127.0.0.1", "127.0.0.2"),
        ("0.0.0.0/0", "8.8.8.8", "::1"),
        ("fd00:1::/64", "fd00:1::ff", "fd00:1:0:1::"),
        ("::/0", "::1", "127.0.0.1"),
    ] {
        let range: Range = text.parse().expect(text);
        assert_eq!(range.to_string(), text);
        let has = |text: &str| range.has(text.parse::<IpAddr>().expect(text));
        assert!(has(inside) && !has(outside), "{text}");
    }
    for text in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10/8", "x/8", "::/129", "010.0.0.0/8"] {
        assert!(text.parse::<Range>().is_err(), "{text}");
    }
    let error = "10.1.2.3/8".parse::<Range>().expect_err("has bits");
    assert_eq!(error.to_string(), "10.1.2.3/8 has bits behind its prefix; write 10.0.0.0/8");
}

#[test]
fn a_body_takes_a_list_and_nothing_else() {
    let read = |text: &str| serde_json::from_str::<Egress>(text).map_err(|error| error.to_string());
    assert_eq!(read(r#"{"allow":["pypi"]}"#).map(|egress| egress.allow), Ok(list(&["pypi"])));
    assert!(read(r#"{"allow":["exa mple"]}"#).is_err_and(|error| error.contains("exa mple")));
    assert!(read("{}").is_err_and(|error| error.contains("allow")));
    assert!(read(r#"{"allow":[],"deny":[]}"#).is_err_and(|error| error.contains("deny")));
    let many = vec!["a.example"; ENTRIES_MAX + 1];
    assert!(read(&serde_json::json!({"allow": many}).to_string()).is_err_and(|error| error.contains("101 entries")));
}

#[test]
fn no_spelling_of_a_host_is_told_like_a_preset() {
    for text in ["pypi", "PyPI", "pypi.", "PYPI."] {
        assert_eq!(text.parse::<Entry>(), Ok(Entry::Preset(Preset::Pypi)), "{text}");
    }
    let port: Entry = "pypi:443".parse().expect("a rule");
    assert_eq!(port.to_string(), "pypi:443", "with a port it is a host");
}

#[test]
fn an_address_leads_to_the_host_that_every_reader_takes_it_for_or_nowhere() {
    for (url, wanted) in [
        ("https://a.example/x?y#z", Some("a.example:443")),
        ("HTTP://A.example", Some("a.example:80")),
        ("https://a.example:8443?x", Some("a.example:8443")),
        ("https://[2001:db8::7]/", Some("[2001:db8::7]:443")),
        ("https://a.example#@b.example", Some("a.example:443")),
        ("https://a.example@b.example/", None),
        ("https://a.example\\@b.example/", None),
        ("https://a.example\t.b.example/", None),
        (" https://a.example/", None),
        ("https:a.example", None),
        ("https:///a.example", None),
        ("https://%61.example/", None),
        ("https://ａ.example/", None),
        ("https://127.1/", None),
        ("https://a.example:/", None),
        ("https://a.example:0443x/", None),
        ("ftp://a.example/", None),
        ("data:text/plain,x", None),
        ("", None),
    ] {
        assert_eq!(Target::of_url(url).ok().map(|target| target.to_string()).as_deref(), wanted, "{url}");
    }
}

proptest! {
    #[test]
    fn whatever_reads_is_told_in_a_form_that_reads_the_same(text in "\\PC{0,40}|[*.a-z0-9:\\[\\]x-]{0,20}") {
        if let Ok(entry) = text.parse::<Entry>() {
            prop_assert_eq!(entry.to_string().parse::<Entry>(), Ok(entry));
        }
        if let Ok(target) = Target::parse(&text, None) {
            prop_assert_eq!(Target::parse(&target.to_string(), None), Ok(target));
        }
    }

    #[test]
    fn what_a_rule_covers_it_admits(bound in rule(), entry in rule(), to in targets()) {
        let is_name = matches!(to.host, Host::Name(_));
        if is_name && bound.covers(&entry) && entry.admits(&to) {
            prop_assert!(bound.admits(&to), "{} {} {}", bound, entry, to);
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    "([ab]\\.){0,2}[ab]"
}

fn rule() -> impl Strategy<Value = Rule> {
    let names =
        prop_oneof![Just(Names::Any), name().prop_map(Names::Below), name().prop_map(|name| Names::One(Host::Name(name))),];
    let ports = prop_oneof![Just(Ports::Web), Just(Ports::Any), prop_oneof![Just(443), Just(22)].prop_map(Ports::One)];
    (names, ports).prop_map(|(names, ports)| Rule { names, ports })
}

fn targets() -> impl Strategy<Value = Target> {
    (name(), prop_oneof![Just(443), Just(80), Just(22)]).prop_map(|(name, port)| Target { host: Host::Name(name), port })
}
