//! A small disk that things happen to.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::common::mounts::{make_read_only, mount_disk, unmount};

/// Room for an agent's log and files, in KiB.
const SIZE_KIB: u32 = 4096;
/// What is written at once.
const PAGE_BYTES: usize = 4096;

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has no room left, in the middle of a line of the snapshot.
    Full,
    /// It takes no new files and no new names; the snapshot, which was open, is gone.
    ReadOnly,
    /// The folder of the agent's files is gone.
    Vanished,
    /// The process can open no more files; the snapshot, which was open, is gone.
    NoDescriptors,
}

/// A disk of its own, or where that is not needed a folder.
pub(crate) struct Disk {
    root: tempfile::TempDir,
    fault: Fault,
}

impl Disk {
    pub(crate) fn new(fault: Fault) -> Self {
        let root = tempfile::tempdir().unwrap();
        if matches!(fault, Fault::Full | Fault::ReadOnly) {
            mount_disk(root.path(), SIZE_KIB);
        }
        let disk = Self { root, fault };
        fs::create_dir(disk.folder()).unwrap();
        disk
    }

    /// The disk itself.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where the agent's files are.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("files")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The text of a file; none if it is not there.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// The names of all files.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder()).into_iter().flatten();
        let name = |entry: std::io::Result<fs::DirEntry>| {
            let name = entry.unwrap().file_name();
            name.into_string().unwrap()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    pub(crate) fn begin_fault(&self) {
        match self.fault {
            Fault::Full => {
                self.fill_page("snapshot");
                self.fill();
            }
            Fault::ReadOnly => {
                fs::remove_file(self.file("snapshot")).unwrap();
                make_read_only(&self.folder());
            }
            Fault::Vanished => fs::remove_dir_all(self.folder()).unwrap(),
            Fault::NoDescriptors => fs::remove_file(self.file("snapshot")).unwrap(),
        }
    }

    pub(crate) fn end_fault(&self) {
        match self.fault {
            Fault::Full => fs::remove_file(self.ballast()).unwrap(),
            Fault::ReadOnly => unmount(&self.folder()),
            Fault::Vanished => fs::create_dir(self.folder()).unwrap(),
            Fault::NoDescriptors => {}
        }
    }

    fn ballast(&self) -> PathBuf {
        self.root.path().join("ballast")
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        while ballast.write_all(&[b'x'; PAGE_BYTES]).is_ok() {}
    }

    /// Appends a comment, so that the next line begins in this page of the disk and ends in one that is not there yet.
    fn fill_page(&self, name: &str) {
        let path = self.file(name);
        let used = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap() % PAGE_BYTES;
        let mut comment = vec![b'#'; PAGE_BYTES - used - 3];
        comment.push(b'\n');
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(&comment).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if matches!(self.fault, Fault::Full | Fault::ReadOnly) {
            // Or else the folder below can't be removed; where that fails, the mounts go with the process.
            let _ = std::process::Command::new("umount")
                .args(["--recursive", "--lazy"])
                .arg(self.root.path())
                .status();
        }
    }
}
