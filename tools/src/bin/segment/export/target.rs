//! Where messages go: a file each, an mbox, a Maildir. Nothing is overwritten, and what is there under its name is whole and
//! on stable storage.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::body::Form;

/// The shape of an export.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Format {
    /// A file a message, named by its queue id, with CRLF
    Eml,
    /// A directory with tmp, new and cur, a file a message
    Maildir,
    /// One file, mboxrd
    Mbox,
}

/// See the module.
pub(crate) enum Target {
    Files(PathBuf),
    Maildir(PathBuf),
    Mbox { file: BufWriter<File>, end: u64 },
}

impl Target {
    /// Makes what must be there first.
    pub(crate) fn open(format: Format, path: &Path) -> io::Result<Self> {
        match format {
            Format::Eml => {
                fs::create_dir_all(path)?;
                Ok(Self::Files(path.to_path_buf()))
            }
            Format::Maildir => {
                for name in ["tmp", "new", "cur"] {
                    fs::create_dir_all(path.join(name))?;
                }
                Ok(Self::Maildir(path.to_path_buf()))
            }
            Format::Mbox => {
                let file = OpenOptions::new().write(true).create_new(true).open(path)?;
                sync_directory(path.parent())?;
                Ok(Self::Mbox { file: BufWriter::new(file), end: 0 })
            }
        }
    }

    /// How a message is written here.
    pub(crate) const fn form(&self) -> Form {
        Form {
            line_feed: !matches!(self, Self::Files(_)),
            quoted: matches!(self, Self::Mbox { .. }),
            stuffed: false,
        }
    }

    /// Puts one message under `name`, which `write` writes; in an mbox behind the line `separator`. If that fails nothing of it
    /// is left.
    pub(crate) fn put<E: From<io::Error>>(
        &mut self,
        name: &str,
        separator: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Files(directory) => {
                let part = directory.join(format!(".{name}.eml.part"));
                put_file(&part, &directory.join(format!("{name}.eml")), write)
            }
            Self::Maildir(directory) => {
                let name = format!("{name}.stratamx");
                let read = fs::read_dir(directory.join("cur"))?;
                for entry in read {
                    // Flags are appended to a name once the message was seen.
                    if entry?.file_name().to_string_lossy().split(':').next() == Some(&name) {
                        return Err(exists(&directory.join("cur").join(name)).into());
                    }
                }
                put_file(&directory.join("tmp").join(&name), &directory.join("new").join(&name), write)
            }
            Self::Mbox { file, end } => {
                writeln!(file, "{separator}")?;
                let written = write(file);
                if written.is_err() {
                    file.flush()?;
                    file.get_ref().set_len(*end)?;
                    file.seek(io::SeekFrom::Start(*end))?;
                    return written;
                }
                writeln!(file)?;
                file.flush()?;
                *end = file.stream_position()?;
                Ok(())
            }
        }
    }

    /// Makes names durable.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Files(directory) => sync_directory(Some(&directory)),
            Self::Maildir(directory) => {
                sync_directory(Some(&directory.join("new")))?;
                sync_directory(Some(&directory))
            }
            Self::Mbox { file, .. } => file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all(),
        }
    }
}

/// Writes `part`, makes it durable and gives it its name.
fn put_file<E: From<io::Error>>(
    part: &Path,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    if path.try_exists()? {
        return Err(exists(path).into());
    }
    // What an export that was killed left; nobody else uses such a name.
    let mut file = BufWriter::new(File::create(part)?);
    let written = write(&mut file).and_then(|()| {
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(name(part, path)?)
    });
    let _ = fs::remove_file(part);
    written
}

/// A link fails where the name is taken; not every file system has links.
fn name(part: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(part, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(_) if !path.try_exists()? => fs::rename(part, path),
        other => other,
    }
}

fn exists(path: &Path) -> io::Error {
    let what = format!("{}: is there already, and nothing is overwritten", path.display());
    io::Error::new(io::ErrorKind::AlreadyExists, what)
}

fn sync_directory(directory: Option<&Path>) -> io::Result<()> {
    let directory = directory.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
