//! Which daemon a command is for: options before the environment, before the context in use, before
//! the control socket of this host.

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::args::Global;
use super::contexts::{Contexts, ContextsError};
use super::error::CliError;
use crate::client::{Client, Server};

/// A daemon, as the command line and the environment name it.
#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    Server(&'a str),
    Context(&'a str),
    /// Not at all.
    No,
}

/// What names the daemon, and whether options do.
#[derive(Debug, Clone, Copy)]
struct Given<'a> {
    server: Option<&'a str>,
    server_is_option: bool,
    context: Option<&'a str>,
    context_is_option: bool,
}

/// Whether commands are run that print keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyCommands {
    Run,
    Refused,
}

/// The client of the daemon that is meant.
pub(super) fn client(global: &Global, matches: &ArgMatches, commands: KeyCommands) -> Result<Client, CliError> {
    let is_option = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
    let text = |value: &'_ Option<String>| value.clone().filter(|text| !text.is_empty());
    let (server, context, key) = (text(&global.server), text(&global.context), text(&global.api_key));
    let given = Given {
        server: server.as_deref(),
        server_is_option: is_option("server"),
        context: context.as_deref(),
        context_is_option: is_option("context"),
    };
    let ca = global.ca.as_deref().filter(|path| !path.as_os_str().is_empty());
    let named = named(given)?;
    let contexts = match named {
        Named::Server(server) => return Ok(Client::new(server.parse()?, key.as_deref(), ca)?),
        Named::Context(_) => Some(Contexts::read()?),
        Named::No => Contexts::read_if_any()?,
    };
    let in_use = || contexts.as_ref()?.current().map(str::to_owned);
    let name = if let Named::Context(name) = named { Some(name.to_owned()) } else { in_use() };
    let Some((contexts, name)) = contexts.as_ref().zip(name) else {
        return Ok(Client::new(Server::default(), key.as_deref(), ca)?);
    };
    let server = contexts.get(&name)?.server.clone();
    // On a control socket no key is sent, so none is asked for.
    let of_context = || match &server {
        Server::Unix(_) => Ok(None),
        Server::Http { .. } if commands == KeyCommands::Refused && contexts.has_key_command(&name) => {
            Err(ContextsError::NoKey(name.clone()))
        }
        Server::Http { .. } => contexts.key(&name),
    };
    let before = key.filter(|_| !given.context_is_option || is_option("api_key"));
    let key = match before {
        Some(key) => Some(key),
        None => of_context()?.map(|key| key.reveal().to_owned()).or_else(|| text(&global.api_key)),
    };
    Ok(Client::new(server, key.as_deref(), ca)?)
}

fn named(given: Given<'_>) -> Result<Named<'_>, CliError> {
    match (given.server, given.context) {
        (Some(_), Some(_)) if given.server_is_option && given.context_is_option => {
            Err(CliError::usage("--server and --context name two daemons", "give one of them"))
        }
        (Some(_), Some(context)) if given.context_is_option => Ok(Named::Context(context)),
        (Some(server), _) => Ok(Named::Server(server)),
        (None, Some(context)) => Ok(Named::Context(context)),
        (None, None) => Ok(Named::No),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_before_the_environment_and_servers_before_contexts() {
        let cases = [
            (None, None, Named::No),
            (Some(("s", false)), None, Named::Server("s")),
            (None, Some(("c", false)), Named::Context("c")),
            (Some(("s", false)), Some(("c", false)), Named::Server("s")),
            (Some(("s", true)), Some(("c", false)), Named::Server("s")),
            (Some(("s", false)), Some(("c", true)), Named::Context("c")),
        ];
        for (server, context, expected) in cases {
            let given = Given {
                server: server.map(|(text, _)| text),
                server_is_option: server.is_some_and(|(_, is_option)| is_option),
                context: context.map(|(text, _)| text),
                context_is_option: context.is_some_and(|(_, is_option)| is_option),
            };
            assert_eq!(named(given).expect("one daemon"), expected, "{given:?}");
        }
        let both = Given { server: Some("s"), server_is_option: true, context: Some("c"), context_is_option: true };
        assert!(named(both).is_err());
    }
}
