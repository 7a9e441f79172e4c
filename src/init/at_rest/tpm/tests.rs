//! Against a TPM in software (swtpm). Where it is not installed this says SKIP; `STRATAMX_REQUIRE_VM` makes that a failure.

use super::*;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A TPM that forgets itself with its directory.
struct Software {
    process: Child,
    directory: PathBuf,
}

impl Software {
    /// One that runs, and a connection to it.
    fn start(name: &str) -> Option<(Self, Tpm<TcpStream>)> {
        let directory = std::env::temp_dir().join(format!("stratamx-tpm-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let state = format!("dir={}", directory.display());
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2", "--tpmstate", &state, "--server"]);
        command.arg(format!("type=tcp,port={port},bindaddr=127.0.0.1"));
        command.args(["--flags", "not-need-init,startup-clear"]).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(process) = command.spawn() else {
            assert!(std::env::var_os("STRATAMX_REQUIRE_VM").is_none(), "swtpm is not installed");
            eprintln!("SKIP: swtpm is not installed");
            return None;
        };
        let software = Self { process, directory };
        // It listens soon, or never: each try that is refused is over at once.
        let stream = (0..20_000).find_map(|_| {
            std::thread::yield_now();
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Some((software, Tpm(stream.expect("swtpm listens"))))
    }
}

impl Drop for Software {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// `TPM2_PCR_Extend` of PCR 7: as if Secure Boot's state had changed.
fn extend_pcr_7(tpm: &mut Tpm<TcpStream>) {
    let head = [0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, 7, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    tpm.ask(&[&head[..], &[0, 0, 0, 1, 0, 0x0b], &[1; 32]].concat()).unwrap();
}

#[test]
fn a_secret_opens_in_its_tpm_and_state_alone() {
    let (Some((_one, mut tpm)), Some((_other, mut stranger))) =
        (Software::start("one"), Software::start("other"))
    else {
        return;
    };
    let secret = Key::random().unwrap();
    let object = tpm.seal(&secret).unwrap();
    // More often than it has room for what is not flushed.
    for _ in 0..8 {
        assert_eq!(tpm.unseal(&object), Ok(secret.clone()));
    }
    assert!(stranger.unseal(&object).unwrap_err().contains("another one, or was cleared"));
    let mut altered = object.clone();
    *altered.private.last_mut().unwrap() ^= 1;
    assert!(tpm.unseal(&altered).unwrap_err().contains("another one, or was cleared"));
    extend_pcr_7(&mut tpm);
    let told = tpm.unseal(&object).unwrap_err();
    assert!(told.contains("PCR 7"), "{told}");
    let anew = tpm.seal(&secret).unwrap();
    assert_eq!(tpm.unseal(&anew), Ok(secret));
}
