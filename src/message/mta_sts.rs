//! MTA-STS (RFC 8461): the record that says that a domain has a policy, the policy, and which hosts it names.
//!
//! Text in, values out; who fetches and keeps it is the control plane. What is not understood is no policy, never half of one:
//! a sender that guesses would either refuse good hosts or take bad ones. A policy of up to [`limits::MTA_STS_POLICY_OCTETS_MAX`]
//! octets is looked at, which bounds the number of its patterns.

use crate::limits;

/// What a domain asks of who sends to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What is to become of a host that does not keep to it.
    pub mode: Mode,
    /// For how long it may be used, from when it was fetched, in seconds.
    pub max_age_s: u32,
    /// Names of its mail exchangers, in lower case; `*.` stands for exactly one label.
    pub mx: Vec<String>,
}

/// RFC 8461 5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// A host that does not keep to the policy gets no mail.
    Enforce,
    /// There is no policy; the domain takes back what it said before.
    None,
    /// It gets the mail, and somebody is told.
    Testing,
}

/// Why a text is no policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPolicy {
    /// Longer than what is looked at.
    #[error("it is too long")]
    TooLong,
    /// A line without a colon, or a name or value that cannot be one.
    #[error("line {0} is not \"name: value\"")]
    NotAField(usize),
    /// `version` is not `STSv1`, or is missing.
    #[error("its version is not STSv1")]
    Version,
    /// `mode` is none of three, or is missing.
    #[error("its mode is not enforce, testing or none")]
    Mode,
    /// `max_age` is no number up to a year, or is missing.
    #[error("its max_age is not a number of seconds up to 31557600")]
    MaxAge,
    /// `mx` is no host name or pattern, or is missing where the mode needs one.
    #[error("it has no mx, or one that is no host name")]
    Mx,
}

/// The `id` of the one record among the TXT records of `_mta-sts.<domain>` (RFC 8461 3.1); `None`: the domain has no policy,
/// also where it has two such records, or one that is not understood.
#[must_use]
pub fn record_id<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut found = texts.into_iter().filter(|text| is_versioned(text));
    let record = found.next()?;
    if found.next().is_some() {
        return None;
    }
    let fields = record.split(';').filter_map(|field| field.split_once('='));
    let id = fields.map(|(name, value)| (name.trim_matches(WHITE), value.trim_matches(WHITE)));
    let (_, id) = id.into_iter().find(|(name, _)| *name == "id")?;
    let is_id = (1..=32).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric());
    is_id.then_some(id)
}

fn is_versioned(text: &str) -> bool {
    text.strip_prefix("v=STSv1").is_some_and(|rest| rest.trim_start_matches(WHITE).starts_with(';'))
}

impl Policy {
    /// Reads the body of `https://mta-sts.<domain>/.well-known/mta-sts.txt` (RFC 8461 3.2).
    ///
    /// # Errors
    /// See [`BadPolicy`].
    pub fn parse(text: &str) -> Result<Self, BadPolicy> {
        if text.len() > limits::MTA_STS_POLICY_OCTETS_MAX {
            return Err(BadPolicy::TooLong);
        }
        let (mut version, mut mode, mut max_age_s, mut mx) = (None, None, None, Vec::new());
        for (number, line) in (1..).zip(text.split('\n')) {
            let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches(WHITE);
            if line.is_empty() {
                continue;
            }
            let (name, value) = line.split_once(':').ok_or(BadPolicy::NotAField(number))?;
            let value = value.trim_start_matches(WHITE);
            if !is_field_name(name) || value.chars().any(char::is_control) {
                return Err(BadPolicy::NotAField(number));
            }
            match name {
                // RFC 8461 3.2: of a name that comes twice the first one counts, but for mx.
                "version" => _ = version.get_or_insert(value),
                "mode" => _ = mode.get_or_insert(value),
                "max_age" => _ = max_age_s.get_or_insert(value),
                "mx" => mx.push(pattern(value).ok_or(BadPolicy::Mx)?),
                _ => {}
            }
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("none") => Mode::None,
            Some("testing") => Mode::Testing,
            _ => return Err(BadPolicy::Mode),
        };
        if version != Some("STSv1") {
            return Err(BadPolicy::Version);
        }
        if mx.is_empty() && mode != Mode::None {
            return Err(BadPolicy::Mx);
        }
        Ok(Self { mode, max_age_s: max_age_s.and_then(seconds).ok_or(BadPolicy::MaxAge)?, mx })
    }

    /// Whether a host is one of the domain's (RFC 8461 4.1); `host` is in lower case, without a dot at the end.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(parent) => {
                host.split_once('.').is_some_and(|(label, rest)| is_label(label) && rest == parent)
            }
            None => pattern == host,
        })
    }
}

/// Of a host's name (RFC 1123 2.1; underscores are met): what certificates can be for, too.
fn is_label(text: &str) -> bool {
    let is_letter = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    (1..=63).contains(&text.len())
        && text.bytes().all(is_letter)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// WSP of RFC 5234.
const WHITE: [char; 2] = [' ', '\t'];

fn is_field_name(name: &str) -> bool {
    let mut octets = name.bytes();
    let begins = octets.next().is_some_and(|octet| octet.is_ascii_alphanumeric());
    begins
        && name.len() <= 32
        && octets.all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-' | b'.'))
}

fn seconds(text: &str) -> Option<u32> {
    let is_number = (1..=10).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|seconds| is_number && *seconds <= limits::MTA_STS_MAX_AGE_S)
}

/// A host name, or one behind `*.`, in lower case.
fn pattern(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    (name.len() <= limits::DOMAIN_OCTETS_MAX && name.split('.').all(is_label))
        .then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_record_of_this_version_has_an_id() {
        for (texts, expected) in [
            (&["v=STSv1; id=20160831085700Z;"][..], Some("20160831085700Z")),
            (&["v=STSv1;id=a"], Some("a")),
            (&["v=STSv1 ;\tid = b ; other=1;"], Some("b")),
            (&["v=spf1 -all", "v=STSv1; id=c"], Some("c")),
            (&["v=STSv1; id=a", "v=STSv1; id=a"], None),
            (&["v=STSv10; id=a"], None),
            (&[" v=STSv1; id=a"], None),
            (&["v=STSv1; id="], None),
            (&["v=STSv1; id=a-b"], None),
            (&["v=STSv1; id=123456789012345678901234567890123"], None),
            (&["v=STSv1"], None),
            (&[], None),
        ] {
            assert_eq!(record_id(texts.iter().copied()), expected, "{texts:?}");
        }
    }

    #[test]
    fn a_policy_is_read_whole_or_not_at_all() {
        let example = "version: STSv1\r\nmode: enforce\r\nmx: mail.Example.com\r\nmx: *.example.net\r\n\
                       mx: backupmx.example.com\r\nmax_age: 604800\r\n";
        let policy = Policy::parse(example).expect("RFC 8461's own");
        assert_eq!((policy.mode, policy.max_age_s), (Mode::Enforce, 604_800));
        assert_eq!(policy.mx, ["mail.example.com", "*.example.net", "backupmx.example.com"]);
        assert_eq!(Policy::parse(&example.replace("\r\n", "\n")), Ok(policy.clone()));
        assert_eq!(Policy::parse(&format!("{example}mode: none\nx-more:  1 2 3 \n\n")), Ok(policy));
        let none = Policy::parse("version:STSv1\nmode:none\nmax_age:0").expect("needs no mx");
        assert_eq!((none.mode, none.max_age_s, none.mx.len()), (Mode::None, 0, 0));
        for (from, to, expected) in [
            ("STSv1", "STSv2", BadPolicy::Version),
            ("version: STSv1\r\n", "", BadPolicy::Version),
            ("enforce", "Enforce", BadPolicy::Mode),
            ("mode: enforce\r\n", "", BadPolicy::Mode),
            ("604800", "31557601", BadPolicy::MaxAge),
            ("604800", "+1", BadPolicy::MaxAge),
            ("604800", "1d", BadPolicy::MaxAge),
            ("max_age: 604800", "", BadPolicy::MaxAge),
            ("*.example.net", "*.*.net", BadPolicy::Mx),
            ("*.example.net", "a b", BadPolicy::Mx),
            ("*.example.net", "", BadPolicy::Mx),
            ("mode: enforce", "mode enforce", BadPolicy::NotAField(2)),
            ("mode: enforce", "mode : enforce", BadPolicy::NotAField(2)),
            ("mode: enforce", "<html>: x", BadPolicy::NotAField(2)),
        ] {
            assert_eq!(Policy::parse(&example.replace(from, to)), Err(expected), "{from} {to}");
        }
        let bare = "version: STSv1\nmode: enforce\nmax_age: 1\n";
        assert_eq!(Policy::parse(bare), Err(BadPolicy::Mx));
        let long = format!("{example}{}", "x: y\n".repeat(limits::MTA_STS_POLICY_OCTETS_MAX / 5));
        assert_eq!(Policy::parse(&long), Err(BadPolicy::TooLong));
    }

    #[test]
    fn a_star_is_one_label() {
        let mx = ["mail.example.com", "*.example.net"].map(str::to_owned).to_vec();
        let policy = Policy { mode: Mode::Enforce, max_age_s: 1, mx };
        for (host, expected) in [
            ("mail.example.com", true),
            ("other.example.com", false),
            ("a.example.net", true),
            ("example.net", false),
            (".example.net", false),
            ("a-.example.net", false),
            ("a b.example.net", false),
            ("a.b.example.net", false),
            ("a.example.net.evil.test", false),
            ("mail.example.com.evil.test", false),
            ("", false),
        ] {
            assert_eq!(policy.names(host), expected, "{host}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_server_sends_is_a_policy_or_an_error(
            lines in prop::collection::vec("(version|mode|mx|max_age|[a-z]{0,3}) ?:? ?(STSv1|enforce|\\PC{0,9}|[0-9]{0,12})\r?", 0..8),
            host in "\\PC{0,20}",
        ) {
            let text = lines.join("\n");
            let _ = record_id([text.as_str(), host.as_str()]);
            if let Ok(policy) = Policy::parse(&text) {
                prop_assert!(policy.max_age_s <= limits::MTA_STS_MAX_AGE_S);
                let _ = policy.names(&host);
            }
        }
    }
}
