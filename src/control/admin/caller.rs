//! Who asks: the first administrator, whose token is in a file, or whoever was given one.
//!
//! Tokens that are given out are in the database by their SHA-256 only (they are random, 32 octets), and mirrored here, so that no
//! request waits for the database to be let in, and one that is revoked ends with the answer. What a token may do are its *scopes*.

use super::problem::Problem;
use super::token::Token;
use crate::control::store::now_s;
use crate::control::store::token::Row;
use crate::limits::ADMIN_TOKEN_OCTETS_MAX;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use core::fmt;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use utoipa::ToSchema;

/// The name of the first administrator in the audit log.
const FIRST: &str = "first administrator";

/// What a token may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    /// `/metrics` alone: for scrapers.
    Metrics,
    /// Look at everything but the content of mail and tokens.
    Read,
    /// Read, and look at the content of mail.
    Content,
    /// Read, and change what becomes of mail: queue, maintenance, redirects.
    Operate,
    /// Read, and change domains and recipients.
    Provision,
    /// Everything, tokens and the audit log among it.
    Admin,
}

impl Scope {
    const ALL: [Self; 6] =
        [Self::Metrics, Self::Read, Self::Content, Self::Operate, Self::Provision, Self::Admin];

    /// Whether who has it may do what is asked for.
    fn allows(self, wanted: Self) -> bool {
        match self {
            Self::Admin => true,
            Self::Metrics => wanted == Self::Metrics,
            Self::Read => matches!(wanted, Self::Metrics | Self::Read),
            own => own == wanted || Self::Read.allows(wanted),
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Read => "read",
            Self::Content => "content",
            Self::Operate => "operate",
            Self::Provision => "provision",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// Scopes as the database keeps them.
pub(super) fn words(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.word()).collect::<Vec<_>>().join(" ")
}

/// What [`words`] made; a word that is not known gives no right (H13).
pub(super) fn scopes(words: &str) -> Vec<Scope> {
    words.split(' ').filter_map(|word| Scope::ALL.into_iter().find(|scope| scope.word() == word)).collect()
}

/// Who asks, and what he may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Caller {
    /// His name in the audit log.
    pub(super) name: Arc<str>,
    scopes: Vec<Scope>,
}

impl Caller {
    pub(super) fn may(&self, wanted: Scope) -> bool {
        self.scopes.iter().any(|scope| scope.allows(wanted))
    }
}

/// All who may ask.
#[derive(Debug)]
pub(super) struct Callers {
    first: Arc<Token>,
    /// By the digest of the token.
    given: RwLock<BTreeMap<Vec<u8>, Row>>,
}

impl Callers {
    pub(super) fn new(first: Arc<Token>, given: Vec<Row>) -> Self {
        let given = given.into_iter().map(|row| (row.digest.clone(), row)).collect();
        Self { first, given: RwLock::new(given) }
    }

    /// Whose token this is.
    pub(super) fn known(&self, token: &[u8]) -> Option<Caller> {
        if self.first.is(token) {
            return Some(Caller { name: FIRST.into(), scopes: vec![Scope::Admin] });
        }
        if token.len() > ADMIN_TOKEN_OCTETS_MAX {
            return None;
        }
        let given = self.given.read().unwrap_or_else(PoisonError::into_inner);
        let row = given.get(digest(&SHA256, token).as_ref())?;
        let is_over = row.expires_s.is_some_and(|end| end <= now_s());
        let name = format!("{} (token {})", row.name, row.id).into();
        (!is_over).then(|| Caller { name, scopes: scopes(&row.scopes) })
    }

    /// One more.
    pub(super) fn add(&self, row: Row) {
        self.given.write().unwrap_or_else(PoisonError::into_inner).insert(row.digest.clone(), row);
    }

    /// One less.
    pub(super) fn remove(&self, id: i64) {
        self.given.write().unwrap_or_else(PoisonError::into_inner).retain(|_, row| row.id != id);
    }

    /// Those that were given out, by number.
    pub(super) fn given(&self) -> Vec<Row> {
        let given = self.given.read().unwrap_or_else(PoisonError::into_inner);
        let now = now_s();
        let in_force = given.values().filter(|row| row.expires_s.is_none_or(|end| end > now));
        let mut rows: Vec<Row> = in_force.cloned().collect();
        rows.sort_by_key(|row| row.id);
        rows
    }
}

/// Lets those through who may.
pub(super) async fn allowed(State(wanted): State<Scope>, request: Request, next: Next) -> Response {
    let may = request.extensions().get::<Caller>().is_some_and(|caller| caller.may(wanted));
    if may {
        return next.run(request).await;
    }
    Problem::forbidden(&format!("this token has no scope for it: {wanted} is needed")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_allow_what_they_say() {
        use Scope::{Admin, Content, Metrics, Operate, Provision, Read};
        for (scope, allowed) in [
            (Metrics, &[Metrics][..]),
            (Read, &[Metrics, Read]),
            (Content, &[Metrics, Read, Content]),
            (Operate, &[Metrics, Read, Operate]),
            (Provision, &[Metrics, Read, Provision]),
            (Admin, &Scope::ALL),
        ] {
            for wanted in Scope::ALL {
                assert_eq!(scope.allows(wanted), allowed.contains(&wanted), "{scope} {wanted}");
            }
        }
        assert_eq!(scopes(&words(&Scope::ALL)), Scope::ALL);
        assert_eq!(scopes("read fly"), [Read]);
    }

    #[test]
    fn a_token_is_known_until_it_is_over_or_revoked() {
        let callers = Callers::new(Arc::new(Token::new("the first administrator's").unwrap()), Vec::new());
        let row = |id, token: &str, expires_s| Row {
            id,
            name: "monitor".to_owned(),
            digest: digest(&SHA256, token.as_bytes()).as_ref().to_vec(),
            scopes: "read".to_owned(),
            created_s: 0,
            expires_s,
        };
        callers.add(row(1, "one", None));
        callers.add(row(2, "two", Some(now_s() - 1)));
        let known = callers.known(b"one").expect("it is in force");
        assert!(&*known.name == "monitor (token 1)" && known.may(Scope::Read) && !known.may(Scope::Operate));
        assert_eq!(callers.known(b"two"), None, "it is over");
        assert_eq!(callers.known(b"three"), None);
        assert!(callers.known(b"the first administrator's").expect("he is").may(Scope::Admin));
        callers.remove(1);
        assert_eq!(callers.known(b"one"), None);
    }
}
