//! Webhooks on the command line.

use clap::{Args, Subcommand};

use super::Watch;
use crate::cli::complete;
use crate::wire::WebhookId;
use crate::wire::webhook::WebhookEvent;

#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the variants' comments are the help texts")]
pub enum WebhookCommand {
    /// Make a webhook and print its secret; it is shown only this once
    ///
    /// Requests are signed as Standard Webhooks (standardwebhooks.com) has it, so a receiver can check
    /// them with the libraries that are there.
    Create {
        /// Where events are sent, an address that begins with https
        url: String,
        /// What it is told of, such as turn.ended; "*" is all
        #[arg(long, short, value_name = "EVENT", value_delimiter = ',', required = true)]
        events: Vec<WebhookEvent>,
        /// Only of sessions of this agent
        #[arg(long, value_name = "NAME", add = complete::agents())]
        agent: Option<String>,
        /// What to say of it
        #[arg(long, short, value_name = "TEXT")]
        description: Option<String>,
    },
    /// List webhooks, without their secrets
    #[command(visible_alias = "ls")]
    List(Watch),
    /// Show a webhook
    Show {
        /// The id that "ashctl webhook list" shows
        id: WebhookId,
    },
    /// Change a webhook
    Edit(WebhookEdit),
    /// Delete webhooks
    Delete {
        /// The ids that "ashctl webhook list" shows
        #[arg(required = true, value_name = "ID")]
        ids: Vec<WebhookId>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Send a test, and tell what the receiver answered
    Test {
        /// The id that "ashctl webhook list" shows
        id: WebhookId,
    },
    /// Show what became of events, or send one again
    Deliveries {
        /// The id that "ashctl webhook list" shows
        id: WebhookId,
        /// At most so many, the newest
        #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Only those before this one
        #[arg(long, value_name = "NUMBER")]
        before: Option<i64>,
        /// Send this one again
        #[arg(long, value_name = "NUMBER", conflicts_with_all = ["limit", "before"])]
        redeliver: Option<i64>,
    },
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct WebhookEdit {
    /// The id that "ashctl webhook list" shows
    pub id: WebhookId,
    /// Where events are sent from now on
    #[arg(long, group = "change")]
    pub url: Option<String>,
    /// What it is told of from now on
    #[arg(long, short, value_name = "EVENT", value_delimiter = ',', group = "change")]
    pub events: Vec<WebhookEvent>,
    /// Only of sessions of this agent
    #[arg(long, value_name = "NAME", group = "change", add = complete::agents())]
    pub agent: Option<String>,
    /// Of sessions of all agents
    #[arg(long, group = "change", conflicts_with = "agent")]
    pub all_agents: bool,
    /// What to say of it
    #[arg(long, short, value_name = "TEXT", group = "change")]
    pub description: Option<String>,
    /// Tell it from now on
    #[arg(long, group = "change")]
    pub enable: bool,
    /// Tell it nothing; what happens meanwhile is not told later
    #[arg(long, group = "change", conflicts_with = "enable")]
    pub disable: bool,
    /// Make a new secret and print it; it is shown only this once
    #[arg(long, group = "change")]
    pub rotate_secret: bool,
}
