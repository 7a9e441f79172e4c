//! The disk of the appliance, as PID 1 told it last. Nothing of it anywhere else.

use super::page::Page;
use crate::update::machine::{Disk, State};
use core::fmt::Display;

/// Writes the families of the disk.
pub(super) fn write(page: &mut Page, disk: Option<&Disk>) {
    let device = disk.map(|disk| disk.device.as_str()).unwrap_or_default();
    let labels = [("device", device)];
    let figures = disk.map(|disk| disk.figures.clone()).unwrap_or_default();
    page.begin("stratamx_disk_state");
    if let Some(disk) = disk {
        for state in State::ALL {
            page.put(&[("device", device), ("state", state.word())], u8::from(state == disk.state));
        }
    }
    let mut one = |name, value: Option<&dyn Display>| {
        page.begin(name);
        if let Some(value) = value {
            page.put(&labels, value);
        }
    };
    let percent = |percent: u64| format!("{}.{:02}", percent / 100, percent % 100);
    let (used, spare) = (figures.used_percent.map(percent), figures.spare_percent.map(percent));
    one("stratamx_disk_temperature_celsius", shown(figures.temperature_c.as_ref()));
    one("stratamx_disk_used_ratio", shown(used.as_ref()));
    one("stratamx_disk_spare_ratio", shown(spare.as_ref()));
    one("stratamx_disk_media_errors_total", shown(figures.media_errors.as_ref()));
    one("stratamx_disk_reallocated_blocks", shown(figures.reallocated.as_ref()));
    one("stratamx_disk_unsafe_shutdowns_total", shown(figures.unsafe_shutdowns.as_ref()));
    one("stratamx_disk_io_errors_total", shown(disk.map(|_| &figures.io_errors)));
    one("stratamx_disk_file_system_errors_total", shown(disk.map(|_| &figures.file_system_errors)));
}

fn shown<T: Display>(value: Option<&T>) -> Option<&dyn Display> {
    value.map(|value| value as &dyn Display)
}

#[cfg(test)]
mod tests {
    use super::super::page::Format;
    use super::*;
    use crate::update::machine::Figures;

    #[test]
    fn what_the_disk_does_not_tell_is_left_out() {
        let page_of = |disk: Option<&Disk>| {
            let mut page = Page::new(Format::Text, 0);
            write(&mut page, disk);
            let text = page.finish();
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(page_of(None), Vec::<String>::new());
        let figures = Figures { used_percent: Some(103), io_errors: 2, ..Figures::default() };
        let disk = Disk { device: "nvme0n1".to_owned(), state: State::Degraded, figures, ..Disk::default() };
        assert_eq!(
            page_of(Some(&disk)),
            [
                r#"stratamx_disk_state{device="nvme0n1",state="silent"} 0"#,
                r#"stratamx_disk_state{device="nvme0n1",state="healthy"} 0"#,
                r#"stratamx_disk_state{device="nvme0n1",state="degraded"} 1"#,
                r#"stratamx_disk_state{device="nvme0n1",state="failing"} 0"#,
                r#"stratamx_disk_used_ratio{device="nvme0n1"} 1.03"#,
                r#"stratamx_disk_io_errors_total{device="nvme0n1"} 2"#,
                r#"stratamx_disk_file_system_errors_total{device="nvme0n1"} 0"#,
            ]
        );
    }
}
