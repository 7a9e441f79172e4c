//! The server as a process: replies that others rely on, signals, limits, a bound on memory and on idling.

use super::harness;
use super::harness::client::Client;
use super::harness::*;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn replies_that_others_rely_on() {
    let directory = Scratch::new("replies");
    let config =
        configure(&directory, &Settings { smtp: "max_message_size = \"64KiB\"", ..Settings::default() });
    let server = Server::start(&config);
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250-mx2.example.test");
    client.say("MAIL FROM:<a@example.org> SIZE=100000", "552 5.3.4");
    client.say("MAIL FROM:<a@example.org>", "250 2.1.0");
    client.say("RCPT TO:<b@elsewhere.test>", "550 5.7.1");
    client.say("RCPT TO:<b@[127.0.0.1]>", "550 5.7.1");
    client.say("RCPT TO:<postmaster>", "250 2.1.5");
    client.say("RSET", "250 2.0.0");
    let accepted = client.message("b@EXAMPLE.test", "Subject: x\r\n\r\nbody");
    assert!(accepted.starts_with("250 2.0.0 Ok: queued as "), "{accepted}");
    // Smuggling: a bare LF around a dot ends nothing; the session is in step behind the true end.
    client.open_transaction("b@example.test");
    client.say("DATA", "354");
    client.send(b"Subject: x\r\n\r\nbody\n.\nMAIL FROM:<forged@example.org>\r\n.\r\nNOOP\r\n");
    assert!(client.reply().starts_with("554 5.6.0"));
    assert!(client.reply().starts_with("250 2.0.0"));
    // Too large, found while it comes.
    client.open_transaction("b@example.test");
    client.say("DATA", "354");
    let line = [&[b'x'; 70][..], b"\r\n"].concat();
    client.send(&line.repeat(1_000));
    client.say(".", "552 5.3.4");
    // Pipelined behind the end of data.
    client.open_transaction("b@example.test");
    client.say("DATA", "354");
    client.send(b"body\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.test>\r\nQUIT\r\n");
    assert!(client.reply().starts_with("250 2.0.0 Ok: queued as "));
    assert!(client.reply().starts_with("250 2.1.0"));
    assert!(client.reply().starts_with("250 2.1.5"));
    assert!(client.reply().starts_with("221 2.0.0"));
    let log = server.stop();
    let stopped = log.iter().find(|line| line.contains("\"stopped\"")).unwrap();
    assert!(stopped.contains("\"messages\":2"), "{stopped}");
}

#[test]
fn a_talker_before_the_greeting_is_turned_away() {
    let directory = Scratch::new("early");
    let server = Server::start(&configure(&directory, &Settings::default()));
    // Stopped, so that the words are there before the connection is taken.
    server.process.signal("-STOP");
    let mut client = Client::connect_silently(server.address);
    client.send(b"EHLO spammer.example\r\nMAIL FROM:<a@example.org>\r\n");
    server.process.signal("-CONT");
    let reply = client.reply();
    assert!(reply.starts_with("554 5.5.0"), "{reply}");
    assert_eq!(client.reply(), "", "and the connection ends");
}

#[test]
fn connections_over_the_cap_are_told_421() {
    let directory = Scratch::new("caps");
    let config =
        configure(&directory, &Settings { smtp: "max_connections_per_ip = 3", ..Settings::default() });
    let server = Server::start(&config);
    let clients: Vec<Client> = (0..3).map(|_| Client::connect(server.address)).collect();
    let refused = Client::connect_silently(server.address).reply();
    assert!(refused.starts_with("421 4.7.0"), "{refused}");
    drop(clients);
    let end = Instant::now() + PATIENCE;
    while !Client::connect_silently(server.address).reply().starts_with("220 ") {
        assert!(Instant::now() < end, "places come back when connections end");
    }
}

#[test]
fn sigterm_takes_leave_and_keeps_what_was_promised() {
    let directory = Scratch::new("sigterm");
    let config = configure(&directory, &Settings::default());
    let mut server = Server::start(&config);
    let mut idle = Client::connect(server.address);
    let mut busy = Client::connect(server.address);
    busy.open_transaction("b@example.test");
    busy.say("DATA", "354");
    busy.send(b"half a mess");
    let mut done = Client::connect(server.address);
    assert!(done.message("b@example.test", "whole").starts_with("250 2.0.0 Ok: queued as "));
    let told = Instant::now();
    server.process.signal("-TERM");
    for client in [&mut idle, &mut busy, &mut done] {
        let reply = client.reply();
        assert!(reply.starts_with("421 4.3.2"), "{reply}");
        assert_eq!(client.reply(), "", "and the connection ends");
    }
    assert_eq!(server.process.wait(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(10), "the promise is 10 s");
    let mut again = Server::start(&config);
    let opened = again.process.seen.iter().find(|line| line.contains("store opened")).cloned();
    let opened = opened.unwrap_or_else(|| again.process.wait_for("store opened"));
    assert!(opened.contains("\"messages\":1"), "{opened}");
}

#[test]
fn sighup_reloads_what_may_change() {
    let directory = Scratch::new("sighup");
    let config = configure(&directory, &Settings::default());
    let mut server = Server::start(&config);
    let mut client = Client::connect(server.address);
    client.open_transaction("b@example.test");
    client.say("RCPT TO:<b@new.test>", "550 5.7.1");
    let more = "[[domain]]\nname = \"new.test\"\nprimary = [\"127.0.0.1:9\"]";
    configure(&directory, &Settings { rest: more, smtp: "max_recipients = 200", ..Settings::default() });
    server.process.signal("-HUP");
    server.process.wait_for("configuration reloaded");
    client.say("RCPT TO:<b@new.test>", "250 2.1.5");
    // A configuration that is wrong changes nothing, and says where.
    configure(&directory, &Settings { rest: "nonsense = 1", ..Settings::default() });
    server.process.signal("-HUP");
    let complaint = server.process.wait_for("nonsense");
    assert!(complaint.contains("stratamx.toml:"), "{complaint}");
    client.say("RCPT TO:<c@new.test>", "250 2.1.5");
    server.stop();
}

#[test]
fn a_primary_with_a_name_is_found_also_by_name_servers_that_come_later() {
    let directory = Scratch::new("named");
    let primary = free_address();
    let named_primary = Some(format!("mail.primary.test:{}", primary.port()));
    let settings = |nameserver: std::net::SocketAddr| {
        let rest = format!("[dns]\nnameservers = [\"{nameserver}\"]");
        let settings = Settings { named_primary: named_primary.clone(), rest: &rest, ..Settings::default() };
        configure(&directory, &settings)
    };
    // Nobody answers there.
    let config = settings("127.0.0.1:9".parse().unwrap());
    let record = directory.path("record.jsonl");
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    let mut server = Server::start(&config);
    let sent = Client::connect(server.address).message("b@example.test", "hello");
    assert!(sent.starts_with("250 2.0.0 Ok: queued as "), "{sent}");
    server.process.wait_for("the primary has no address");
    settings(harness::name_server::start());
    server.process.signal("-HUP");
    server.process.wait_for("handed over");
    sink.stop();
    assert_eq!(fs::read_to_string(&record).unwrap().lines().count(), 1);
}

/// RFC 5321 5.1, RFC 7505, by a name server on the wire: what DNS says costs nobody his mail.
#[test]
fn mail_of_a_domain_whose_mx_names_nobody_before_us_waits() {
    let directory = Scratch::new("exchangers");
    let nameserver = harness::name_server::start_exchangers(&[
        ("ours.test", Some((10, "MX2.example.test"))),
        ("null.test", Some((0, ""))),
    ]);
    let domain = |name| format!("[[domain]]\nname = \"{name}\"\nprimary = \"mx\"\nretry_interval = \"1s\"\n");
    let domains = ["ours.test", "null.test", "gone.test"].map(domain).concat();
    let rest = format!("{domains}[dns]\nnameservers = [\"{nameserver}\"]");
    let config = configure(&directory, &Settings { rest: &rest, ..Settings::default() });
    let mut server = Server::start(&config);
    for (domain, why) in [
        ("ours.test", "its MX records name nobody before us"),
        ("null.test", "its MX record says that it takes no mail"),
        ("gone.test", "the name does not exist, or has no address"),
    ] {
        bring(&server, &format!("b@{domain}"));
        let line = server.process.wait_for(why);
        assert!(line.contains(domain), "{line}");
    }
    server.process.signal("-TERM");
    assert_eq!(server.process.wait(), Some(0));
    let summary =
        server.process.seen.iter().find(|line| line.contains("\"held\":")).expect("a last line counts");
    let summary: serde_json::Value = serde_json::from_str(summary).unwrap();
    let counts = ["accepted", "delivered", "held"].map(|count| summary[count].as_u64().unwrap());
    assert_eq!(counts, [3, 0, 0], "it waits");
}

/// Sends one small message for `recipient`.
fn bring(server: &Server, recipient: &str) {
    let sent = Client::connect(server.address).message(recipient, "Subject: small\r\n\r\nbody");
    assert!(sent.starts_with("250 2.0.0 Ok: queued as "), "{sent}");
}

/// Recipients in the order in which a sink took mail for them.
fn taken(record: &std::path::Path) -> Vec<String> {
    let text = fs::read_to_string(record).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let accepted = lines.filter(|line| line["reply"].as_str().is_some_and(|reply| reply.starts_with('2')));
    accepted.map(|line| line["recipients"][0].as_str().unwrap().to_owned()).collect()
}

/// With it everything is in order, and not only each recipient's mail.
const ONE_CONNECTION: &str = "max_connections = 1";

#[test]
fn a_damaged_chunk_costs_its_message_and_nothing_else() {
    // Found by review: the drain said QUIT in the middle of the data, which the client machine forbids, and the
    // shard ended, at every start again.
    let directory = Scratch::new("damaged");
    let primary = free_address();
    let config = configure(
        &directory,
        &Settings { primary, rest: "", delivery: ONE_CONNECTION, ..Settings::default() },
    );
    let server = Server::start(&config);
    let large = format!("Subject: large\r\n\r\n{}", "chunks and chunks and chunks\r\n".repeat(40_000));
    let sent = Client::connect(server.address).message("large@example.test", &large);
    assert!(sent.starts_with("250 2.0.0 Ok: queued as "), "{sent}");
    bring(&server, "small@example.test");
    server.stop();
    for shard in fs::read_dir(directory.path("data")).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(mut octets) = fs::read(shard.join("segment-00000001.log")) else { continue };
        if let Some(chunk) =
            octets.windows(40).position(|window| window.starts_with(b"chunks and chunks and chunks"))
        {
            octets[chunk + 100_000] ^= 1;
            fs::write(shard.join("segment-00000001.log"), octets).unwrap();
        }
    }
    let record = directory.path("record.jsonl");
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    let mut server = Server::start(&config);
    server.process.wait_for("nothing is left to hand over");
    bring(&server, "later@example.test");
    server.process.wait_for("nothing is left to hand over");
    sink.stop();
    assert_eq!(taken(&record), ["small@example.test", "later@example.test"]);
    server.stop();
}

#[test]
fn a_message_that_ends_every_session_steps_aside() {
    // Found by review: 421 in reply to the dot of one message kept its domain from all others.
    let directory = Scratch::new("poison");
    let primary = free_address();
    let config =
        configure(&directory, &Settings { primary, delivery: ONE_CONNECTION, ..Settings::default() });
    let mut server = Server::start(&config);
    for recipient in ["one", "poison", "two", "three"] {
        bring(&server, &format!("{recipient}@example.test"));
    }
    let record = directory.path("record.jsonl");
    let sink = Primary::sink(&primary.to_string(), &record, &["data:to=poison@*:defer=421"]);
    server.process.wait_for("a message that breaks sessions steps aside");
    server.process.wait_for("nothing is left to hand over");
    sink.stop();
    assert_eq!(taken(&record), ["one@example.test", "two@example.test", "three@example.test"]);
    server.stop();
}

#[test]
fn sessions_that_end_before_the_data_change_no_order() {
    // Found by review: 421 at MAIL counted against the message, which stepped aside for hours.
    let directory = Scratch::new("order");
    let primary = free_address();
    let config =
        configure(&directory, &Settings { primary, delivery: ONE_CONNECTION, ..Settings::default() });
    let mut server = Server::start(&config);
    let recipients: Vec<String> = (0..6).map(|number| format!("user{number}@example.test")).collect();
    for recipient in &recipients {
        bring(&server, recipient);
    }
    let record = directory.path("record.jsonl");
    let sink = Primary::sink(&primary.to_string(), &record, &["mail:first=4:defer=421"]);
    server.process.wait_for("nothing is left to hand over");
    sink.stop();
    assert_eq!(taken(&record), recipients);
    server.stop();
}

#[test]
fn clients_that_reset_at_once_do_not_hold_up_others() {
    let directory = Scratch::new("reset");
    let server = Server::start(&configure(&directory, &Settings::default()));
    for _ in 0..300 {
        let stream = std::net::TcpStream::connect(server.address).unwrap();
        // Closed with linger 0, a connection is reset.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let start = Instant::now();
    bring(&server, "b@example.test");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "each reset cost 100 ms, one after the other: 15 s a shard"
    );
    server.stop();
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let directory = Scratch::new("lock");
    let config = configure(&directory, &Settings::default());
    let _server = Server::start(&config);
    let second = Command::new(tool("stratamx")).args(["serve", "--config"]).arg(&config).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another process works on this data directory"), "{said}");
}

/// A field of /proc/PID/status in KiB.
fn memory_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_message_of_100_mib_passes_without_being_held_in_memory() {
    let directory = Scratch::new("large");
    let primary = free_address();
    let mut server = Server::start(&configure(&directory, &Settings { primary, ..Settings::default() }));
    let pid = server.process.child.id();
    let before = memory_kib(pid, "VmHWM:");
    let ledger = directory.path("ledger.jsonl");
    let to = server.address.to_string();
    // A little below the limit, which counts the header too.
    let size = ["--size", "102000KiB", "--messages", "1", "--sessions", "1"];
    let files = ["--to", &to, "--ledger", ledger.to_str().unwrap()];
    let sent = blaster(&[&files[..], &size[..]].concat());
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let record = directory.path("record.jsonl");
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    server.process.wait_for("nothing is left to hand over");
    let grown = memory_kib(pid, "VmHWM:") - before;
    assert!(grown < 24 * 1024, "memory grew by {grown} KiB over a message of 102,000 KiB");
    sink.stop();
    let (is_sound, findings) = verify(&[&record], &[&ledger]);
    assert!(is_sound && findings["units"].as_u64() == Some(1), "{findings}");
}

/// User and system time of a process in clock ticks (100 a second).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_thousand_idle_sessions_cost_next_to_nothing() {
    let directory = Scratch::new("idle");
    let config =
        configure(&directory, &Settings { smtp: "max_connections_per_ip = 2000", ..Settings::default() });
    let server = Server::start(&config);
    let pid = server.process.child.id();
    let mut clients: Vec<Client> = (0..1_000).map(|_| Client::connect(server.address)).collect();
    for client in &mut clients {
        client.say("EHLO idle.example", "250-");
    }
    let memory = memory_kib(pid, "VmRSS:");
    assert!(memory < 100 * 1024, "{memory} KiB with 1,000 sessions");
    let (before, seconds) = (cpu_ticks(pid), 12);
    std::thread::sleep(Duration::from_secs(seconds));
    let ticks = cpu_ticks(pid) - before;
    // Half a percent of a core: 0.5 ticks a second, and one for the rounding of each of the two readings.
    assert!(ticks <= seconds / 2 + 1, "{ticks} ticks of 10 ms in {seconds} s with nothing to do");
    for client in clients.iter_mut().step_by(97) {
        assert!(client.message("b@example.test", "still here").starts_with("250 2.0.0 Ok: queued as "));
    }
}

#[test]
fn whoever_supervises_is_told_when_it_serves_and_when_it_stops() {
    let directory = Scratch::new("supervised");
    let config = configure(&directory, &Settings::default());
    let path = directory.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut octets = [0; 256];
        let length = socket.recv(&mut octets).unwrap();
        String::from_utf8_lossy(&octets[..length]).into_owned()
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
    command.args(["serve", "--config"]).arg(&config).env("NOTIFY_SOCKET", &path);
    let mut process = Process::start(&mut command);
    assert_eq!(told(), "READY=1\n");
    let line = process.wait_for_any("\"listening\"");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    Client::connect(line["address"].as_str().unwrap().parse().unwrap()).say("NOOP", "250");
    process.signal("-TERM");
    assert_eq!(told(), "STOPPING=1\n");
    assert_eq!(process.wait(), Some(0));
}
