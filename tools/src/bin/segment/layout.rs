//! `layout`: how each file is filled, as a drawing; of one file every extent.

use std::io::{self, Write};
use std::process::ExitCode;

use futures_lite::future::block_on;
use serde_json::json;
use storage::inspect::{Directory, Extent, Layout, ReadOnly};

use super::text::plain;

/// Cells of a drawing.
const CELLS: u64 = 72;

pub(crate) const LEGEND: &str = "\
Drawing: H header, M message with an open unit, s settled message, c chunk of an open message, g chunk of none,
v void or counted elsewhere, f facts and voids, ! damaged, . padding, _ never written. A cell shows what most of it is;
one octet of damage is always shown.
Example: stratamx-segment layout /var/lib/stratamx --file shard-00/segment-00000001.log";

pub(crate) fn layout(
    directory: &Directory<ReadOnly>,
    file: Option<&str>,
    as_json: bool,
    output: &mut impl Write,
) -> io::Result<ExitCode> {
    let (mut written, mut count) = (Ok(()), 0_u64);
    let walked = block_on(directory.layouts(file.unwrap_or(""), |layout| {
        count += 1;
        if written.is_ok() {
            written = match as_json {
                true => writeln!(output, "{}", object(layout, file.is_some())),
                false => text(output, layout, file.is_some()),
            };
        }
    }));
    written?;
    walked.map_err(io::Error::other)?;
    if count == 0 {
        eprintln!("no such file");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn text(output: &mut impl Write, layout: &Layout, with_extents: bool) -> io::Result<()> {
    writeln!(output, "{}: {} octets, {} commits", plain(&layout.path), layout.octets, layout.commits)?;
    writeln!(output, "  [{}]", drawing(layout))?;
    let shares = layout.shares();
    let share = |(kind, octets): (&&str, &u64)| {
        #[expect(clippy::cast_precision_loss, reason = "a share of a file, for people")]
        let percent = 100.0 * *octets as f64 / layout.octets.max(1) as f64;
        format!("{kind} {octets} ({percent:.1} %)")
    };
    writeln!(output, "  {}", shares.iter().map(share).collect::<Vec<_>>().join(", "))?;
    for extent in layout.extents.iter().filter(|_| with_extents) {
        let Extent { offset, octets, kind, text } = extent;
        writeln!(output, "  {offset:>12} {octets:>12}  {kind:<8} {}", plain(text).trim_end())?;
    }
    Ok(())
}

fn drawing(layout: &Layout) -> String {
    let cell = layout.octets.div_ceil(CELLS).max(1);
    let mut extents = layout.extents.iter().peekable();
    let mut drawn = String::new();
    for start in (0..layout.octets).step_by(usize::try_from(cell).unwrap_or(usize::MAX)) {
        let end = start + cell;
        let mut most = (0, ' ');
        while let Some(extent) = extents.peek() {
            let behind = extent.offset + extent.octets;
            let octets = behind.min(end).saturating_sub(extent.offset.max(start));
            let letter = letter(extent.kind);
            let octets = if letter == '!' && octets > 0 { u64::MAX } else { octets };
            if octets > most.0 {
                most = (octets, letter);
            }
            if behind > end {
                break;
            }
            extents.next();
        }
        drawn.push(most.1);
    }
    drawn
}

fn letter(kind: &str) -> char {
    match kind {
        "header" => 'H',
        "live" => 'M',
        "settled" => 's',
        "chunk" => 'c',
        "garbage" => 'g',
        "void" => 'v',
        "facts" => 'f',
        "padding" => '.',
        "unused" => '_',
        _ => '!',
    }
}

fn object(layout: &Layout, with_extents: bool) -> serde_json::Value {
    let extent = |extent: &Extent| json!({"offset": extent.offset, "octets": extent.octets, "kind": extent.kind, "text": extent.text});
    let mut object = json!({
        "path": layout.path,
        "octets": layout.octets,
        "commits": layout.commits,
        "shares": layout.shares(),
    });
    if with_extents {
        object["extents"] = layout.extents.iter().map(extent).collect();
    }
    object
}
