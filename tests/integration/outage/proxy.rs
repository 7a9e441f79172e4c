//! A hole in the wall between senders and the server, which counts what goes in and closes at a chosen byte:
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

/// Lets octets through up to the chosen one; the rest of that write is lost, as in a crash.
struct Gate {
    left: Mutex<Option<u64>>,
    reached: Condvar,
}

impl Proxy {
    /// Carries connections to `server`.
    pub fn start(server: SocketAddr, stop_at: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate { left: Mutex::new(Some(stop_at)), reached: Condvar::new() });
        let shared = Arc::clone(&gate);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Refused: the server is down, and so is the connection.
                let Ok(upstream) = TcpStream::connect(server) else { continue };
                let (client_too, upstream_too) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                let gate = Arc::clone(&shared);
                thread::spawn(move || carry(client, upstream, |octets| gate.pass(octets)));
                thread::spawn(move || carry(upstream_too, client_too, |octets| octets));
            }
        });
        Self { address, gate }
    }

    /// Returns when exactly the chosen number of octets has gone to the server.
    pub fn wait_for_the_byte(&self) {
        let left = self.gate.left.lock().unwrap();
        let _left = self.gate.reached.wait_while(left, |left| left.is_some()).unwrap();
    }
}

impl Gate {
    /// How many of `octets` may pass. At the chosen byte the gate opens for good: what follows goes to the
    /// server that is started again, or is refused with the one that is dead.
    fn pass(&self, octets: usize) -> usize {
        let mut left = self.left.lock().unwrap();
        match left.as_mut() {
            None => octets,
            Some(more) if *more > octets as u64 => {
                *more -= octets as u64;
                octets
            }
            Some(more) => {
                let last = usize::try_from(*more).unwrap();
                *left = None;
                self.reached.notify_all();
                last
            }
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, pass: impl Fn(usize) -> usize) {
    let mut memory = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut memory) {
        let passed = pass(count);
        if to.write_all(&memory[..passed]).is_err() || passed < count {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
