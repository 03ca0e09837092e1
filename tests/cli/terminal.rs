//! A terminal with somebody at it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command};

use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{Winsize, openpty};

/// How long something may take to appear on the screen.
const DEADLINE_MS: u16 = 30_000;

/// A pseudo terminal on which `ashctl` runs.
pub struct Terminal {
    child: Child,
    keys: File,
    /// What was printed and not waited for yet.
    screen: String,
    bytes: Vec<u8>,
}

impl Terminal {
    pub fn start(server: &str, arguments: &[&str]) -> Self {
        Self::start_with(server, arguments, &[])
    }

    /// As [`Self::start`], with these variables.
    pub fn start_with(server: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a pseudo terminal");
        // Makes it the terminal of the process, so that Ctrl-C reaches it.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(env!("CARGO_BIN_EXE_ashctl")).args(arguments);
        command.env("ASH_SERVER_URL", server).env_remove("ASH_API_KEY").env("TERM", "xterm").env("NO_COLOR", "1");
        command.env_remove("ASH_CONTEXT").env("ASHCTL_CONFIG", "/nonexistent/contexts.toml");
        // What one test types is no history of another.
        command.env_remove("XDG_STATE_HOME").env_remove("HOME");
        command.env_remove("VISUAL").env("EDITOR", "sed -i s/touch/cat/").envs(variables.iter().copied());
        let end = || pty.slave.try_clone().expect("a descriptor");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it runs");
        Self { child, keys: File::from(pty.master), screen: String::new(), bytes: Vec::new() }
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("typed");
    }

    /// Waits until `text` is printed after what was waited for before.
    pub fn wait_for(&mut self, text: &str) {
        loop {
            if let Some(at) = self.screen.find(text) {
                self.screen.drain(..at + text.len());
                return;
            }
            let mut ready = [PollFd::new(self.keys.as_fd(), PollFlags::POLLIN)];
            let events = poll(&mut ready, DEADLINE_MS).expect("it is a terminal");
            assert!(events > 0, "no {text:?} on the screen: {:?}", self.screen);
            let mut bytes = [0; 4096];
            // The terminal of a process that has ended gives EIO.
            let count = self.keys.read(&mut bytes).unwrap_or(0);
            assert!(count > 0, "it ended without {text:?}: {:?}", self.screen);
            self.bytes.extend_from_slice(&bytes[..count]);
            // A letter may come in pieces.
            let whole = self.bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
            let text: Vec<u8> = self.bytes.drain(..whole).collect();
            self.screen.push_str(&String::from_utf8_lossy(&text));
        }
    }

    /// Waits for its end; returns the exit code.
    pub fn end(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // After a failure it may still wait for somebody.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
