//! What `[at_rest] key` makes of a start: the table of the module above. Pure.

use crate::init::settings::Choice;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Somebody has to type something.
    Ask,
    /// New keys, by the TPM; or the ones that are there, by it.
    Make,
    /// Nothing, for this reason.
    Plain(String),
}

/// Whether what was opened by hand is sealed to a TPM.
pub(super) const fn wants_tpm(choice: Choice) -> bool {
    matches!(choice, Choice::Auto | Choice::Tpm)
}

/// There is a file, perhaps with a slot for a TPM.
pub(super) fn with_file(choice: Choice, has_tpm_slot: bool) -> Start {
    if choice == Choice::Passphrase || !has_tpm_slot { Start::Ask } else { Start::Make }
}

/// There is none yet.
///
/// # Errors
/// A sentence: what is asked for cannot be had.
pub(super) fn without_file(choice: Choice, has_tpm: bool, is_on_trial: bool) -> Result<Start, String> {
    let plain = |why: &str| Ok(Start::Plain(why.to_owned()));
    match (choice, has_tpm) {
        (Choice::None, _) => plain("[at_rest] key = \"none\""),
        (Choice::Tpm, false) => Err("[at_rest] key = \"tpm\", and this machine has no TPM 2.0".to_owned()),
        (Choice::Auto, false) => plain(
            "this machine has no TPM 2.0; [at_rest] key = \"passphrase\" in appliance.toml encrypts it without one",
        ),
        // H13.
        _ if is_on_trial => plain("this version is on trial; it is from the next start on"),
        (Choice::Passphrase, _) => Ok(Start::Ask),
        (Choice::Auto | Choice::Tpm, true) => Ok(Start::Make),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        use Choice::{Auto, None, Passphrase, Tpm};
        for (choice, has_tpm, is_on_trial, expected) in [
            (Auto, true, false, "make"),
            (Auto, false, false, "plain"),
            (Auto, true, true, "plain"),
            (Tpm, true, false, "make"),
            (Tpm, false, false, "refused"),
            (Tpm, false, true, "refused"),
            (Tpm, true, true, "plain"),
            (Passphrase, true, false, "ask"),
            (Passphrase, false, false, "ask"),
            (Passphrase, false, true, "plain"),
            (None, true, false, "plain"),
        ] {
            let told = match without_file(choice, has_tpm, is_on_trial) {
                Ok(Start::Make) => "make",
                Ok(Start::Ask) => "ask",
                Ok(Start::Plain(_)) => "plain",
                Err(_) => "refused",
            };
            assert_eq!(told, expected, "{choice:?} {has_tpm} {is_on_trial}");
        }
        for (choice, has_slot, expected) in [
            (Auto, true, Start::Make),
            (Tpm, true, Start::Make),
            (None, true, Start::Make),
            (Passphrase, true, Start::Ask),
            (Auto, false, Start::Ask),
            (None, false, Start::Ask),
        ] {
            assert_eq!(with_file(choice, has_slot), expected, "{choice:?} {has_slot}");
        }
    }
}
