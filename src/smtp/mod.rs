//! The SMTP machines (RFC 5321), sans-IO: bytes and `now` in; events, replies and deadlines out.
//!
//! ```text
//!   link --bytes--> handle_input --event--> host decides --handle_sender, _recipient, _message--> machine
//!   link <--bytes-- output / output_sent          clock: poll_timeout --> handle_timeout
//! ```
//!
//! The host owns socket, buffer and clock; [`server::ServerSession`] and [`client::ClientSession`] own the
//! protocol. Both machines are driven alike:
//! 1. Call `handle_input` with everything that was received and not yet consumed. Drop the `consumed` octets,
//!    act on the event, and repeat until a call consumes nothing and reports nothing.
//! 2. Write `output()` to the link and report it with `output_sent`; only then read again.
//! 3. Read only while the machine wants input; wake it by `handle_timeout` when `poll_timeout` has passed.
//!
//! Invariants: octets are consumed in order and once; a reply leaves in the order of its command; whatever
//! the split of the input, the replies and the mail data are the same. The one exception is deliberate and is
//! about time, not bytes: who talks behind `DATA` before its 354 is refused when the machine can see it.
//!
//! Nothing here knows a socket, a file or a clock, and no input makes it panic. `RFC.md` beside this file
//! lists each clause, what is done about it and the test that shows it.

pub mod chunk;
pub mod client;
pub mod command;
pub mod data;
pub mod dsn;
pub mod extension;
mod glance;
pub mod line;
mod output;
pub mod path;
pub mod reply;
pub mod server;
pub mod xclient;

/// Monotonic time since an arbitrary start. Only differences mean anything.
pub type Moment = core::time::Duration;
