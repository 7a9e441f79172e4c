//! The `stratamx` command: arguments become one call into [`stratamx::command`], and nothing else happens here.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use stratamx::command::{check, demo, serve};

/// A secondary MX that loses nothing: keeps mail through an outage and hands it over in order.
#[derive(Parser)]
#[command(name = "stratamx", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Validate the configuration and print the effective one
    Check(Configuration),
    /// An outage from end to end in less than a minute: load, kill -9, restart, return, verdict
    Demo,
    /// Take mail for protected domains, keep it, hand it over
    Serve {
        #[command(flatten)]
        configuration: Configuration,
        /// Start though the directory of this shard is missing: mail that came after its last known message waits
        #[arg(long, value_name = "N")]
        without_shard: Vec<u16>,
    },
}

#[derive(Args)]
struct Configuration {
    /// Configuration file; else ./stratamx.toml, else an embedded default on loopback
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Check(Configuration { config }) => check::run(config.as_deref()),
        Command::Demo => demo::run(),
        Command::Serve { configuration: Configuration { config }, without_shard } => {
            serve::run(config.as_deref(), &without_shard)
        }
    }
    .into()
}
