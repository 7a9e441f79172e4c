//! Mail of 10 KiB into the real server through sockets of loopback, each client sends its next message when the one before is acknowledged; beside it a server
//! as one writes it first: a thread a connection, a line at a time, a file a message with fsync, rename and fsync of the directory.
#![allow(
    clippy::disallowed_methods,
    reason = "a bench watches the clock of the machine, and its baseline keeps mail in files"
)]

use crate::common::server::{Client, Server};
use crate::common::{Scratch, is_small};
use criterion::{Criterion, SamplingMode, Throughput};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const MESSAGE_OCTETS: usize = 10 << 10;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("end_to_end");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(Throughput::Elements(1));
    for sessions in [1, 20] {
        group.bench_function(format!("sync=true/size=10KiB/sessions={sessions}"), |bencher| {
            let server = Server::start("end-to-end", false);
            let mut load = Load::new(server.address(), sessions);
            bencher.iter_custom(|iterations| load.run(iterations));
            let sent = load.sent;
            drop(load);
            assert_eq!(server.into_queued(), sent, "every message that was acknowledged is queued");
        });
        group.bench_function(
            format!("baseline=file_a_message/sync=true/size=10KiB/sessions={sessions}"),
            |bencher| {
                let scratch = Scratch::new("end-to-end-naive");
                let mut load = Load::new(naive_server(scratch.path()), sessions);
                bencher.iter_custom(|iterations| load.run(iterations));
                let kept = fs::read_dir(scratch.path()).expect("its directory").count();
                assert_eq!(kept as u64, load.sent, "every message that was acknowledged is a file");
            },
        );
    }
    group.finish();
}

/// Clients with sessions that are kept open.
struct Load {
    clients: Vec<Client<TcpStream>>,
    sent: u64,
}

impl Load {
    fn new(address: SocketAddr, sessions: usize) -> Self {
        let client = |_| {
            let mut client = Client::connect_to(address);
            client.say("EHLO client.example", "250");
            client
        };
        Self { clients: (0..sessions).map(client).collect(), sent: 0 }
    }

    /// The time until so many messages are acknowledged; where only the answer counts, one of each client.
    fn run(&mut self, messages: u64) -> Duration {
        let sessions = self.clients.len() as u64;
        let messages = if is_small() { sessions } else { messages };
        let next = AtomicU64::new(0);
        let start = Instant::now();
        thread::scope(|scope| {
            for client in &mut self.clients {
                scope.spawn(|| {
                    while next.fetch_add(1, Ordering::Relaxed) < messages {
                        client.send_message(MESSAGE_OCTETS);
                    }
                });
            }
        });
        self.sent += messages;
        start.elapsed()
    }
}

/// Serves until its listener's thread ends with the process.
fn naive_server(directory: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a port");
    let directory = directory.to_owned();
    let number = Arc::new(AtomicU64::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (directory, number) = (directory.clone(), Arc::clone(&number));
            thread::spawn(move || serve(stream, &directory, &number));
        }
    });
    address
}

fn serve(mut stream: TcpStream, directory: &Path, number: &AtomicU64) {
    stream.set_nodelay(true).expect("a socket");
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let mut reply = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).is_ok();
    let mut line = String::new();
    let mut goes_on = reply("220 naive ESMTP");
    while goes_on {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        goes_on = match line.trim_end().to_uppercase().as_str() {
            "DATA" => {
                reply("354 go on");
                let message = read_message(&mut reader);
                let path = directory.join(number.fetch_add(1, Ordering::Relaxed).to_string());
                keep(directory, &path, &message);
                reply("250 kept")
            }
            _ => reply("250 ok"),
        };
    }
}

fn read_message(reader: &mut BufReader<TcpStream>) -> String {
    let mut message = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("the client sends");
        if line == ".\r\n" {
            return message;
        }
        message += line.strip_prefix('.').unwrap_or(&line);
    }
}

fn keep(directory: &Path, path: &PathBuf, message: &str) {
    let arriving = path.with_extension("arriving");
    let mut file = File::create_new(&arriving).expect("a file");
    file.write_all(message.as_bytes()).expect("a write");
    file.sync_all().expect("a sync");
    fs::rename(&arriving, path).expect("a rename");
    File::open(directory).and_then(|directory| directory.sync_all()).expect("a sync");
}
