//! Sessions that fail over a message.

/// Sessions that may fail over one message before it steps aside.
pub const POISON_TRIES: u32 = 3;
/// Sessions of one try that only ask whether a message or the primary ends sessions before data: so many messages that end them may stand one
/// behind the other, and a primary that is down has no more of them a try.
pub const SESSIONS_ASKING_MAX: u32 = 16;
