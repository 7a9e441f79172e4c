//! Standing orders of the operator about a domain: what holds until its time is over or he takes it back, whatever the
//! configuration says.
//!
//! - *Maintenance*: between two instants of wall time nothing is handed over and nobody is asked: mail is taken and waits, in every mode. It begins and
//!   ends by itself, also while the server restarts.
//! - *Redirect*: the domain's mail goes to these hosts, in order, in place of its primaries. What is asked about recipients, and what is
//!   carried through, is not: the hosts are for mail that waits, so new mail is taken, and nothing is learned from them.
//!
//! They are one cell a domain that lanes and sessions look at; the control plane keeps them in a file.

use crate::config::Primary;
use core::time::Duration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::sync::{Arc, PoisonError, RwLock};
use utoipa::ToSchema;

/// What is ordered about one domain; shared by all who work for it.
#[derive(Debug, Default)]
pub struct Orders(RwLock<Arc<Standing>>);

impl Orders {
    /// What holds now.
    #[must_use]
    pub fn get(&self) -> Arc<Standing> {
        // Replaced whole: there is nothing half done behind a panic.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something else holds.
    pub fn set(&self, standing: Standing) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(standing);
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Nothing is handed over meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Mail goes elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
}

/// A time in which nothing is handed over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Its first second, since 1970.
    pub from_s: u64,
    /// The first second behind it.
    pub until_s: u64,
    /// Who ordered it.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
}

/// Where mail goes in place of the primaries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// In order; at least one.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    #[schema(value_type = Vec<String>, min_items = 1)]
    pub to: Vec<Primary>,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
    /// Who ordered it.
    pub by: String,
}

impl Standing {
    /// Nothing is ordered that matters from `now_s` on.
    #[must_use]
    pub fn is_over(&self, now_s: u64) -> bool {
        self.redirect.is_none() && self.maintenance.as_ref().is_none_or(|window| window.until_s <= now_s)
    }

    /// How long nothing is handed over from now on; `None`: it may be.
    #[must_use]
    pub fn held_for(&self, now_s: u64) -> Option<Duration> {
        let window = self.maintenance.as_ref()?;
        let is_now = (window.from_s..window.until_s).contains(&now_s);
        is_now.then(|| Duration::from_secs(window.until_s - now_s))
    }

    /// When a maintenance that is over ended.
    #[must_use]
    pub fn ended_s(&self, now_s: u64) -> Option<u64> {
        self.maintenance.as_ref().map(|window| window.until_s).filter(|until_s| *until_s <= now_s)
    }

    /// Whether mail of the domain goes its usual way.
    #[must_use]
    pub fn lets_pass(&self, now_s: u64) -> bool {
        self.redirect.is_none() && self.held_for(now_s).is_none()
    }
}

fn as_text<S: Serializer>(hosts: &[Primary], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(hosts.iter().map(ToString::to_string))
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Primary>, D::Error> {
    let hosts = Vec::<String>::deserialize(deserializer)?;
    if hosts.is_empty() {
        return Err(de::Error::custom("a redirect names a host"));
    }
    let parse = |text: &String| Primary::parse(text).map_err(|error| format!("{text:?} {error}"));
    hosts.iter().map(parse).collect::<Result<_, _>>().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from_s: u64, until_s: u64) -> Standing {
        let maintenance = Maintenance { from_s, until_s, by: "me".to_owned(), reason: String::new() };
        Standing { maintenance: Some(maintenance), redirect: None }
    }

    #[test]
    fn a_window_holds_from_its_first_second_to_the_one_before_its_end() {
        let standing = window(100, 160);
        for (now_s, held_s) in [(99, None), (100, Some(60)), (159, Some(1)), (160, None)] {
            assert_eq!(standing.held_for(now_s), held_s.map(Duration::from_secs), "{now_s}");
            assert_eq!(standing.lets_pass(now_s), held_s.is_none());
            assert_eq!(standing.is_over(now_s), now_s == 160);
            assert_eq!(standing.ended_s(now_s), (now_s == 160).then_some(160));
        }
        assert_eq!(Standing::default().held_for(0), None);
        assert!(Standing::default().lets_pass(0) && Standing::default().is_over(0));
    }

    #[test]
    fn what_is_written_reads_back_and_what_is_no_host_does_not() {
        let to =
            ["[2001:db8::1]:2525", "mail.example.test:25"].map(|host| Primary::parse(host).expect("a host"));
        let redirect = Redirect { to: to.to_vec(), since_s: 5, by: "me".to_owned() };
        let standing = Standing { redirect: Some(redirect), ..window(1, 2) };
        assert!(!standing.lets_pass(9) && !standing.is_over(9));
        let text = serde_json::to_string(&standing).expect("it can be written");
        assert!(text.contains("\"[2001:db8::1]:2525\""), "{text}");
        assert_eq!(serde_json::from_str::<Standing>(&text).expect("it reads back"), standing);
        for wrong in ["[]", "[\"no host\"]", "[\"a.test:0\"]"] {
            let text = format!("{{\"redirect\":{{\"to\":{wrong},\"since_s\":1,\"by\":\"\"}}}}");
            assert!(serde_json::from_str::<Standing>(&text).is_err(), "{wrong}");
        }
    }
}
