//! `--verify`: the records of primaries against the ledgers of senders.

use std::fs;
use std::io;
use std::path::Path;

use stratamx_tools::fingerprint::Fingerprint;
use stratamx_tools::record::{self, Acknowledged, Arrival};

use crate::arguments::Arguments;
use crate::problem::{Outcome, Problem, ResultFile};
use crate::report;
use crate::verify;

/// Checks records against ledgers.
pub(crate) fn check(arguments: &Arguments) -> Result<Outcome, Problem> {
    let json = arguments.json_file().map(ResultFile::create).transpose()?;
    let mut ledger: Vec<Acknowledged> = Vec::new();
    for path in &arguments.ledger {
        ledger.append(&mut record::read(path).map_err(|error| Problem::Failure(error.to_string()))?);
    }
    let mut arrivals: Vec<Arrival> = Vec::new();
    for path in &arguments.verify {
        let later = record::read(path).map_err(|error| Problem::Failure(error.to_string()))?;
        append(&mut arrivals, later);
    }
    if let Some(directory) = &arguments.keep {
        if arguments.verify.len() > 1 {
            return Err(Problem::Usage("--keep belongs to one record".to_owned()));
        }
        for arrival in arrivals.iter_mut().filter(|arrival| arrival.accepted) {
            look_up(arrival, directory).map_err(|error| Problem::Failure(error.to_string()))?;
        }
    }
    let findings = verify::verify(&ledger, &arrivals);
    let written = json.map_or(Ok(()), |file| file.write(&report::text::findings(&findings, true)));
    Ok(Outcome {
        text: report::text::findings(&findings, arguments.prints_json()),
        unwritten: written.err().into_iter().collect(),
        is_good: findings.is_sound(),
    })
}

/// Adds the record of a primary that came later: its sequences go on where the earlier ones end.
fn append(arrivals: &mut Vec<Arrival>, later: Vec<Arrival>) {
    let sequence = arrivals.iter().map(|arrival| arrival.sequence).max().unwrap_or_default();
    let mail_sequence = arrivals.iter().map(|arrival| arrival.mail_sequence).max().unwrap_or_default();
    arrivals.extend(later.into_iter().map(|arrival| Arrival {
        sequence: arrival.sequence + sequence,
        mail_sequence: arrival.mail_sequence + mail_sequence,
        ..arrival
    }));
}

/// Takes the fingerprint from the kept file.
fn look_up(arrival: &mut Arrival, directory: &Path) -> io::Result<()> {
    let path = directory.join(format!("{:08}.eml", arrival.sequence));
    let message =
        fs::read(&path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
    let fingerprint = Fingerprint::of(&message);
    arrival.id = fingerprint.id;
    arrival.above = fingerprint.above;
    arrival.octets = fingerprint.octets;
    arrival.crc32 = fingerprint.crc32;
    Ok(())
}
