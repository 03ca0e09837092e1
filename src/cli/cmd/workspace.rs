//! `ashctl session download` and `upload`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::{mpsc, oneshot};

use super::deploy::{self, Plan};
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::client::{Body, ClientError};
use crate::wire::SessionId;

/// Standard input or output in place of a file.
const STANDARD: &str = "-";
/// Bytes that are read at once.
const PIECE_BYTES: usize = 128 << 10;
/// Pieces that wait to be sent.
const PIECES_AHEAD: usize = 4;

pub(super) async fn download(id: SessionId, file: Option<PathBuf>, all: bool, context: &mut Context) -> Result<(), CliError> {
    let file = file.unwrap_or_else(|| format!("{id}.tar.gz").into());
    let to_output = file.as_os_str() == STANDARD;
    if to_output && context.output.out_is_terminal {
        return Err(CliError::usage(
            "a terminal can not show an archive",
            format!("write it to a file: ashctl session download {id} FILE"),
        ));
    }
    let mut body = context.client.download_workspace(id, all).await?;
    let bar = bytes_bar(&format!("Downloading {id}"), None, context);
    // Under another name, so that what is not whole never has its own.
    let mut beside = file.clone().into_os_string();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let failed = |step, path: &Path| {
        let path = path.to_owned();
        move |source| CliError::File { step, path, source }
    };
    let mut part = if to_output { None } else { Some(File::create(&beside).map_err(failed("write", &beside))?) };
    let mut size = 0;
    let received = async {
        while let Some(bytes) = body.next().await? {
            match &mut part {
                Some(part) => part.write_all(&bytes).map_err(failed("write", &beside))?,
                // As they are: the stream for texts takes out what a terminal would act on.
                None => io::stdout().write_all(&bytes).map_err(CliError::Output)?,
            }
            size += bytes.len() as u64;
            bar.inc(bytes.len() as u64);
        }
        match &mut part {
            Some(part) => part.sync_all().and_then(|()| std::fs::rename(&beside, &file)).map_err(failed("write", &file)),
            None => io::stdout().flush().map_err(CliError::Output),
        }
    };
    let received = received.await;
    bar.finish_and_clear();
    if received.is_err() && part.is_some() {
        // What failed is told; that this stays as well is seen.
        let _ = std::fs::remove_file(&beside);
    }
    received?;
    match (to_output, context.output.is_json()) {
        (true, _) => Ok(()),
        (false, true) => context.output.json(&serde_json::json!({"file": file, "bytes": size})),
        (false, false) => context.output.line(file.display()),
    }
}

pub(super) async fn upload(id: SessionId, source: &Path, replace: bool, context: &mut Context) -> Result<(), CliError> {
    let what = format!("Uploading to {id}");
    let answer = if source.is_dir() {
        let plan = Plan::of(source)?;
        for path in &plan.left_out {
            context.output.say(format_args!("Left out: {}", path.display()));
        }
        let bar = deploy::progress(&what, &plan, context);
        deploy::send(plan, true, bar, |body| context.client.upload_workspace(id, replace, body)).await?
    } else {
        let bar = |size| bytes_bar(&what, size, context);
        send_file(source, Some(&bar), async |bundle| context.client.upload_workspace(id, replace, bundle).await).await?
    };
    if context.output.is_json() {
        return context.output.json(&answer.json);
    }
    context.output.line(&answer.body.message)
}

/// Sends a file, or standard input if it is "-", as the body of a request. The bar, which is made for the
/// size where there is one, shows how far it is.
pub(super) async fn send_file<T>(
    source: &Path,
    bar: Option<&dyn Fn(Option<u64>) -> ProgressBar>,
    send: impl AsyncFnOnce(Body) -> Result<T, ClientError>,
) -> Result<T, CliError> {
    let (from, size): (Box<dyn Read + Send>, _) = if source.as_os_str() == STANDARD {
        (Box::new(io::stdin()), None)
    } else {
        let failed = |source_error| CliError::File { step: "read", path: source.to_owned(), source: source_error };
        let file = File::open(source).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        (Box::new(file), Some(size))
    };
    let bar = bar.map_or_else(ProgressBar::hidden, |bar| bar(size));
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let meter = bar.clone();
    let (done, reading) = oneshot::channel();
    // Nobody waits for its end: somebody may be at a terminal when the server refuses.
    std::thread::spawn(move || drop(done.send(read(from, &sender, &meter))));
    let answer = send(deploy::body(receiver)).await;
    bar.finish_and_clear();
    // A server that refuses early has the word; otherwise what could not be read has broken it.
    match answer {
        Err(ClientError::Broken { server, cause }) => match reading.await {
            Ok(Err(error)) => Err(CliError::File { step: "read", path: source.to_owned(), source: error }),
            _ => Err(ClientError::Broken { server, cause }.into()),
        },
        answer => Ok(answer?),
    }
}

/// Hands on what is read, until nobody takes it.
fn read(mut from: impl Read, to: &mpsc::Sender<io::Result<Bytes>>, meter: &ProgressBar) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                // A body that merely ended would look whole.
                drop(to.blocking_send(Err(error.kind().into())));
                return Err(error);
            }
        };
        meter.inc(count as u64);
        if to.blocking_send(Ok(Bytes::copy_from_slice(&buffer[..count]))).is_err() {
            return Ok(());
        }
    }
}

fn bytes_bar(what: &str, size: Option<u64>, context: &Context) -> ProgressBar {
    let visible = context.output.talk_is_terminal && !context.output.is_json();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(size, target);
    let template =
        if size.is_some() { "{spinner:.green} {prefix} {bytes}/{total_bytes}" } else { "{spinner:.green} {prefix} {bytes}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
