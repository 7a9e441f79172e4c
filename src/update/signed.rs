//! Signatures in minisign's format, verified while the file is read.
//!
//! Of that format's two kinds only the prehashed one is taken, which is what minisign makes since 2019: the other one needs the whole file in memory.

use minisign_verify::{Error, PublicKey};
use std::fmt;
use std::io::{self, Read};

/// What a file is read by.
const BUFFER_OCTETS: usize = 64 << 10;

/// The public key that updates are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    key: PublicKey,
    text: String,
}

impl Key {
    /// Reads the text of a file, as minisign writes it.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let key = PublicKey::decode(text).map_err(|_| SignatureError::Key)?;
        Ok(Self { key, text: text.to_owned() })
    }

    /// The text that it was read from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A detached signature.
#[derive(Clone)]
pub struct Signature(minisign_verify::Signature);

impl Signature {
    /// Reads the text of a file, as minisign writes it.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        minisign_verify::Signature::decode(text).map(Self).map_err(|_| SignatureError::Unreadable)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Signature").field(&self.0.trusted_comment()).finish()
    }
}

/// Why a signature is not good.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The file cannot be read.
    #[error("the image cannot be read: {0}")]
    File(#[from] io::Error),
    /// It is of another key.
    #[error("the signature is of another key than this machine's")]
    Foreign,
    /// The key of this machine is no key.
    #[error("the public key is not in minisign's format")]
    Key,
    /// It is not prehashed.
    #[error("the signature is of the old kind: sign without minisign's -l")]
    Legacy,
    /// It is not of this content.
    #[error("the signature is not of this image, or one of them was changed")]
    Mismatch,
    /// It names no file.
    #[error("the signature does not say which file it is of (trusted comment, file:NAME)")]
    Nameless,
    /// It is no signature.
    #[error("the signature is not in minisign's format")]
    Unreadable,
}

/// Reads the file to its end. The name of what was signed, out of what the signature vouches for besides.
pub(super) fn verify(
    file: &mut impl Read,
    signature: &Signature,
    key: &Key,
) -> Result<String, SignatureError> {
    let mut verifier = key.key.verify_stream(&signature.0).map_err(|error| match error {
        Error::UnexpectedKeyId => SignatureError::Foreign,
        Error::UnsupportedLegacyMode => SignatureError::Legacy,
        _ => SignatureError::Unreadable,
    })?;
    let mut buffer = vec![0; BUFFER_OCTETS];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => verifier.update(&buffer[..count]),
        }
    }
    verifier.finalize().map_err(|_| SignatureError::Mismatch)?;
    let mut parts = signature.0.trusted_comment().split('\t');
    parts.find_map(|part| part.strip_prefix("file:")).map(str::to_owned).ok_or(SignatureError::Nameless)
}
