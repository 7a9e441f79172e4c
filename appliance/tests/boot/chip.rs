//! A TPM in software, for one machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// What makes it this one and no other: its state, which outlives its machine's boots.
pub(crate) struct Chip {
    state: PathBuf,
    socket: PathBuf,
}

/// While a machine runs.
pub(crate) struct Running(Child);

impl Chip {
    /// A new one.
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let state = directory.join(format!("tpm-{name}"));
        fs::create_dir_all(&state).unwrap();
        // A socket's path is short.
        let socket = std::env::temp_dir().join(format!("stratamx-tpm-{}-{name}", std::process::id()));
        Self { state, socket }
    }

    /// Runs it, and what the emulator is told of it.
    pub(crate) fn start(&self) -> (Running, [String; 6]) {
        let _ = fs::remove_file(&self.socket);
        let state = format!("dir={}", self.state.display());
        let control = format!("type=unixio,path={}", self.socket.display());
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2", "--tpmstate", &state, "--ctrl", &control, "--terminate"]);
        let running = Running(command.stdin(Stdio::null()).spawn().unwrap());
        let end = Instant::now() + PATIENCE;
        while !self.socket.exists() {
            assert!(Instant::now() < end, "swtpm does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        let arguments = [
            "-chardev",
            &format!("socket,id=tpm-socket,path={}", self.socket.display()),
            "-tpmdev",
            "emulator,id=tpm,chardev=tpm-socket",
            "-device",
            "tpm-crb,tpmdev=tpm",
        ];
        (running, arguments.map(str::to_owned))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
