//! A factory reset, with the mail kept or wiped.
//!
//! It is ordered while the machine runs and done at the next start, after the data partition is mounted and before anything of it is read. The order is
//! one file, durable before anybody is told; it goes last, durable again. So a power cut leaves the old machine or one whose next start goes on with the
//! reset, and doing it twice is doing it once.
//!
//! | | kept | wiped |
//! |---|---|---|
//! | mail kept | the log, what was learned of mail servers and recipients, the keys of mail at rest and what opens them | configuration, domains and tokens of the API, certificates, state |
//! | mail wiped | nothing | everything, the keys of mail at rest first |
//!
//! Mail whose domain is not configured any more is held until it is again. Files are unlinked, not overwritten, but for the sealed keys of mail at rest
//! ([`super::at_rest`]): once these are gone what they encrypted is erased, wherever a copy of it lies, as far as the disk does what it is told. Whoever gives a disk away whose mail
//! was not encrypted, or whose flash may keep blocks that were overwritten, erases it by its own means. What the hypervisor gives comes back at the next start.

use super::at_rest;
use super::intake;
use super::menu::Reset;
use super::restore;
use super::revision::{self, CURRENT, SERVER_FILE};
use super::tool::{sync_directory, write_durably};
use crate::update::configuration::Source;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// The order, in the root of the data partition.
const ORDER: &str = "factory-reset";
const KEEP_MAIL: &str = "keep mail\n";
const WIPE_MAIL: &str = "wipe mail\n";
const MAIL: &str = "mail";
const STATE: &str = "state";
const CONFIGURATION: &str = "config";
/// What becomes the configuration of a machine whose mail is kept.
const KEPT: &str = "config.kept";
/// Of the mail's directory: what belongs to a configuration, not to mail.
const NOT_MAIL: [&str; 10] = [
    "acme-account.json",
    "acme-orders.json",
    "acme.pem",
    "admin-token",
    "control.sqlite",
    "control.sqlite-reserve",
    "control.sqlite-shm",
    "control.sqlite-wal",
    "orders.json",
    "self-signed.pem",
];

/// Orders it: from the return on the next start will do it.
///
/// # Errors
/// A sentence; nothing is ordered then.
pub(super) fn order(data: &Path, what: Reset) -> Result<(), String> {
    let text = match what {
        Reset::KeepMail => {
            keys(data)?;
            KEEP_MAIL
        }
        Reset::WipeMail => WIPE_MAIL,
    };
    write_durably(data, ORDER, text.as_bytes(), 0o600).map_err(|error| format!("{ORDER}: {error}"))
}

/// Does what was ordered, if anything. What it was. `owner` may read the configuration, and `host_name` is one for a machine without any.
///
/// # Errors
/// A sentence: neither the old machine nor the new one is whole, so nothing may be served.
pub(super) fn act(data: &Path, owner: u32, host_name: &str) -> Result<Option<Reset>, String> {
    let what = match fs::read_to_string(data.join(ORDER)) {
        Ok(text) if text == KEEP_MAIL => Reset::KeepMail,
        Ok(text) if text == WIPE_MAIL => Reset::WipeMail,
        // It is written whole or not at all: somebody else's.
        Ok(_) => return Err(format!("{ORDER} on the data partition orders nothing that is known")),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{ORDER}: {error}")),
    };
    let failed = |error: io::Error| format!("the factory reset: {error}");
    // A backup that was to be taken back holds keys.
    restore::Place::new(data, owner).drop_all(what == Reset::WipeMail)?;
    match what {
        Reset::KeepMail => keep_mail(data, owner, host_name)?,
        Reset::WipeMail => {
            at_rest::erase(&data.join(STATE)).and_then(|()| remove_but(data, &[ORDER])).map_err(failed)?;
        }
    }
    fs::remove_file(data.join(ORDER)).and_then(|()| sync_directory(data)).map_err(failed)?;
    Ok(Some(what))
}

fn keep_mail(data: &Path, owner: u32, host_name: &str) -> Result<(), String> {
    let kept = data.join(KEPT);
    let failed = |error: io::Error| format!("the factory reset: {error}");
    // Whole once its `current` is there; until then the configuration is.
    if fs::symlink_metadata(kept.join(CURRENT)).is_err() {
        let _ = fs::remove_dir_all(&kept);
        if let Some((name, octets)) = keys(data)? {
            let text = intake::nothing_given(host_name, Some(&name));
            let files = [(SERVER_FILE.to_owned(), text.into_bytes()), (name, octets)];
            fs::create_dir(&kept).map_err(failed)?;
            let origin = revision::origin([Source::Appliance]);
            revision::write(&kept, &files.into(), (owner, &origin)).map_err(failed)?;
            sync_directory(data).map_err(failed)?;
        }
    }
    let state = data.join(STATE);
    if state.join(at_rest::FILE).exists() {
        remove_but(&state, &[at_rest::FILE]).map_err(failed)?;
    } else {
        remove(&state).map_err(failed)?;
    }
    remove_but(data, &[ORDER, KEPT, MAIL, STATE]).map_err(failed)?;
    for name in NOT_MAIL {
        remove(&data.join(MAIL).join(name)).map_err(failed)?;
    }
    if kept.exists() {
        fs::rename(&kept, data.join(CONFIGURATION)).map_err(failed)?;
    }
    sync_directory(&data.join(MAIL)).and_then(|()| sync_directory(data)).map_err(failed)
}

/// The file with the keys of mail at rest, if the configuration in force names one: without it mail that is kept is lost.
fn keys(data: &Path) -> Result<Option<(String, Vec<u8>)>, String> {
    let current = data.join(CONFIGURATION).join(CURRENT);
    let text = match fs::read_to_string(current.join(SERVER_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{SERVER_FILE}: {error}")),
    };
    // Not by its whole meaning: it may be of another version.
    let table: toml::Table = text.parse().map_err(|error| format!("{SERVER_FILE}: {error}"))?;
    let named = table.get("storage").and_then(|storage| storage.get("key_file"));
    let Some(named) = named.and_then(toml::Value::as_str) else { return Ok(None) };
    let path = Path::new(named);
    let elsewhere = || {
        format!(
            "storage.key_file: {named} is not a file of the configuration, and would be lost with its mail"
        )
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    let is_here = directory == Path::new("") || directory == Path::new(".") || directory == current;
    let name = path.file_name().and_then(|name| name.to_str()).filter(|_| is_here).ok_or_else(elsewhere)?;
    let octets =
        fs::read(current.join(name)).map_err(|error| format!("storage.key_file: {named}: {error}"))?;
    Ok(Some((name.to_owned(), octets)))
}

/// Removes what a directory holds, but for these.
fn remove_but(directory: &Path, kept: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !kept.iter().any(|name| entry.file_name() == *name) {
            remove(&entry.path())?;
        }
    }
    sync_directory(directory)
}

/// Removes a file, a link, or a directory with all that is in it. Nothing there is as it should be.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;

    fn machine(name: &str, configuration: &str) -> (PathBuf, u32) {
        let data = std::env::temp_dir().join(format!("stratamx-reset-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&data);
        for directory in ["config/1", "state", "mail/shard-00"] {
            fs::create_dir_all(data.join(directory)).unwrap();
        }
        std::os::unix::fs::symlink("1", data.join("config/current")).unwrap();
        for (name, text) in [
            ("config/1/stratamx.toml", configuration),
            ("config/1/keys", "secret"),
            ("state/token-told", ""),
            ("mail/store", "store"),
            ("mail/fingerprints", "known"),
            ("mail/shard-00/segment", "mail"),
        ] {
            fs::write(data.join(name), text).unwrap();
        }
        NOT_MAIL.iter().for_each(|name| fs::write(data.join("mail").join(name), "x").unwrap());
        let owner = fs::metadata(&data).unwrap().uid();
        (data, owner)
    }

    /// Everything below a directory but for what links lead to, with its content.
    fn tree(directory: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                found.extend(
                    tree(&path).into_iter().map(|below| format!("{}/{below}", entry.file_name().display())),
                );
            } else {
                let text = if kind.is_file() { fs::read_to_string(&path).unwrap() } else { "->".to_owned() };
                // When it was made is another second each time.
                let text = text.split_once("\"at_s\":").map_or(text.as_str(), |(before, _)| before);
                found.push(format!("{}={text}", entry.file_name().display()));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn nothing_happens_without_an_order() {
        let (data, owner) = machine("none", "");
        let before = tree(&data);
        assert_eq!(act(&data, owner, "h.invalid"), Ok(None));
        assert_eq!(tree(&data), before);
        fs::write(data.join(ORDER), "keep").unwrap();
        assert!(act(&data, owner, "h.invalid").unwrap_err().contains("orders nothing"));
        fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn kept_mail_is_all_that_stays() {
        let (data, owner) = machine("keep", "hostname = \"mx2.test\"\n");
        order(&data, Reset::KeepMail).unwrap();
        assert_eq!(act(&data, owner, "h.invalid"), Ok(Some(Reset::KeepMail)));
        assert_eq!(
            tree(&data),
            ["mail/fingerprints=known", "mail/shard-00/segment=mail", "mail/store=store"]
        );
        assert_eq!(act(&data, owner, "h.invalid"), Ok(None));
        fs::remove_dir_all(&data).unwrap();
    }

    /// The order of it: while the sealed keys are there all mail can be read, without them none.
    #[test]
    fn sealed_keys_stay_with_kept_mail_and_go_before_wiped_mail() {
        for what in [Reset::KeepMail, Reset::WipeMail] {
            let (data, owner) = machine("sealed", "hostname = \"mx2.test\"\n");
            let sealed = data.join("state").join(at_rest::FILE);
            fs::write(&sealed, "sealed").unwrap();
            let handle = fs::File::open(&sealed).unwrap();
            order(&data, what).unwrap();
            act(&data, owner, "h.invalid").unwrap();
            let left = tree(&data);
            assert_eq!(
                left.contains(&"state/at-rest=sealed".to_owned()),
                what == Reset::KeepMail,
                "{left:?}"
            );
            assert_eq!(left.iter().filter(|name| name.starts_with("state/")).count(), left.len().min(4) / 4);
            let octets = std::io::read_to_string(handle).unwrap();
            assert_eq!(octets, if what == Reset::KeepMail { "sealed" } else { "\0\0\0\0\0\0" });
            fs::remove_dir_all(&data).unwrap();
        }
    }

    #[test]
    fn keys_of_kept_mail_stay_in_force() {
        for key_file in ["keys", "./keys"] {
            let configuration = format!("hostname = \"mx2.test\"\n[storage]\nkey_file = \"{key_file}\"\n");
            let (data, owner) = machine("keys", &configuration);
            order(&data, Reset::KeepMail).unwrap();
            act(&data, owner, "h.invalid").unwrap();
            let current = data.join("config/current");
            assert_eq!(fs::read_to_string(current.join("keys")).unwrap(), "secret");
            let text = fs::read_to_string(current.join(SERVER_FILE)).unwrap();
            let config = crate::config::Config::parse(&text, "t").unwrap();
            assert_eq!(config.storage.key_file.as_deref(), Some(Path::new("keys")), "{text}");
            assert_eq!(config.hostname, "h.invalid");
            fs::remove_dir_all(&data).unwrap();
        }
        let (data, _) = machine("elsewhere", "[storage]\nkey_file = \"/etc/keys\"\n");
        assert!(order(&data, Reset::KeepMail).unwrap_err().contains("would be lost"));
        assert!(!data.join(ORDER).exists(), "it was ordered all the same");
        order(&data, Reset::WipeMail).unwrap();
        fs::remove_dir_all(&data).unwrap();
    }

    /// Each place where the power may fail: some of the removals are done, and the order stands.
    #[test]
    fn a_reset_that_was_cut_off_goes_on() {
        for what in [Reset::KeepMail, Reset::WipeMail] {
            let (whole, owner) = machine("whole", "[storage]\nkey_file = \"keys\"\n");
            order(&whole, what).unwrap();
            act(&whole, owner, "h.invalid").unwrap();
            let cuts: [(&str, &[&str]); 5] = [
                ("state", &["state"]),
                ("state and tokens", &["state", "mail/admin-token"]),
                ("half of the staged keys", &[]),
                ("all but the order", &["state", "config", "mail"]),
                ("behind the end", &[]),
            ];
            for (cut, gone) in cuts {
                if what == Reset::KeepMail && gone.contains(&"mail") {
                    continue;
                }
                let (data, owner) = machine("cut", "[storage]\nkey_file = \"keys\"\n");
                order(&data, what).unwrap();
                gone.iter().for_each(|name| remove(&data.join(name)).unwrap());
                if cut.starts_with("half") {
                    fs::create_dir_all(data.join(KEPT).join("1")).unwrap();
                }
                if cut.starts_with("behind") {
                    act(&data, owner, "h.invalid").unwrap();
                    order(&data, what).unwrap();
                }
                assert_eq!(act(&data, owner, "h.invalid"), Ok(Some(what)), "{cut}");
                assert_eq!(tree(&data), tree(&whole), "{what:?}: {cut}");
                fs::remove_dir_all(&data).unwrap();
            }
            fs::remove_dir_all(&whole).unwrap();
        }
    }
}
