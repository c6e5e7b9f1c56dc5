//! The snapshot file on disk: carries out what [`serf::snapshot`](crate::serf::snapshot) decides.
//!
//! Appends go to the end of the open file, if it is still the one at its path: what goes to a removed file is lost
//! without an error. A replacement is written beside it, synced and renamed over it, and the directory synced, so that a
//! crash leaves the old file or the new one. A failed write changes nothing here: the core hears of it and replaces the
//! file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::files::{at, sync_directory_of};
use crate::serf::snapshot::{AfterLeave, Replay, Snapshot, SnapshotCommand};

/// How much of the file is read at once.
const READ_BYTES: usize = 16 * 1024;
/// The reference's extension for the file that is to replace the other.
const TEMPORARY_EXTENSION: &str = ".compact";

/// An open snapshot file.
#[derive(Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    file: File,
}

impl SnapshotFile {
    /// Opens the file, or makes an empty one, and reads it.
    ///
    /// # Errors
    /// When it can't be opened or read.
    pub fn open(
        now: Instant,
        path: &Path,
        after_leave: AfterLeave,
    ) -> io::Result<(Self, Snapshot)> {
        let mut file = open(path)?;
        let mut replay = Replay::new(after_leave);
        let mut bytes = vec![0; READ_BYTES];
        loop {
            match file.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => replay.handle_bytes(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let path = path.to_owned();
        Ok((Self { path, file }, Snapshot::new(now, replay, after_leave)))
    }

    /// Carries out what the core decided.
    ///
    /// # Errors
    /// What the system says. The core is to hear of it.
    pub fn carry_out(&mut self, command: SnapshotCommand) -> io::Result<()> {
        let result = match command {
            SnapshotCommand::Append(lines) => self
                .check_place()
                .and_then(|()| self.file.write_all(&lines)),
            SnapshotCommand::Replace(lines) => self.replace(&lines),
            SnapshotCommand::Sync => self.check_place().and_then(|()| self.file.sync_all()),
        };
        result.map_err(|error| at(&self.path, &error))
    }

    /// Makes sure that the open file is the one that the next start will find.
    fn check_place(&self) -> io::Result<()> {
        let (open, there) = (self.file.metadata()?, fs::metadata(&self.path)?);
        if (open.dev(), open.ino()) == (there.dev(), there.ino()) {
            return Ok(());
        }
        Err(io::Error::other("another file has taken its place"))
    }

    fn replace(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut temporary = OsString::from(&self.path);
        temporary.push(TEMPORARY_EXTENSION);
        let temporary = PathBuf::from(temporary);
        let result = write_synced(&temporary, lines).and_then(|file| {
            fs::rename(&temporary, &self.path)?;
            self.file = file;
            sync_directory_of(&self.path)
        });
        if result.is_err() {
            // It may not be there; either way nothing more can be done about it.
            let _ = fs::remove_file(&temporary);
        }
        result
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
}

/// Writes a file that is to be appended to later.
fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = open(path)?;
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::cluster::{Event, Member, MemberEvent, MemberEventKind};
    use crate::serf::snapshot::{COMPACT_BYTES_MIN, FLUSH_INTERVAL, RETRY_INTERVAL};

    fn join(name: &str) -> Event {
        let members = vec![Member::alive(name, IpAddr::V4(Ipv4Addr::LOCALHOST), 7946)];
        let kind = MemberEventKind::Join;
        Event::Member(MemberEvent { kind, members })
    }

    fn names(path: &Path) -> Vec<String> {
        let opened = SnapshotFile::open(Instant::now(), path, AfterLeave::StayAway);
        let (_, snapshot) = opened.expect("the file opens");
        let alive = snapshot.recovered().alive.into_iter();
        alive.map(|(name, _)| name.to_string()).collect()
    }

    struct Node {
        now: Instant,
        file: SnapshotFile,
        snapshot: Snapshot,
    }

    impl Node {
        fn new(path: &Path) -> Self {
            let now = Instant::now();
            let (file, snapshot) =
                SnapshotFile::open(now, path, AfterLeave::StayAway).expect("the file opens");
            Self {
                now,
                file,
                snapshot,
            }
        }

        fn hear(&mut self, event: &Event, then_pass: std::time::Duration) {
            self.snapshot.handle_event(self.now, event);
            self.now += then_pass;
            self.snapshot.handle_timeout(self.now);
            while let Some(command) = self.snapshot.poll_command() {
                if self.file.carry_out(command).is_err() {
                    self.snapshot.handle_write_error(self.now);
                }
            }
        }
    }

    #[test]
    fn what_was_written_is_found_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("snapshot");
        let mut node = Node::new(&path);
        node.hear(&join("a"), FLUSH_INTERVAL);
        node.hear(&join("b"), FLUSH_INTERVAL);
        assert_eq!(names(&path), ["a", "b"]);
    }

    #[test]
    fn a_replaced_file_is_appended_to() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("snapshot");
        let rubbish = vec![b'x'; COMPACT_BYTES_MIN as usize];
        fs::write(&path, rubbish).expect("written");
        let mut node = Node::new(&path);
        node.hear(&join("a"), FLUSH_INTERVAL);
        assert!(fs::metadata(&path).expect("there").len() < 200);
        node.hear(&join("b"), FLUSH_INTERVAL);
        assert_eq!(names(&path), ["a", "b"]);
        let left = fs::read_dir(directory.path()).expect("listed").count();
        assert_eq!(left, 1);
    }

    #[test]
    fn a_failed_replacement_is_tried_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("snapshot");
        fs::write(&path, "torn").expect("written");
        let in_the_way = directory.path().join("snapshot.compact");
        fs::create_dir(&in_the_way).expect("made");
        let mut node = Node::new(&path);
        node.hear(&join("a"), FLUSH_INTERVAL);
        assert_eq!(fs::read(&path).expect("read"), b"torn");
        fs::remove_dir(&in_the_way).expect("removed");
        node.hear(&join("b"), RETRY_INTERVAL);
        assert_eq!(names(&path), ["a", "b"]);
    }

    #[test]
    fn a_file_that_vanishes_or_is_replaced_is_made_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("snapshot");
        let mut node = Node::new(&path);
        node.hear(&join("a"), FLUSH_INTERVAL);
        fs::remove_file(&path).expect("removed");
        node.hear(&join("b"), FLUSH_INTERVAL);
        assert_eq!(names(&path), ["a", "b"]);
        let other = directory.path().join("other");
        fs::write(&other, "alive: x 127.0.0.1:1\n").expect("written");
        fs::rename(&other, &path).expect("renamed");
        node.hear(&join("c"), FLUSH_INTERVAL);
        assert_eq!(names(&path), ["a", "b", "c"]);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("no").join("snapshot");
        let opened = SnapshotFile::open(Instant::now(), &path, AfterLeave::StayAway);
        let kind = opened.err().map(|error| error.kind());
        assert_eq!(kind, Some(io::ErrorKind::NotFound));
    }
}
