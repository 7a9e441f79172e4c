//! Each place where the power may fail: the old machine or the new one, never a mixture, and the new one once the order says so.

use super::super::super::at_rest::{AtRest, Places};
use super::super::super::revisions::Revisions;
use super::super::super::settings::Choice;
use super::super::Restores;
use super::*;
use crate::update::at_rest::Secret;
use crate::update::restore::{Named, Of, Refused, State as Shown, Told, Wish};
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc::channel;

const OLD: &str =
    "hostname = \"old.test\"\npostmaster = \"p@old.test\"\ndomain = []\n[admin]\nlisten = \"0.0.0.0:8025\"\n";

fn encoded(text: &str) -> Secret {
    Secret(base64::engine::general_purpose::STANDARD.encode(text))
}

/// What the program says of an archive that has these words in it.
fn played(archive: &Path, data_dir: Option<&Path>, _: u32) -> Result<Looked, String> {
    let text = fs::read_to_string(archive).map_err(|error| error.to_string())?;
    if text.contains("cut off") {
        return Err("the backup is cut off".to_owned());
    }
    assert!(!text.contains("deadly"), "the power fails");
    if let Some(data_dir) = data_dir {
        assert_eq!(fs::read_dir(data_dir).unwrap().count(), 0, "something is there");
        fs::write(data_dir.join("store"), "new").unwrap();
    }
    let problems = text.contains("damaged").then(|| "a hole".to_owned()).into_iter().collect();
    let server = if text.contains("senseless") { "hostname" } else { &OLD.replace("old.test", "new.test") };
    let path = if text.contains("elsewhere") { "/etc/list" } else { "list" };
    Ok(Looked {
        hostname: "new.test".to_owned(),
        made_at_s: 7,
        octets: 10,
        has_configuration: true,
        has_key_file: false,
        named: vec![Named { path: path.to_owned(), held: true }],
        queue: data_dir.map(|_| Queue { backlog: 3, held: 1, problems }),
        files: [
            ("stratamx.toml", server),
            ("list", "a@new.test\n"),
            ("appliance.toml", "[console]\nmenu = true\n"),
        ]
        .map(|(name, text)| (name.to_owned(), encoded(text)))
        .into(),
        keys: text.contains("encrypted").then(|| Secret(format!("1 {}\n", "5a".repeat(32)))),
    })
}

struct Bench {
    place: Place,
}

impl Bench {
    /// A machine that runs.
    fn new(name: &str) -> Self {
        let data = std::env::temp_dir().join(format!("stratamx-restore-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&data);
        for directory in ["mail", "state", "config"] {
            fs::create_dir_all(data.join(directory)).unwrap();
        }
        let owner = fs::metadata(&data).unwrap().uid();
        fs::write(data.join("mail/store"), "old").unwrap();
        fs::write(data.join("state/at-rest"), "old keys").unwrap();
        let files = [(SERVER_FILE, OLD), (MACHINE_FILE, "[console]\nmenu = false\n")];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into();
        let by = revision::origin([Source::Partition]);
        revision::write(&data.join("config"), &files, (owner, &by)).unwrap();
        Self { place: Place { data, owner, look: played } }
    }

    /// With an archive that is ordered.
    fn ordered(name: &str, archive: &str) -> (Self, Order) {
        let bench = Self::new(name);
        bench.place.make_directory().unwrap();
        fs::write(bench.place.archive(), archive).unwrap();
        fs::write(bench.place.state().join("at-rest.restored"), "new keys").unwrap();
        let of =
            Of { hostname: "new.test".to_owned(), made_at_s: 7, caller: "me".to_owned(), ..Of::default() };
        let order = Order::new(of.clone());
        Record { pending: Some(of), last: None }.keep(&bench.place.state()).unwrap();
        order.keep(&bench.place.directory()).unwrap();
        (bench, order)
    }

    /// What the machine is: its mail, its keys, its host name, its settings, its lists.
    fn is(&self) -> [String; 5] {
        let read = |path: &str| fs::read_to_string(self.place.data.join(path)).unwrap_or_default();
        let server = read("config/current/stratamx.toml");
        let (settings, list) = (read("config/current/appliance.toml"), read("config/current/list"));
        [read("mail/store"), read("state/at-rest"), server.lines().next().unwrap().to_owned(), settings, list]
    }

    fn last(&self) -> Option<Last> {
        let record = Record::read(&self.place.state());
        assert_eq!(record.pending, None);
        record.last
    }

    fn is_tidy(&self) -> bool {
        !self.place.directory().exists() && !self.place.state().join("at-rest.restored").exists()
    }

    fn is_old(&self) -> bool {
        self.is() == ["old", "old keys", "hostname = \"old.test\"", "[console]\nmenu = false\n", ""]
            && !self.place.before().exists()
    }

    fn is_new(&self) -> bool {
        let expected =
            ["new", "new keys", "hostname = \"new.test\"", "[console]\nmenu = false\n", "a@new.test\n"];
        let before = fs::read_to_string(self.place.before().join("store"));
        self.is() == expected && before.is_ok_and(|before| before == "old")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.place.data);
    }
}

#[test]
fn a_cut_behind_any_step_leaves_the_new_machine_once_the_order_says_so() {
    for cut in 0..=STEPS.len() {
        let (bench, order) = Bench::ordered("cut", "good");
        let order = bench.place.prepare(&order).unwrap();
        assert!(bench.is_old(), "nothing is in force yet");
        STEPS[..cut].iter().for_each(|step| step(&bench.place, &order).unwrap());
        for _ in 0..2 {
            bench.place.act(false).unwrap();
            assert!(bench.is_new() && bench.is_tidy(), "behind step {cut}: {:?}", bench.is());
        }
        let last = bench.last().unwrap();
        assert_eq!((last.outcome, last.backlog, last.held), (Outcome::Restored, Some(3), Some(1)));
        bench.place.remove_before().unwrap();
        assert!(!bench.place.before().exists());
    }
}

#[test]
fn a_backup_that_ends_the_machine_each_time_is_given_up() {
    let (bench, _) = Bench::ordered("deadly", "deadly");
    for start in 1..=RESTORE_STARTS_MAX {
        let ended = std::panic::catch_unwind(|| bench.place.act(false));
        assert!(ended.is_err(), "start {start} unpacks it");
        assert!(bench.is_old());
    }
    bench.place.act(false).unwrap();
    assert!(bench.is_old() && bench.is_tidy());
    let last = bench.last().unwrap();
    assert_eq!(last.outcome, Outcome::GivenUp);
    assert!(last.error.unwrap().contains("ended 5 times"));
}

#[test]
fn each_step_done_twice_is_done_once() {
    let (bench, order) = Bench::ordered("twice", "good");
    let order = bench.place.prepare(&order).unwrap();
    for step in STEPS.iter().flat_map(|step| [step, step]) {
        step(&bench.place, &order).unwrap();
    }
    assert!(bench.is_new());
}

#[test]
fn a_cut_while_it_is_unpacked_begins_again() {
    for cut in ["half", "whole", "revision"] {
        let (bench, order) = Bench::ordered("unpacking", "good");
        if cut == "half" {
            fs::create_dir(bench.place.new_mail()).unwrap();
            fs::write(bench.place.new_mail().join("segment"), "half").unwrap();
        } else {
            bench.place.prepare(&order).unwrap();
            // It was not durable yet that it takes its place.
            order.keep(&bench.place.directory()).unwrap();
        }
        if cut == "revision" {
            // Of a restore before whose server never greeted.
            fs::create_dir(bench.place.before()).unwrap();
        }
        assert_eq!(bench.is()[0], "old");
        bench.place.act(false).unwrap();
        assert!(bench.is_new() && bench.is_tidy(), "{cut}: {:?}", bench.is());
    }
}

#[test]
fn what_cannot_take_its_place_leaves_the_old_machine_and_says_why() {
    for (archive, is_on_trial, why) in [
        ("cut off", false, "is cut off"),
        ("damaged", false, "its queue is damaged: a hole"),
        ("elsewhere", false, "/etc/list"),
        ("senseless", false, "stratamx.toml"),
        ("good", true, "on trial"),
    ] {
        let (bench, _) = Bench::ordered("unfit", archive);
        let handle = fs::File::open(bench.place.archive()).unwrap();
        bench.place.act(is_on_trial).unwrap();
        assert!(bench.is_old() && bench.is_tidy(), "{archive}: {:?}", bench.is());
        let last = bench.last().unwrap();
        let told = last.error.unwrap();
        assert!(last.outcome == Outcome::GivenUp && told.contains(why), "{archive}: {told}");
        let left = io::read_to_string(handle).unwrap();
        assert!(left.chars().all(|octet| octet == '\0'), "its keys stay on the disk");
        bench.place.act(false).unwrap();
        assert!(bench.is_old());
    }
}

#[test]
fn without_an_order_nothing_is_taken_back() {
    let (bench, _) = Bench::ordered("unordered", "good");
    Order::end(&bench.place.directory()).unwrap();
    bench.place.act(false).unwrap();
    assert!(bench.is_old() && bench.is_tidy());
    assert!(bench.last().unwrap().error.unwrap().contains("switched off"));
    fs::create_dir(bench.place.directory()).unwrap();
    fs::write(bench.place.directory().join("order"), "{}").unwrap();
    assert!(bench.place.act(false).unwrap_err().contains("not understood"));
    assert!(bench.is_old());
}

#[test]
fn a_configuration_that_is_kept_stays_and_a_reset_drops_what_is_ordered() {
    let (bench, mut order) = Bench::ordered("kept", "good elsewhere");
    order.of.keep_configuration = true;
    order.keep(&bench.place.directory()).unwrap();
    bench.place.act(false).unwrap();
    let is = bench.is();
    assert_eq!([&is[0], &is[1], &is[2]], ["new", "new keys", "hostname = \"old.test\""]);
    assert_eq!(revision::in_force(&bench.place.data.join("config")), Some(1));

    let (bench, order) = Bench::ordered("reset", "good");
    let handle = fs::File::open(bench.place.archive()).unwrap();
    bench.place.drop_all(false).unwrap();
    assert!(bench.is_old() && io::read_to_string(handle).unwrap() == "\0\0\0\0");
    // In the middle of the swap nothing but its end leaves a whole machine.
    fs::write(bench.place.archive(), "good").unwrap();
    let order = bench.place.prepare(&order).unwrap();
    STEPS[0](&bench.place, &order).unwrap();
    bench.place.drop_all(false).unwrap();
    assert!(bench.is_new());
}

#[test]
fn what_is_asked_for_is_looked_at_moved_and_ordered_when_nothing_waits() {
    let bench = Bench::new("asked");
    let (data, owner) = (bench.place.data.clone(), bench.place.owner);
    fs::remove_file(data.join("state/at-rest")).unwrap();
    let at_rest = Places::of_machine(&data.join("state"), owner);
    let (tell, _events) = channel();
    let at_rest = AtRest::open(at_rest, Choice::None, false, false, tell).unwrap();
    let mail = Path::new("/data/mail");
    let revisions = Revisions::start(&data.join("config"), (mail, mail), owner, Vec::new(), None);
    let fixed =
        Revisions::start(&data.join("config"), (mail, mail), owner, vec![SERVER_FILE.to_owned()], None);
    let restores = Restores::start(bench.place.clone());
    let source = data.join("mail").join(crate::update::restore::FILE);
    let begin = |archive: &str, revisions: &Revisions, keep_configuration: bool| {
        fs::write(&source, archive).unwrap();
        let wish = Wish::Begin { keep_configuration, caller: "me".to_owned() };
        let told = restores.answer(wish, None, (revisions, &at_rest));
        let is_left = data.join("restore").exists();
        assert!(told == Told::Ordered || !is_left, "something was left");
        told
    };
    let refused = |told: Told, why: &str| match told {
        Told::Refused(refused) => assert!(refused.to_string().contains(why), "{why}: {refused}"),
        told => panic!("{why}: {told:?}"),
    };
    refused(begin("cut off", &revisions, false), "is cut off");
    refused(begin("elsewhere", &revisions, false), "--keep-configuration");
    refused(begin("senseless", &revisions, false), "stratamx.toml");
    refused(begin("good", &fixed, false), "the hypervisor gives stratamx.toml");
    refused(begin("encrypted", &revisions, false), "key = \"passphrase\"");
    fs::remove_file(&source).unwrap_or_default();
    let busy = Some("an update is under way".to_owned());
    let wish = Wish::Begin { keep_configuration: false, caller: String::new() };
    let told = restores.answer(wish, busy, (&revisions, &at_rest));
    assert_eq!(told, Told::Refused(Refused::State("an update is under way".to_owned())));
    assert!(!restores.is_asked() && bench.is()[0] == "old");

    for (waits, is_ordered) in [(1, false), (0, true)] {
        assert_eq!(begin("good", &revisions, false), Told::Ordered);
        assert!(restores.is_asked() && !source.exists() && restores.busy().is_some());
        restores.order(Ok(Queue { backlog: waits, ..Queue::default() }));
        let order = Order::read(&bench.place.directory()).unwrap();
        assert_eq!(order.is_some(), is_ordered);
        bench.place.act(false).unwrap();
        assert_eq!(bench.is()[0], if is_ordered { "new" } else { "old" });
        let last = bench.last().unwrap();
        assert_eq!(last.of.caller, "me");
        assert!(is_ordered || last.error.unwrap().contains("mail came meanwhile"));
        // As the next start has it.
        restores.0.lock().unwrap().state = Shown::Idle;
    }
}
