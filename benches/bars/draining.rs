//! Round trips a message of a drain: the real server hands a backlog to a primary behind a line of 50 ms there and back, over one
//! connection, since all of it is for one recipient; and how fast it is without the line, also for many recipients over as many
//! connections as it has by default. And what it costs to name the client of each message (XCLIENT), another one each time.
//!
//! And how long a backlog takes from the primary's first accept when nothing is configured and the outage lasted a minute.
//!
//! The primary is the library's own SMTP server on a thread a connection; it takes everything and looks at nothing.
#![allow(clippy::disallowed_methods, reason = "what is measured is a process, over sockets and time")]

use crate::common::is_small;
use crate::common::server::{Client, Server};
use crate::{Bar, Bound};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use stratamx::smtp::server::{RecipientVerdict, ServerEvent, ServerProfile, ServerSession};

const ROUND_TRIP: Duration = Duration::from_millis(50);

/// Figures of both ways to hand over.
pub(crate) fn bars() -> Vec<Bar> {
    let (near, far) = if is_small() { (20, 20) } else { (2000, 300) };
    let mut bars = Vec::new();
    for (name, withheld, bound) in [("PIPELINING", "CHUNKING", 1.15), ("CHUNKING", "", 0.15)] {
        let elapsed = drain(
            &Backlog { name, withheld, messages: far, recipients: 1, names_clients: false },
            ROUND_TRIP,
        );
        let trips = elapsed.as_secs_f64() / ROUND_TRIP.as_secs_f64() / f64::from(far);
        println!("drain/by={name}/round_trip=50ms messages={far} round_trips_a_message={trips:.3}");
        bars.push(Bar::new(
            format!("drain by {name}, 50 ms: round trips a message"),
            trips,
            "",
            Bound::Below(bound),
        ));
        for recipients in [1, 100] {
            let backlog = Backlog { name, withheld, messages: near, recipients, names_clients: false };
            let elapsed = drain(&backlog, Duration::ZERO);
            let rate = f64::from(near) / elapsed.as_secs_f64();
            println!(
                "drain/by={name}/recipients={recipients}/round_trip=0ms messages={near} messages_a_second={rate:.0}"
            );
            let name = format!("drain by {name}, 0 ms, {recipients} recipients");
            bars.push(Bar::new(name, rate, "messages/s", Bound::None));
        }
        let backlog = Backlog { name, withheld, messages: far, recipients: 1, names_clients: true };
        let trips = drain(&backlog, ROUND_TRIP).as_secs_f64() / ROUND_TRIP.as_secs_f64() / f64::from(far);
        println!(
            "drain/by={name}/round_trip=50ms/clients=each messages={far} round_trips_a_message={trips:.3}"
        );
        let name = format!("drain by {name} with XCLIENT, 50 ms: round trips a message");
        bars.push(Bar::new(name, trips, "", Bound::Below(3.2)));
    }
    let (messages, outage) =
        if is_small() { (20, Duration::from_secs(1)) } else { (1000, Duration::from_secs(60)) };
    let elapsed = after_an_outage(messages, outage).as_secs_f64();
    println!("drain/outage={}s messages={messages} seconds_from_first_accept={elapsed:.3}", outage.as_secs());
    let name = format!("{messages} messages after an outage of a minute, by default");
    bars.push(Bar::new(name, elapsed, "s", Bound::Below(20.0)));
    bars
}

/// From the primary's first accept to the last message of a backlog that came while it was down.
fn after_an_outage(messages: u32, outage: Duration) -> Duration {
    let door = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = door.local_addr().expect("bound");
    drop(door);
    let server = Server::with_domain("drain-outage", &format!("primary = [\"{address}\"]\n"));
    let began = Instant::now();
    let mut client = Client::connect(&server);
    client.say("EHLO bench.example", "250");
    for number in 0..messages {
        client.send_message_to(&format!("b{}", number % 100), 10 * 1024);
    }
    thread::sleep(outage.saturating_sub(began.elapsed()));
    let (taken, times) = channel();
    let (accepted, first) = channel();
    let primary = serve("", false, taken);
    let door = TcpListener::bind(address).expect("the port is still free");
    thread::spawn(move || {
        for outside in door.incoming().map_while(Result::ok) {
            let _ = accepted.send(Instant::now());
            let inside = TcpStream::connect(primary).expect("the primary listens");
            carry(&outside, &inside, Duration::ZERO);
            carry(&inside, &outside, Duration::ZERO);
        }
    });
    let first = first.recv().expect("it looks again");
    // The first of these is the drain's first MAIL.
    let begun = times.recv().expect("the drain begins");
    let last = (0..messages).fold(begun, |_, _| times.recv().expect("it goes on"));
    last - first
}

/// What waits for the primary, and what that does not offer.
struct Backlog {
    name: &'static str,
    withheld: &'static str,
    messages: u32,
    recipients: u32,
    /// Each message is another client's, and the primary offers XCLIENT.
    names_clients: bool,
}

/// From the first MAIL to the end of the last message.
fn drain(backlog: &Backlog, round_trip: Duration) -> Duration {
    let Backlog { name, withheld, messages, recipients, names_clients } = *backlog;
    let door = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = door.local_addr().expect("bound");
    // Nobody listens there until everything is queued.
    drop(door);
    let server = Server::with_primary(
        &format!("drain-{name}-{recipients}-{}-{names_clients}", round_trip.as_millis()),
        false,
        &address.to_string(),
    );
    let mut client = Client::connect(&server);
    client.say("EHLO bench.example", "250");
    for number in 0..messages {
        if names_clients {
            client.say(&format!("XCLIENT ADDR=198.51.100.{}", 1 + number % 250), "220 ");
            client.say(&format!("EHLO client-{number}.example"), "250");
        }
        client.send_message_to(&format!("b{}", number % recipients), 10 * 1024);
    }
    let (taken, times) = channel();
    let primary = serve(withheld, names_clients, taken);
    let door = TcpListener::bind(address).expect("the port is still free");
    thread::spawn(move || {
        for outside in door.incoming().map_while(Result::ok) {
            let inside = TcpStream::connect(primary).expect("the primary listens");
            carry(&outside, &inside, round_trip / 2);
            carry(&inside, &outside, round_trip / 2);
        }
    });
    let first = times.recv().expect("the drain begins");
    let last = (0..messages).fold(first, |_, _| times.recv().expect("it goes on"));
    last - first
}

/// Copies one direction, each piece so much later than it came.
fn carry(from: &TcpStream, to: &TcpStream, delay: Duration) {
    let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
    to.set_nodelay(true).expect("a socket");
    let (sender, receiver): (Sender<(Instant, Vec<u8>)>, Receiver<_>) = channel();
    thread::spawn(move || {
        let mut memory = vec![0; 256 * 1024];
        while let Ok(count @ 1..) = from.read(&mut memory) {
            if sender.send((Instant::now() + delay, memory[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, octets) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&octets).is_err() {
                return;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

/// Tells the instant of the first MAIL, then of each message's end.
fn serve(withheld: &'static str, names_clients: bool, taken: Sender<Instant>) -> SocketAddr {
    let door = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = door.local_addr().expect("bound");
    thread::spawn(move || {
        let is_first = Arc::new(AtomicBool::new(true));
        for stream in door.incoming().map_while(Result::ok) {
            let (taken, is_first) = (taken.clone(), Arc::clone(&is_first));
            thread::spawn(move || session(stream, (withheld, names_clients), &taken, &is_first));
        }
    });
    address
}

fn session(
    mut stream: TcpStream,
    (withheld, names_clients): (&str, bool),
    taken: &Sender<Instant>,
    is_first: &AtomicBool,
) {
    stream.set_nodelay(true).expect("a socket");
    let profile = ServerProfile {
        hostname: "primary.test".to_owned(),
        max_message_size: 1 << 30,
        max_recipients: 100,
        starttls: false,
        withheld: vec![withheld.to_owned()],
    };
    let mut session = ServerSession::new(Arc::new(profile), Duration::ZERO);
    if names_clients {
        session.allow_xclient();
    }
    let (mut input, mut memory) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let step = session.handle_input(&input, Duration::ZERO);
        match step.event {
            ServerEvent::Sender => {
                session.handle_sender(Ok(()), Duration::ZERO);
                if is_first.swap(false, Ordering::Relaxed) {
                    let _ = taken.send(Instant::now());
                }
            }
            ServerEvent::Recipient => session.handle_recipient(RecipientVerdict::Accept, Duration::ZERO),
            ServerEvent::MessageEnds(_) => {
                session.handle_message(Ok(&"taken"), Duration::ZERO);
                let _ = taken.send(Instant::now());
            }
            _ => {}
        }
        input.drain(..step.consumed);
        if step.consumed > 0 || step.event != ServerEvent::Idle {
            continue;
        }
        let octets = session.output().len();
        if stream.write_all(session.output()).is_err() || session.is_closing() {
            return;
        }
        session.output_sent(octets);
        match stream.read(&mut memory) {
            Ok(count @ 1..) => input.extend_from_slice(&memory[..count]),
            _ => return,
        }
    }
}
