//! `ashctl credential rotate-master`: another master key, without a moment in which a credential
//! can not be opened.
//!
//! The file has one key a line, the newest first; all of them open, the first seals. So the new key
//! is put before the old ones, the daemon takes them up and seals everything anew, and only then the
//! old ones go. Whoever breaks off in between runs it again.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::client::{Answer, ClientError};
use crate::wire::credential::Resealed;

const KEY_BYTES: usize = 32;
/// How long the daemon may take to come up.
const UP_DEADLINE: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
const RESTART: [&str; 3] = ["systemctl", "restart", "ash.service"];

pub(super) async fn run(file: &Path, context: &mut Context) -> Result<(), CliError> {
    let server = context.client.server();
    if !server.is_local() {
        let problem = format!("the master key is a file of this host, but the daemon is {server}");
        return Err(CliError::usage(problem, "run it there, as root: ssh HOST ashctl credential rotate-master"));
    }
    let old = read(file)?;
    // All of them have to open before the key changes.
    let before = if old.is_empty() { None } else { Some(context.client.reseal_credentials().await?.body) };
    let new = new_key()?;
    write(file, &format!("{new}\n{old}"))?;
    restart()?;
    let after = reseal(context).await?;
    if before.is_some_and(|before| before.master_key == after.body.master_key) {
        let problem = format!("the daemon did not take up the new master key in {}", file.display());
        let hint = "see that ash.service loads it (systemctl cat ash.service, LoadCredential=master_key), then try again";
        return Err(CliError::usage(problem, hint));
    }
    write(file, &format!("{new}\n"))?;
    let output = &mut context.output;
    if output.is_json() {
        return output.json(&after.json);
    }
    let count = after.body.resealed;
    let credentials = if count == 1 { "1 credential is".to_owned() } else { format!("{count} credentials are") };
    let (environments, webhooks) = (after.body.environments, after.body.webhooks);
    let sealed = format_args!(
        "The master key is new ({}); {credentials} sealed anew, {environments} environments and {webhooks} secrets of webhooks",
        after.body.master_key
    );
    output.line(sealed)?;
    output.whisper(format_args!("Copies of the database from before need the old key. Keep a copy of {}.", file.display()));
    Ok(())
}

/// Has everything sealed under the new key. The connection from before the restart is broken, and it
/// can be asked for twice.
async fn reseal(context: &Context) -> Result<Answer<Resealed>, CliError> {
    let deadline = Instant::now() + UP_DEADLINE;
    loop {
        match context.client.reseal_credentials().await {
            Err(ClientError::Broken { .. } | ClientError::Connect { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            other => return Ok(other?),
        }
    }
}

/// The keys that there are; empty if there are none.
fn read(file: &Path) -> Result<String, CliError> {
    match fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => Ok(String::new()),
        Ok(text) => Ok(text.trim_end().to_owned() + "\n"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(CliError::File { step: "read", path: file.to_owned(), source }),
    }
}

/// A key as the daemon reads it.
fn new_key() -> Result<String, CliError> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; KEY_BYTES];
    let read = fs::File::open(source).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| CliError::File { step: "read", path: source.to_owned(), source: error })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Puts another content in the place of a file that root alone reads, also if the host dies.
fn write(file: &Path, text: &str) -> Result<(), CliError> {
    let beside = file.with_extension("new");
    let written = (|| {
        fs::remove_file(&beside).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        let mut made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        made.write_all(text.as_bytes())?;
        made.sync_all()?;
        fs::rename(&beside, file)?;
        fs::File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
    })();
    written.map_err(|source| CliError::File { step: "write", path: file.to_owned(), source })
}

fn restart() -> Result<(), CliError> {
    let [program, arguments @ ..] = RESTART;
    let status = Command::new(program).args(arguments).status().map_err(|source| CliError::Run { program, source })?;
    if status.success() { Ok(()) } else { Err(CliError::Program { program, status }) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_what_the_daemon_reads() {
        let key = new_key().expect("random");
        assert_eq!(key.len(), 43);
        assert_ne!(new_key().expect("random"), key);
    }

    #[test]
    fn the_file_is_replaced_whole_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("master_key");
        assert_eq!(read(&file).expect("none"), "");
        for text in ["a\n", "b\na\n"] {
            write(&file, text).expect("writes");
            assert_eq!(read(&file).expect("reads"), text);
            assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("reads").count(), 1);
    }
}
