//! The customer's mail server in small: takes everything, and remembers the order of MAIL.

use super::sender::data_of;
use super::verdict::Taken;
use crate::smtp::chunk::DotStuffer;
use crate::smtp::reply::{NO_MESSAGES_WAITING_251, TLS_UNAVAILABLE_454};
use crate::smtp::server::{RecipientVerdict, ServerEvent, ServerProfile, ServerSession};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use storage::clock::{Clock, SystemClock};

/// What it took, with the order of each MAIL.
pub(super) type Record = Arc<Mutex<Vec<(u64, Taken)>>>;

/// Serves on `address` until the process ends; says so for each message.
pub(super) fn start(address: SocketAddr, clock: SystemClock, told: Sender<()>) -> io::Result<Record> {
    let listener = TcpListener::bind(address)?;
    let record = Record::default();
    let shared = Arc::clone(&record);
    let order = Arc::new(AtomicU64::new(0));
    thread::Builder::new().name("primary".to_owned()).spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (record, order, told) = (Arc::clone(&shared), Arc::clone(&order), told.clone());
            thread::spawn(move || {
                // A client that goes away is its own affair.
                let _ = serve(stream, clock, &record, &order, &told);
            });
        }
    })?;
    Ok(record)
}

fn serve(
    mut stream: TcpStream,
    clock: SystemClock,
    record: &Record,
    order: &AtomicU64,
    told: &Sender<()>,
) -> io::Result<()> {
    let profile = ServerProfile {
        hostname: "primary.demo".to_owned(),
        max_message_size: 1 << 30,
        max_recipients: 1000,
        starttls: false,
        withheld: Vec::new(),
    };
    let mut session = ServerSession::new(Arc::new(profile), clock.now());
    let (mut input, mut data, mut place) = (Vec::new(), Vec::new(), 0);
    let mut stuffer = DotStuffer::default();
    loop {
        let step = session.handle_input(&input, clock.now());
        match step.event {
            ServerEvent::Sender => {
                place = order.fetch_add(1, Ordering::SeqCst);
                session.handle_sender(Ok(()), clock.now());
            }
            ServerEvent::Recipient => session.handle_recipient(RecipientVerdict::Accept, clock.now()),
            ServerEvent::Data { start, end } => data.extend_from_slice(&input[start..end]),
            ServerEvent::Chunk { start, end } => stuffer.stuff(&input[start..end], &mut data),
            ServerEvent::Etrn => session.handle_etrn(&NO_MESSAGES_WAITING_251, clock.now()),
            ServerEvent::MessageEnds(_) => {
                core::mem::take(&mut stuffer).finish(&mut data);
                let number = number_of(&data);
                let recipients = session.transaction().recipients();
                let taken =
                    recipients.map(|recipient| (place, Taken { number, recipient: recipient.to_owned() }));
                record.lock().unwrap_or_else(PoisonError::into_inner).extend(taken);
                // The story may be over; the session ends with it.
                let _ = told.send(());
                data.clear();
                session.handle_message(Ok(&place), clock.now());
            }
            ServerEvent::Abandoned => {
                data.clear();
                stuffer = DotStuffer::default();
            }
            ServerEvent::StartTls => {
                session.handle_start_tls(Err(TLS_UNAVAILABLE_454), clock.now());
            }
            ServerEvent::Client | ServerEvent::Idle => {}
        }
        input.drain(..step.consumed);
        if step.consumed > 0 || step.event != ServerEvent::Idle {
            continue;
        }
        let octets = session.output().len();
        stream.write_all(session.output())?;
        session.output_sent(octets);
        if session.is_closing() {
            return Ok(());
        }
        let mut memory = [0; 16 * 1024];
        match stream.read(&mut memory)? {
            0 => return Ok(()),
            count => input.extend_from_slice(&memory[..count]),
        }
    }
}

/// The number of a message that is, below the fields on top, octet by octet what was sent.
fn number_of(data: &[u8]) -> Option<u32> {
    const FIELD: &[u8] = b"X-Demo-Number: ";
    let start = memchr::memmem::find(data, FIELD)?;
    let text = &data[start + FIELD.len()..];
    let digits = text.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let number = core::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    (data[start..] == data_of(number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_every_octet_below_the_fields_on_top() {
        let whole = [b"Received: from x\r\n".as_slice(), &data_of(12)].concat();
        assert_eq!(number_of(&whole), Some(12));
        let mut altered = whole.clone();
        *altered.last_mut().expect("it has octets") ^= 1;
        assert_eq!(number_of(&altered), None);
        assert_eq!(number_of(&whole[..whole.len() - 1]), None);
    }
}
