//! Images, disks and emulated machines.

use crate::chip;
pub(crate) use crate::chip::Chip;
use crate::mail::free_port;
use crate::platform::{self, AMD64, Platform};
use crate::volatile::VolatileDisk;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read as _, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for a line of the console. A boot is 20 s on two cores that nobody else uses.
const PATIENCE: Duration = Duration::from_secs(240);
/// The file of a cloud's volume.
const SEED: &str = "seed.fat";

/// What the tests need and this machine has.
pub(crate) struct Needed {
    pub(crate) platform: &'static Platform,
    server: PathBuf,
    work: PathBuf,
}

impl Needed {
    /// The static server, which is also the operator's command.
    pub(crate) fn server(&self) -> &Path {
        &self.server
    }
}

/// Everything, or the reason why not is told.
pub(crate) fn needed() -> Option<Needed> {
    needed_for(&AMD64)
}

/// The same for another kind of machine.
pub(crate) fn needed_for(platform: &'static Platform) -> Option<Needed> {
    let server = platform.server()?;
    let target = Path::new(Needed::builder()).ancestors().nth(2).unwrap().to_owned();
    let work = target.join("appliance/test");
    fs::create_dir_all(&work).unwrap();
    Some(Needed { platform, server, work })
}

/// An image as it is built.
pub(crate) struct Release {
    platform: &'static Platform,
    directory: PathBuf,
    pub(crate) uki: PathBuf,
    pub(crate) raw: PathBuf,
}

impl Release {
    /// The one that disks are made of.
    pub(crate) fn common(needed: &Needed) -> &'static Self {
        needed.platform.release.get_or_init(|| Self::build(needed, "common"))
    }

    pub(crate) fn build(needed: &Needed, name: &str) -> Self {
        Self::make(needed, name, Path::new(env!("CARGO_MANIFEST_DIR")), env!("CARGO_PKG_VERSION"))
    }

    /// The same in another version, and signed.
    pub(crate) fn of_version(needed: &Needed, version: &str) -> Self {
        let release = Self::make(needed, version, Path::new(env!("CARGO_MANIFEST_DIR")), version);
        sign(&Self::key(needed, "update"), &release.uki);
        release
    }

    /// The key that images take updates by, and others: one a process.
    pub(crate) fn key(needed: &Needed, name: &str) -> PathBuf {
        let directory = needed.work.join(format!("keys-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let key = directory.join(name);
        if !key.exists() {
            assert!(Command::new(Needed::builder()).arg("key").arg(&key).status().unwrap().success());
        }
        key
    }

    /// One that lacks a kernel module which it needs; signed.
    pub(crate) fn without_module(needed: &Needed, module: &str, version: &str) -> Self {
        let source = needed.work.join(format!("source-{}", std::process::id()));
        fs::create_dir_all(&source).unwrap();
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        let manifest = fs::read_to_string(ours.join("manifest.toml")).unwrap();
        let lacking = manifest.replace(&format!("\"{module}\", "), "");
        assert_ne!(manifest, lacking, "{module} is not in the manifest");
        fs::write(source.join("manifest.toml"), lacking).unwrap();
        let copied =
            Command::new("cp").arg("-r").args([ours.join("rootfs"), source.join("rootfs")]).status().unwrap();
        assert!(copied.success());
        let built = Self::make(needed, "lacking", &source, version);
        fs::remove_dir_all(&source).unwrap();
        sign(&Self::key(needed, "update"), &built.uki);
        built
    }

    /// What the loader calls it.
    pub(crate) fn version(&self) -> String {
        format!("stratamx_{}.efi", env!("CARGO_PKG_VERSION"))
    }

    fn make(needed: &Needed, name: &str, source: &Path, version: &str) -> Self {
        let key = Self::key(needed, "update").with_extension("pub");
        let platform = needed.platform;
        let directory = needed.work.join(format!("image-{name}{}-{}", platform.suffix, std::process::id()));
        let mut command = Command::new(Needed::builder());
        command.args(["build", "--quick", "--server"]).arg(&needed.server).arg("--out").arg(&directory);
        command.args(["--architecture", platform.architecture]);
        command.args(["--image-version", version, "--update-key"]).arg(key);
        // One cache, and one test at a time in it: what was downloaded once is used again.
        command.arg("--cache").arg(needed.work.join("cache")).arg("--source").arg(source);
        let lock = File::create(needed.work.join("lock")).unwrap();
        lock.lock().unwrap();
        remove_stale(&needed.work);
        let output = command.output().unwrap();
        drop(lock);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let file =
            |suffix: &str| directory.join(format!("stratamx_{version}_cloud{}.{suffix}", platform.suffix));
        Self { platform, uki: file("efi"), raw: file("raw"), directory }
    }

    pub(crate) fn remove(self) {
        fs::remove_dir_all(self.directory).unwrap();
    }
}

/// A file's name with another suffix behind it.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Signs a file: a signature beside it.
pub(crate) fn sign(key: &Path, file: &Path) {
    let status =
        Command::new(Needed::builder()).arg("sign").arg("--key").arg(key).arg(file).status().unwrap();
    assert!(status.success());
}

/// What processes left that are no more: a hundred megabytes each.
fn remove_stale(work: &Path) {
    for entry in fs::read_dir(work).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let Some((_, process)) = name.rsplit_once('-') else { continue };
        if process.parse::<u32>().is_ok() && !Path::new("/proc").join(process).exists() {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

/// Whether two files have the same octets, which may be more than memory has.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let compared = Command::new("cmp").arg("--silent").args([one, other]).status().unwrap();
    compared.success()
}

/// The disk of one machine.
pub(crate) struct Disk {
    platform: &'static Platform,
    directory: PathBuf,
    raw: PathBuf,
}

impl Disk {
    /// The image on a disk that is larger.
    pub(crate) fn from(release: &Release, name: &str, octets: u64) -> Self {
        let directory = release.directory.with_file_name(format!("disk-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let raw = directory.join("disk.raw");
        let copied = Command::new("cp").arg("--sparse=always").args([&release.raw, &raw]).status().unwrap();
        assert!(copied.success());
        File::options().write(true).open(&raw).unwrap().set_len(octets).unwrap();
        fs::copy(release.platform.firmware[1], directory.join("variables.fd")).unwrap();
        Self { platform: release.platform, directory, raw }
    }

    pub(crate) fn configure(&self, files: &[(&str, String)]) {
        let mut command = Command::new(Needed::builder());
        command.arg("configure").arg(&self.raw);
        for (name, text) in files {
            let file = self.directory.join(name);
            fs::write(&file, text).unwrap();
            command.arg(file);
        }
        assert!(command.status().unwrap().success());
    }

    /// A volume of its cloud, attached at each start.
    pub(crate) fn seed(&self, files: &[(&str, String)]) {
        let volume = self.directory.join(SEED);
        let target = volume.display().to_string();
        let mut command = Command::new("mkfs.vfat");
        command
            .args(["-n", "CIDATA", "-C", &target, "1440"])
            .env("PATH", platform::path())
            .stdout(Stdio::null());
        assert!(command.status().unwrap().success());
        for (name, text) in files {
            let file = self.directory.join(name);
            fs::write(&file, text).unwrap();
            let mut command = Command::new("mcopy");
            command.args(["-i", &target]).arg(file).arg(format!("::/{name}"));
            assert!(command.status().unwrap().success());
        }
    }

    /// A file beside it, as an operator has it at hand.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let file = self.directory.join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    /// The same once more, beside it.
    pub(crate) fn copy_as(&self, name: &str) -> PathBuf {
        let copy = self.directory.join(name);
        let copied = Command::new("cp").arg("--sparse=always").args([&self.raw, &copy]).status().unwrap();
        assert!(copied.success());
        copy
    }

    /// What is on the configuration partition.
    pub(crate) fn configuration_files(&self) -> Vec<String> {
        let start = (1 + 128) << 20;
        let fat = format!("{}@@{start}", self.raw.display());
        let listed = Command::new("mdir").args(["-b", "-i", &fat, "::/"]).output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        listed.lines().map(|line| line.trim_start_matches("::/").to_owned()).collect()
    }

    /// The versions on the ESP, sorted.
    pub(crate) fn versions(&self) -> Vec<String> {
        let listed = Command::new("mdir").args(["-b", "-i", &self.esp(), "::/EFI/Linux"]).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mut names: Vec<String> =
            listed.lines().filter_map(|line| line.rsplit('/').next()).map(str::to_owned).collect();
        names.sort();
        names
    }

    /// A TPM for its machine.
    pub(crate) fn chip(&self, name: &str) -> Chip {
        Chip::new(&self.directory, name)
    }

    /// Whether these octets stand on it anywhere, as they are.
    pub(crate) fn holds(&self, text: &str) -> bool {
        let (mut file, zeros) = (File::open(&self.raw).unwrap(), vec![0; 1 << 20]);
        let (mut octets, mut left) = (vec![0; 1 << 20], Vec::new());
        loop {
            let count = file.read(&mut octets).unwrap();
            if count == 0 {
                return false;
            }
            // Most of it was never written.
            if octets[..count] != zeros[..count] || left.iter().any(|octet| *octet != 0) {
                left.extend_from_slice(&octets[..count]);
                if left.windows(text.len()).any(|window| window == text.as_bytes()) {
                    return true;
                }
            }
            left = octets[count.saturating_sub(text.len())..count].to_vec();
        }
    }

    /// The same disk, whose unflushed writes are lost when it is cut.
    pub(crate) fn volatile(&self) -> VolatileDisk {
        VolatileDisk::serve(&self.raw, false)
    }

    /// Sectors of the EFI system partition.
    pub(crate) fn esp_sectors() -> Range<u64> {
        2048..2048 + (128 << 11)
    }

    fn esp(&self) -> String {
        format!("{}@@{}", self.raw.display(), 1 << 20)
    }

    /// As if it were of another disk.
    pub(crate) fn rename_partition(&self, from: &str, to: &str) {
        let mut table = gpt::GptConfig::new().writable(true).open(&self.raw).unwrap();
        let mut partitions = table.partitions().clone();
        partitions.values_mut().find(|partition| partition.name == from).unwrap().name = to.to_owned();
        table.update_partitions(partitions).unwrap();
        table.write().unwrap();
    }

    pub(crate) fn remove(self) {
        fs::remove_dir_all(self.directory).unwrap();
    }
}

/// A machine that runs, and does not outlive the test.
pub(crate) struct Machine {
    emulator: Child,
    monitor: PathBuf,
    keyboard: ChildStdin,
    console: Receiver<String>,
    seen: Vec<String>,
    pub(crate) smtp_port: u16,
    pub(crate) admin_port: u16,
    /// Ends behind the machine.
    chip: Option<chip::Running>,
}

impl Machine {
    /// A machine that is off when its system restarts.
    pub(crate) fn boot(disk: &Disk) -> Self {
        Self::start(disk, &["-no-reboot"])
    }

    /// A machine that restarts as its system wants. Its hypervisor adds to the kernel's command line, and it stays one.
    pub(crate) fn boot_again_and_again(disk: &Disk) -> Self {
        Self::start(
            disk,
            &["-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=some --more=words"],
        )
    }

    /// A machine with a TPM.
    pub(crate) fn boot_with(disk: &Disk, chip: &Chip) -> Self {
        let (running, arguments) = chip.start();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut machine = Self::start(disk, &[&["-no-reboot"], &arguments[..]].concat());
        machine.chip = Some(running);
        machine
    }

    /// A machine whose disk forgets what was not flushed when its power fails.
    pub(crate) fn boot_from(disk: &Disk, volatile: &VolatileDisk) -> Self {
        let block =
            format!("driver=nbd,node-name=disk,server.type=unix,server.path={}", volatile.socket.display());
        Self::start_with(disk, &["-blockdev", &block, "-device", "virtio-blk-pci,drive=disk"])
    }

    /// A machine whose disk is an NVMe drive that says so of itself: bits of its critical warning. It is another machine: the firmware of the one before
    /// knows where its disk was, and looks there.
    pub(crate) fn boot_on_nvme(disk: &Disk, warning: u8) -> Self {
        fs::copy(disk.platform.firmware[1], disk.directory.join("variables.fd")).unwrap();
        let drive = format!("file={},format=raw,if=none,id=drive", disk.raw.display());
        let device = format!("nvme,drive=drive,serial=test,smart_critical_warning={warning}");
        Self::start_with(disk, &["-no-reboot", "-drive", &drive, "-device", &device])
    }

    pub(crate) fn start(disk: &Disk, arguments: &[&str]) -> Self {
        let drive = format!("file={},format=raw,if=virtio", disk.raw.display());
        Self::start_with(disk, &[arguments, &["-drive", &drive]].concat())
    }

    fn start_with(disk: &Disk, arguments: &[&str]) -> Self {
        let (smtp_port, admin_port) = (free_port(), free_port());
        let monitor = disk.directory.join("monitor");
        let drive = |file: &Path, rest: &str| format!("file={},format=raw,{rest}", file.display());
        let mut command = Command::new(disk.platform.emulator);
        // Never KVM: where that is nested it emulates instructions, and is slower than TCG. One thread for both processors: with two, on a machine
        // that is busy, one of them was seen to lose its timer, and the guest hung before PID 1. With two guests at a time it is no slower.
        command.args(["-accel", "tcg,thread=single", "-smp", "2", "-m", "1024"]).args(disk.platform.machine);
        command.args(["-nodefaults", "-display", "none", "-serial", "stdio"]).args(arguments);
        command.arg("-monitor").arg(format!("unix:{},server=on,wait=off", monitor.display()));
        command
            .arg("-drive")
            .arg(drive(Path::new(disk.platform.firmware[0]), "if=pflash,unit=0,readonly=on"));
        command.arg("-drive").arg(drive(&disk.directory.join("variables.fd"), "if=pflash,unit=1"));
        let seed = disk.directory.join(SEED);
        if seed.exists() {
            command.arg("-drive").arg(drive(&seed, "if=virtio,readonly=on"));
        }
        command.arg("-netdev").arg(format!(
            "user,id=net,hostfwd=tcp:127.0.0.1:{smtp_port}-:25,hostfwd=tcp:127.0.0.1:{admin_port}-:8025"
        ));
        command.args(["-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci"]);
        let mut emulator = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let keyboard = emulator.stdin.take().unwrap();
        let (tell, console) = channel();
        let output = BufReader::new(emulator.stdout.take().unwrap());
        thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self { emulator, monitor, keyboard, console, seen: Vec::new(), smtp_port, admin_port, chip: None }
    }

    /// The first line that holds `text`: waits for it, unless it has come already.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            match self.console.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("{text:?} was not said; what was:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// The next line that holds `text`, behind those that were waited for.
    pub(crate) fn wait_again_for(&mut self, text: &str) -> String {
        self.seen.clear();
        self.wait_for(text)
    }

    pub(crate) fn said(&self, text: &str) -> bool {
        self.seen.iter().any(|line| line.contains(text))
    }

    /// Nothing in the guest's memory survives.
    pub(crate) fn pull_the_plug(mut self) {
        self.emulator.kill().unwrap();
        self.emulator.wait().unwrap();
    }

    pub(crate) fn press_the_button(&self) {
        self.monitor("system_powerdown");
    }

    /// Tells the emulator.
    pub(crate) fn monitor(&self, command: &str) {
        UnixStream::connect(&self.monitor).unwrap().write_all(format!("{command}\n").as_bytes()).unwrap();
    }

    /// At the serial console.
    pub(crate) fn type_line(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Types a line again and again, until this is said: a question ends no line.
    pub(crate) fn type_until(&mut self, line: &str, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.said(text) {
            assert!(Instant::now() < end, "{text:?} was not said; what was:\n{}", self.seen.join("\n"));
            self.type_line(line);
            while let Ok(line) = self.console.recv_timeout(Duration::from_secs(5)) {
                self.seen.push(line);
                if self.said(text) {
                    break;
                }
            }
        }
    }

    /// A factory reset at the console. What was said before it is forgotten.
    pub(crate) fn reset(&mut self, choice: &str, word: &str) {
        self.seen.clear();
        self.type_line("");
        self.wait_for("6 power off");
        self.type_line("4");
        self.wait_for("A factory reset forgets");
        self.type_line(choice);
        self.wait_for("All configuration");
        self.seen.clear();
        self.type_line(word);
    }

    /// Waits until it is off.
    pub(crate) fn ended(mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.emulator.try_wait().unwrap() {
                Some(status) => return status,
                None => assert!(Instant::now() < end, "the machine stays on"),
            }
            // Its console ends with it.
            let _ = self.console.recv_timeout(Duration::from_millis(100));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
        drop(self.chip.take());
    }
}
