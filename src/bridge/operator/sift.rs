//! What else a list of messages is asked for, beside domain and state.

/// Which messages. Age, size and code are known in memory; sender and recipient take a look at each record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sift {
    /// Received then or later, in seconds since 1970.
    pub received_since_s: Option<u64>,
    /// Received before that.
    pub received_before_s: Option<u64>,
    /// With at least so many octets on disk.
    pub min_octets: Option<u64>,
    /// With at most so many.
    pub max_octets: Option<u64>,
    /// With this reverse-path, in whatever case.
    pub sender: Option<String>,
    /// With this recipient, in whatever case.
    pub recipient: Option<String>,
    /// A mail server said this last.
    pub code: Option<u16>,
}

impl Sift {
    /// Whether it leaves anything out.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// Whether records have to be looked at.
    #[must_use]
    pub const fn is_of_records(&self) -> bool {
        self.sender.is_some() || self.recipient.is_some()
    }

    /// Whether a message of this age and size passes.
    #[must_use]
    pub fn takes(&self, received_s: u32, octets: u64) -> bool {
        let received_s = u64::from(received_s);
        self.received_since_s.is_none_or(|since| received_s >= since)
            && self.received_before_s.is_none_or(|before| received_s < before)
            && self.min_octets.is_none_or(|least| octets >= least)
            && self.max_octets.is_none_or(|most| octets <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_where_they_are_said_to_be() {
        let sift = Sift {
            received_since_s: Some(10),
            received_before_s: Some(20),
            min_octets: Some(100),
            max_octets: Some(200),
            ..Sift::default()
        };
        for (received_s, octets, expected) in [
            (10, 100, true),
            (19, 200, true),
            (9, 100, false),
            (20, 100, false),
            (10, 99, false),
            (10, 201, false),
        ] {
            assert_eq!(sift.takes(received_s, octets), expected, "{received_s} {octets}");
        }
        assert!(!Sift::default().is_any() && sift.is_any() && !sift.is_of_records());
    }
}
