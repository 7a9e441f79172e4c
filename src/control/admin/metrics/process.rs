//! What the system says of this process. What it does not say is left out.

use super::page::Page;
use crate::config;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;

/// Clock ticks of /proc in a second: the same on all machines (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Writes the families of the process.
pub(super) fn write(page: &mut Page) {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    page.one("process_cpu_seconds_total", format_args!("{}.{:09}", used.tv_sec, used.tv_nsec));
    page.begin("process_max_fds");
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.put(&[], most);
    }
    page.begin("process_open_fds");
    if let Some(open) = open_fds() {
        page.put(&[], open);
    }
    let status = read("/proc/self/status");
    for (name, key) in
        [("process_resident_memory_bytes", "VmRSS:"), ("process_virtual_memory_bytes", "VmSize:")]
    {
        page.begin(name);
        if let Some(kibibytes) = status.as_deref().and_then(|status| number_behind(status, key)) {
            page.put(&[], kibibytes * 1024);
        }
    }
    page.begin("process_start_time_seconds");
    if let Some(started) = started() {
        page.put(&[], started);
    }
}

/// Newer systems tell the number as the size of the directory; else its entries are counted.
fn open_fds() -> Option<u64> {
    let told = rustix::fs::stat("/proc/self/fd").ok().and_then(|status| u64::try_from(status.st_size).ok());
    told.filter(|count| *count > 0).or_else(|| {
        // One of them is that of the directory itself.
        let entries = std::fs::read_dir("/proc/self/fd").ok()?.count();
        Some(entries.saturating_sub(1) as u64)
    })
}

/// In seconds since 1970.
fn started() -> Option<f64> {
    let of_system = number_behind(&read("/proc/stat")?, "btime")?;
    Some(seconds(of_system) + seconds(start_ticks(&read("/proc/self/stat")?)?) / TICKS)
}

/// The twenty-second field; the second, in parentheses, may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn number_behind(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn seconds(number: u64) -> f64 {
    number as f64
}

fn read(path: &str) -> Option<String> {
    String::from_utf8(config::read(Path::new(path)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::page::Format;
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let behind: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("77 (a) b (c) {}", behind.join(" "));
        assert_eq!(start_ticks(&stat), Some(22));
        assert_eq!(number_behind("VmSize:\t  9 kB\nVmRSS:\t   1234 kB\n", "VmRSS:"), Some(1234));
        assert_eq!(number_behind("cpu 1\nbtime 1700000000\n", "btime"), Some(1_700_000_000));
        assert_eq!(start_ticks("broken"), None);
    }

    #[test]
    fn this_process_is_measured() {
        let mut page = Page::new(Format::Text, 0);
        write(&mut page);
        let text = page.finish();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_start_time_seconds") > 1.6e9 && value("process_cpu_seconds_total") > 0.0);
    }
}
