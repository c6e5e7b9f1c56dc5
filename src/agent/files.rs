//! The agent's files: carries out what the node wants kept.
//!
//! A file is replaced at once or not at all: it is written beside the old one, synced, renamed over it, and the
//! directory synced. Keys and tags may be secret, so nobody but the owner can read them.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::snapshot_file::SnapshotFile;
use crate::cluster::Tags;
use crate::serf::{FileCommand, Serf};

/// Extension of a file that is to replace another.
const TEMPORARY_EXTENSION: &str = ".new";
/// The owner may read and write, nobody else anything.
const SECRET_MODE: u32 = 0o600;

/// The agent's files.
#[derive(Debug)]
pub(super) struct Files {
    keyring: Option<PathBuf>,
    tags: Option<PathBuf>,
    snapshot: Option<SnapshotFile>,
    /// Whether the last change of the snapshot failed.
    snapshot_failed: bool,
}

impl Files {
    pub(super) const fn new(keyring: Option<PathBuf>, tags: Option<PathBuf>) -> Self {
        Self {
            keyring,
            tags,
            snapshot: None,
            snapshot_failed: false,
        }
    }

    pub(super) fn set_snapshot(&mut self, file: SnapshotFile) {
        self.snapshot = Some(file);
    }

    /// Carries out everything that the node wants kept.
    pub(super) fn carry_out(&mut self, now: Instant, serf: &mut Serf) {
        while let Some(command) = serf.poll_file() {
            match command {
                FileCommand::Snapshot(command) => {
                    let Some(file) = &mut self.snapshot else {
                        continue;
                    };
                    let result = file.carry_out(command);
                    let failed_before =
                        std::mem::replace(&mut self.snapshot_failed, result.is_err());
                    if let Err(error) = result {
                        log::error!("serf: Failed to update snapshot: {error}");
                        serf.snapshot_failed(now);
                    } else if failed_before {
                        log::info!("serf: The snapshot is complete again");
                    }
                }
                FileCommand::Keyring(json) => {
                    let result = replace_secret(self.keyring.as_deref(), json.as_bytes());
                    serf.keyring_written(now, result.map_err(|error| error.to_string()));
                }
                FileCommand::Tags(tags) => {
                    let result = replace_secret(self.tags.as_deref(), to_json(&tags).as_bytes());
                    serf.tags_written(now, result.map_err(|error| error.to_string()));
                }
            }
        }
    }
}

/// Tags as the reference writes them.
fn to_json(tags: &Tags) -> String {
    let tags: std::collections::BTreeMap<&str, &str> = tags.iter().collect();
    // Texts can always be written as JSON.
    serde_json::to_string_pretty(&tags).unwrap_or_default()
}

fn replace_secret(path: Option<&Path>, bytes: &[u8]) -> io::Result<()> {
    match path {
        Some(path) => replace(path, bytes, SECRET_MODE).map_err(|error| at(path, &error)),
        None => Ok(()),
    }
}

/// An error that says at which file it was.
pub(super) fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Replaces a file, at once or not at all.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut temporary = OsString::from(path);
    temporary.push(TEMPORARY_EXTENSION);
    let temporary = PathBuf::from(temporary);
    let result = write_synced(&temporary, bytes, mode)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_directory_of(path));
    if result.is_err() {
        // It may not be there; either way nothing more can be done about it.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes sure that what was renamed stays so.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_kept_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        fs::write(&path, "old").unwrap();
        replace(&path, b"new", SECRET_MODE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tags.json");
        fs::write(&path, "old").unwrap();
        fs::create_dir(directory.path().join("tags.json.new")).unwrap();
        assert!(replace(&path, b"new", SECRET_MODE).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn tags_are_written_as_the_reference_does() {
        let tags = [("role", "web"), ("dc", "east")].into_iter().collect();
        assert_eq!(
            to_json(&tags),
            "{\n  \"dc\": \"east\",\n  \"role\": \"web\"\n}"
        );
    }
}
