//! Paths: what is borrowed is what was typed, no longer than its bounds, and means the same when it is written again.

use stratamx::limits::{DOMAIN_OCTETS_MAX, LOCAL_PART_OCTETS_MAX, PATH_OCTETS_MAX};
use stratamx::smtp::path::{ForwardPath, Mailbox, PathError, ReversePath};

use super::engine::Signs;

pub const WORDS: &[&[u8]] = &[
    b"<>",
    b"<postmaster>",
    b"@example.test",
    b"[192.0.2.1]",
    b"[IPv6:2001:db8::7]",
    b"\"",
    b"\\\"",
    b"\\",
    b"@a,@b:",
    b"user+tag",
    "ü".as_bytes(),
    "\u{85}".as_bytes(),
    b"xn--",
    b".",
    b"..",
    b"_",
    b" SIZE=1",
    b"-",
    b"]",
    b"IPv6:::",
];

/// See the module.
pub fn run(input: &[u8]) -> Signs {
    let mut signs = Signs::default();
    let Ok(text) = str::from_utf8(input) else { return signs };
    let reverse = ReversePath::parse(text);
    let forward = ForwardPath::parse(text);
    match (reverse, forward) {
        (Ok((ReversePath::Mailbox(mailbox), rest)), Ok((ForwardPath::Mailbox(same), same_rest))) => {
            assert_eq!((mailbox, rest), (same, same_rest), "one grammar");
            check_path(text, mailbox.as_str(), rest);
            check_mailbox(mailbox);
            signs.note((
                mailbox.is_ascii(),
                mailbox.as_str().starts_with('"'),
                mailbox.domain().starts_with('['),
            ));
            signs.note(text.starts_with("<@"));
            signs.note_size("local part", mailbox.local_part().len());
            signs.note_size("domain", mailbox.domain().len());
        }
        (Ok((ReversePath::Null, rest)), forward) => {
            check_path(text, "", rest);
            assert_eq!(forward, Err(PathError::Syntax), "nobody's mailbox is no recipient");
            signs.note("null");
        }
        (Err(PathError::Syntax), Ok((ForwardPath::Postmaster, rest))) => {
            check_path(text, "postmaster", rest);
            signs.note("postmaster");
        }
        (Err(error), Err(same)) => {
            assert_eq!(error, same, "one grammar");
            signs.note(error.to_string());
        }
        (reverse, forward) => panic!("{text:?}: {reverse:?} is not {forward:?}"),
    }
    if let Ok(mailbox) = Mailbox::parse(text) {
        check_mailbox(mailbox);
        assert_eq!(mailbox.as_str(), text);
        assert!(text.len() + 2 > PATH_OCTETS_MAX || ReversePath::parse(&format!("<{text}>")).is_ok());
    }
    signs
}

/// The path and what follows it make up the text.
fn check_path(text: &str, path: &str, rest: &str) {
    let head = text.strip_suffix(rest).expect("the rest is the end of the text");
    assert!(head.starts_with('<') && head.ends_with('>') && head.len() <= PATH_OCTETS_MAX);
    let inside = &head[1..head.len() - 1];
    let is_routed = inside.starts_with('@')
        && inside.to_ascii_lowercase().ends_with(&format!(":{}", path.to_ascii_lowercase()));
    assert!(inside.eq_ignore_ascii_case(path) || is_routed, "{inside:?} is not {path:?}");
}

fn check_mailbox(mailbox: Mailbox<'_>) {
    let (text, local_part, domain) = (mailbox.as_str(), mailbox.local_part(), mailbox.domain());
    assert_eq!(text, format!("{local_part}@{domain}"));
    assert_eq!(mailbox.to_string(), text);
    assert!((1..=LOCAL_PART_OCTETS_MAX).contains(&local_part.len()));
    assert!((1..=DOMAIN_OCTETS_MAX).contains(&domain.len()));
    assert!(!text.contains(char::is_control), "what is shown in logs and fields: {text:?}");
    assert!(!domain.contains([' ', '<', '>', '@', '"', '\\', ',', ';']), "{domain:?}");
    if !local_part.starts_with('"') {
        assert!(
            !local_part.contains([' ', '<', '>', '@', '"', '\\', ',', ';', ':', '(', ')']),
            "{local_part:?}"
        );
    }
    assert_eq!(Mailbox::parse(text), Ok(mailbox), "it means the same again");
}
