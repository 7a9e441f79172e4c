//! A bug for each checker, planted in the world around the node, that it must catch.

/// What is wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The primary says 250 and forgets (P1, P2, H21).
    ForgettingPrimary,
    /// The disk takes syncs and ignores them (P1).
    IgnoredSyncs,
    /// Octets of a durable record rot (P2).
    RottenRecord,
    /// Some messages are offered long after others (P3).
    LateOffer,
    /// A message arrives twice though its outcome was known (P4).
    TakenTwice,
    /// The file of who primaries are is gone at each start (H41).
    ForgottenPrimaries,
    /// DNS proves who is not proven (P5).
    LyingSpf,
    /// The smarthost takes some notices and forgets them (P5).
    LostNotice,
    /// Tasks never end (P7).
    LeakedTasks,
    /// A reply of ours is never heard (P7).
    SwallowedReply,
    /// Nobody reaches the primary for an hour behind its return (P8).
    LateReturn,
    /// An octet of mail data changes on its way.
    GarbledOctet,
}
