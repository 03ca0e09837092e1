//! Throw-away Debian machines (`tests/box/box`) with the package installed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::MODEL_KEY;

/// Port of the scripted model in a machine.
pub const MODEL_PORT: u16 = 8099;

/// What a test on machines needs: the package and the runtime. Without them, or where no machine
/// can run, a test is skipped with a word on standard error, and fails where `CI` is set.
pub fn needs() -> Option<(PathBuf, PathBuf)> {
    let claude = super::claude()?;
    let deb = std::env::var_os("ASH_DEB").map(PathBuf::from);
    let check = command("check").output().expect("tests/box/box starts");
    let missing = match deb {
        None => "ASH_DEB does not name the package".to_owned(),
        Some(deb) if check.status.success() => return Some((deb, claude)),
        Some(_) => String::from_utf8_lossy(&check.stderr).trim().to_owned(),
    };
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("skipped: {missing}");
    None
}

fn command(verb: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/box/box"));
    command.arg(verb);
    command
}

/// A booted machine; it is gone when dropped, or when the test's process ends.
#[derive(Debug)]
pub struct Machine {
    name: String,
}

impl Machine {
    /// Boots a machine of this release that shows the package as `/srv/ash.deb`, the runtime as
    /// `/usr/local/bin/claude`, the test fixtures as `/srv/tests`.
    pub fn up(release: &str, deb: &Path, claude: &Path) -> Self {
        Self::up_with(release, deb, claude, &[])
    }

    /// The same, and shows more of the host's files, each as `HOST:INNER`.
    pub fn up_with(release: &str, deb: &Path, claude: &Path, binds: &[String]) -> Self {
        // Tests of one program run at the same time, also on machines of the same release.
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ash-test-{release}-{}-{count}", std::process::id());
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let up = command("up")
            .args([&name, release, "--owner", &std::process::id().to_string()])
            .arg("--bind-ro")
            .arg(format!("{}:/usr/local/bin/claude", claude.display()))
            .arg("--bind-ro")
            .arg(format!("{}:/srv/ash.deb", deb.display()))
            .arg("--bind-ro")
            .arg(format!("{}:/srv/tests", tests.display()))
            .args(binds.iter().flat_map(|bind| ["--bind-ro", bind]))
            .output()
            .expect("tests/box/box starts");
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        Self { name }
    }

    /// Takes it down and boots it again: `--off` powers it off in good order, `--cut` cuts its power.
    pub fn reboot(&self, how: &str) {
        let output = command("reboot").args([&self.name, how]).output().expect("tests/box/box starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a command in it.
    pub fn try_run(&self, arguments: &[&str]) -> Output {
        command("exec").args([&self.name, "--"]).args(arguments).stdin(Stdio::null()).output().expect("tests/box/box starts")
    }

    /// Runs a command in it that has to succeed; returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{err}\n{}", self.journal());
        out.into_owned()
    }

    /// Runs a script of its shell.
    pub fn sh(&self, script: &str) -> String {
        self.run(&["sh", "-euc", script])
    }

    /// Writes a file in it.
    pub fn write(&self, path: &str, text: &str) {
        let mut child = command("exec")
            .args([&self.name, "--", "sh", "-c", "mkdir -p \"$(dirname \"$1\")\" && cat >\"$1\"", "sh", path])
            .stdin(Stdio::piped())
            .spawn()
            .expect("tests/box/box starts");
        child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("writes");
        assert!(child.wait().expect("ends").success(), "{path}");
    }

    /// Copies a file of this machine to the same place in another one.
    pub fn send_to(&self, other: &Self, path: &str) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (verb, name, from, to) in
            [("pull", &self.name, Path::new(path), file.path()), ("push", &other.name, file.path(), path.as_ref())]
        {
            let status = command(verb).arg(name).arg(from).arg(to).status();
            assert!(status.is_ok_and(|status| status.success()), "{verb} {path}");
        }
    }

    /// The last lines of its journal.
    pub fn journal(&self) -> String {
        let output = command("logs").args([&self.name, "--lines=60", "--no-pager"]).output().expect("tests/box/box starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Installs the package, without network.
    pub fn install(&self) {
        self.run(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--quiet=2", "--yes", "/srv/ash.deb"]);
    }

    /// Starts the scripted model, which wants [`MODEL_KEY`], and points Ash at it.
    pub fn start_model(&self) {
        let port = MODEL_PORT.to_string();
        let model = ["python3", "/srv/tests/scripted_model.py", "--port", &port, "--require-key", MODEL_KEY];
        self.run(&[&["systemd-run", "--quiet", "--unit=scripted-model"], &model[..]].concat());
        self.write("/etc/ash/ash.toml.d/model.toml", &format!("[model]\nbase_url = \"http://127.0.0.1:{MODEL_PORT}\"\n"));
        self.sh(&format!("umask 077; printf %s {MODEL_KEY} >/etc/ash/credentials/anthropic_api_key"));
        self.run(&["systemctl", "restart", "ash"]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- journal of {} ---\n{}", self.name, self.journal());
        }
        let down = command("down").args([&self.name, "--now"]).status();
        assert!(std::thread::panicking() || down.is_ok_and(|status| status.success()), "{} is still there", self.name);
    }
}

/// The program with the unit tests of the library, for those that need a machine.
pub fn unit_tests() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--locked", "--offline", "--lib", "--no-run", "--message-format=json"])
        // As this program was built, so that nothing is built once more.
        .args(if cfg!(feature = "failpoints") { &["--features", "failpoints"][..] } else { &[] })
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let found = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    found.expect("the library has tests")
}

/// Runs a script of the fixtures in a machine with a kernel of its own, where every limit is
/// enforced; beside it are the package, the runtime and the scripted model. Returns whether it
/// succeeded, and what it printed.
pub fn uml(release: &str, deb: &Path, claude: &Path, script: &str) -> (bool, String) {
    uml_with(release, deb, claude, &[&format!("fixtures/{script}")])
}

/// The same with files of the tests, of which the first is the script.
pub fn uml_with(release: &str, deb: &Path, claude: &Path, files: &[&str]) -> (bool, String) {
    uml_with_disk(release, deb, claude, files, None)
}

/// The same with `/dev/ubdb`, an empty disk of a gigabyte with this file system, which can have quotas by project.
pub fn uml_with_disk(release: &str, deb: &Path, claude: &Path, files: &[&str], disk: Option<&str>) -> (bool, String) {
    let share = tempfile::tempdir().expect("folder");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let name = |path: &Path| path.file_name().expect("a name").to_owned();
    std::fs::copy(deb, share.path().join("ash.deb")).expect("copies");
    std::fs::copy(claude, share.path().join("claude")).expect("copies");
    for file in files.iter().chain(&["scripted_model.py"]).map(|file| tests.join(file)) {
        std::fs::copy(&file, share.path().join(name(&file))).expect("copies");
    }
    let disk: Vec<_> = disk.iter().flat_map(|kind| ["--disk", "1G", "--disk-type", kind]).collect();
    let output = command("uml")
        .args([release, "--timeout", "600", "--owner", &std::process::id().to_string(), "--share"])
        .arg(share.path())
        .args(disk)
        .arg("--")
        .arg(name(Path::new(files[0])))
        .output()
        .expect("tests/box/box starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}
