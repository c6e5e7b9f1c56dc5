//! What this process takes itself.

use rustix::param::clock_ticks_per_second;

/// The most memory that it has had resident, in MiB.
pub(crate) fn peak_mib() -> f64 {
    memory_mib("VmHWM:")
}

/// What it has resident now, in MiB.
pub(crate) fn resident_mib() -> f64 {
    memory_mib("VmRSS:")
}

fn memory_mib(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib: Option<f64> =
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or_default() / 1024.0
}

/// How long it has used a processor, in seconds.
pub(crate) fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold spaces; user time is the 14th field of all.
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: Option<f64> = fields
        .split(' ')
        .nth(11)
        .and_then(|field| field.parse().ok());
    ticks.unwrap_or_default() / clock_ticks_per_second() as f64
}
