//! Rules: at which stage of which transaction the sink does something other than accept.
//!
//! A rule is `STAGE[:CONDITION]...:ACTION`. The first rule that matches decides; a `slow` rule waits and lets
//! the next ones decide. Every rule counts what its stage and patterns match, and `every`, `first` and `after`
//! look at that count.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stratamx::config::unit::parse_duration;
use stratamx::smtp::reply::{EnhancedCode, Reply, ReplyCode, UNKNOWN_RECIPIENT_550};

/// When a rule may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before the greeting.
    Connect,
    /// At MAIL.
    Mail,
    /// At each RCPT.
    Rcpt,
    /// When the first octets of mail data arrive.
    Body,
    /// At the end of data.
    Data,
}

/// What the sink does instead of accepting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The default, stated to exempt something from the rules that follow.
    Accept,
    /// Closes the connection without a word.
    Close,
    /// Says nothing more and keeps the connection.
    Hang,
    /// Answers with this.
    Answer(Reply),
    /// Waits, then goes on.
    Slow(Duration),
}

/// One rule with its counter, which copies share.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    stage: Stage,
    from: Option<String>,
    to: Option<String>,
    rate: Rate,
    action: Action,
    matched: Arc<AtomicU64>,
}

/// Which of the matching events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rate {
    All,
    Every(u64),
    First(u64),
    After(u64),
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    #[error("a rule is STAGE[:CONDITION]...:ACTION")]
    Shape,
    #[error("\"{0}\" is no stage: connect, mail, rcpt, body or data")]
    Stage(String),
    #[error("\"{0}\" is no condition: from=GLOB, to=GLOB, every=N, first=N or after=N")]
    Condition(String),
    #[error(
        "\"{0}\" is no action: accept, defer[=CODE], reject[=CODE], unknown, hang, close or slow[=DURATION]"
    )]
    Action(String),
    #[error("mail data has no reply before its end: body can only hang, close or slow")]
    BodyReply,
}

/// Decides by the first rule that matches; `wait` is called for each `slow` on the way.
pub(crate) fn decide(
    rules: &[Rule],
    stage: Stage,
    from: &str,
    to: &[&str],
    mut wait: impl FnMut(Duration),
) -> Action {
    for rule in rules {
        match rule.judge(stage, from, to) {
            Some(Action::Slow(duration)) => wait(*duration),
            Some(action) => return action.clone(),
            None => {}
        }
    }
    Action::Accept
}

impl Rule {
    /// The action, if this event is one of those that the rule is about.
    fn judge(&self, stage: Stage, from: &str, to: &[&str]) -> Option<&Action> {
        let fits = |pattern: &Option<String>, texts: &[&str]| {
            pattern.as_ref().is_none_or(|pattern| texts.iter().any(|text| matches_glob(pattern, text)))
        };
        if self.stage != stage || !fits(&self.from, &[from]) || !fits(&self.to, to) {
            return None;
        }
        let count = self.matched.fetch_add(1, Ordering::Relaxed) + 1;
        let acts = match self.rate {
            Rate::All => true,
            Rate::Every(every) => count.is_multiple_of(every),
            Rate::First(first) => count <= first,
            Rate::After(after) => count > after,
        };
        acts.then_some(&self.action)
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let mut parts: Vec<&str> = text.split(':').collect();
        if parts.len() < 2 {
            return Err(RuleError::Shape);
        }
        let (stage, action) = (parts.remove(0), parts.pop().unwrap_or_default());
        let stage = match stage {
            "connect" => Stage::Connect,
            "mail" => Stage::Mail,
            "rcpt" => Stage::Rcpt,
            "body" => Stage::Body,
            "data" => Stage::Data,
            other => return Err(RuleError::Stage(other.to_owned())),
        };
        let action = parse_action(action).ok_or_else(|| RuleError::Action(action.to_owned()))?;
        if stage == Stage::Body && matches!(action, Action::Answer(_)) {
            return Err(RuleError::BodyReply);
        }
        let matched = Arc::default();
        let mut rule = Self { stage, from: None, to: None, rate: Rate::All, action, matched };
        for condition in parts {
            let unknown = || RuleError::Condition(condition.to_owned());
            let (name, value) = condition.split_once('=').ok_or_else(unknown)?;
            let number = || value.parse().ok().filter(|number| *number > 0).ok_or_else(unknown);
            match name {
                "from" => rule.from = Some(value.to_owned()),
                "to" => rule.to = Some(value.to_owned()),
                "every" => rule.rate = Rate::Every(number()?),
                "first" => rule.rate = Rate::First(number()?),
                "after" => rule.rate = Rate::After(number()?),
                _ => return Err(unknown()),
            }
        }
        Ok(rule)
    }
}

fn parse_action(text: &str) -> Option<Action> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    match (name, value) {
        ("accept", None) => Some(Action::Accept),
        ("close", None) => Some(Action::Close),
        ("hang", None) => Some(Action::Hang),
        ("defer", code) => answer(code.unwrap_or("450"), 4, "Deferred by a rule"),
        ("reject", code) => answer(code.unwrap_or("550"), 5, "Rejected by a rule"),
        ("unknown", None) => Some(Action::Answer(UNKNOWN_RECIPIENT_550)),
        ("slow", None) => Some(Action::Slow(Duration::from_secs(1))),
        ("slow", Some(value)) => Some(Action::Slow(match value.strip_suffix("ms") {
            Some(number) => Duration::from_millis(number.parse().ok()?),
            None => parse_duration(value).ok()?,
        })),
        _ => None,
    }
}

fn answer(code: &str, class: u8, text: &'static str) -> Option<Action> {
    let code: u16 = code.parse().ok()?;
    let fits = code / 100 == u16::from(class) && code < 600;
    let enhanced = Some(EnhancedCode::new(class, 3, 0));
    fits.then(|| Action::Answer(Reply::new(ReplyCode::new(code), enhanced, text)))
}

/// Whether `text` fits a pattern in which `*` stands for anything; letters in any case.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rules: &[Rule], stage: Stage, from: &str, to: &[&str]) -> String {
        match decide(rules, stage, from, to, |_| {}) {
            Action::Answer(reply) => reply.code().to_string(),
            other => format!("{other:?}"),
        }
    }

    fn rules(texts: &[&str]) -> Vec<Rule> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = rules(&[
            "rcpt:to=bob@*:from=*@good.test:accept",
            "rcpt:to=bob@*:defer",
            "rcpt:to=eve@*:reject=553",
        ]);
        assert_eq!(run(&rules, Stage::Rcpt, "a@good.test", &["bob@example.test"]), "Accept");
        assert_eq!(run(&rules, Stage::Rcpt, "a@bad.test", &["Bob@example.test"]), "450");
        assert_eq!(run(&rules, Stage::Rcpt, "", &["eve@example.test"]), "553");
        assert_eq!(run(&rules, Stage::Rcpt, "", &["ann@example.test"]), "Accept");
        assert_eq!(run(&rules, Stage::Data, "", &["bob@example.test"]), "Accept");
    }

    #[test]
    fn rates_count_what_matches() {
        for (text, expected) in [
            ("data:every=3:reject", "AARAARAAR"),
            ("data:first=2:reject", "RRAAAAAAA"),
            ("data:after=7:reject", "AAAAAAARR"),
            ("data:to=other@*:every=1:reject", "AAAAAAAAA"),
        ] {
            let rules = rules(&[text]);
            let seen: String = (0..9)
                .map(|_| if run(&rules, Stage::Data, "", &["bob@example.test"]) == "550" { 'R' } else { 'A' })
                .collect();
            assert_eq!(seen, expected, "{text}");
        }
    }

    #[test]
    fn slow_waits_and_lets_the_next_rule_decide() {
        let rules = rules(&["mail:slow=250ms", "mail:slow=2s", "mail:reject"]);
        let mut waited = Vec::new();
        let action = decide(&rules, Stage::Mail, "", &[], |duration| waited.push(duration.as_millis()));
        assert!(matches!(action, Action::Answer(_)));
        assert_eq!(waited, [250, 2000]);
    }

    #[test]
    fn what_is_no_rule_says_why() {
        let error = |text: &str| text.parse::<Rule>().expect_err(text);
        assert_eq!(error("rcpt"), RuleError::Shape);
        assert_eq!(error("helo:reject"), RuleError::Stage("helo".to_owned()));
        for text in ["to=x=", "every=0", "every=x", "often", "size=3"] {
            let rule = format!("rcpt:{text}:reject");
            assert_eq!(rule.parse::<Rule>().is_ok(), text == "to=x=", "{text}");
        }
        for text in
            ["accept=1", "defer=550", "reject=450", "reject=600", "reject=x", "slow=x", "slow=5", "bounce"]
        {
            assert_eq!(error(&format!("rcpt:{text}")), RuleError::Action(text.to_owned()));
        }
        assert_eq!(error("body:reject"), RuleError::BodyReply);
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("bob@*", "bob@example.test", true),
            ("bob@*", "rob@example.test", false),
            ("*@example.test", "BOB@Example.TEST", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("ab*b", "ab", false),
            ("*ab*", "xxabyy", true),
        ] {
            assert_eq!(matches_glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
