//! Other programs that do a part of the work, and hashes.

use crate::fail::Failure;
use ring::digest;
use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::process::{Command, Stdio};

/// The instant of everything in an image: a time stamp that is the same in each build. mtools and mkfs.vfat take it from the environment.
/// 2020-01-01, which FAT can say.
pub(crate) const EPOCH: &str = "1577836800";

/// Runs a program to its end; what it wrote.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<Vec<u8>, Failure> {
    run_with(program, arguments, b"")
}

/// The same with something on its standard input.
pub(crate) fn run_with<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
    input: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut command = Command::new(program);
    command.args(arguments).env("SOURCE_DATE_EPOCH", EPOCH).env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
    // mkfs.vfat is in /sbin, which is not on everybody's path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("MTOOLS_SKIP_CHECK", "1");
    let failure = |said: String| Failure::Tool { program: program.to_owned(), said };
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| failure(error.to_string()))?;
    let mut stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Beside the reader: a program that answers while it is fed would fill its pipe.
        scope.spawn(move || stdin.take().map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output()
    });
    let output = output.map_err(|error| failure(error.to_string()))?;
    if !output.status.success() {
        return Err(failure(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(output.stdout)
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn sha256(mut reader: impl Read) -> std::io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|octet| format!("{octet:02x}")).collect())
}
