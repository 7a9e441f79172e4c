use super::*;
use std::cell::Cell;
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc::{Receiver, channel};

thread_local! {
    /// Which TPM the machine of this test has; 0: none.
    static CHIP: Cell<u8> = const { Cell::new(0) };
}

/// Opens what a chip of its number sealed.
struct Pretended(u8);

impl Chip for Pretended {
    fn seal(&mut self, secret: &Key) -> Result<Object, String> {
        Ok(Object { public: vec![self.0], private: secret.octets().to_vec() })
    }

    fn unseal(&mut self, object: &Object) -> Result<Key, String> {
        let secret =
            object.private.as_slice().try_into().map(Key::new).map_err(|_| "senseless".to_owned())?;
        if object.public == [self.0] {
            Ok(secret)
        } else {
            Err("it is another one, or was cleared".to_owned())
        }
    }
}

use sealed::Object;

struct Bench {
    directory: PathBuf,
    events: Receiver<Event>,
    tell: Sender<Event>,
}

impl Bench {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("stratamx-at-rest-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("state")).unwrap();
        let (tell, events) = channel();
        Self { directory, events, tell }
    }

    /// A start of a machine with this TPM.
    fn start(&self, chip: u8, choice: Choice, is_on_trial: bool) -> Result<AtRest, String> {
        CHIP.set(chip);
        let find: fn() -> Option<Box<dyn Chip>> = || {
            Some(CHIP.get()).filter(|chip| *chip > 0).map(|chip| Box::new(Pretended(chip)) as Box<dyn Chip>)
        };
        let owner = fs::metadata(&self.directory).unwrap().uid();
        let (state, keys) = (self.directory.join("state"), self.directory.join("run/mail-keys"));
        AtRest::open(Places { state, keys, owner, find }, choice, false, is_on_trial, self.tell.clone())
    }

    fn keys(&self) -> Option<String> {
        fs::read_to_string(self.directory.join("run/mail-keys")).ok()
    }

    fn file(&self) -> PathBuf {
        self.directory.join("state").join(FILE)
    }

    fn was_unlocked(&self) -> bool {
        self.events.try_iter().any(|event| event == Event::Unlocked)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn opened_by(at_rest: &AtRest) -> Vec<String> {
    at_rest.status().opened_by
}

#[test]
fn a_machine_with_a_tpm_makes_keys_once_and_opens_them_by_itself() {
    let bench = Bench::new("tpm");
    let first = bench.start(1, Choice::Auto, false).unwrap();
    assert_eq!(first.status().state, Shown::Open);
    assert_eq!(opened_by(&first), ["tpm", "recovery"]);
    let keys = bench.keys().unwrap();
    assert!(keys.len() == 67 && keys.starts_with("1 "), "{keys}");
    assert_eq!(fs::metadata(bench.directory.join("run/mail-keys")).unwrap().mode() & 0o777, 0o400);
    let file = fs::read_to_string(bench.file()).unwrap();
    assert!(!file.contains(keys[2..].trim()), "the key is on the disk");
    // Also by a setting that would make none, and on trial.
    for (choice, is_on_trial) in [(Choice::Auto, false), (Choice::Tpm, true), (Choice::None, false)] {
        let again = bench.start(1, choice, is_on_trial).unwrap();
        assert_eq!((again.locked(), bench.keys()), (None, Some(keys.clone())));
    }
    assert_eq!(fs::read_to_string(bench.file()).unwrap(), file);
    assert!(!bench.was_unlocked(), "nobody had to");
}

#[test]
fn another_tpm_locks_the_machine_until_the_recovery_key_is_typed() {
    let bench = Bench::new("recovery");
    let first = bench.start(1, Choice::Auto, false).unwrap();
    let recovery = first.renew_recovery_key().unwrap().0;
    let keys = bench.keys().unwrap();
    for chip in [2, 0] {
        let locked = bench.start(chip, Choice::Auto, false).unwrap();
        assert!(locked.locked().is_some() && bench.keys().is_none(), "keys of the start before lie there");
        assert!(locked.key_file().is_some(), "the server would take it for a machine without encryption");
        assert!(locked.renew_recovery_key().unwrap_err().contains("locked"));
        assert!(locked.set_passphrase("a passphrase of mine").unwrap_err().contains("locked"));
    }
    let locked = bench.start(2, Choice::Auto, false).unwrap();
    let now = Instant::now();
    let told = locked.unlock("0000-0000-0000-0000-0000-0000-0000-0000", now).unwrap_err();
    assert!(told.contains("not the recovery key") && bench.keys().is_none(), "{told}");
    assert!(locked.unlock(&recovery, now).unwrap_err().contains("nothing is tried for"));
    locked.unlock(&format!(" {} ", recovery.to_lowercase()), now + crate::limits::AT_REST_PAUSE_MIN).unwrap();
    assert!(bench.was_unlocked() && locked.locked().is_none());
    assert_eq!(bench.keys().unwrap(), keys);
    assert!(locked.unlock(&recovery, now).unwrap_err().contains("not locked"));
    // Sealed anew: to the second one, and no more to the first.
    assert!(bench.start(2, Choice::Auto, false).unwrap().locked().is_none());
    assert!(bench.start(1, Choice::Auto, false).unwrap().locked().unwrap().contains("another one"));
}

#[test]
fn a_passphrase_is_set_first_and_asked_for_at_each_start() {
    let bench = Bench::new("passphrase");
    let unset = bench.start(1, Choice::Passphrase, false).unwrap();
    assert_eq!(unset.status().state, Shown::Unset);
    assert!(unset.unlock("whatever it is", Instant::now()).unwrap_err().contains("set one"));
    for wrong in ["short", " leads with a space", "f\u{fc}r immer und ewig", &"x".repeat(201)] {
        assert!(unset.set_passphrase(wrong).is_err(), "{wrong}");
    }
    let recovery = unset.set_passphrase("correct horse battery").unwrap().unwrap().0;
    assert!(unset.set_passphrase(&recovery).unwrap_err().contains("looks like a recovery key"));
    assert!(bench.was_unlocked());
    let keys = bench.keys().unwrap();
    let locked = bench.start(1, Choice::Passphrase, true).unwrap();
    assert!(locked.locked().is_some(), "a trial waits for a human too");
    locked.unlock("correct horse battery", Instant::now()).unwrap();
    assert_eq!(bench.keys().unwrap(), keys);
    assert_eq!(opened_by(&locked), ["passphrase", "recovery"], "it was sealed to a TPM that nobody wants");
    assert_eq!(locked.set_passphrase("another horse, other staple").unwrap(), None);
    let locked = bench.start(0, Choice::Passphrase, false).unwrap();
    assert!(locked.unlock("correct horse battery", Instant::now()).is_err());
    // With a setting that wants a TPM the next start needs nobody.
    let locked = bench.start(3, Choice::Auto, false).unwrap();
    locked.unlock("another horse, other staple", Instant::now()).unwrap();
    assert!(bench.start(3, Choice::Auto, false).unwrap().locked().is_none());
    assert_eq!(bench.keys().unwrap(), keys);
}

#[test]
fn a_version_on_trial_makes_no_keys_and_fails_by_a_tpm_that_does_not_open() {
    let bench = Bench::new("trial");
    let plain = bench.start(1, Choice::Auto, true).unwrap();
    assert_eq!((plain.status().state, plain.key_file()), (Shown::Plain, None));
    assert!(!bench.file().exists(), "H13: the version before could not read mail under it");
    bench.start(1, Choice::Auto, false).unwrap();
    assert!(bench.start(2, Choice::Auto, true).unwrap_err().contains("another one"));
}

#[test]
fn a_file_that_is_damaged_locks_and_is_never_replaced() {
    let bench = Bench::new("damaged");
    bench.start(1, Choice::Auto, false).unwrap();
    let whole = fs::read(bench.file()).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"{\"version\": 9}"] {
        fs::write(bench.file(), damaged).unwrap();
        let locked = bench.start(1, Choice::Auto, false).unwrap();
        let why = locked.locked().unwrap();
        assert!(why.contains("the file with the keys"), "{why}");
        assert_eq!(locked.unlock("anything that is long", Instant::now()), Err(why.clone()));
        assert_eq!(bench.start(1, Choice::Auto, true).unwrap_err(), why, "the version before may read it");
        assert_eq!(fs::read(bench.file()).unwrap(), damaged);
        assert!(bench.keys().is_none());
    }
    erase(&bench.directory.join("state")).unwrap();
    assert!(!bench.file().exists());
    erase(&bench.directory.join("state")).unwrap();
    assert_eq!(bench.start(0, Choice::Auto, false).unwrap().status().state, Shown::Plain);
    assert!(bench.start(0, Choice::Tpm, false).unwrap_err().contains("no TPM"));
}

/// A backup of another machine: both call their key 1.
#[test]
fn keys_of_a_backup_are_sealed_beside_those_in_force_until_they_take_their_place() {
    let bench = Bench::new("taken");
    let theirs = format!("1 {}\n2 {}\n", "5a".repeat(32), "a5".repeat(32));
    let machine = bench.start(1, Choice::Auto, false).unwrap();
    let (recovery, own) = (machine.renew_recovery_key().unwrap().0, bench.keys().unwrap());
    let state = bench.directory.join("state");
    machine.take_over(&theirs).unwrap();
    assert_eq!(machine.set_passphrase("correct horse battery").unwrap_err(), taking::REPLACED);
    for name in fs::read_dir(&state).unwrap() {
        let text = fs::read_to_string(name.unwrap().path()).unwrap();
        assert!(!text.contains("5a5a") && !text.contains(own[2..].trim()), "a key is on the disk");
    }
    // A start that does not come to it, then one that gives it up.
    assert!(bench.start(1, Choice::Auto, false).unwrap().locked().is_none());
    assert_eq!(bench.keys().unwrap(), own);
    machine.keep_own();
    taking::put_in_force(&state).unwrap();
    bench.start(1, Choice::Auto, false).unwrap();
    assert_eq!(bench.keys().unwrap(), own);

    machine.take_over(&theirs).unwrap();
    let before = fs::File::open(bench.file()).unwrap();
    taking::put_in_force(&state).unwrap();
    taking::put_in_force(&state).unwrap();
    assert!(io::read_to_string(before).unwrap().chars().all(|c| c == '\0'), "it is not overwritten");
    assert!(bench.start(1, Choice::Auto, false).unwrap().locked().is_none(), "by the same TPM");
    assert_eq!(bench.keys().unwrap(), theirs);
    let locked = bench.start(2, Choice::Auto, false).unwrap();
    locked.unlock(&recovery, Instant::now()).unwrap();
    assert_eq!(bench.keys().unwrap(), theirs);
}

#[test]
fn where_no_keys_are_sealed_those_of_a_backup_are_refused_with_what_to_set() {
    let bench = Bench::new("untaken");
    let theirs = format!("1 {}\n", "5a".repeat(32));
    for (chip, choice) in [(0, Choice::Auto), (1, Choice::None)] {
        let told = bench.start(chip, choice, false).unwrap().take_over(&theirs).unwrap_err();
        assert!(
            told.contains("key = \"passphrase\"") && told.contains("stratamx at-rest passphrase"),
            "{told}"
        );
    }
    let unset = bench.start(0, Choice::Passphrase, false).unwrap();
    assert!(unset.take_over(&theirs).unwrap_err().contains("locked"));
    assert!(unset.take_over("no keys").unwrap_err().contains("no key file"));
    assert_eq!(fs::read_dir(bench.directory.join("state")).unwrap().count(), 0);
}
