//! Who primaries are, as a file of the data directory: so that a restart in an outage knows whom to expect (H41).
//!
//! ```text
//! STRATAMX FINGERPRINTS 1 xxxxxxxx LF    the CRC-32 of everything behind this line, in hexadecimal
//! a JSON object: a domain to its memory  see `bridge::Memory`
//! ```
//! The file is written whole beside the one before and renamed, once a minute if there is anything new, and at the end. One that is damaged, or of
//! another version, is as good as none: whoever serves next is learned, and nobody is a stranger until then. The log has it.

use super::file::keep;
use crate::bridge::{Memory, Usage};
use crate::config;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE: &str = "fingerprints";
const MAGIC: &str = "STRATAMX FINGERPRINTS 1 ";

/// Keeps them.
#[derive(Debug)]
pub struct Acquaintances {
    usage: Arc<Usage>,
    data_dir: PathBuf,
}

impl Acquaintances {
    /// Takes what was known before the process began.
    #[must_use]
    pub fn restored(usage: Arc<Usage>, data_dir: &Path) -> Self {
        let path = data_dir.join(FILE);
        let mut octets = Vec::new();
        let read = config::open_list(&path).and_then(|mut file| file.read_to_end(&mut octets));
        let file = path.display();
        match read {
            Ok(_) => match decode(&octets) {
                Some(all) => {
                    tracing::info!(%file, domains = all.len(), "who primaries are was read");
                    for (domain, memory) in all {
                        usage.domain(&domain).acquaintance.restore(memory);
                    }
                }
                None => tracing::warn!(%file, "who primaries are is damaged: it is learned anew"),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%file, %error, "who primaries are cannot be read: it is learned anew");
            }
        }
        Self { usage, data_dir: data_dir.to_owned() }
    }

    /// Writes them down, if there is anything new.
    pub fn keep(&self) {
        let Some(news) = self.usage.acquaintances() else { return };
        if let Err(error) = keep(&self.data_dir, FILE, &encode(&news)) {
            self.usage.acquaintances_not_kept();
            tracing::error!(%error, "who primaries are cannot be written; it is tried again");
        }
    }
}

fn encode(all: &[(Arc<str>, Memory)]) -> Vec<u8> {
    let all: BTreeMap<&str, &Memory> = all.iter().map(|(domain, memory)| (&**domain, memory)).collect();
    let content = serde_json::to_string_pretty(&all).expect("names and numbers are JSON");
    format!("{MAGIC}{:08x}\n{content}\n", crc32fast::hash(format!("{content}\n").as_bytes())).into_bytes()
}

fn decode(file: &[u8]) -> Option<BTreeMap<String, Memory>> {
    let (checksum, content) = file.strip_prefix(MAGIC.as_bytes())?.split_at_checked(9)?;
    let is_right = checksum == format!("{:08x}\n", crc32fast::hash(content)).as_bytes();
    is_right.then(|| serde_json::from_slice(content).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{Answer, Fingerprint, Instants, Meeting};
    use core::time::Duration;

    const ROUTE: &str = "mail.example.com:25";

    fn at(wall_s: u32) -> Instants {
        Instants { wall_s, now: Duration::from_secs(wall_s.into()) }
    }

    fn host(name: &str) -> Fingerprint {
        let keywords = ["PIPELINING", "SIZE"].map(str::to_owned).into();
        let (software, key) = (Some("postfix".to_owned()), Some("ab".repeat(32)));
        Fingerprint { greeting: name.to_owned(), hello: name.to_owned(), software, keywords, key }
    }

    fn usage() -> Arc<Usage> {
        let usage = Arc::<Usage>::default();
        let known = usage.domain("example.com");
        known.acquaintance.learn(ROUTE, &host("mail.example.com"), Some(Answer::Refuses), at(1_000_000));
        let rescue = Fingerprint { software: None, key: None, ..host("rescue.example.net") };
        known.acquaintance.meet(ROUTE, &rescue, Some(Answer::Accepts), false, at(1_000_100));
        let _ = usage.domain("nobody.test");
        usage
    }

    const GOLDEN: &str = r#"STRATAMX FINGERPRINTS 1 CHECKSUM
{
  "example.com": {
    "route": "mail.example.com:25",
    "answer": "refuses",
    "known": [
      {
        "fingerprint": {
          "greeting": "mail.example.com",
          "hello": "mail.example.com",
          "software": "postfix",
          "keywords": [
            "PIPELINING",
            "SIZE"
          ],
          "key": "abababababababababababababababababababababababababababababababab"
        },
        "last_s": 1000000
      }
    ],
    "strangers": [
      {
        "fingerprint": {
          "greeting": "rescue.example.net",
          "hello": "rescue.example.net",
          "software": null,
          "keywords": [
            "PIPELINING",
            "SIZE"
          ],
          "key": null
        },
        "answer": "accepts",
        "since_s": 1000100,
        "last_s": 1000100,
        "up_s": 1000100,
        "what": "a recipient that cannot exist refused -> accepted, name mail.example.com -> rescue.example.net, software postfix -> none"
      }
    ],
    "copies_until_s": 1086500
  }
}
"#;

    /// A file of today is read by what comes after it.
    #[test]
    fn the_file_is_as_it_was() {
        let file = encode(&usage().acquaintances().expect("news"));
        let text = String::from_utf8(file.clone()).expect("text");
        let checksum = text.lines().next().and_then(|line| line.rsplit(' ').next()).expect("it is there");
        assert_eq!(text.replace(checksum, "CHECKSUM"), GOLDEN);
        assert_eq!(checksum, "a245f69c");
        let all = decode(&file).expect("it reads back");
        assert_eq!(all["example.com"].strangers.len(), 1);
    }

    #[test]
    fn who_was_known_outlives_the_process_and_damage_says_nothing() {
        let directory = std::env::temp_dir().join(format!("stratamx-fingerprints-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let before = Acquaintances::restored(usage(), &directory);
        before.keep();
        assert!(before.usage.acquaintances().is_none(), "nothing is new");
        let meet = |usage: &Usage, name: &str| {
            usage.domain("example.com").acquaintance.meet(ROUTE, &host(name), None, false, at(1_000_200))
        };
        let again = Acquaintances::restored(Arc::default(), &directory);
        assert!(again.usage.domain("example.com").acquaintance.keeps_copies(1_000_200));
        assert!(
            matches!(meet(&again.usage, "mail.example.com"), Meeting::Back(_)),
            "it is known, and was not there"
        );
        let file = encode(&usage().acquaintances().expect("news"));
        for place in 0..file.len() {
            let mut damaged = file.clone();
            damaged[place] ^= 4;
            assert_eq!(decode(&damaged), None, "octet {place}");
            assert_eq!(decode(&file[..place]), None, "cut at {place}");
        }
        keep(&directory, FILE, &file[..99]).expect("it can be written");
        let damaged = Acquaintances::restored(Arc::default(), &directory);
        assert_eq!(meet(&damaged.usage, "mail.example.com"), Meeting::Known, "nobody is a stranger");
        std::fs::remove_dir_all(&directory).expect("it is ours");
    }
}
