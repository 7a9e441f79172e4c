//! Changes from afar: what is taken, what stands, and what is given back.

use super::*;
use crate::limits::CONFIGURATION_REVISIONS_MAX;
use crate::update::configuration::NewFile;
use std::os::unix::fs::MetadataExt as _;

const SERVER: &str = "hostname = \"mx2.test\"\npostmaster = \"p@a.test\"\ndata_dir = \"/data/mail\"\n[smtp]\nlisten = [\"0.0.0.0:25\"]\n\
    [admin]\nlisten = \"0.0.0.0:8025\"\n[[domain]]\nname = \"a.test\"\nprimary = [\"192.0.2.1\"]\n";

struct Place {
    root: PathBuf,
    revisions: Revisions,
}

impl Place {
    fn new(name: &str, fixed: &[&str]) -> Self {
        let root = std::env::temp_dir().join(format!("stratamx-revisions-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let files = [(SERVER_FILE, SERVER), ("key.pem", "secret")];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        let by = origin([Source::Partition]);
        revision::write(&root, &files.into(), (owner(&root), &by)).unwrap();
        let revisions = Self::open(&root, fixed, None);
        Self { root, revisions }
    }

    fn open(root: &Path, fixed: &[&str], record: Option<Record>) -> Revisions {
        let (mail, fixed) = (Path::new("/data/mail"), fixed.iter().map(|name| (*name).to_owned()).collect());
        Revisions::start(root, (mail, mail), owner(root), fixed, record)
    }

    fn change(&self, change: Change) -> (Result<Changed, Refused>, Effect) {
        match self.revisions.answer(Request::Change(change)) {
            (Answer::Changed(changed), effect) => (Ok(changed), effect),
            (Answer::Refused(refused), effect) => (Err(refused), effect),
            other => panic!("{other:?}"),
        }
    }

    /// The server's file with something else in it.
    fn edit(&self, seen: u64, from: &str, to: &str) -> Result<Changed, Refused> {
        self.change(edited(seen, SERVER_FILE, &SERVER.replace(from, to))).0
    }

    fn list(&self) -> List {
        match self.revisions.answer(Request::List) {
            (Answer::List(list), Effect::Nothing) => list,
            other => panic!("{other:?}"),
        }
    }

    fn confirm(&self, number: u64) -> Answer {
        self.revisions.answer(Request::Confirm { number }).0
    }

    fn text(&self) -> String {
        fs::read_to_string(self.root.join(CURRENT).join(SERVER_FILE)).unwrap()
    }

    /// The machine starts again, by itself or by a power cut.
    fn start_again(&mut self) -> bool {
        let record = at_start(&self.root);
        let is_on_probation = record.is_some();
        self.revisions = Self::open(&self.root, &[], record);
        is_on_probation
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn owner(root: &Path) -> u32 {
    fs::metadata(root).unwrap().uid()
}

fn edited(seen: u64, name: &str, text: &str) -> Change {
    let content = base64::engine::general_purpose::STANDARD.encode(text);
    let files = vec![NewFile { name: name.to_owned(), content }];
    let what = What::Files { files, remove: Vec::new() };
    Change { seen, what, caller: "me\u{1b}[2J (token 7)".to_owned(), confirm: None, dry_run: false }
}

#[test]
fn a_change_is_a_revision_and_names_the_one_that_was_seen() {
    let place = Place::new("seen", &[]);
    let made = place.edit(1, "192.0.2.1", "192.0.2.2").unwrap();
    assert_eq!((made.number, made.effect, made.needs_confirmation), (2, Effect::Reload, false));
    assert!(made.differences[0].diff.as_ref().unwrap().contains("+primary = [\"192.0.2.2\"]"));
    assert!(matches!(place.edit(1, "192.0.2.1", "192.0.2.3"), Err(Refused::Changed(_))));
    assert!(place.text().contains("192.0.2.2"));
    let same = place.edit(2, "192.0.2.1", "192.0.2.2").unwrap();
    assert_eq!((same.number, same.effect), (2, Effect::Nothing), "the same once more is nothing new");
    let list = place.list();
    assert_eq!((list.in_force, list.probation, list.revisions.len()), (2, None, 2));
    let origin = &list.revisions[0].origin;
    assert_eq!(
        (origin.sources.as_slice(), origin.caller.as_deref()),
        (&[Source::Api][..], Some("me [2J (token 7)"))
    );
    assert_eq!(list.revisions[1].origin.sources, [Source::Partition]);
    assert_eq!(list.revisions[0].files.iter().map(|file| file.is_text).collect::<Vec<_>>(), [false, true]);
    let dry = Change { dry_run: true, ..edited(2, SERVER_FILE, SERVER) };
    assert_eq!(place.change(dry).1, Effect::Nothing);
    assert_eq!(place.list().revisions.len(), 2, "a question made a revision");
}

#[test]
fn what_cannot_be_in_force_is_refused_and_leaves_nothing() {
    let place = Place::new("refused", &["token"]);
    let removed = |name: &str| Change {
        what: What::Files { files: Vec::new(), remove: vec![name.to_owned()] },
        ..edited(1, "x", "")
    };
    for (change, expected) in [
        (edited(1, SERVER_FILE, "hostnam = 1"), "hostnam"),
        (edited(1, "appliance.toml", "[network]\nvlan = 0"), "network.vlan"),
        (edited(1, "../stratamx.toml", ""), "cannot be the name of a file"),
        (edited(1, ".origin.json", ""), "cannot be the name of a file"),
        (edited(1, "token", "mine"), "the hypervisor gives token"),
        (removed(SERVER_FILE), "there is no server"),
        (removed("nothing"), "no file nothing"),
        (Change { what: What::Revert { to: 9 }, ..edited(1, "x", "") }, "there is no revision 9"),
    ] {
        let (made, effect) = place.change(change);
        let refused = made.unwrap_err().to_string();
        assert!(refused.contains(expected) && effect == Effect::Nothing, "{expected}: {refused}");
    }
    assert_eq!((place.list().in_force, place.list().revisions.len()), (1, 1));
    let left: Vec<_> = fs::read_dir(&place.root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn keys_never_leave() {
    let place = Place::new("keys", &[]);
    let made = place.change(edited(1, "key.pem", "another secret")).0.unwrap();
    assert!(made.differences[0].diff.is_none() && made.differences[0].before.is_some());
    let show = |name: &str| place.revisions.answer(Request::Show { number: 2, name: name.to_owned() }).0;
    assert!(matches!(show("key.pem"), Answer::Refused(Refused::State(_))));
    assert!(matches!(show("nobody.pem"), Answer::Refused(Refused::Unknown(_))));
    assert_eq!(show(SERVER_FILE), Answer::Text(SERVER.to_owned()));
    let (told, _) = place.revisions.answer(Request::Difference { from: 1, to: 2 });
    assert!(!format!("{told:?} {made:?} {:?}", place.list()).contains("secret"), "{told:?}");
}

#[test]
fn a_revert_is_a_new_revision_with_the_old_files() {
    let place = Place::new("revert", &[]);
    place.edit(1, "192.0.2.1", "192.0.2.2").unwrap();
    let revert = Change { what: What::Revert { to: 1 }, ..edited(2, "x", "") };
    let (made, effect) = place.change(revert);
    assert_eq!((made.unwrap().number, effect), (3, Effect::Reload));
    assert_eq!((place.text().as_str(), place.list().revisions[0].origin.revert_of), (SERVER, Some(1)));
    for number in 3..3 + CONFIGURATION_REVISIONS_MAX as u64 + 3 {
        place.edit(number, "192.0.2.1", &format!("192.0.2.{number}")).unwrap();
    }
    assert_eq!(place.list().revisions.len(), CONFIGURATION_REVISIONS_MAX);
}

#[test]
fn what_ends_the_server_stands_when_it_greets_or_is_confirmed_over_it() {
    let place = Place::new("greets", &[]);
    let made = place.edit(1, "0.0.0.0:8025", "0.0.0.0:8026").unwrap();
    assert_eq!((made.effect, made.needs_confirmation), (Effect::RestartServer, true));
    assert!(matches!(place.confirm(2), Answer::Refused(Refused::State(_))), "by the server that ends");
    assert!(matches!(place.confirm(1), Answer::Refused(Refused::Changed(_))));
    assert!(matches!(place.edit(2, "mx2", "mx3"), Err(Refused::State(_))), "one at a time");
    assert_eq!(place.revisions.overdue(false), None);
    place.revisions.greeted();
    assert_eq!(place.list().probation.map(|probation| probation.before), Some(1), "it was to be confirmed");
    assert_eq!(place.confirm(2), Answer::Done);
    assert_eq!((place.list().probation, place.confirm(2)), (None, Answer::Done));

    let change = Change { confirm: Some(false), ..edited(2, SERVER_FILE, SERVER) };
    assert!(!place.change(change).0.unwrap().needs_confirmation);
    assert!(place.revisions.overdue(true).unwrap().contains("does not start"));
    assert_eq!(place.revisions.give_back("it does not start"), Ok(Effect::RestartServer));
    assert_eq!((place.list().in_force, place.list().probation), (2, None));
    let change = Change { confirm: Some(false), ..edited(2, SERVER_FILE, SERVER) };
    assert_eq!(place.change(change).0.unwrap().number, 4);
    place.revisions.greeted();
    assert_eq!((place.list().in_force, place.list().probation), (4, None));
}

/// A network that does not work is over by itself, whatever happens to the power meanwhile.
#[test]
fn a_change_of_the_network_has_one_start_to_be_confirmed_in() {
    let network = "[network]\naddress = [\"192.0.2.9/24\"]\n";
    for is_confirmed in [true, false] {
        let mut place = Place::new(&format!("network-{is_confirmed}"), &[]);
        let (made, effect) = place.change(edited(1, "appliance.toml", network));
        assert_eq!((made.unwrap().needs_confirmation, effect), (true, Effect::RestartMachine));
        assert!(place.start_again(), "it was given back before it was tried");
        assert_eq!(place.list().in_force, 2);
        place.revisions.greeted();
        if is_confirmed {
            assert_eq!(place.confirm(2), Answer::Done);
        }
        assert!(!place.start_again());
        assert_eq!(place.list().in_force, if is_confirmed { 2 } else { 1 });
        assert_eq!(place.list().revisions[0].given_back.is_none(), is_confirmed);
    }
}

#[test]
fn what_the_server_does_not_take_up_is_given_back_by_its_word() {
    let place = Place::new("word", &[]);
    let made = place.edit(1, "192.0.2.1", "192.0.2.2").unwrap();
    let back = |number| place.revisions.answer(Request::GiveBack { number, why: "no\nkeys".to_owned() });
    assert!(matches!(back(7), (Answer::Refused(Refused::Changed(_)), Effect::Nothing)));
    assert_eq!(back(made.number), (Answer::Done, Effect::Reload));
    let list = place.list();
    assert_eq!((list.in_force, list.revisions[0].given_back.as_deref()), (1, Some("no keys")));
    assert_eq!(place.edit(1, "192.0.2.1", "192.0.2.3").unwrap().number, 3);
}

#[test]
fn who_stands_at_the_console_needs_nobodys_word() {
    let mut place = Place::new("console", &[]);
    place.edit(1, "0.0.0.0:25", "0.0.0.0:26").unwrap();
    place.revisions.change_at_console(SERVER_FILE, SERVER.replace("mx2", "mx9")).unwrap();
    assert!(!place.start_again() && place.text().contains("mx9"));
    assert_eq!((place.list().in_force, place.list().probation), (3, None));
    assert_eq!(place.list().revisions[0].origin.sources, [Source::Console]);
    assert!(place.revisions.change_at_console(SERVER_FILE, "hostnam = 1".to_owned()).is_err());
}
