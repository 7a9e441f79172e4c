//! A primary's outage with real processes all around. What the other tests here build on is tested first.

mod peers;

use std::fs;

use peers::{Primary, Scratch, Sender, Software, blaster, free_port, verify};

const SOFTWARE: [Software; 3] = [Software::Smtplib, Software::SmtpSource, Software::Swaks];

#[test]
fn real_senders_try_again_until_everything_is_acknowledged() {
    let scratch = Scratch::new("senders");
    let record = scratch.path("record");
    // Before the data, behind the data without a reply (so that it comes twice), and by a 4xx.
    let rules = ["connect:first=3:close", "data:first=2:close", "data:first=2:defer", "rcpt:every=9:defer"];
    let sink = Primary::sink("127.0.0.1:0", &record, &rules);
    let ledgers = SOFTWARE.map(|software| {
        let ledger = scratch.path(&format!("{software:?}"));
        Sender::start(software, &sink.address, 20, 30, 1, &ledger).finish();
        ledger
    });
    sink.stop();
    let (is_sound, findings) = verify(&[&record], &ledgers.each_ref().map(|ledger| ledger.as_path()));
    assert!(is_sound, "{findings}");
    assert_eq!(findings["units"].as_u64(), Some(60));
}

#[test]
fn a_real_postfix_as_primary_records_what_arrived_in_order() {
    let scratch = Scratch::new("postfix");
    let (record, ledger) = (scratch.path("record"), scratch.path("ledger"));
    let listen = format!("127.0.0.1:{}", free_port());
    let postfix = Primary::postfix(&listen, &scratch.path("postfix"), &record);
    let ledger_text = ledger.to_str().unwrap();
    let blasted = blaster(&[
        "--to",
        &postfix.address,
        "--messages",
        "60",
        "--sessions",
        "2",
        "--mailboxes",
        "4",
        "--recipients-per-message",
        "2",
        "--size",
        "1KiB-30KiB",
        "--ledger",
        ledger_text,
    ]);
    assert!(blasted.status.success(), "{}", String::from_utf8_lossy(&blasted.stderr));
    let swaks = scratch.path("swaks");
    Sender::start(Software::Swaks, &postfix.address, 4, 30, 2, &swaks).finish();
    postfix.stop();
    let (is_sound, findings) = verify(&[&record], &[&ledger, &swaks]);
    assert!(is_sound, "{findings}");
    assert_eq!((findings["units"].as_u64(), findings["duplicates"].as_u64()), (Some(124), Some(0)));
    // The record is no mere copy of the ledger: what is taken out of it is missed.
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.lines().skip(1).collect::<Vec<_>>().join("\n")).unwrap();
    let (is_sound, findings) = verify(&[&record], &[&ledger, &swaks]);
    assert!(!is_sound && !findings["lost"].as_array().unwrap().is_empty(), "{findings}");
}
