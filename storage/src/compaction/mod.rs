//! Giving space back. A pure *horizon* says which segments may go, a pure *plan* which are worth rewriting; a *rewrite*
//! copies what still matters out of sparse segments into one that holds nothing else.
//!
//! The host does the rest, in this order: it puts the copy on its [shelf](crate::shelf::Shelf::copied), tells the owners of
//! the messages where they lie now, waits until nobody looks at the old places, journals how units of the copy
//! [ended](crate::shelf::Shelf::outcomes_of) before they came there, [leaves](crate::shelf::Shelf::leave) the
//! sources, and unlinks them with their tallies like any other segment. Until the first tally is durable the copy means
//! nothing: a start removes it. So no checkpoint may restate outcomes between the first of these steps and the last.

pub mod horizon;
pub mod plan;
pub mod rewrite;
