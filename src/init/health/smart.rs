//! What `smartctl --json` says of a disk: read, and nothing judged. Whatever it leaves out, or says otherwise than its version 7 does, is not known.
//!
//! smartctl speaks NVMe, ATA and SCSI, also through the bridges of USB and the translation of SATA behind SAS; it is Debian's smartmontools.

use serde::Deserialize;

/// What the disk says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Smart {
    pub(super) model: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) firmware: Option<String>,
    /// Its own verdict.
    pub(super) passed: Option<bool>,
    /// NVM Express Base Specification 2.0, figure 207, octet 0: bits.
    pub(super) critical_warning: Option<u64>,
    pub(super) temperature_c: Option<i64>,
    pub(super) used_percent: Option<u64>,
    pub(super) spare_percent: Option<u64>,
    /// Below it the spare blocks are too few.
    pub(super) spare_threshold: Option<u64>,
    pub(super) media_errors: Option<u64>,
    pub(super) reallocated: Option<u64>,
    /// Blocks that could not be read, and that no write has put right yet.
    pub(super) pending: Option<u64>,
    pub(super) unsafe_shutdowns: Option<u64>,
    pub(super) hours: Option<u64>,
    /// What smartctl itself could not do.
    pub(super) error: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    smartctl: Option<Program>,
    model_name: Option<String>,
    scsi_model_name: Option<String>,
    serial_number: Option<String>,
    firmware_version: Option<String>,
    smart_status: Option<Status>,
    temperature: Option<Temperature>,
    power_on_time: Option<Hours>,
    nvme_smart_health_information_log: Option<Nvme>,
    ata_smart_attributes: Option<Attributes>,
    ata_device_statistics: Option<Statistics>,
    scsi_grown_defect_list: Option<u64>,
    scsi_error_counter_log: Option<ScsiErrors>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Program {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    string: String,
}

/// Pages of what the drive counts (ACS-4 9.5).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Statistics {
    pages: Vec<StatisticsPage>,
}

#[derive(Deserialize)]
struct StatisticsPage {
    number: u64,
    #[serde(default)]
    table: Vec<Statistic>,
}

#[derive(Deserialize)]
struct Statistic {
    offset: u64,
    value: Option<u64>,
}

#[derive(Deserialize)]
struct Status {
    passed: Option<bool>,
}

#[derive(Deserialize)]
struct Temperature {
    current: Option<i64>,
}

#[derive(Deserialize)]
struct Hours {
    hours: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Nvme {
    critical_warning: Option<u64>,
    available_spare: Option<u64>,
    available_spare_threshold: Option<u64>,
    percentage_used: Option<u64>,
    media_errors: Option<u64>,
    unsafe_shutdowns: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Attributes {
    table: Vec<Attribute>,
}

#[derive(Deserialize)]
struct Attribute {
    id: u64,
    raw: Raw,
}

#[derive(Deserialize)]
struct Raw {
    value: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ScsiErrors {
    read: ScsiCounters,
    write: ScsiCounters,
    verify: ScsiCounters,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ScsiCounters {
    total_uncorrected_errors: u64,
}

/// Attributes that nearly every maker of ATA disks numbers alike.
const REALLOCATED: u64 = 5;
const REPORTED_UNCORRECTABLE: u64 = 187;
const PENDING: u64 = 197;
/// Page and offset of the wear of a solid state drive, in percent.
const WEAR: (u64, u64) = (7, 8);
/// A raw value of more is several numbers in one, as some makers have it.
const COUNT_MAX: u64 = u32::MAX as u64;

impl Smart {
    /// What smartctl wrote.
    ///
    /// # Errors
    /// It is not JSON: of a smartctl that could not do anything.
    pub(super) fn parse(octets: &[u8]) -> Result<Self, serde_json::Error> {
        let report: Report = serde_json::from_slice(octets)?;
        let nvme = report.nvme_smart_health_information_log.unwrap_or_default();
        let attributes = report.ata_smart_attributes.unwrap_or_default();
        let attribute = |id| {
            let found = attributes.table.iter().find(|attribute| attribute.id == id);
            found.map(|attribute| attribute.raw.value).filter(|value| *value <= COUNT_MAX)
        };
        let pages = report.ata_device_statistics.unwrap_or_default().pages;
        let page = pages.into_iter().find(|page| page.number == WEAR.0);
        let wear = page.and_then(|page| page.table.into_iter().find(|one| one.offset == WEAR.1)?.value);
        let messages = report.smartctl.unwrap_or_default().messages;
        let error = messages.into_iter().next().map(|message| message.string);
        let of_scsi = report.scsi_error_counter_log.map(|log| {
            [log.read, log.write, log.verify].iter().map(|counters| counters.total_uncorrected_errors).sum()
        });
        Ok(Self {
            model: report.model_name.or(report.scsi_model_name).map(|name| name.trim().to_owned()),
            serial: report.serial_number.map(|number| number.trim().to_owned()),
            firmware: report.firmware_version.map(|version| version.trim().to_owned()),
            passed: report.smart_status.and_then(|status| status.passed),
            critical_warning: nvme.critical_warning,
            temperature_c: report.temperature.and_then(|temperature| temperature.current),
            used_percent: nvme.percentage_used.or(wear),
            spare_percent: nvme.available_spare,
            spare_threshold: nvme.available_spare_threshold,
            media_errors: nvme.media_errors.or_else(|| attribute(REPORTED_UNCORRECTABLE)).or(of_scsi),
            reallocated: attribute(REALLOCATED).or(report.scsi_grown_defect_list),
            pending: attribute(PENDING),
            unsafe_shutdowns: nvme.unsafe_shutdowns,
            hours: report.power_on_time.and_then(|time| time.hours),
            error,
        })
    }

    /// Whether it says anything of its health.
    pub(super) const fn tells(&self) -> bool {
        self.passed.is_some() || self.critical_warning.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvme_ata_and_scsi_are_read_and_what_is_left_out_is_not_known() {
        let nvme = br#"{"device":{"type":"nvme"},"model_name":"QEMU NVMe Ctrl ","serial_number":"n1","firmware_version":"10.0",
            "smart_status":{"passed":false,"nvme":{"value":4}},"temperature":{"current":50},"power_on_time":{"hours":7},
            "nvme_smart_health_information_log":{"critical_warning":4,"available_spare":9,"available_spare_threshold":10,
            "percentage_used":101,"media_errors":3,"unsafe_shutdowns":2}}"#;
        let expected = Smart {
            model: Some("QEMU NVMe Ctrl".to_owned()),
            serial: Some("n1".to_owned()),
            firmware: Some("10.0".to_owned()),
            passed: Some(false),
            critical_warning: Some(4),
            temperature_c: Some(50),
            used_percent: Some(101),
            spare_percent: Some(9),
            spare_threshold: Some(10),
            media_errors: Some(3),
            unsafe_shutdowns: Some(2),
            hours: Some(7),
            ..Smart::default()
        };
        assert_eq!(Smart::parse(nvme).unwrap(), expected);
        let ata = br#"{"smart_status":{"passed":true},"ata_smart_attributes":{"revision":1,"table":[
            {"id":5,"name":"Reallocated_Sector_Ct","raw":{"value":12,"string":"12"}},
            {"id":187,"name":"Reported_Uncorrect","raw":{"value":1}},
            {"id":197,"name":"Current_Pending_Sector","raw":{"value":281479271677952}}]},
            "ata_device_statistics":{"pages":[{"number":1,"table":[{"offset":8,"value":70}]},
            {"number":7,"name":"Solid State Device Statistics","table":[{"offset":8,"name":"Percentage Used Endurance Indicator","value":95}]}]}}"#;
        let ata = Smart::parse(ata).unwrap();
        assert_eq!((ata.reallocated, ata.media_errors, ata.pending), (Some(12), Some(1), None));
        assert_eq!(ata.used_percent, Some(95));
        let scsi = br#"{"scsi_model_name":"S","smart_status":{"passed":true},"scsi_grown_defect_list":4,
            "scsi_error_counter_log":{"read":{"total_uncorrected_errors":2},"write":{"total_uncorrected_errors":1}}}"#;
        let scsi = Smart::parse(scsi).unwrap();
        assert_eq!(
            (scsi.reallocated, scsi.media_errors, scsi.used_percent, scsi.tells()),
            (Some(4), Some(3), None, true)
        );
        let nothing = br#"{"smartctl":{"exit_status":1,"messages":[{"string":"/dev/vda: Unable to detect device type"}]}}"#;
        let error = Some("/dev/vda: Unable to detect device type".to_owned());
        assert_eq!(Smart::parse(nothing).unwrap(), Smart { error, ..Smart::default() });
        assert!(!Smart::default().tells());
        assert!(Smart::parse(b"smartctl: not found").is_err());
    }
}
