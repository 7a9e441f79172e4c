//! What is kept, what is in force, and what is never removed.

use super::*;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

const GOOD: &str = "hostname = \"mx2.test\"\n[[domain]]\nname = \"one.test\"\nprimary = [\"192.0.2.1\"]\n";

fn root(name: &str) -> PathBuf {
    let root = std::env::temp_dir().join(format!("stratamx-revision-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    root
}

fn owner(root: &Path) -> u32 {
    fs::metadata(root).unwrap().uid()
}

fn files(pairs: &[(&str, &str)]) -> Files {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

#[test]
fn a_revision_is_laid_over_the_one_in_force() {
    let root = root("revision");
    let owner = owner(&root);
    let current = root.join("current");
    let first = files(&[(SERVER_FILE, GOOD), ("key.pem", "secret")]);
    assert!(lay_over(&root, &Files::new(), &first, (owner, &Origin::default())).unwrap());
    assert_eq!(files_of(&current).unwrap(), first);
    assert_eq!(fs::metadata(current.join("key.pem")).unwrap().mode() & 0o777, 0o600);
    assert!(
        !lay_over(&root, &first, &first, (owner, &Origin::default())).unwrap(),
        "the same once more is nothing new"
    );
    let network = files(&[(MACHINE_FILE, "[clock]\nservers = []\n")]);
    assert!(lay_over(&root, &first, &network, (owner, &Origin::default())).unwrap());
    assert_eq!(files_of(&current).unwrap().len(), 3, "what is not offered stays");
    assert_eq!(files_of(&root.join("1")).unwrap(), first, "the earlier one is kept");
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn what_cannot_be_used_changes_nothing() {
    let root = root("bad");
    let owner = owner(&root);
    let first = files(&[(SERVER_FILE, GOOD)]);
    lay_over(&root, &Files::new(), &first, (owner, &Origin::default())).unwrap();
    for (name, text, expected) in [
        (SERVER_FILE, "hostnam = \"x\"", "hostnam"),
        (SERVER_FILE, "\u{0}", SERVER_FILE),
        (MACHINE_FILE, "[network]\nvlan = 0\n", "network.vlan"),
    ] {
        let error =
            lay_over(&root, &first, &files(&[(name, text)]), (owner, &Origin::default())).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert_eq!(files_of(&root.join("current")).unwrap(), first);
    }
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn old_revisions_go() {
    let root = root("many");
    let owner = owner(&root);
    for number in 0..CONFIGURATION_REVISIONS_MAX + 3 {
        write(&root, &files(&[("note", &number.to_string())]), (owner, &Origin::default())).unwrap();
    }
    let kept = fs::read_dir(&root).unwrap().flatten();
    let kept = kept.filter(|entry| entry.file_name().to_str().unwrap().parse::<u64>().is_ok()).count();
    assert_eq!(kept, CONFIGURATION_REVISIONS_MAX);
    let last = files_of(&root.join("current")).unwrap();
    assert_eq!(last["note"], (CONFIGURATION_REVISIONS_MAX + 2).to_string().into_bytes());
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn a_revision_is_not_the_servers_to_change() {
    let root = root("owner");
    let owner = owner(&root);
    lay_over(&root, &Files::new(), &files(&[(SERVER_FILE, GOOD)]), (owner, &Origin::default())).unwrap();
    let revision = fs::metadata(root.join("current")).unwrap();
    assert_eq!(revision.mode() & 0o777, 0o755);
    fs::remove_dir_all(&root).unwrap();
}

/// A server that was reloaded twenty times works in the newest, and mail may be led to from the oldest.
#[test]
fn what_lies_deeper_than_a_file_is_never_removed() {
    let root = root("deeper");
    let by = (owner(&root), &Origin::default());
    write(&root, &files(&[("note", "1")]), by).unwrap();
    let mail = root.join("1/stratamx-data/shard-00");
    fs::create_dir_all(&mail).unwrap();
    fs::write(mail.join("segment"), "mail").unwrap();
    for number in 0..CONFIGURATION_REVISIONS_MAX + 3 {
        write(&root, &files(&[("note", &number.to_string())]), by).unwrap();
    }
    assert_eq!(fs::read_to_string(mail.join("segment")).unwrap(), "mail");
    assert!(!root.join("1/note").exists() && !all(&root).contains(&1), "{:?}", all(&root));
    assert_eq!(all(&root).len(), CONFIGURATION_REVISIONS_MAX);
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn one_that_is_older_than_its_origin_has_none() {
    let root = root("origin");
    let by = Origin { caller: Some("me (token 7)".to_owned()), ..origin([Source::Api]) };
    let number = write(&root, &files(&[("note", "1")]), (owner(&root), &by)).unwrap();
    assert_eq!((origin_of(&root, number), in_force(&root)), (by, Some(number)));
    assert_eq!(files_of(&root.join("current")).unwrap().len(), 1, "what is beside it is no file of it");
    fs::remove_file(root.join("1").join(ORIGIN)).unwrap();
    assert_eq!(origin_of(&root, number), Origin::default());
    give_back(&root, number, "nobody");
    assert_eq!(given_back(&root, number).as_deref(), Some("nobody"));
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn what_mail_leaves_free_is_a_reserve_and_leaves_mail_some_room() {
    let (least, disk) = (APPLIANCE_RESERVE_MIN, 3 * APPLIANCE_RESERVE_MIN);
    assert!(has_room(least - 1, disk).unwrap_err().contains("128MiB"));
    for free in [least, 2 * least] {
        assert_eq!(has_room(free, disk), Ok(()));
    }
    assert!(has_room(2 * least + 1, disk).unwrap_err().contains("384 MiB"));
    assert_eq!(has_room(u64::MAX, 0), Ok(()), "a size that nobody knows refuses nothing");
}
