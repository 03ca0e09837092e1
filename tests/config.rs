//! The configuration: which files count, and what a faulty one is told.
#![cfg(feature = "daemon")]

use std::path::{Path, PathBuf};

use ash::config::model::Auth;
use ash::config::rate::Rate;
use ash::config::settings::{CorsOrigins, Require};
use ash::config::{Settings, SnapshotPolicy, Sources};
use ash::report::chain;
use ash::wire::quantity::{ByteCount, Percent, TimeSpan};
use ash::wire::usage::ModelUsage;
use ash::wire::weakness::Weakness;

struct Host(tempfile::TempDir);

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let host = Self(tempfile::tempdir().expect("folder"));
        for (path, text) in files {
            host.write(path, text.as_bytes());
        }
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("folder");
        std::fs::write(path, bytes).expect("file");
    }

    fn load(&self) -> Result<Settings, String> {
        Settings::load(&Sources::Root(self.0.path().to_owned())).map_err(|error| self.shorten(&chain(&error)))
    }

    /// Paths as they would be on a host of its own.
    fn shorten(&self, text: &str) -> String {
        text.replace(self.0.path().to_str().expect("UTF-8"), "")
    }
}

#[test]
fn without_files_the_defaults_count() {
    let settings = Host::new(&[]).load().expect("good");
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.http.listen, ["127.0.0.1:4100".parse().expect("address")]);
    assert_eq!(settings.limits.memory, Some(ByteCount(1 << 30)));
    assert_eq!(settings.limits.cpu, Some(Percent(200)));
    assert_eq!((settings.max_limits, settings.limits.turn), (settings.limits, None), "no more than that can be asked for");
    assert!(settings.agents.path_roots.is_empty());
    assert!(!settings.agents.remote_paths);
}

#[test]
fn the_packaged_file_shows_the_defaults() {
    let shipped = include_str!("../packaging/ash.toml");
    // A key behind a comment mark follows it at once; a remark has a space before.
    let is_remark = |line: &str| line == "#" || line.starts_with("# ");
    let lines: Vec<_> = shipped.lines().filter(|line| !is_remark(line)).map(|line| line.trim_start_matches('#')).collect();
    let host = Host::new(&[("etc/ash/ash.toml", &lines.join("\n"))]);
    let settings = host.load().expect("good");
    assert!(settings.origins.len() > 10, "the keys were read: {:?}", settings.origins);
    // Where a value comes from does not count, and the examples of a runtime's path and of a collector are no defaults.
    assert_eq!(settings.runtime.claude.as_deref(), Some(Path::new("/usr/local/bin/claude")));
    assert_eq!(settings.telemetry.endpoint.as_deref(), Some("http://127.0.0.1:4318"));
    let default = Settings::default();
    let (runtime, telemetry) = (default.runtime.clone(), default.telemetry.clone());
    let shown = Settings { origins: default.origins.clone(), runtime, telemetry, ..settings };
    assert_eq!(shown, default);
}

#[test]
fn every_key_is_taken() {
    let text = r#"
        [http]
        listen = ["127.0.0.1:5000", "[::1]:5000"]
        cors_origins = "https://app.example"
        docs = false
        write_timeout = "1m"
        upload_bytes = "3M"
        attachment_bytes = "4M"
        public_url = "https://ash.example/"
        tls_listen = "0.0.0.0:4143"
        tls_cert = "/etc/ash/tls/cert.pem"
        rate_limit = "10/s"
        rate_burst = 20
        create_limit = "off"
        head_timeout = "5s"
        [model]
        base_url = "http://127.0.0.1:8080/"
        auth = "bearer"
        headers = {X-Team="a b"}
        messages_path = "/m"
        count_tokens_path = ""
        retry_for = "0s"
        [prices]
        my-model = {input=1,output=5,cache_read=0.1,cache_write=1.25,cache_write_1h=2}
        [runtime.claude]
        path = "/opt/x/claude"
        [store]
        url = "sqlite:///data/a.db"
        [snapshots]
        url = "s3://bucket/a"
        keep = 7
        policy = "every-turn"
        [sessions]
        freeze_after = "0s"
        park_after = "2h"
        shutdown_grace = "1m"
        sweep_every = "1m"
        [limits]
        memory = "2G"
        cpu = "50%"
        tasks = 100
        disk = "1G"
        [agents]
        path_roots = ["/srv/agents"]
        remote_paths = true
        max_bytes = "1M"
        max_files = 10
        [files]
        max = 5
        max_bytes = "2M"
        [metrics]
        agents = 7
        tenants = 0
        [sandbox]
        tmp = "64M"
        launcher = "/run/other.sock"
        accept = ["no-seccomp"]
        ptrace = true
        require = "strict"
        [schedules]
        max = 8
        min_interval = "5s"
        [webhooks]
        allow_private = ["10.1.0.0/16"]
        allow_http = true
        max = 0
        keep_deliveries = 5
    "#;
    let host = Host::new(&[("etc/ash/ash.toml", text)]);
    let settings = host.load().expect("good");
    let default = Settings::default();
    assert_eq!(settings.http.listen.len(), 2);
    assert_eq!(settings.http.cors_origins, CorsOrigins::These(vec!["https://app.example".to_owned()]));
    assert!(!settings.http.docs);
    assert_eq!(settings.http.upload_bytes, ByteCount(3 << 20));
    assert_eq!(settings.http.attachment_bytes, ByteCount(4 << 20));
    assert_eq!(settings.http.public_url.as_deref(), Some("https://ash.example"));
    assert_eq!((settings.files.max, settings.files.max_bytes), (5, ByteCount(2 << 20)));
    assert_eq!(settings.model.base_url, "http://127.0.0.1:8080");
    assert_eq!((settings.model.auth, settings.model.retry_for), (Auth::Bearer, TimeSpan(0)));
    assert_eq!(settings.model.headers, [("x-team".to_owned(), "a b".to_owned())].into());
    assert_eq!((settings.model.messages_path.as_str(), settings.model.count_tokens_path.as_str()), ("/m", ""));
    assert!(!format!("{:?}", settings.model).contains("a b"));
    assert_eq!(settings.runtime.claude.as_deref(), Some(Path::new("/opt/x/claude")));
    assert_ne!(settings.prices, default.prices);
    assert_ne!(settings.store, default.store);
    assert_eq!((settings.snapshots.url.as_str(), settings.snapshots.keep), ("s3://bucket/a", 7));
    assert_eq!(settings.snapshots.policy, SnapshotPolicy::EveryTurn);
    assert_eq!((settings.sessions.freeze_after, settings.sessions.park_after), (TimeSpan(0), TimeSpan(7200)));
    assert_eq!(settings.sessions.shutdown_grace, TimeSpan(60));
    assert_eq!(settings.sessions.sweep_every, TimeSpan(60));
    assert_eq!((settings.limits.memory, settings.limits.cpu), (Some(ByteCount(2 << 30)), Some(Percent(50))));
    assert_eq!((settings.limits.tasks, settings.limits.disk), (Some(100), Some(ByteCount(1 << 30))));
    assert_eq!(settings.agents.path_roots, [Path::new("/srv/agents")]);
    assert_eq!(
        (settings.agents.remote_paths, settings.agents.max_bytes, settings.agents.max_files),
        (true, ByteCount(1 << 20), 10)
    );
    assert_eq!((settings.sandbox.tmp, settings.sandbox.launcher.as_path()), (ByteCount(64 << 20), Path::new("/run/other.sock")));
    assert_eq!((settings.sandbox.accept.as_slice(), settings.sandbox.ptrace), (&[Weakness::NoSeccomp][..], true));
    assert_eq!((settings.sandbox.require, settings.http.write_timeout), (Require::Strict, TimeSpan(60)));
    assert_eq!((settings.metrics.agents, settings.metrics.tenants, default.metrics.agents), (7, 0, 50));
    let http = &settings.http;
    assert_eq!((http.tls_listen.len(), http.tls_cert.as_deref()), (1, Some(Path::new("/etc/ash/tls/cert.pem"))));
    assert_eq!((http.rate_limit, http.rate_burst), (Some(Rate { times: 10, seconds: 1 }), 20));
    assert_eq!((http.create_limit, http.head_timeout, http.idle_timeout), (None, TimeSpan(5), TimeSpan(75)));
    assert_eq!((settings.schedules.max, settings.schedules.min_interval), (8, TimeSpan(5)));
    let hooks = &settings.webhooks;
    assert_eq!((hooks.allow_private.len(), hooks.allow_http, hooks.max, hooks.keep_deliveries), (1, true, 0, 5));
    let origin = settings.origin("limits.tasks").expect("from a file");
    let line = text.lines().position(|line| line.contains("tasks = 100")).expect("it is there") + 1;
    assert_eq!((origin.line, origin.path.as_path()), (line, host.path("etc/ash/ash.toml").as_path()));
    assert_eq!(settings.origins.len(), text.matches(" = ").count());
}

#[test]
fn drop_ins_go_by_file_name_and_the_nearer_folder_hides_the_farther() {
    let tasks = |n: u32| format!("limits.tasks = {n}\n");
    let host = Host::new(&[
        ("etc/ash/ash.toml", "limits.tasks = 100\nhttp.listen = []\nlimits.cpu = \"100%\"\n"),
        ("usr/lib/ash/ash.toml.d/10-vendor.toml", "limits.cpu = \"300%\"\n"),
        ("usr/lib/ash/ash.toml.d/50-x.toml", &tasks(501)),
        ("run/ash/ash.toml.d/50-x.toml", &tasks(502)),
        ("etc/ash/ash.toml.d/40-y.toml", &tasks(400)),
        ("etc/ash/ash.toml.d/99-not.toml.bak", "nonsense"),
        ("etc/ash/ash.toml.d/.99-hidden.toml", "nonsense"),
    ]);
    let settings = host.load().expect("good");
    assert_eq!(settings.limits.tasks, Some(502));
    assert_eq!(settings.limits.cpu, Some(Percent(300)));
    assert!(settings.http.listen.is_empty());
    assert_eq!(settings.origin("limits.tasks").map(|at| at.path.clone()), Some(host.path("run/ash/ash.toml.d/50-x.toml")));

    host.write("etc/ash/ash.toml.d/50-x.toml", tasks(503).as_bytes());
    assert_eq!(host.load().expect("good").limits.tasks, Some(503));

    std::fs::remove_file(host.path("etc/ash/ash.toml.d/50-x.toml")).expect("removed");
    std::os::unix::fs::symlink("/dev/null", host.path("etc/ash/ash.toml.d/50-x.toml")).expect("link");
    assert_eq!(host.load().expect("good").limits.tasks, Some(400));
}

#[test]
fn prices_are_overridden_one_by_one() {
    let price = |input: &str| format!("{{ input = {input}, output = 0, cache_read = 0, cache_write = 0, cache_write_1h = 0 }}");
    let text = |lines: &[(&str, &str)]| {
        lines.iter().map(|(name, input)| format!("{name} = {}\n", price(input))).fold("[prices]\n".to_owned(), |a, b| a + &b)
    };
    let host = Host::new(&[
        ("etc/ash/ash.toml", &text(&[("my-a", "1"), ("my-b", "1")])),
        ("etc/ash/ash.toml.d/10.toml", &text(&[("my-b", "2.5"), ("my-c", "2"), ("claude-haiku-4-5", "7")])),
        (
            "etc/ash/ash.toml.d/20.toml",
            "prices.my-c.input = 3\nprices.my-c.output = 0\nprices.my-c.cache_read = 0\nprices.my-c.cache_write = 0\nprices.my-c.cache_write_1h = 0",
        ),
    ]);
    let settings = host.load().expect("good");
    let usage = ModelUsage { input_tokens: 1_000_000, ..ModelUsage::default() };
    for (model, dollars) in
        [("my-a", 1.0), ("my-b", 2.5), ("my-c", 3.0), ("claude-haiku-4-5-20251001", 7.0), ("claude-sonnet-4-5", 3.0)]
    {
        assert_eq!(settings.prices.cost(model, &usage), Some(dollars), "{model}");
    }
    assert_eq!(settings.origin("prices").map(|at| at.path.clone()), Some(host.path("etc/ash/ash.toml.d/20.toml")));
    let rest = "output = 1, cache_read = 1, cache_write = 1, cache_write_1h = 1 }";
    for (line, said) in [
        (
            format!("m = {{ input = -1, {rest}"),
            "\"prices.m.input\": invalid value: floating point `-1.0`, expected US dollars for a million tokens, a number from 0 to 100000",
        ),
        (
            format!("m = {{ input = nan, {rest}"),
            "\"prices.m.input\": invalid value: floating point `NaN`, expected US dollars for a million tokens, a number from 0 to 100000",
        ),
        (
            format!("m = {{ input = \"1\", {rest}"),
            "\"prices.m.input\": invalid type: string \"1\", expected US dollars for a million tokens, a number from 0 to 100000",
        ),
        (format!("m = {{ {rest}"), "\"prices.m\": missing field `input`"),
        (
            format!("m = {{ inputs = 1, input = 1, {rest}"),
            "\"prices.m.inputs\": unknown field `inputs`, expected one of `input`, `output`, `cache_read`, `cache_write`, `cache_write_1h`",
        ),
        ("m = 3".to_owned(), "\"prices.m\": invalid type: integer `3`, expected a table"),
    ] {
        let host = Host::new(&[("etc/ash/ash.toml", &format!("[prices]\n{line}\n"))]);
        assert_eq!(host.load().expect_err("bad"), format!("/etc/ash/ash.toml:2: {said}"));
    }
}

#[test]
fn a_named_file_is_read_alone_and_has_to_exist() {
    let host = Host::new(&[("etc/ash/ash.toml", "limits.tasks = 100"), ("own.toml", "http.listen = \"127.0.0.1:1\"")]);
    let settings = Settings::load(&Sources::File(host.path("own.toml"))).expect("good");
    assert_eq!(settings.limits.tasks, Some(256));
    assert_eq!(settings.http.listen, ["127.0.0.1:1".parse().expect("address")]);
    let error = Settings::load(&Sources::File(host.path("none.toml"))).expect_err("missing");
    assert_eq!(host.shorten(&chain(&error)), "/none.toml can not be read: No such file or directory (os error 2)");
}

#[test]
fn a_fault_is_told_by_file_line_key_and_reason() {
    for (text, said) in [
        ("[http]\nlisten = []\n\n\n\n\nlisen = 1\n", ":7: unknown key \"http.lisen\", did you mean \"listen\"?"),
        ("[htp]\nlisten = []", ":1: unknown key \"htp\", did you mean \"http\"?"),
        ("[http]\nport = 80", ":2: unknown key \"http.port\""),
        ("base_url = \"x\"", ":1: unknown key \"base_url\", did you mean \"model.base_url\"?"),
        ("[http]\nlisten = 80", ":2: \"http.listen\": invalid type: integer `80`, expected a string, or a list of strings"),
        (
            "[http]\nlisten = [\"localhost:80\"]",
            ":2: \"http.listen\": \"localhost:80\" is not an address with a port, such as \"127.0.0.1:4100\" or \"[::1]:4100\"",
        ),
        ("[limits]\ntasks = \"many\"", ":2: \"limits.tasks\": invalid type: string \"many\", expected a whole number from 0 on"),
        ("[limits]\n\ntasks = 1", ":3: \"limits.tasks\": 1 is not between 24 and 4000000"),
        (
            "limits.memory = \"1 GB\"",
            ":1: \"limits.memory\": \"1 GB\" is not a size: write digits with an optional K, M, G or T, such as \"512M\"",
        ),
        ("[metrics]\nagents = 1001", ":2: \"metrics.agents\": 1001 is not between 0 and 1000"),
        ("[snapshots]\nkeep = 0", ":2: \"snapshots.keep\": 0 is not between 1 and 1000"),
        (
            "[snapshots]\npolicy = \"never\"",
            ":2: \"snapshots.policy\": unknown variant `never`, expected one of `every-turn`, `idle`, `pause-only`",
        ),
        ("[sessions]\nshutdown_grace = \"2m\"", ":2: \"sessions.shutdown_grace\": 2m is not between 0s and 1m"),
        (
            "[sessions]\npark_after = \"never\"",
            ":2: \"sessions.park_after\": \"never\" is not a length of time: write digits and s, m, h or d, such as \"10m\"",
        ),
        ("sessions.freeze_after = \"9999d\"", ":1: \"sessions.freeze_after\": 9999d is not between 0s and 3650d"),
        ("limits.memory = \"1M\"", ":1: \"limits.memory\": 1M is not between 128M and 1024T"),
        (
            "limits.cpu = \"2\"",
            ":1: \"limits.cpu\": \"2\" is not a share of processor time: write digits and a percent sign, such as \"200%\"",
        ),
        ("limits = []", ":1: \"limits\": invalid type: sequence, expected a table"),
        ("agents.path_roots = [\"srv\"]", ":1: \"agents.path_roots\": \"srv\" is not an absolute path"),
        (
            "model.base_url = \"https://bedrock-runtime.eu-west-1.amazonaws.com\"",
            ":1: \"model.base_url\": Amazon Bedrock wants calls that are signed (SigV4) and name the model in their path, which \
             Ash does not speak; name a gateway that takes the calls of the Anthropic API",
        ),
        ("model.headers = {host=\"x\"}", ":1: \"model.headers\": \"host\" is made by Ash for each call"),
        ("model.base_url = \"https://x/v1\"", ":1: \"model.base_url\": leave out \"/v1\", the runtime adds it"),
        ("store.url = \"mysql://x\"", ":1: \"store.url\": it begins with neither \"sqlite://\" nor \"postgres://\""),
    ] {
        let host = Host::new(&[("etc/ash/ash.toml", text)]);
        assert_eq!(host.load().expect_err(text), format!("/etc/ash/ash.toml{said}"));
    }
}

#[test]
fn a_file_that_is_no_text_is_told() {
    let host = Host::new(&[]);
    host.write("etc/ash/ash.toml", b"# one\n# two \xff\n");
    assert_eq!(host.load().expect_err("bytes"), "/etc/ash/ash.toml:2: not UTF-8");

    host.write("etc/ash/ash.toml", "\n".repeat(2 << 20).as_bytes());
    assert_eq!(host.load().expect_err("large"), "/etc/ash/ash.toml has more than 1048576 bytes");

    host.write("etc/ash/ash.toml", b"http.listen = [");
    assert!(host.load().expect_err("syntax").starts_with("/etc/ash/ash.toml:1: "));

    std::fs::remove_file(host.path("etc/ash/ash.toml")).expect("removed");
    std::fs::create_dir(host.path("etc/ash/ash.toml")).expect("folder");
    assert_eq!(host.load().expect_err("folder"), "/etc/ash/ash.toml is not a regular file");

    std::fs::remove_dir(host.path("etc/ash/ash.toml")).expect("removed");
    std::os::unix::fs::symlink("nowhere", host.path("etc/ash/ash.toml")).expect("link");
    assert_eq!(host.load().expect_err("link"), "/etc/ash/ash.toml can not be read: No such file or directory (os error 2)");

    std::fs::remove_file(host.path("etc/ash/ash.toml")).expect("removed");
    host.write("etc/ash/ash.toml.d", b"a file, not a folder");
    assert!(host.load().expect_err("drop-ins").starts_with("/etc/ash/ash.toml.d can not be read: "));
}
