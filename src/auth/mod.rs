//! SPF, DKIM, DMARC and ARC: what a message's origin can prove. Between message and control; its cryptography is mail-auth's.
//!
//! - [`body`] hashes a body while its data streams, on the shard, and keeps the header section within a bound.
//! - [`spf`] evaluates RFC 7208, [`verdict`] signatures (RFC 6376) and the policy of the author domain (RFC 7489), on the
//!   lookup thread. Keys and records come through DNS there, never to a shard.
//! - [`arc`] seals what is handed over (RFC 8617), there too, where its domain has a key for it.
//! - [`contained`] keeps a panic in any of this from ending the process.
//!
//! Promises: nothing here refuses mail, or has mail wait. A failure of any kind is a result (`temperror`) or no verdict at
//! all, and what has no verdict is not proven (P5). What it costs is bounded: header section, signatures, lookups, time.
//!
//! A key that says it is being tried (`t=y`, RFC 6376 3.6.1) proves as others do: whoever signed has it, and nothing is refused.
//!
//! SPF is evaluated here and only parsed by mail-auth: its evaluation knows no bound on void lookups, and takes the match of an
//! inner `include` for that of the whole record, which would prove what `?include` leaves open.

pub mod arc;
pub mod body;
pub mod contained;
pub mod dns;

pub mod spf;
pub mod verdict;
