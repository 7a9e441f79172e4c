//! The control plane: OS threads of their own, each a tokio current-thread runtime, where the ecosystem's crates
//! live. *Lookup* answers the shards' questions about names and about how hosts are to be secured, and looks into where mail comes from. *Files* looks at
//! certificates and lists of recipients, and keeps what primaries said about them, and who primaries are. *Admin* answers the operator; *store* is
//! its database. None of them touches mail bytes but header sections, and what an operator exports; a slow or failed one delays no core.

pub mod acme;
pub mod acquaintances;
pub mod admin;
pub mod alert;
mod answers;
mod authentication;
pub mod certificate;
pub mod certificate_end;
mod connector;
mod dnssec;
mod doctor;
mod file;
pub mod files;
mod known_file;
pub mod lookup;
pub mod machine;
pub mod mta_sts;
pub mod orders;
pub mod process;
pub mod provisioning;
pub mod recipients;
mod resolvers;
mod security;
pub mod store;
pub mod trust;
