//! The command line of `ashctl api`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueHint};
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Api {
    /// GET, POST, PUT, PATCH or DELETE
    #[arg(value_parser = method)]
    pub method: Method,
    /// The path, such as /api/sessions?limit=2
    pub path: String,
    /// A field of the body, or with GET and DELETE of the query: a text, or after := JSON
    #[arg(long = "field", short, value_name = "NAME=TEXT", value_parser = field, conflicts_with = "input")]
    pub fields: Vec<(String, Value)>,
    /// The file that is the body; "-" is standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub input: Option<PathBuf>,
    /// A header; of the body, "content-type" is application/json without it
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Print the status and the headers before the body
    #[arg(long, short)]
    pub include: bool,
}

fn method(text: &str) -> Result<Method, String> {
    let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let found = known.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "has to be GET, POST, PUT, PATCH or DELETE".to_owned())
}

fn field(text: &str) -> Result<(String, Value), String> {
    let Some((name, value)) = text.split_once('=') else { return Err("has to be NAME=TEXT or NAME:=JSON".to_owned()) };
    match name.strip_suffix(':') {
        Some(name) => {
            let value = serde_json::from_str(value).map_err(|error| format!("{name} is no JSON: {error}"))?;
            Ok((name.to_owned(), value))
        }
        None => Ok((name.to_owned(), value.into())),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let Some((name, value)) = text.split_once(':') else { return Err("has to be NAME: VALUE".to_owned()) };
    let name = HeaderName::from_str(name.trim()).map_err(|_| format!("{name:?} is no name of a header"))?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| format!("the value of {name} has letters that none may have"))?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_texts_unless_they_say_otherwise() {
        for (text, name, value) in [
            ("content=hi", "content", json!("hi")),
            ("content=1", "content", json!("1")),
            ("limit:=1", "limit", json!(1)),
            ("a=b=c", "a", json!("b=c")),
            ("config:={\"a\":[null]}", "config", json!({"a": [null]})),
            ("a=", "a", json!("")),
        ] {
            assert_eq!(field(text), Ok((name.to_owned(), value)), "{text}");
        }
        for text in ["content", "a:={", "a:="] {
            assert!(field(text).is_err(), "{text}");
        }
    }
}
