//! A TPM 2.0 as a keeper of one secret: sealed under the storage root key, opened only while PCR 7 is what it was.
//!
//! The root key is made anew each time from the TPM's own seed by the standard template (TCG, *TPM v2.0 Provisioning Guidance*, 7.5.1, ECC P-256), so nothing stays in the
//! TPM: it has no state of ours that could run out. PCR 7 is the state of Secure Boot and who may sign; images and their updates do not change it.
//!
//! Kept from: who has the disk without the machine; a TPM that was cleared or is another; with Secure Boot, another system started on the machine. Not kept from: who starts
//! another system on a machine without Secure Boot, and who listens on the wires between processor and a TPM that is a chip of its own.
//!
//! Every command is one write and one read of `/dev/tpmrm0`, where the kernel keeps ours apart from others'. A session and an object that were begun are flushed, whatever
//! comes of them.

mod message;

use super::sealed::{Key, Object};
use message::{Handle, Session};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

/// Where the kernel offers it.
const DEVICE: &str = "/dev/tpmrm0";
/// Longest response that is read: no TPM has longer ones (TPM2_PT_MAX_RESPONSE_SIZE is 4096).
const RESPONSE_OCTETS_MAX: usize = 4096;

/// What keeps a secret.
pub(super) trait Chip {
    /// Seals it.
    ///
    /// # Errors
    /// A sentence.
    fn seal(&mut self, secret: &Key) -> Result<Object, String>;
    /// Opens what it sealed.
    ///
    /// # Errors
    /// A sentence: another TPM, another state of the machine.
    fn unseal(&mut self, object: &Object) -> Result<Key, String>;
}

/// A TPM behind anything that takes a command and then gives its response.
#[derive(Debug)]
pub(super) struct Tpm<W>(W);

impl Tpm<File> {
    /// The machine's; none: it has none.
    pub(super) fn find() -> Option<Self> {
        OpenOptions::new().read(true).write(true).open(DEVICE).ok().map(Tpm)
    }
}

impl<W: Read + Write> Chip for Tpm<W> {
    fn seal(&mut self, secret: &Key) -> Result<Object, String> {
        let policy = self.in_session(Session::Trial, |own, session| {
            own.ask(&message::policy_pcr(session))?;
            message::policy(&own.ask(&message::policy_get_digest(session))?).map_err(text)
        })?;
        self.under_root(|own, root| {
            let created = own.ask(&message::create(root, &policy, secret.octets()))?;
            let (private, public) = message::created(&created).map_err(text)?;
            Ok(Object { public, private })
        })
    }

    fn unseal(&mut self, object: &Object) -> Result<Key, String> {
        self.under_root(|own, root| {
            let loaded = own.ask(&message::load(root, &object.private, &object.public))?;
            let object = message::handle(&loaded).map_err(text)?;
            own.flushing(object, |own| {
                own.in_session(Session::Policy, |own, session| {
                    own.ask(&message::policy_pcr(session))?;
                    let opened = own.ask(&message::unseal(object, session))?;
                    message::unsealed(&opened).map(Key::new).map_err(text)
                })
            })
        })
    }
}

impl<W: Read + Write> Tpm<W> {
    fn under_root<T>(
        &mut self,
        work: impl FnOnce(&mut Self, Handle) -> Result<T, String>,
    ) -> Result<T, String> {
        let root = message::handle(&self.ask(&message::create_primary())?).map_err(text)?;
        self.flushing(root, |own| work(own, root))
    }

    fn in_session<T>(
        &mut self,
        session: Session,
        work: impl FnOnce(&mut Self, Handle) -> Result<T, String>,
    ) -> Result<T, String> {
        let started = self.ask(&message::start_session(session))?;
        let session = message::handle(&started).map_err(text)?;
        self.flushing(session, |own| work(own, session))
    }

    fn flushing<T>(
        &mut self,
        handle: Handle,
        work: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let done = work(self);
        // What the TPM has forgotten by itself is flushed.
        let _ = self.ask(&message::flush(handle));
        done
    }

    /// The response to a command, behind its head.
    fn ask(&mut self, command: &[u8]) -> Result<Vec<u8>, String> {
        let told = |error: io::Error| format!("the TPM does not answer: {error}");
        self.0.write_all(command).map_err(told)?;
        let (mut response, mut filled) = (vec![0; RESPONSE_OCTETS_MAX], 0);
        // The kernel gives it whole; a socket as it comes.
        while message::length(&response[..filled]).is_none_or(|length| filled < length) {
            match self.0.read(&mut response[filled..]).map_err(told)? {
                0 => break,
                count => filled += count,
            }
        }
        response.truncate(filled);
        message::answered(&response).map(<[u8]>::to_vec).map_err(text)
    }
}

fn text(error: message::Refused) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
