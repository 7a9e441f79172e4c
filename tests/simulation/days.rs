//! An outage that is longer than the retention, in seconds: nothing ends early, everything ends as configured, whoever is proven is
//! told once, and held mail ends without a word.

use crate::history::{Told, domain_of};
use crate::plan::Plan;
use crate::world::tell;
use std::rc::Rc;
use stratamx::config::OnExpiry;

#[test]
fn after_thirty_days_of_outage_and_three_of_being_held_nothing_is_left() {
    for seed in 1..=3 {
        let plan = Rc::new(Plan::of_days(seed));
        let story = tell(&plan, None);
        assert_eq!(story.wrong, [] as [String; 0], "seed {seed}");
        let sent = story.history.sent.borrow();
        for domain in &plan.config.domains {
            let row = story.rows.iter().find(|row| row.domain == domain.name);
            let Some(row) = row else { continue };
            let units = |proven: bool| {
                let ours =
                    sent.values().filter(|sent| matches!(sent.told, Told::Ours(_)) && sent.proven == proven);
                ours.flat_map(|sent| &sent.recipients)
                    .filter(|mailbox| domain_of(mailbox) == domain.name)
                    .count() as u64
            };
            assert!(units(true) > 0, "seed {seed}: a domain without mail proves nothing");
            assert_eq!((row.backlog, row.held), (0, 0), "seed {seed}: {row:?}");
            // One whose verdict DNS never gave is not proven.
            let told = if domain.on_expiry == OnExpiry::Bounce { units(true) } else { 0 };
            assert!(
                row.bounced <= told && row.bounced * 10 >= told * 7,
                "seed {seed}: {row:?}, {told} proven"
            );
            assert_eq!(row.accepted, row.bounced + row.expired, "seed {seed}: {row:?}");
        }
    }
}
