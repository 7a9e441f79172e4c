//! Every crash point of every short story: all sequences of steps over a store that has some of everything, cut off behind each
//! change of the disk, once for each way in which the disk may keep or lose what it had not made durable. The points of
//! all but the last step are those of a shorter story.

use super::checker::{check, check_accounts, is_damage};
use super::node::*;
use super::steps::{Machine, Order, Step, nobody, small};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;
use storage::disk::Disk;
use storage::sim::crash::{Kept, Pending};
use storage::sim::disk::Faults;
use storage::sim::{Random, SimClock, SimDisk};
use storage::store::open;

/// Pending changes of which every subset is tried; of more, as many subsets as of these.
const SUBSETS_OF: usize = 6;
/// Tear points of a long write: so many at either end.
const TEARS_AT_AN_END: usize = 8;

/// Stories of one kind.
#[derive(Clone, Copy)]
struct Kind {
    steps: usize,
    shards: u16,
    /// What is wrong with the disk during the last step.
    faults: Faults,
    /// What is wrong with the node.
    bug: Option<Bug>,
    /// At so many points of the last step, one each, the process is killed first, and the power is cut at every point
    /// of the start that follows.
    killed_one_in: Option<u64>,
    /// The step at place `n` goes to shard `first_shard + n`, and takes the unit at place `n` of those that are fit.
    first_shard: usize,
    /// Writes are torn from both ends, with the others kept and with the others lost; else only their head stays, with all others.
    both_tears: bool,
}

impl Kind {
    const fn new(steps: usize, shards: u16) -> Self {
        Self {
            steps,
            shards,
            faults: NO_FAULTS,
            bug: None,
            killed_one_in: None,
            first_shard: 0,
            both_tears: true,
        }
    }

    fn shape(&self) -> Shape {
        Shape { bug: self.bug, ..small(self.shards) }
    }
}

const NO_FAULTS: Faults = Faults {
    fail_call: None,
    fail_later_call: None,
    no_space_call: None,
    fail_reading: None,
    short_reading: None,
    misdirect_one_in: None,
    shear_one_in: None,
    fail_free: false,
    rewrite_tail_blocks: false,
    ignore_syncs: false,
    ignore_directory_syncs: false,
};

/// What was tried.
#[derive(Default, Debug)]
struct Tried {
    points: u64,
    images: u64,
    /// Points with so much pending that not every subset was tried.
    sampled: u64,
    wrong: Vec<String>,
}

impl Tried {
    fn add(&mut self, other: Self) {
        self.points += other.points;
        self.images += other.images;
        self.sampled += other.sampled;
        self.wrong.extend(other.wrong);
    }

    /// Cuts the power here in every way, and holds what is left against what was promised.
    fn cut_here(&mut self, disk: &SimDisk, world: &World, kind: &Kind, random: &mut Random) {
        let pending = disk.pending();
        self.points += 1;
        self.sampled += u64::from(pending.len() > SUBSETS_OF);
        for way in ways(&pending, kind.both_tears, random) {
            self.images += 1;
            let wrong = wrong_with(disk.cut(&way), world, kind);
            if let Some(wrong) = wrong.first() {
                self.wrong.push(format!("kept {way:?} of {pending:?}: {wrong}"));
                return;
            }
        }
    }

    /// Kills the process here, and cuts the power while it starts again.
    fn kill_here(&mut self, disk: &SimDisk, world: &World, kind: &Kind, random: &mut Random) {
        let disk = disk.fork();
        disk.set_faults(Faults::default());
        let world: World = Rc::new(RefCell::new(world.borrow().clone()));
        Machine::start(&disk, &kind.shape(), &world, &mut |disk, world| {
            self.cut_here(disk, world, kind, random);
            ControlFlow::Continue(())
        });
    }
}

/// A store with some of everything: a sparse segment and one that may go, another one that only chunks hold, a held unit,
/// journals of earlier lives.
fn base(kind: &Kind) -> (SimDisk, Promises) {
    use Step::{Append, Checkpoint, Expire, Hold, LargeAppend, Roll, Straddle, Tidy};
    let world = World::default();
    let disk = SimDisk::new(1, DISK_OCTETS);
    let sparse = [LargeAppend, Roll, Hold, Expire, Tidy, Checkpoint];
    let settled = [Roll, Tidy, Straddle, Tidy, Append, LargeAppend];
    for steps in [sparse, settled] {
        let mut machine = Machine::start(&disk, &kind.shape(), &world, &mut nobody).unwrap();
        for shard in 0..usize::from(kind.shards) {
            for step in steps {
                machine = machine.take(Order { step, shard, pick: 0 }, &mut nobody).unwrap();
            }
        }
    }
    let promises = world.borrow().clone();
    (everything_of(&disk), promises)
}

/// What a disk is that lost nothing.
fn everything_of(disk: &SimDisk) -> SimDisk {
    disk.cut(&vec![Kept::All; disk.pending().len()])
}

/// Every way in which the power cut may leave the disk.
fn ways(pending: &[Pending], both_tears: bool, random: &mut Random) -> Vec<Vec<Kept>> {
    let kept = |is_kept| if is_kept { Kept::All } else { Kept::Nothing };
    let mut ways: Vec<Vec<Kept>> = if pending.len() <= SUBSETS_OF {
        let subset = |bits: usize| (0..pending.len()).map(|place| kept(bits >> place & 1 == 1)).collect();
        (0..1 << pending.len()).map(subset).collect()
    } else {
        let mut sampled = |_| pending.iter().map(|_| kept(random.one_in(2))).collect();
        (0..1 << SUBSETS_OF).map(&mut sampled).collect()
    };
    for (place, change) in pending.iter().enumerate() {
        let Pending::Write { sectors, .. } = change else { continue };
        let near_an_end = |torn: &usize| (*torn).min(sectors - torn) <= TEARS_AT_AN_END;
        for torn in (0..*sectors).filter(near_an_end) {
            let tears = [(Kept::All, Kept::Head(torn)), (Kept::Nothing, Kept::Tail(torn))];
            for (others, torn) in tears.into_iter().take(1 + usize::from(both_tears)) {
                let mut way = vec![others; pending.len()];
                way[place] = torn;
                ways.push(way);
            }
        }
    }
    ways
}

/// What is wrong with a disk that is left.
fn wrong_with(disk: SimDisk, world: &World, kind: &Kind) -> Vec<String> {
    let (world, store) = (Rc::clone(world), kind.shape().store);
    block_on(&SimClock::default(), async move {
        let opened = match open(&disk, &SimClock::default(), &store).await {
            Ok(opened) => opened,
            Err(error) => return vec![error.to_string()],
        };
        let mut wrong = check(&disk, &opened, &world).await;
        wrong.extend(check_accounts(&opened, &world.borrow()));
        wrong.extend(opened.findings.iter().filter(|finding| is_damage(finding)).map(|f| format!("{f:?}")));
        wrong
    })
}

/// Takes `steps` from the base, and tries all crash points of the last.
fn try_story(base: &(SimDisk, Promises), kind: &Kind, steps: &[Step], tried: &mut Tried) {
    let disk = everything_of(&base.0);
    let world: World = Rc::new(RefCell::new(base.1.clone()));
    let mut random = Random::new(steps.iter().fold(0, |all, step| all * 16 + *step as u64));
    let order =
        |(place, step): (usize, &Step)| Order { step: *step, shard: kind.first_shard + place, pick: place };
    let mut orders: Vec<Order> = steps.iter().enumerate().map(order).collect();
    let last = orders.pop().unwrap();
    let mut machine = Machine::start(&disk, &kind.shape(), &world, &mut nobody).unwrap();
    for order in orders {
        machine = machine.take(order, &mut nobody).unwrap();
    }
    machine.plant(kind.faults);
    machine.take(last, &mut |disk, world| {
        match kind.killed_one_in {
            None => tried.cut_here(disk, world, kind, &mut random),
            Some(times) if random.one_in(times) => tried.kill_here(disk, world, kind, &mut random),
            Some(_) => {}
        }
        if tried.wrong.is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if let Some(wrong) = tried.wrong.last_mut() {
        let names: Vec<_> = steps.iter().map(|step| format!("{step:?}")).collect();
        wrong.insert_str(0, &format!("STRATAMX_STEPS={} over {} shards: ", names.join(","), kind.shards));
    }
}

/// Every story of a kind, or that of `STRATAMX_STEPS`, on every core; ends at the first that goes wrong.
fn try_all(kind: Kind) -> Tried {
    let letters = Step::ALL.len();
    let is_planted = kind.bug.is_some() || kind.faults != NO_FAULTS;
    let named = std::env::var("STRATAMX_STEPS").ok().map(|names| steps_of(&names)).filter(|_| !is_planted);
    let story = |number: usize| -> Vec<Step> {
        let letter = |place| Step::ALL[number / letters.pow(place) % letters];
        (0..u32::try_from(kind.steps).unwrap()).rev().map(letter).collect()
    };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let run = |first: usize| {
        let (base, mut tried) = (base(&kind), Tried::default());
        for number in (first..letters.pow(u32::try_from(kind.steps).unwrap())).step_by(threads) {
            let steps = story(number);
            if tried.wrong.is_empty() && named.as_ref().is_none_or(|named| *named == steps) {
                try_story(&base, &kind, &steps, &mut tried);
            }
        }
        tried
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        running.into_iter().fold(Tried::default(), |mut all, thread| {
            all.add(thread.join().unwrap());
            all
        })
    })
}

/// Steps by their names.
fn steps_of(names: &str) -> Vec<Step> {
    let step = |name| Step::ALL.into_iter().find(|step| format!("{step:?}") == name).expect("a step");
    names.split(',').map(step).collect()
}

/// Tries all, and that it was as much as it should be.
#[track_caller]
fn assert_kept(kind: Kind, points_min: u64, images_min: u64) {
    let tried = try_all(kind);
    println!(
        "{} steps over {} shards: {} points, {} images, {} points sampled",
        kind.steps, kind.shards, tried.points, tried.images, tried.sampled
    );
    for wrong in &tried.wrong {
        println!(
            "{wrong}\nrepeat that: the variable as it stands, and cargo test -p stratamx-storage crash_points"
        );
    }
    assert!(tried.wrong.is_empty(), "a story went wrong");
    if std::env::var_os("STRATAMX_STEPS").is_none() {
        assert!(tried.points >= points_min, "{} points", tried.points);
        assert!(tried.images >= images_min, "{} images", tried.images);
    }
}

#[test]
fn every_crash_point_of_every_story_of_up_to_three_steps_loses_nothing() {
    assert_kept(Kind::new(1, 1), 100, 1_000);
    assert_kept(Kind::new(2, 1), 1_500, 15_000);
    assert_kept(Kind { both_tears: false, ..Kind::new(3, 1) }, 20_000, 150_000);
}

#[test]
fn every_crash_point_of_two_steps_over_two_shards_loses_nothing() {
    for first_shard in [0, 1] {
        assert_kept(Kind { first_shard, ..Kind::new(1, 2) }, 150, 1_200);
        assert_kept(Kind { first_shard, ..Kind::new(2, 2) }, 2_000, 20_000);
    }
}

/// A process that is killed leaves what it wrote in the cache of the disk: the next start reads it, acts upon it, and then the
/// power fails.
#[test]
fn every_crash_point_of_a_start_after_a_kill_loses_nothing() {
    assert_kept(Kind { killed_one_in: Some(1), ..Kind::new(1, 1) }, 4_000, 20_000);
    assert_kept(Kind { killed_one_in: Some(3), ..Kind::new(1, 2) }, 3_000, 20_000);
    assert_kept(Kind { killed_one_in: Some(20), ..Kind::new(2, 1) }, 3_000, 20_000);
}

/// Each step does something on the base: else its crash points are none.
#[test]
fn every_step_changes_the_disk() {
    let kind = Kind::new(1, 1);
    let base = base(&kind);
    for step in Step::ALL {
        let mut tried = Tried::default();
        try_story(&base, &kind, &[step], &mut tried);
        assert!(tried.points >= 3, "{step:?}: {} points", tried.points);
    }
}

/// Some story of up to two steps finds what is planted.
#[track_caller]
fn assert_caught(name: &str, kind: Kind) {
    let caught = (1..=2).find_map(|steps| try_all(Kind { steps, ..kind }).wrong.pop());
    println!("{name}: {caught:?}");
    assert!(caught.is_some(), "{name} is not caught");
}

fn planted_in_disk(faults: Faults) -> Kind {
    Kind { faults, ..Kind::new(1, 1) }
}

fn planted_in_node(bug: Bug) -> Kind {
    Kind { bug: Some(bug), ..Kind::new(1, 1) }
}

#[test]
fn canary_a_skipped_sync_is_found_out_at_a_crash_point() {
    assert_caught("skipped sync", planted_in_disk(Faults { ignore_syncs: true, ..NO_FAULTS }));
}

#[test]
fn canary_a_skipped_sync_of_a_directory_is_found_out_at_a_crash_point() {
    let faults = Faults { ignore_directory_syncs: true, ..NO_FAULTS };
    assert_caught("skipped directory sync", planted_in_disk(faults));
}

#[test]
fn canary_a_rewritten_tail_block_is_found_out_at_a_crash_point() {
    assert_caught("rewritten tail block", planted_in_disk(Faults { rewrite_tail_blocks: true, ..NO_FAULTS }));
}

#[test]
fn canary_h3_a_missing_pin_is_found_out_at_a_crash_point() {
    let (kind, mut tried) = (planted_in_node(Bug::MissingPin), Tried::default());
    // A start finds all pins by itself: this takes a story that begins and ends in one life.
    try_story(&base(&kind), &kind, &[Step::Straddle, Step::Tidy, Step::Unlink], &mut tried);
    println!("missing pin: {:?}", tried.wrong);
    assert!(!tried.wrong.is_empty(), "a missing pin is not caught");
}

#[test]
fn canary_a_silent_copy_is_found_out_at_a_crash_point() {
    assert_caught("silent copy", planted_in_node(Bug::SilentCopy));
}

#[test]
fn canary_a_hasty_tally_is_found_out_at_a_crash_point() {
    assert_caught("hasty tally", planted_in_node(Bug::HastyTally));
}

/// H8: what a crash leaves behind the last commit that is known to be durable is counted, once.
#[test]
fn h8_what_a_crash_leaves_of_the_last_commits_is_counted() {
    let world = World::default();
    let disk = SimDisk::new(1, DISK_OCTETS);
    let mut machine = Machine::start(&disk, &small(1), &world, &mut nobody).unwrap();
    for _ in 0..3 {
        machine = machine.take(Order { step: Step::Append, shard: 0, pick: 0 }, &mut nobody).unwrap();
    }
    drop(machine);
    let disk = everything_of(&disk);
    let counted = |disk: SimDisk| {
        block_on(&SimClock::default(), async move {
            open(&disk, &SimClock::default(), &small(1).store).await.unwrap().recovered_unacknowledged
        })
    };
    // The third commit says that the second is durable, and nobody says so of the third.
    assert_eq!(counted(disk.clone()), 1);
    assert_eq!(counted(disk), 0, "the index has it now");
}

/// A file that is called as the last segment that there could ever be was made by nobody here.
#[test]
fn a_file_with_an_absurd_number_is_not_ours() {
    let disk = SimDisk::new(1, DISK_OCTETS);
    let world = World::default();
    let machine = Machine::start(&disk, &small(1), &world, &mut nobody).unwrap();
    drop(machine);
    for name in ["shard-00/segment-ffffffff.log", "shard-00/journal-ffffffff.log"] {
        let made = disk.clone();
        block_on(&SimClock::default(), async move { drop(made.create(name, 8192).await.unwrap()) });
    }
    let machine = Machine::start(&disk, &small(1), &world, &mut nobody).unwrap();
    machine.take(Order { step: Step::Append, shard: 0, pick: 0 }, &mut nobody).unwrap();
    assert_eq!(world.borrow().acknowledged.len(), 1);
    assert!(disk.paths().contains(&"shard-00/segment-ffffffff.log".to_owned()), "it is left alone");
}
