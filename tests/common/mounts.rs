//! Mounts that nobody else sees, for root and for whoever may make user namespaces.

use std::path::Path;
use std::process::Command;

/// Says to a test that it runs inside.
const INSIDE: &str = "SERFLING_TEST_OWN_MOUNTS";

/// Runs a test, which goes by this name, in a process with mounts of its own. They go with it, however it ends.
pub fn with_own_mounts(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.arg("--mount");
        command
    };
    let tried = unshare().arg("true").output();
    let works = tried.as_ref().is_ok_and(|output| output.status.success());
    assert!(
        works,
        "{name} needs mounts of its own, by util-linux's unshare: as root, or where everybody may make user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0): {tried:?}"
    );
    let output = unshare()
        .arg(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    println!("{said}");
    assert!(output.status.success(), "it failed inside");
    assert!(said.contains("1 passed"), "no test has the name {name}");
}

/// A disk of some KiB in memory.
pub fn mount_disk(at: &Path, kib: u32) {
    let options = format!("size={kib}k,mode=700");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
        .arg(at));
}

/// Makes a folder read-only, until it is unmounted. What is open for writing stays so.
pub fn make_read_only(folder: &Path) {
    run(Command::new("mount").arg("--bind").args([folder, folder]));
    run(Command::new("mount")
        .args(["-o", "remount,bind,ro"])
        .arg(folder));
}

/// Undoes the last mount there.
pub fn unmount(folder: &Path) {
    run(Command::new("umount").arg(folder));
}

fn run(command: &mut Command) {
    let output = command.output().expect("it can be run");
    assert!(output.status.success(), "{command:?}: {output:?}");
}
