//! Options for what of the network sessions may reach.

use clap::Args;

use super::HOSTS;
use super::reference::SessionRef;
use crate::cli::complete;
use crate::wire::egress::Entry;

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct SessionEgress {
    /// The session
    #[arg(add = complete::sessions())]
    pub id: SessionRef,
    /// A host that may be reached, beside the others and in the place of the list so far
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',', long_help = HOSTS)]
    pub allow: Vec<Entry>,
    /// Nothing but the model may be reached
    #[arg(long, conflicts_with = "allow")]
    pub none: bool,
    /// Show what may be reached, which is what happens without another option
    #[arg(long, conflicts_with_all = ["allow", "none"])]
    pub show: bool,
}
