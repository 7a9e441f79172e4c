//! A disk without a free octet: a file system in memory that somebody else has filled. What the operator does is done and written down, mail that waits is
//! handed over, a start succeeds, and mail is taken again as soon as there is room.

use super::*;
use std::fs;
use std::path::PathBuf;
use stratamx::limits::RESERVE_OCTETS;

/// A mount namespace with the disk; whoever is inside sees it at the directory `data`.
struct Disk {
    holder: Process,
}

impl Disk {
    fn new(data: &Path) -> Self {
        fs::create_dir_all(data).unwrap();
        let script = "mount -t tmpfs -o size=128m,mode=700 none \"$0\" && echo mounted && exec sleep 600";
        let mut command = Command::new("unshare");
        command
            .args(["--map-root-user", "--mount", "--propagation", "private", "sh", "-c", script])
            .arg(data);
        let mut holder = Process::start(&mut command);
        holder.wait_for("mounted");
        Self { holder }
    }

    /// A file on it, as it is seen from here.
    fn path(&self, place: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.child.id()));
        root.join(place.strip_prefix("/").unwrap())
    }

    /// Takes every octet that is left.
    fn fill(&self, place: &Path) {
        let mut file = fs::File::create(self.path(place)).unwrap();
        for size in [1 << 20, 4096] {
            let octets = vec![7; size];
            while file.write_all(&octets).is_ok() {}
        }
    }

    fn serve(&self, config: &Path, data: &Path) -> Node {
        let holder = self.holder.child.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &holder, "--mount", "--user", "--preserve-credentials"]);
        command.arg(env!("CARGO_BIN_EXE_stratamx")).args(["serve", "--config"]).arg(config);
        let mut process = Process::start(&mut command);
        let line: Value = serde_json::from_str(&process.wait_for("\"listening\"")).unwrap();
        let server = Server { process, address: line["address"].as_str().unwrap().parse().unwrap() };
        let token = fs::read_to_string(self.path(&data.join("admin-token"))).unwrap().trim().to_owned();
        Node { api: server.admin(), server, token }
    }
}

fn configuration(directory: &Scratch, primary: SocketAddr) -> PathBuf {
    let config = directory.path("stratamx.toml");
    let text = format!(
        "hostname = \"mx2.example.test\"\ndata_dir = \"{}\"\ncores = \"all\"\n[smtp]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [storage]\nsegment_size = \"4MiB\"\nmin_free_space = \"8MiB\"\n[delivery]\nretry_interval = \"1s\"\n\
         [[domain]]\nname = \"example.test\"\nprimary = [\"{primary}\"]\n",
        directory.path("data").display()
    );
    fs::write(&config, text).unwrap();
    config
}

/// Waits until a sender is answered so: what is free is looked at now and then.
fn answered(node: &Node, expected: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut client = Client::connect(node.server.address);
        client.say("EHLO x", "250");
        client.send(b"MAIL FROM:<a@example.org>\r\n");
        let reply = client.reply();
        if reply.starts_with(expected) {
            return;
        }
        assert!(Instant::now() < end, "senders are answered {reply:?}, never {expected:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_full_disk_is_administered_drains_and_takes_mail_again() {
    let directory = Scratch::new("full-disk");
    let (data, primary, record) = (directory.path("data"), free_address(), directory.path("record"));
    let config = configuration(&directory, primary);
    let disk = Disk::new(&data);
    let mut node = disk.serve(&config, &data);
    let kept: Vec<String> =
        ["one", "two", "three"].map(|name| bring(&node.server, &format!("{name}@example.test"))).to_vec();
    let given = json!({ "name": "given.test", "primary": ["127.0.0.1:9"] });
    assert_eq!(node.ask("POST", "/api/v1/domains", &given).0, 201);
    disk.fill(&data.join("filler"));

    // No mail, and a word for it; the operator can do what makes room, and it is written down.
    answered(&node, "452 4.3.1");
    let (status, _, stderr) = node.command(&["queue", "delete", &kept[0]]);
    assert_eq!(status, Some(0), "{stderr}");
    let (status, _, stderr) = node.command(&["queue", "hold", &kept[1]]);
    assert_eq!(status, Some(0), "{stderr}");
    assert!(node.get("/api/v1/audit").to_string().contains(&kept[0]), "who did it is not written down");

    // What needs more room than the database has set aside is refused, and changes nothing.
    let recipients: String = (0..100_000).map(|number| format!("somebody-{number}@given.test\n")).collect();
    let import = format!(
        "POST /api/v1/domains/given.test/recipients HTTP/1.0\r\nAuthorization: Bearer {}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{recipients}",
        node.token,
        recipients.len()
    );
    let refused = raw(node.api, import.as_bytes());
    assert!(refused.contains(" 507 ") && refused.contains("the disk is full"), "{refused}");
    assert_eq!(node.get("/api/v1/domains/given.test/recipients")["total"], 0);
    let (status, _, stderr) = node.command(&["queue", "release", &kept[1]]);
    assert_eq!(status, Some(0), "{stderr}");
    let (status, _, stderr) = node.command(&["queue", "hold", &kept[1]]);
    assert_eq!(status, Some(0), "{stderr}");

    let reserve = || fs::metadata(disk.path(&data.join("control.sqlite-reserve"))).unwrap().len();
    assert!(reserve() < RESERVE_OCTETS, "the disk was not full");

    // Also after a crash; and what waits is handed over.
    node.server.process.kill();
    node = disk.serve(&config, &data);
    let waiting = ids(&node.get("/api/v1/queue"));
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    node.wait_for("drained", |domain| domain["backlog"] == 0 && domain["held"] == 1);

    // Room comes back: nothing has to be done for it.
    fs::remove_file(disk.path(&data.join("filler"))).unwrap();
    answered(&node, "250 2.1.0");
    // Each shard looks for itself, and whose turn it is nobody knows.
    (0..20).for_each(|_| answered(&node, "250 2.1.0"));
    bring(&node.server, "four@example.test");
    let more = json!({ "name": "more.test", "primary": ["127.0.0.1:9"] });
    assert_eq!(node.ask("POST", "/api/v1/domains", &more).0, 201);
    node.wait_for("made whole", |_| reserve() == RESERVE_OCTETS);
    node.wait_for("handed over", |domain| domain["backlog"] == 0);
    sink.stop();
    let taken = fs::read_to_string(&record).unwrap();
    assert!(taken.contains("three@example.test") && taken.contains("four@example.test"), "{taken}");
    assert!(!taken.contains("one@example.test") && !taken.contains("two@example.test"), "{taken}");
    node.server.stop();
}
