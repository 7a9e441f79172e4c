//! The checks of what is no condition of an outage, and spoils one all the same: names, reports, certificates, what the mail server can do.

use super::{Facts, Finding, Verdict, finding, good};
use crate::bridge::{Answer, Memory};
use core::net::IpAddr;

/// What was looked up for them.
#[derive(Clone, Debug)]
pub(in crate::control) struct Beside {
    /// Hosts of the MX records that are aliases, and of what.
    pub aliases: Vec<(String, String)>,
    /// The names that our addresses have, or why that cannot be told.
    pub names: Vec<(IpAddr, Result<Vec<String>, String>)>,
    /// The TXT records where reports about TLS are asked for (RFC 8460 3), or why they cannot be had.
    pub reports: Result<Vec<String>, String>,
    /// Whether a certificate that is shown is for our name.
    pub covers_name: bool,
    /// What is known of its mail servers.
    pub known: Memory,
}

/// All of them.
pub(super) fn examine(facts: &Facts<'_>, beside: &Beside) -> Vec<Finding> {
    let mut all = of_aliases(beside);
    all.extend(of_names(facts, beside));
    all.extend(of_certificate(facts, beside));
    all.push(of_reports(facts, beside));
    all.push(of_capabilities(beside));
    all.push(of_anybody(beside));
    all
}

/// RFC 2181 10.3: the host of an MX record is no alias.
fn of_aliases(beside: &Beside) -> Vec<Finding> {
    let tell = |(host, target): &(String, String)| {
        let text = format!(
            "{host} of its MX records is an alias (CNAME) of {target}: some senders refuse such a host."
        );
        let mend = format!("Name {target} itself in the MX record, or give {host} addresses of its own.");
        finding("mx-alias", Verdict::Warning, text, Some(mend))
    };
    beside.aliases.iter().map(tell).collect()
}

/// Whether our addresses have our name: a mail server that is handed mail looks at that.
fn of_names(facts: &Facts<'_>, beside: &Beside) -> Option<Finding> {
    let public: Vec<_> = beside.names.iter().filter(|(address, _)| !address.is_loopback()).collect();
    let mut unknown = None;
    for (address, names) in &public {
        match names {
            Ok(names) if names.iter().any(|name| name == facts.hostname) => {}
            Ok(names) => {
                let has = match names.first() {
                    Some(name) => format!("has the name {name}"),
                    None => "has no name".to_owned(),
                };
                let text = format!(
                    "{address} {has}, and this server calls itself {}: mail servers that compare them refuse what they are handed.",
                    facts.hostname
                );
                let mend = format!("Have whoever gave you the address name it {} (PTR).", facts.hostname);
                return Some(finding("reverse-name", Verdict::Warning, text, Some(mend)));
            }
            Err(error) => unknown = Some(format!("The name of {address} cannot be had: {error}.")),
        }
    }
    if public.is_empty() {
        return None;
    }
    Some(match unknown {
        Some(text) => finding("reverse-name", Verdict::Unknown, text, None),
        None => good("reverse-name", format!("Its addresses have the name {}.", facts.hostname)),
    })
}

fn of_certificate(facts: &Facts<'_>, beside: &Beside) -> Option<Finding> {
    if !facts.has_certificate || beside.covers_name {
        return None;
    }
    let text = format!("The certificate that senders are shown is not for {}.", facts.hostname);
    let mend = format!(
        "Set smtp.tls to one whose names have {}: senders by MTA-STS or DANE compare them.",
        facts.hostname
    );
    Some(finding("certificate-name", Verdict::Error, text, Some(mend)))
}

fn of_reports(facts: &Facts<'_>, beside: &Beside) -> Finding {
    let name = &facts.domain.name;
    match &beside.reports {
        Err(error) => {
            let text = format!("Whether it asks for reports about TLS cannot be told: {error}.");
            finding("tls-reports", Verdict::Unknown, text, None)
        }
        Ok(texts) if texts.iter().any(|text| text.starts_with("v=TLSRPTv1")) => {
            good("tls-reports", format!("{name} asks senders for reports about TLS (RFC 8460)."))
        }
        // Without a policy that a sender could fail at there is little to report.
        Ok(_) if !matches!(facts.policy, Ok(Some(_))) && facts.is_secure != Some(true) => {
            good("tls-reports", format!("{name} has no policy for TLS that reports would be about."))
        }
        Ok(_) => {
            let text =
                format!("{name} has a policy for TLS, and nobody tells of senders who fail at it here.");
            let mend =
                format!("Publish _smtp._tls.{name}. TXT \"v=TLSRPTv1; rua=mailto:ADDRESS\" (RFC 8460 3).");
            finding("tls-reports", Verdict::Warning, text, Some(mend))
        }
    }
}

fn of_capabilities(beside: &Beside) -> Finding {
    let Some(met) = beside.known.known.iter().max_by_key(|known| known.last_s) else {
        let text = "What its mail server can do is not known yet: it was not met while it was well.";
        return finding("capabilities", Verdict::Unknown, text, None);
    };
    let offered = &met.fingerprint.keywords;
    let has = |word: &str| offered.iter().any(|line| line.split(' ').next() == Some(word));
    let list = offered.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let missing: Vec<&str> =
        ["8BITMIME", "PIPELINING", "SIZE", "SMTPUTF8"].into_iter().filter(|word| !has(word)).collect();
    if missing.is_empty() {
        return good("capabilities", format!("Its mail server offers {list}."));
    }
    let costs = missing.iter().map(|word| match *word {
        "8BITMIME" => "mail in eight bits is handed over as it is, or refused there (8BITMIME)",
        "PIPELINING" => "a drain takes five round trips a message (PIPELINING)",
        "SIZE" => "large mail is refused after it was sent (SIZE)",
        _ => "mail for addresses outside of ASCII is refused there (SMTPUTF8)",
    });
    let text = format!(
        "Its mail server offers {}. What it does not offer: {}.",
        if list.is_empty() { "nothing" } else { &list },
        costs.collect::<Vec<_>>().join("; ")
    );
    let verdict = if has("8BITMIME") && has("PIPELINING") { Verdict::Good } else { Verdict::Warning };
    let mend = "Have its mail server offer them; behind a firewall, turn its inspection of SMTP off.";
    finding("capabilities", verdict, text, (verdict != Verdict::Good).then(|| mend.to_owned()))
}

fn of_anybody(beside: &Beside) -> Finding {
    match beside.known.answer {
        Some(Answer::Refuses) => good("catch-all", "Its mail server refuses recipients that do not exist."),
        Some(Answer::Accepts) => {
            let text = "Its mail server takes mail for anybody: recipients cannot be learned or verified, and a rescue system in its place looks \
                        the same.";
            let mend = "Have it refuse unknown recipients at RCPT, or import a list: recipients = \"list\".";
            finding("catch-all", Verdict::Warning, text, Some(mend.to_owned()))
        }
        None => {
            let text = "Whether its mail server takes mail for anybody is not known yet.";
            finding("catch-all", Verdict::Unknown, text, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::operator::DomainStatus;
    use crate::bridge::{Fingerprint, KnownHost};
    use crate::config::Config;
    use crate::message::mta_sts::Policy;

    fn beside() -> Beside {
        let keywords = ["8BITMIME", "PIPELINING", "SIZE", "SMTPUTF8"].map(str::to_owned).into();
        let fingerprint = Fingerprint { keywords, ..Fingerprint::default() };
        let known = vec![KnownHost { fingerprint, last_s: 1 }];
        Beside {
            aliases: Vec::new(),
            names: vec![("192.0.2.2".parse().unwrap(), Ok(vec!["mx2.example.net".to_owned()]))],
            reports: Ok(Vec::new()),
            covers_name: true,
            known: Memory { answer: Some(Answer::Refuses), known, ..Memory::default() },
        }
    }

    fn told(change: impl FnOnce(&mut Facts<'_>, &mut Beside)) -> Vec<(&'static str, Verdict)> {
        let (domain, status) = (Config::embedded().domains.remove(0), DomainStatus::default());
        let mut facts = super::super::tests::facts(&domain, &status, Vec::new());
        let mut beside = beside();
        change(&mut facts, &mut beside);
        let all = examine(&facts, &beside);
        for finding in &all {
            let is_wrong = matches!(finding.verdict, Verdict::Warning | Verdict::Error);
            assert_eq!(finding.mend.is_some(), is_wrong, "{finding:?}");
        }
        let wrong = all.into_iter().filter(|finding| finding.verdict != Verdict::Good);
        wrong.map(|finding| (finding.check, finding.verdict)).collect()
    }

    #[test]
    fn what_is_as_it_should_be_is_good() {
        assert_eq!(told(|_, _| {}), []);
        assert_eq!(told(|_, beside| beside.names.clear()), [], "what is not looked at is not told");
    }

    #[test]
    fn each_thing_that_is_wrong_is_told_by_itself() {
        let alias = ("mail.a.test".to_owned(), "host.a.test".to_owned());
        assert_eq!(told(|_, beside| beside.aliases.push(alias)), [("mx-alias", Verdict::Warning)]);
        assert_eq!(told(|_, beside| beside.names[0].1 = Ok(vec![])), [("reverse-name", Verdict::Warning)]);
        let other = vec!["static-2.isp.test".to_owned()];
        assert_eq!(told(|_, beside| beside.names[0].1 = Ok(other)), [("reverse-name", Verdict::Warning)]);
        let late = || Err("no answer".to_owned());
        assert_eq!(told(|_, beside| beside.names[0].1 = late()), [("reverse-name", Verdict::Unknown)]);
        assert_eq!(told(|_, beside| beside.covers_name = false), [("certificate-name", Verdict::Error)]);
        let own = |facts: &mut Facts<'_>, beside: &mut Beside| {
            (facts.has_certificate, beside.covers_name) = (false, false);
        };
        assert_eq!(told(own), [], "that it is our own is told elsewhere");
        assert_eq!(
            told(|_, beside| beside.reports = Err("late".to_owned())),
            [("tls-reports", Verdict::Unknown)]
        );
        let policy =
            || Ok(Policy::parse("version: STSv1\nmode: testing\nmax_age: 86400\nmx: *.example.net\n").ok());
        assert_eq!(told(|facts, _| facts.policy = policy()), [("tls-reports", Verdict::Warning)]);
        let asked = |facts: &mut Facts<'_>, beside: &mut Beside| {
            facts.policy = policy();
            beside.reports = Ok(vec!["x".to_owned(), "v=TLSRPTv1; rua=mailto:a@b.test".to_owned()]);
        };
        assert_eq!(told(asked), []);
        assert_eq!(told(|_, beside| beside.known.known.clear()), [("capabilities", Verdict::Unknown)]);
        assert_eq!(told(|_, beside| beside.known.answer = None), [("catch-all", Verdict::Unknown)]);
        let anybody = Some(Answer::Accepts);
        assert_eq!(told(|_, beside| beside.known.answer = anybody), [("catch-all", Verdict::Warning)]);
        for (word, expected) in [("8BITMIME", 1), ("PIPELINING", 1), ("SIZE", 0), ("SMTPUTF8", 0)] {
            let without = |_: &mut Facts<'_>, beside: &mut Beside| {
                beside.known.known[0].fingerprint.keywords.remove(word);
            };
            assert_eq!(told(without).len(), expected, "{word}");
        }
    }
}
