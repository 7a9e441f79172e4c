//! The `stratamx` command: arguments become one call into [`stratamx::command`], and nothing else happens here.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use stratamx::command::client::Remote;
use stratamx::command::queue::Queue;
use stratamx::command::{check, demo, domain, queue, serve, status};

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
    /// What is protected, and how it goes
    Domain {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: Domain,
    },
    /// What waits, and what is done to it
    Queue {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: Queue,
    },
    /// Take mail for protected domains, keep it, hand it over
    Serve {
        #[command(flatten)]
        configuration: Configuration,
        /// Start though the directory of this shard is missing: mail that came after its last known message waits
        #[arg(long, value_name = "N")]
        without_shard: Vec<u16>,
    },
    /// Health, backlog and disk: one line a domain
    Status {
        #[command(flatten)]
        server: Server,
        /// For scripts
        #[arg(long)]
        json: bool,
        /// Again every two seconds, with what came and went meanwhile
        #[arg(long)]
        watch: bool,
    },
}

#[derive(Subcommand)]
enum Domain {
    /// All domains: where their mail goes, and how it goes
    List {
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Maintenance: hand nothing over for a time, and take mail all the same
    Hold {
        /// The domain
        name: String,
        #[command(flatten)]
        window: domain::Window,
    },
    /// End the maintenance early
    Release {
        /// The domain
        name: String,
    },
    /// One domain: its configuration in force, its counts, what went wrong last
    Show {
        /// The domain
        name: String,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Configuration {
    /// Configuration file; else ./stratamx.toml, else an embedded default on loopback
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct Server {
    /// The server's configuration file, which tells address and token; else ./stratamx.toml, else the embedded default
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The admin API's address, as http://127.0.0.1:8025; else STRATAMX_URL, else that of the configuration
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// The token; else STRATAMX_TOKEN, else that of the configuration
    #[arg(long, value_name = "TOKEN", global = true)]
    token: Option<String>,
}

impl From<Server> for Remote {
    fn from(Server { config, url, token }: Server) -> Self {
        Self { config, url, token }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Check(Configuration { config }) => check::run(config.as_deref()),
        Command::Demo => demo::run(),
        Command::Domain { server, command: Domain::Hold { name, window } } => {
            domain::hold(server.into(), &name, &window)
        }
        Command::Domain { server, command: Domain::Release { name } } => {
            domain::release(server.into(), &name)
        }
        Command::Domain { server, command: Domain::List { json } } => domain::list(server.into(), json),
        Command::Domain { server, command: Domain::Show { name, json } } => {
            domain::show(server.into(), &name, json)
        }
        Command::Queue { server, command } => queue::run(server.into(), command),
        Command::Serve { configuration: Configuration { config }, without_shard } => {
            serve::run(config.as_deref(), &without_shard)
        }
        Command::Status { server, json, watch } => status::run(server.into(), json, watch),
    }
    .into()
}
