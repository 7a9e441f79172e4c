//! What is known of the TLS that a message came through, as IANA's numbers, and their names for people.

use core::fmt;

/// Protocol version and cipher suite of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// IANA's number of the protocol version: 0x0303 for TLS 1.2, 0x0304 for TLS 1.3.
    pub version: u16,
    /// IANA's number of the cipher suite.
    pub cipher_suite: u16,
}

/// `TLSv1.3 TLS_AES_256_GCM_SHA384`: one token each, fit for a comment of a trace field. A number without a name here
/// is shown as itself.
impl fmt::Display for TlsFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            0x0303 => f.write_str("TLSv1.2 ")?,
            0x0304 => f.write_str("TLSv1.3 ")?,
            version => write!(f, "0x{version:04X} ")?,
        }
        match CIPHER_SUITES.iter().find(|(number, _)| *number == self.cipher_suite) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "0x{:04X}", self.cipher_suite),
        }
    }
}

/// All that rustls has with ring (IANA's TLS Cipher Suites).
const CIPHER_SUITES: [(u16, &str); 9] = [
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1302, "TLS_AES_256_GCM_SHA384"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    (0xC02B, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (0xC02C, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (0xC02F, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xC030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xCCA8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xCCA9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names_or_are_shown() {
        let shown = |version, cipher_suite| TlsFacts { version, cipher_suite }.to_string();
        assert_eq!(shown(0x0304, 0x1302), "TLSv1.3 TLS_AES_256_GCM_SHA384");
        assert_eq!(shown(0x0303, 0xC02F), "TLSv1.2 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
        assert_eq!(shown(0x0305, 0x1399), "0x0305 0x1399");
    }

    /// A suite that a new version of rustls brings must have its name here.
    #[test]
    fn every_suite_of_the_provider_has_a_name() {
        for suite in rustls::crypto::ring::ALL_CIPHER_SUITES {
            let number = u16::from(suite.suite());
            assert!(CIPHER_SUITES.iter().any(|(known, _)| *known == number), "{:?}", suite.suite());
        }
    }
}
