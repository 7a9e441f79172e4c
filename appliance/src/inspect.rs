//! `inspect`: what a UKI or a raw image is made of.

use crate::fail::{At as _, Failure};
use crate::{disk, pe, sign, tool};
use clap::Args;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;

/// See the command.
#[derive(Args)]
pub(crate) struct Inspect {
    /// A UKI (.efi) or a raw image
    file: PathBuf,
    /// The public key that its signature is checked with
    #[arg(long)]
    key: Option<PathBuf>,
    /// For scripts
    #[arg(long)]
    json: bool,
}

/// Sections that are text.
const TEXTS: [&str; 4] = [".osrel", ".cmdline", ".uname", ".sbat"];

/// See the command.
pub(crate) fn run(inspect: &Inspect) -> Result<(), Failure> {
    let file = &inspect.file;
    let mut magic = [0; 2];
    File::open(file).at(file)?.read_exact(&mut magic).at(file)?;
    let content = if &magic == b"MZ" { uki(inspect)? } else { image(inspect)? };
    let signature = match &inspect.key {
        Some(key) => match sign::verify_one(key, file) {
            Ok(()) => "good".to_owned(),
            Err(error) => format!("BAD: {error}"),
        },
        None => "not looked at: no --key".to_owned(),
    };
    let sha256 = tool::sha256(File::open(file).at(file)?).at(file)?;
    let told = json!({ "file": file, "octets": fs::metadata(file).at(file)?.len(), "sha256": sha256,
        "signature": signature, "content": content });
    if inspect.json {
        println!("{told:#}");
    } else {
        show(&told);
    }
    if signature.starts_with("BAD") { Err(crate::fail::wrong(signature)) } else { Ok(()) }
}

fn uki(inspect: &Inspect) -> Result<Value, Failure> {
    let file = fs::read(&inspect.file).at(&inspect.file)?;
    let (processor, sections) = (pe::architecture(&file)?.processor(), pe::sections(&file)?);
    let rows: Result<Vec<Value>, Failure> = sections
        .iter()
        .map(|section| {
            let sha256 = tool::sha256(section.octets.as_slice()).at(&inspect.file)?;
            let text = TEXTS.contains(&section.name.as_str()).then(|| String::from_utf8_lossy(&section.octets).into_owned());
            Ok(json!({ "name": section.name, "octets": section.octets.len(), "sha256": sha256, "text": text }))
        })
        .collect();
    Ok(json!({ "kind": "uki", "processor": processor, "sections": rows? }))
}

fn image(inspect: &Inspect) -> Result<Value, Failure> {
    let parts = disk::partitions(&inspect.file)?;
    let processors: Vec<&str> = disk::architectures(&inspect.file)?
        .into_iter()
        .map(|architecture| architecture.processor())
        .collect();
    let versions = disk::ukis(&inspect.file)?;
    Ok(
        json!({ "kind": "image", "processor": processors.join(", "), "sections": parts, "versions": versions }),
    )
}

fn show(told: &Value) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for key in ["file", "octets", "sha256", "signature"] {
        println!("{key:<10} {}", text(&told[key]));
    }
    let content = &told["content"];
    println!("{:<10} {}", "processor", text(&content["processor"]));
    for row in content["sections"].as_array().into_iter().flatten() {
        let hash: String = row["sha256"].as_str().unwrap_or_default().chars().take(16).collect();
        println!("{:<14} {:>12}  {hash}", text(&row["name"]), text(&row["octets"]));
        for line in row["text"].as_str().unwrap_or_default().lines() {
            println!("{:>14} {line}", "");
        }
    }
    for version in content["versions"].as_array().into_iter().flatten() {
        println!("{:<14} {}", "version", text(version));
    }
}
