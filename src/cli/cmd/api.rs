//! `ashctl api`: a request by hand.

use std::io::{self, Write as _};

use hyper::Method;
use hyper::header::HeaderMap;
use serde_json::{Map, Value};

use super::workspace::send_file;
use crate::cli::Context;
use crate::cli::args::Api;
use crate::cli::error::CliError;
use crate::client::connect::whole;
use crate::client::raw::{RawAnswer, RawRequest};

pub(super) async fn run(args: Api, context: &mut Context) -> Result<(), CliError> {
    let in_query = matches!(args.method, Method::GET | Method::DELETE);
    let (query, fields) = if in_query { (args.fields, Vec::new()) } else { (Vec::new(), args.fields) };
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let query = query.into_iter().map(|(name, value)| (name, text(value))).collect();
    let headers = HeaderMap::from_iter(args.headers);
    let body = (!fields.is_empty()).then(|| whole(Value::Object(Map::from_iter(fields)).to_string()));
    let mut request = RawRequest { method: args.method, path: args.path, query, headers, body };
    let client = &context.client;
    let answer = match &args.input {
        Some(file) => {
            let send = async |body| {
                request.body = Some(body);
                client.raw(request).await
            };
            send_file(file, None, send).await?
        }
        None => client.raw(request).await?,
    };
    print(answer, args.include, context.output.out_is_terminal).await
}

/// Prints an answer as it comes, as its bytes are.
async fn print(mut answer: RawAnswer, include: bool, to_terminal: bool) -> Result<(), CliError> {
    let write = |bytes: &[u8]| {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(CliError::Output)
    };
    if include {
        let mut head = format!("HTTP/1.1 {}\r\n", answer.status).into_bytes();
        for (name, value) in &answer.headers {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        write(&head)?;
    }
    let mut last = b'\n';
    while let Some(bytes) = answer.body.next().await? {
        last = bytes.last().copied().unwrap_or(last);
        write(&bytes)?;
    }
    if to_terminal && last != b'\n' {
        write(b"\n")?;
    }
    if answer.status.is_success() { Ok(()) } else { Err(CliError::Status(answer.status)) }
}
