//! The `stratamx` command: arguments become one call into [`stratamx::command`], and nothing else happens here.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use stratamx::command::Exit;
use stratamx::command::alert::{self, Alerts, Contacts, Outages};
use stratamx::command::at_rest::{self, AtRest};
use stratamx::command::client::Remote;
use stratamx::command::queue::Queue;
use stratamx::command::token::{self, Token};
use stratamx::command::{
    appliance, backup, check, configuration, demo, domain, manual, provision, queue, restore, serve, status,
    support, trace, update,
};
use stratamx::init;

/// A secondary MX that loses nothing: keeps mail through an outage and hands it over in order.
#[derive(Parser)]
#[command(name = "stratamx", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const BACKUP_HELP: &str = "\
Example: stratamx backup --config /etc/stratamx/stratamx.toml /backup/mx2.tar.zst";
const RESTORE_HELP: &str = "\
Example: stratamx restore mx2.tar.zst --data-dir /var/lib/stratamx --configuration ./restored
Onto an appliance: stratamx restore mx2.tar.zst --url https://mx2.example.net:8025 --token smx_...";

#[derive(Subcommand)]
enum Command {
    /// What needs somebody, and what happened
    Alert {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: Alerts,
    },
    /// The appliance's keys of mail at rest: how they stand, and what opens them
    AtRest {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: AtRest,
    },
    /// Configuration, domains, tokens and the queue in one file; the server may run meanwhile
    #[command(after_help = BACKUP_HELP)]
    Backup {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        wanted: backup::Wanted,
    },
    /// Validate the configuration and print the effective one
    Check(Configuration),
    /// What a shell completes by: source <(stratamx completions bash)
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// The appliance's configuration: its revisions, what differs, changes that are given back unless they are confirmed
    Configuration {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: configuration::Revisions,
    },
    /// Who is told of alerts: by e-mail, webhook or short message
    Contact {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: Contacts,
    },
    /// An outage from end to end in less than a minute: load, kill -9, restart, return, verdict
    Demo,
    /// What is protected, and how it goes
    Domain {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: Domain,
    },
    /// The first process of the appliance; the kernel starts it
    #[command(hide = true)]
    Init {
        /// What a hypervisor adds to the kernel's command line ends up here: nothing to PID 1, and no reason not to run
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// The manual page; for a directory one for each command
    Man {
        /// Where they are written
        directory: Option<PathBuf>,
    },
    /// The appliance: what runs, how full it is, the health of its disk; exit status 1 when it fails
    Machine {
        #[command(flatten)]
        server: Server,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Outages of mail servers, and what became of mail
    Outage {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: Outages,
    },
    /// What waits, and what is done to it
    Queue {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: Queue,
    },
    /// Put what a backup holds where a server finds it, or onto an appliance, or prove that it could
    #[command(after_help = RESTORE_HELP)]
    Restore {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        wanted: restore::Wanted,
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
    /// What somebody who helps needs to see, in one file: no mail, no secrets
    Support {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        wanted: support::Wanted,
    },
    /// Who may ask the admin API, and for what
    Token {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: Token,
    },
    /// What happened to a message: how it came, each try, its end
    Trace {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        wanted: trace::Trace,
    },
    /// Open the keys of mail at rest of a locked appliance; asks for passphrase or recovery key, or reads one line
    Unlock {
        #[command(flatten)]
        server: Server,
    },
    /// Update the appliance by a signed image, or look at what became of the last one
    Update {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        wanted: update::Wanted,
    },
}

#[derive(Subcommand)]
enum Domain {
    /// Protect a domain, at once
    Add(provision::New),
    /// All domains: where their mail goes, and how it goes
    List {
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// What senders will find of a domain, and how to mend what is wrong: MX records, certificate, policies, the mail server
    Doctor {
        /// The domain
        name: String,
        /// Send a test message to this address, through the domain's mail server
        #[arg(long, value_name = "ADDRESS")]
        test_recipient: Option<String>,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// A simulated outage for one test recipient: his mail is held, then drained; a verdict. Others' mail goes on
    Drill {
        /// The domain
        name: String,
        /// Whom the test messages are for; else postmaster of the domain
        #[arg(long, value_name = "ADDRESS")]
        recipient: Option<String>,
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
    /// Import recipients, for recipients=list
    Import(provision::Import),
    /// The recipients that were imported
    Recipients {
        /// The domain
        name: String,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// End the maintenance early
    Release {
        /// The domain
        name: String,
    },
    /// Stop protecting a domain that was added; its mail stays
    Remove {
        /// The domain
        name: String,
        /// Also while mail of it is queued or held: that waits until the domain is back
        #[arg(long)]
        keep_mail: bool,
    },
    /// Change a domain that was added
    Set(provision::Changes),
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
    /// The admin API's address, as https://mx2.example.net:8025; else STRATAMX_URL, else that of the configuration
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// The token; else STRATAMX_TOKEN, else that of the configuration
    #[arg(long, value_name = "TOKEN", global = true)]
    token: Option<String>,
    /// Authorities that are trusted for https beside the system's (PEM); else STRATAMX_CA
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
}

impl From<Server> for Remote {
    fn from(Server { config, url, token, ca }: Server) -> Self {
        Self { config, url, token, ca }
    }
}

fn main() -> ExitCode {
    let exit = match Arguments::parse().command {
        Command::Alert { server, command } => alert::alerts(server.into(), &command),
        Command::AtRest { server, command } => at_rest::run(server.into(), &command),
        Command::Backup { server, wanted } => backup::run(server.into(), &wanted),
        Command::Check(Configuration { config }) => check::run(config.as_deref()),
        Command::Configuration { server, command } => configuration::run(server.into(), &command),
        Command::Contact { server, command } => alert::contacts(server.into(), &command),
        Command::Demo => demo::run(),
        Command::Completions { shell } => manual::completions(Arguments::command(), shell),
        Command::Domain { server, command } => run_domain(server.into(), command),
        Command::Init { words: _ } => return init::run(),
        Command::Machine { server, json } => appliance::run(server.into(), json),
        Command::Man { directory } => manual::man(Arguments::command(), directory.as_deref()),
        Command::Outage { server, command } => alert::outages(server.into(), &command),
        Command::Queue { server, command } => queue::run(server.into(), command),
        Command::Restore { server, wanted } => restore::run(server.into(), &wanted),
        Command::Serve { configuration: Configuration { config }, without_shard } => {
            serve::run(config.as_deref(), &without_shard)
        }
        Command::Status { server, json, watch } => status::run(server.into(), json, watch),
        Command::Support { server, wanted } => support::run(server.into(), &wanted),
        Command::Token { server, command } => token::run(server.into(), command),
        Command::Trace { server, wanted } => trace::run(server.into(), &wanted),
        Command::Unlock { server } => at_rest::unlock(server.into()),
        Command::Update { server, wanted } => update::run(server.into(), &wanted),
    };
    exit.into()
}

fn run_domain(remote: Remote, command: Domain) -> Exit {
    match command {
        Domain::Add(new) => provision::add(remote, &new),
        Domain::Doctor { name, test_recipient, json } => {
            provision::doctor(remote, &name, test_recipient.as_deref(), json)
        }
        Domain::Drill { name, recipient, json } => {
            provision::drill(remote, &name, recipient.as_deref(), json)
        }
        Domain::Hold { name, window } => domain::hold(remote, &name, &window),
        Domain::Import(import) => provision::import(remote, &import),
        Domain::List { json } => domain::list(remote, json),
        Domain::Recipients { name, json } => provision::recipients(remote, &name, json),
        Domain::Release { name } => domain::release(remote, &name),
        Domain::Remove { name, keep_mail } => provision::remove(remote, &name, keep_mail),
        Domain::Set(changes) => provision::set(remote, &changes),
        Domain::Show { name, json } => domain::show(remote, &name, json),
    }
}
