//! A hole in the wall between senders and the server, which counts what goes in and closes at chosen bytes:
//! so a kill falls at a byte and not at some time.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// See the module.
pub struct Proxy {
    pub address: SocketAddr,
    gate: Arc<Gate>,
}

/// Lets octets through up to the chosen one; nothing goes behind it before the server is dead.
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    /// So many octets to go.
    Counting(u64),
    /// The chosen byte has gone through.
    Closed,
    Open,
}

impl Proxy {
    /// Carries connections to `server`.
    pub fn start(server: SocketAddr, stop_at: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate { state: Mutex::new(State::Counting(stop_at)), changed: Condvar::new() });
        let shared = Arc::clone(&gate);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Refused: the server is down, and so is the connection.
                let Ok(upstream) = TcpStream::connect(server) else { continue };
                let (client_too, upstream_too) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                let gate = Arc::clone(&shared);
                thread::spawn(move || carry(client, upstream, |octets, to| gate.pass(octets, to)));
                thread::spawn(move || {
                    carry(upstream_too, client_too, |octets, to| to.write_all(octets).is_ok())
                });
            }
        });
        Self { address, gate }
    }

    /// Returns when exactly the chosen number of octets has gone to the server; no more goes before
    /// [`Self::open`].
    pub fn wait_for_the_byte(&self) {
        let state = self.gate.state.lock().unwrap();
        let closed = |state: &mut State| !matches!(state, State::Closed);
        drop(self.gate.changed.wait_while(state, closed).unwrap());
    }

    /// The server is dead; what follows is for the one that is started again, up to `next` octets, or all.
    pub fn open(&self, next: Option<u64>) {
        *self.gate.state.lock().unwrap() = next.map_or(State::Open, State::Counting);
        self.gate.changed.notify_all();
    }
}

impl Gate {
    /// Writes what may pass, and counts it; waits while the gate is closed. `false` when the connection ends here.
    /// The count is held while it writes: when the gate closes, the last octet is with the server.
    fn pass(&self, octets: &[u8], to: &mut TcpStream) -> bool {
        let state = self.state.lock().unwrap();
        let mut state = self.changed.wait_while(state, |state| matches!(state, State::Closed)).unwrap();
        let passed = match &mut *state {
            State::Counting(left) => usize::try_from(*left).unwrap().min(octets.len()),
            State::Closed | State::Open => octets.len(),
        };
        let written = to.write_all(&octets[..passed]).is_ok();
        if let State::Counting(left) = &mut *state {
            *left -= passed as u64;
            if *left == 0 {
                *state = State::Closed;
                self.changed.notify_all();
            }
        }
        written && passed == octets.len()
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, mut pass: impl FnMut(&[u8], &mut TcpStream) -> bool) {
    let mut memory = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut memory) {
        if !pass(&memory[..count], &mut to) {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
