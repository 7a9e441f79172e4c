//! Giving space back: a pure *horizon* says what may go. Unlinking happens in the shard, which journals a
//! tally first.

pub mod horizon;
