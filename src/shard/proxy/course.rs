//! What becomes of a recipient while its primary is well: a pure decision. `when_up` and DESIGN's conditions for carrying through, and
//! H20: a transaction for two primaries is taken whole.
//!
//! | when_up | transaction so far | domain | primary | way |
//! |---|---|---|---|---|
//! | relay | any | any | any | take |
//! | proxy | nothing | any | free and trusted | carry |
//! | proxy | nothing | any | not free | take |
//! | proxy | nothing | any | not trusted | take |
//! | proxy | carried | same | any | carry |
//! | proxy | carried | another | any | take all |
//! | relay | carried | another | any | take all |
//! | proxy | taken | any | any | take |
//! | defer | any | any | free | defer |
//! | defer | any | any | not free | take |
//! | defer | carried | another | free | defer |
//! | defer | carried | another | not free | take all |
//!
//! *Free*: up, nothing waits in order, nothing went wrong with it lately, and the operator has not ordered otherwise. *Trusted*: it lets us name this client, and there is a place to do
//! so. One that is carried stays so whatever changes meanwhile: what then goes wrong, goes wrong there. Who is deferred and comes back has
//! his own table (`deferrals`).

use crate::config::WhenUp;

/// What a transaction has so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SoFar {
    /// Carried through, for this recipient's domain (true) or another.
    Carried(bool),
    /// No recipient.
    Nothing,
    /// Recipients that are ours to deliver.
    Taken,
}

/// What a recipient's domain and client are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Circumstances {
    pub(super) when_up: WhenUp,
    pub(super) so_far: SoFar,
    pub(super) is_free: bool,
    pub(super) is_trusted: bool,
}

/// What is to be done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Course {
    /// The primary is asked.
    Carry,
    /// 451, unless he cannot go there.
    Defer,
    /// It is ours.
    Take,
    /// It is, and so are those that were carried so far.
    TakeAll,
}

/// See the module.
pub(super) const fn course(of: &Circumstances) -> Course {
    match (of.when_up, of.so_far) {
        (WhenUp::Defer, _) if of.is_free => Course::Defer,
        (WhenUp::Proxy, SoFar::Carried(true)) => Course::Carry,
        (_, SoFar::Carried(_)) => Course::TakeAll,
        (WhenUp::Proxy, SoFar::Nothing) if of.is_free && of.is_trusted => Course::Carry,
        _ => Course::Take,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H20: a row for each mix; the rows of the page are all there is.
    #[test]
    fn h20_the_table_of_the_module_is_the_decision() {
        let page = include_str!("course.rs");
        let rows = page
            .lines()
            .filter_map(|line| line.strip_prefix("//! | "))
            .filter(|row| !row.starts_with("when_up"));
        let mut seen = 0;
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [when_up, so_far, domain, primary, expected, ..] = cells[..] else { panic!("{row}") };
            let when_up = match when_up {
                "proxy" => WhenUp::Proxy,
                "defer" => WhenUp::Defer,
                _ => WhenUp::Relay,
            };
            let expected = match expected {
                "carry" => Course::Carry,
                "defer" => Course::Defer,
                "take all" => Course::TakeAll,
                "take" => Course::Take,
                other => panic!("{other}"),
            };
            for so_far in meant(so_far, domain) {
                for (is_free, is_trusted) in [(true, true), (true, false), (false, true), (false, false)] {
                    let is_meant = match primary {
                        "free and trusted" => is_free && is_trusted,
                        "free" => is_free,
                        "not free" => !is_free,
                        "not trusted" => !is_trusted,
                        _ => true,
                    };
                    // "Any" of what is so far does not speak of what was carried: it has rows of its own.
                    if is_meant {
                        let of = Circumstances { when_up, so_far, is_free, is_trusted };
                        assert_eq!(course(&of), expected, "{row}: {of:?}");
                        seen += 1;
                    }
                }
            }
        }
        assert_eq!(seen, 41, "combinations that the rows speak of");
    }

    fn meant(so_far: &str, domain: &str) -> Vec<SoFar> {
        match (so_far, domain) {
            ("nothing", _) => vec![SoFar::Nothing],
            ("taken", _) => vec![SoFar::Taken],
            ("carried", "same") => vec![SoFar::Carried(true)],
            ("carried", _) => vec![SoFar::Carried(false)],
            _ => vec![SoFar::Nothing, SoFar::Taken],
        }
    }
}
