//! Service extensions (RFC 5321 2.2): what our EHLO offers, and what a server's EHLO offers to our client.
//!
//! The server offers PIPELINING, SIZE with its own maximum (the domain is not known yet), 8BITMIME,
//! ENHANCEDSTATUSCODES, STARTTLS where there is a certificate, and HELP: exactly what is done, since an offer that is not kept loses mail. The client
//! notes keywords that change how a transaction is sent; unknown ones are ignored.

use crate::smtp::output::append;

/// What a server said it can do, by its reply to EHLO; all absent after HELO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870): `Some(None)` when offered without a maximum, or with the 0 that means none.
    pub size: Option<Option<u64>>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// XCLIENT.
    pub xclient: bool,
    /// XFORWARD.
    pub xforward: bool,
}

impl Capabilities {
    /// Notes one line of an EHLO reply, without its code.
    pub(crate) fn note(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => {
                self.size = Some(words.next().and_then(|word| word.parse().ok()).filter(|max| *max > 0))
            }
            "8BITMIME" => self.eight_bit_mime = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "STARTTLS" => self.starttls = true,
            "CHUNKING" => self.chunking = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "XCLIENT" => self.xclient = true,
            "XFORWARD" => self.xforward = true,
            _ => {}
        }
    }
}

/// Appends our reply to EHLO (RFC 5321 4.1.1.1; RFC 2034 3 keeps enhanced codes out of it).
pub(crate) fn write_offer(output: &mut Vec<u8>, hostname: &str, message_octets_max: u64, starttls: bool) {
    let starttls = if starttls { "250-STARTTLS\r\n" } else { "" };
    append(
        output,
        format_args!(
            "250-{hostname}\r\n250-PIPELINING\r\n250-SIZE {message_octets_max}\r\n250-8BITMIME\r\n\
             250-ENHANCEDSTATUSCODES\r\n{starttls}250 HELP\r\n"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_offers_the_client_understands() {
        let mut output = Vec::new();
        write_offer(&mut output, "mx2.example.net", 1000, true);
        let mut capabilities = Capabilities::default();
        for line in String::from_utf8(output).unwrap().split_terminator("\r\n").skip(1) {
            capabilities.note(&line[4..]);
        }
        let expected = Capabilities {
            pipelining: true,
            size: Some(Some(1000)),
            eight_bit_mime: true,
            enhanced_status_codes: true,
            starttls: true,
            ..Capabilities::default()
        };
        assert_eq!(capabilities, expected);
    }

    #[test]
    fn a_size_without_a_maximum_is_an_offer() {
        for line in ["SIZE", "size 0", "SIZE many"] {
            let mut capabilities = Capabilities::default();
            capabilities.note(line);
            assert_eq!(capabilities.size, Some(None), "{line}");
        }
    }

    #[test]
    fn keywords_are_whole_words_in_any_case() {
        let mut capabilities = Capabilities::default();
        capabilities.note("StartTLS");
        capabilities.note("XCLIENT NAME ADDR");
        capabilities.note("PIPELININGX");
        capabilities.note("");
        assert!(capabilities.starttls && capabilities.xclient && !capabilities.pipelining);
    }
}
