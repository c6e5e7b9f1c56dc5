//! What the figures were measured on.

use std::process::{Command, Stdio};

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .output();
    output.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

/// Prints date, machine and versions.
pub(crate) fn describe() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{}: {processors} × {model}, Linux {}, load {} before it began; serfling {} ({}), reference {} of Debian's package {}.",
        output("date", &["-u", "+%Y-%m-%d"]),
        output("uname", &["-r"]),
        load.split(' ').next().unwrap_or_default(),
        env!("CARGO_PKG_VERSION"),
        output("git", &["describe", "--always", "--dirty"]),
        output("serf", &["version"])
            .lines()
            .next()
            .unwrap_or_default(),
        output("dpkg-query", &["-W", "-f=${Package} ${Version}", "serf"]),
    );
}

/// Keeps this program off the processor that servers have. With one processor they share it.
pub(crate) fn keep_to_second_processor() {
    // Where it can't be done, figures are those of a machine that can't.
    let _ = Command::new("taskset")
        .args(["-a", "-c", "-p", "1", &std::process::id().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
