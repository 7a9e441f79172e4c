//! One image from the data directory to the EFI system partition: looked at, written, read back, named.

use super::esp::{Esp, sync_directory};
use crate::limits::{UPDATE_OCTETS_MAX, UPDATE_SPARE_OCTETS};
use crate::update::{Image, Key, Running, Signature, examine};
use rustix::fs::{Advice, OFlags, fadvise};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// No loader starts what is called so; it sorts before everything and has no suffix.
const NEW: &str = ".new-file";
/// How often the loader starts a version that does not prove itself.
const TRIES: u32 = 3;

/// Does it. `begin` makes durable that it has begun, before the partition is touched. What will start.
///
/// # Errors
/// A sentence; what runs now starts again as before.
pub(super) fn install(
    source: &Path,
    signature: &str,
    key: &Key,
    running: &Running,
    begin: impl FnOnce(&str) -> Result<(), String>,
) -> Result<String, String> {
    let text = |error: io::Error| format!("{}: {error}", source.display());
    let signature = Signature::parse(signature).map_err(|error| error.to_string())?;
    let mut file = open(source).map_err(text)?;
    let look = |file: &mut File| examine(file, &signature, key, running).map_err(|error| error.to_string());
    let image = look(&mut file)?;
    begin(&image.version)?;
    let esp = Esp::open()?;
    let placed = place(&esp, &mut file, &image, &running.version, look);
    let synced = esp.sync();
    placed.and(synced).map(|()| image.version)
}

/// The server's file: a file, and no larger than an image is. What it names is not followed.
fn open(source: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(source)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > UPDATE_OCTETS_MAX {
        return Err(io::Error::other("it is no file, or too large a one"));
    }
    Ok(file)
}

/// Makes room, writes, reads back, renames. What the disk has is looked at, not what the server's file had: that may be another by now.
fn place(
    esp: &Esp,
    file: &mut File,
    image: &Image,
    running: &str,
    look: impl Fn(&mut File) -> Result<Image, String>,
) -> Result<(), String> {
    let text = |error: io::Error| format!("the EFI system partition: {error}");
    let (directory, entries) = (esp.directory(), esp.entries()?);
    let is_running = |version: &Option<String>| version.as_deref() == Some(running);
    if !entries.iter().any(|entry| is_running(&entry.version) && entry.tries > 0) {
        return Err(format!(
            "the running version {running} is not on the EFI system partition: nothing is replaced"
        ));
    }
    let new = directory.join(NEW);
    let _ = fs::remove_file(&new);
    for other in entries.iter().filter(|entry| !is_running(&entry.version)) {
        fs::remove_file(&other.path).map_err(text)?;
    }
    esp.sync()?;
    let octets = file.metadata().map_err(text)?.len();
    let free = esp.free()?;
    if free < octets + UPDATE_SPARE_OCTETS {
        return Err(format!("the EFI system partition has {free} octets left, and the image is {octets}"));
    }
    let written = write(file, &new).map_err(text).and_then(|mut file| look(&mut file));
    match written {
        Ok(written) if written == *image => {}
        written => {
            let _ = fs::remove_file(&new);
            return Err(written.err().unwrap_or_else(|| "the image changed while it was written".to_owned()));
        }
    }
    let name = format!("stratamx_{}+{TRIES}.efi", image.version);
    fs::rename(&new, directory.join(name)).map_err(text)?;
    sync_directory(&directory)
}

/// Writes a copy that is on the disk when it is read again.
fn write(file: &mut File, new: &Path) -> io::Result<File> {
    file.seek(SeekFrom::Start(0))?;
    let mut copy = OpenOptions::new().write(true).create_new(true).open(new)?;
    io::copy(&mut file.take(UPDATE_OCTETS_MAX), &mut copy)?;
    copy.sync_all()?;
    drop(copy);
    let copy = File::open(new)?;
    // What is in memory proves nothing about the disk.
    fadvise(&copy, 0, None, Advice::DontNeed)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A partition with these versions; the file that is handed in.
    fn partition(test: &str, names: &[&str]) -> (PathBuf, Esp, File) {
        let root = std::env::temp_dir().join(format!("stratamx-esp-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let esp = Esp::at(&root);
        fs::create_dir_all(esp.directory()).unwrap();
        for name in names {
            let version = name.trim_start_matches("stratamx_").split(['+', 'e']).next().unwrap();
            let octets = crate::update::tests::image(version.trim_end_matches('.'));
            fs::write(esp.directory().join(name), octets).unwrap();
        }
        let source = root.join("update.efi");
        fs::write(&source, crate::update::tests::image("3")).unwrap();
        (root, esp, open(&source).unwrap())
    }

    fn names(esp: &Esp) -> Vec<String> {
        let all = fs::read_dir(esp.directory()).unwrap();
        let mut names: Vec<String> =
            all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn new() -> Image {
        Image { version: "3".to_owned(), variant: "cloud".to_owned(), processor: "x86_64" }
    }

    #[test]
    fn the_running_version_and_the_new_one_are_left() {
        let (root, esp, mut file) = partition(
            "left",
            &["stratamx_1.efi", "stratamx_2.efi", "stratamx_4+0-3.efi", ".new-file", "other.efi"],
        );
        place(&esp, &mut file, &new(), "2", |file| Image::read(file).map_err(|error| error.to_string()))
            .unwrap();
        assert_eq!(names(&esp), ["other.efi", "stratamx_2.efi", "stratamx_3+3.efi"]);
        assert_eq!(
            fs::read(esp.directory().join("stratamx_3+3.efi")).unwrap(),
            fs::read(root.join("update.efi")).unwrap()
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_the_disk_gives_back_decides() {
        let (root, esp, mut file) = partition("back", &["stratamx_2.efi"]);
        let refused = place(&esp, &mut file, &new(), "2", |_| Err("the signature".to_owned())).unwrap_err();
        assert_eq!(refused, "the signature");
        let other = Image { version: "2.9".to_owned(), ..new() };
        assert!(place(&esp, &mut file, &new(), "2", |_| Ok(other.clone())).unwrap_err().contains("changed"));
        assert_eq!(names(&esp), ["stratamx_2.efi"]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn nothing_is_replaced_where_the_running_version_is_not() {
        let (root, esp, mut file) = partition("not", &["stratamx_1.efi", "stratamx_2+0-3.efi"]);
        let refused = place(&esp, &mut file, &new(), "2", |_| Ok(new())).unwrap_err();
        assert!(refused.contains("2 is not on the EFI system partition"), "{refused}");
        assert_eq!(names(&esp).len(), 2);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_servers_file_is_a_file() {
        let (root, _, _) = partition("file", &[]);
        let link = root.join("link");
        std::os::unix::fs::symlink(root.join("update.efi"), &link).unwrap();
        assert!(open(&link).is_err() && open(&root).is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
