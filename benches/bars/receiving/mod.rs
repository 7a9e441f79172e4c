//! What senders cost the server: idle connections with and without TLS and a large message in resident memory of the real
//! process, what thousands of slow senders take from a good one, and what part of its CPU time the scan of mail data is. Each figure says
//! whether authentication of mail was on.
#![allow(clippy::disallowed_methods, reason = "a bench watches the clock of the machine")]

use crate::common::server::{Client, HOSTNAME, Server, lines};
use crate::common::sized;
use crate::scanner::seconds_a_scan;
use crate::{Bar, Bound, median};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

pub(crate) fn bars() -> Vec<Bar> {
    vec![idle(false), idle(true), large_message(), slow_senders(), scan_share(false), scan_share(true)]
}

/// Resident memory a connection that has said EHLO and waits.
fn idle(through_tls: bool) -> Bar {
    let server = Server::start(if through_tls { "idle-tls" } else { "idle" }, true);
    let count = sized(10_000, 100);
    let tls = through_tls.then(|| tls_config(&server));
    // What the first connection makes stays for all.
    let warm: Vec<TcpStream> = (0..20).map(|_| greeted(&server, tls.as_ref())).collect();
    let before = server.resident_kib("VmRSS:");
    let sockets: Vec<TcpStream> = (0..count).map(|_| greeted(&server, tls.as_ref())).collect();
    let after = server.resident_kib("VmRSS:");
    drop((warm, sockets));
    let each = (after.saturating_sub(before)) as f64 / count as f64;
    let most = if through_tls { 64.0 } else { 16.0 };
    Bar::new(
        format!("idle/connections={count}/tls={through_tls}/authentication=on"),
        each,
        "KiB each",
        Bound::Below(most),
    )
}

/// The socket of a session that has said EHLO. Nothing of the client's side of TLS is kept.
fn greeted(server: &Server, tls: Option<&Arc<ClientConfig>>) -> TcpStream {
    let mut client = Client::connect(server);
    client.say("EHLO idle.example", "250-");
    let Some(config) = tls else { return client.into_socket() };
    client.say("STARTTLS", "220 ");
    let name = ServerName::try_from(HOSTNAME).expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).expect("a configuration");
    let mut secured = Client::over(StreamOwned::new(connection, client.into_socket()));
    secured.say("EHLO idle.example", "250-");
    secured.into_inner().sock
}

fn tls_config(server: &Server) -> Arc<ClientConfig> {
    let certificate =
        CertificateDer::from_pem_file(server.path("data/self-signed.pem")).expect("made at its start");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("ring has them");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Resident memory that a message of 100 MiB adds at its highest, over a server that has taken one before: buffers of the
/// log are the server's, not the session's.
fn large_message() -> Bar {
    let server = Server::start("large", true);
    let octets = sized(99 * MIB, MIB);
    let mut client = Client::connect(&server);
    client.say("EHLO large.example", "250-");
    client.send_message(octets);
    server.forget_peak();
    let before = server.resident_kib("VmRSS:");
    client.send_message(octets);
    let grown = server.resident_kib("VmHWM:").saturating_sub(before);
    let name = format!("large/message={}MiB/authentication=on", octets / MIB);
    Bar::new(name, grown as f64 / 1024.0, "MiB more", Bound::Below(1.0))
}

/// Messages a second of one good sender beside thousands that send an octet of data a second, as a part of what it was
/// before and is after them.
fn slow_senders() -> Bar {
    let server = Server::start("slow", true);
    let count = sized(5_000, 50);
    let (turns, turn) = (sized(9, 1), Duration::from_millis(sized(1_000, 50) as u64));
    let mut good = Client::connect(&server);
    good.say("EHLO good.example", "250-");
    let mut rates = |turns: usize| -> Vec<f64> { (0..turns).map(|_| rate(&mut good, turn)).collect() };
    let _warm = rates(turns.div_ceil(3));
    let mut alone = rates(turns);
    let slow: Vec<TcpStream> = (0..count).map(|_| in_data(&server)).collect();
    let stop = AtomicBool::new(false);
    let beside = thread::scope(|scope| {
        scope.spawn(|| send_slowly(&slow, &stop));
        let beside = rates(turns);
        stop.store(true, Ordering::Relaxed);
        beside
    });
    drop(slow);
    alone.append(&mut rates(turns));
    let ratio = median(&beside) / median(&alone);
    println!("slow alone={:.0} beside={:.0} messages/s", median(&alone), median(&beside));
    Bar::new(format!("slow/senders={count}/good=1/authentication=on"), ratio, "x", Bound::AtLeast(0.8))
}

/// A session that waits for mail data.
fn in_data(server: &Server) -> TcpStream {
    let mut client = Client::connect(server);
    client.say("EHLO slow.example", "250-");
    client.say("MAIL FROM:<slow@example.org>", "250 ");
    client.say("RCPT TO:<b@example.test>", "250 ");
    client.say("DATA", "354 ");
    client.into_socket()
}

/// An octet a second by each, spread evenly over the second.
fn send_slowly(sockets: &[TcpStream], stop: &AtomicBool) {
    let parts = 50;
    let size = sockets.len().div_ceil(parts);
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for part in sockets.chunks(size) {
            for mut socket in part {
                socket.write_all(b"x").expect("the server holds on to slow ones for minutes");
            }
            next += Duration::from_secs(1) / u32::try_from(parts).expect("few");
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

/// Messages of 10 KiB a second, one after the other.
fn rate(client: &mut Client<TcpStream>, turn: Duration) -> f64 {
    let start = Instant::now();
    let mut count = 0.0;
    while start.elapsed() < turn {
        client.send_message(10 << 10);
        count += 1.0;
    }
    count / start.elapsed().as_secs_f64()
}

/// Scanning a message of 10 KiB in cache, as a part of the CPU time that the server takes for such a message.
fn scan_share(authentication: bool) -> Bar {
    let server = Server::start("share", authentication);
    let mut client = Client::connect(&server);
    client.say("EHLO share.example", "250-");
    let (octets, count) = (10 << 10, sized(4_000, 20));
    client.send_message(octets);
    let before = server.cpu_s();
    (0..count).for_each(|_| client.send_message(octets));
    let message_s = (server.cpu_s() - before) / count as f64;
    let mut data = lines(octets / lines(1).len());
    data.extend_from_slice(b".\r\n");
    let scan_s = seconds_a_scan(&data);
    println!("share message={:.1} us scan={:.3} us", message_s * 1e6, scan_s * 1e6);
    let state = if authentication { "on" } else { "off" };
    let name = format!("scanner/share of CPU/size=10KiB/authentication={state}");
    Bar::new(name, scan_s / message_s * 100.0, "%", Bound::Below(5.0))
}
