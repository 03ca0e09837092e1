//! The option `--watch`.

use clap::Args;

#[derive(Debug, Clone, Copy, Default, Args)]
#[expect(missing_docs, reason = "the fields' comments are the help texts")]
pub struct Watch {
    /// Show it every 2 s, or as often as is said, until Ctrl-C
    #[arg(
        long = "watch",
        short = 'w',
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub every_secs: Option<u64>,
}
