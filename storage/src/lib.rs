//! The segmented log: records in, durable; facts about them, durable; both back after a crash. Bytes on disk are
//! in `FORMAT.md`.
//!
//! # What it promises
//!
//! - A [`commit::Ticket`] that says `Ok` speaks of a record on stable storage (P1), in content and name.
//! - What was promised is found again by [`store::open`], unaltered, in stamp order, until each of its units has a
//!   final fact (P2), whatever crash, failed write, full disk, stepped clock or changed number of shards lies between.
//! - What was answered with an error does not come back, once a later record was promised (H8).
//! - Bytes that it did not write are never believed, and none make it panic (H7).
//!
//! It does not know domains' owners, primaries, retention or SMTP: it keeps records and facts, and says what is
//! queued. It logs nothing: errors and findings are returned, the caller handles them.
//!
//! # Invariants
//!
//! ```text
//! durable <= written <= appended                        of the active segment; each only grows
//! last stamp or sequence ever used < stamp ceiling on disk                                  (H1)
//! floor(shard) <= every stamp of the shard that is not durable and known to its owner       (H12)
//! dispatched < horizon = min(counter, floors of all shards)                                 (P3)
//! unlinked(segment) => sealed, unsettled = 0, pins = 0, tally durable                       (H3, P2)
//! units(segment) = settled + unsettled; a unit counts once, however often it is told        (H10)
//! a block that is durable is never written again; a file that failed is never synced again  (H8)
//! ```
//!
//! # Modules
//!
//! From the bottom up; a line names only lines above it.
//!
//! | module | what |
//! |---|---|
//! | [`position`] | places, stamps and identities as types |
//! | [`mod@format`] | bytes: encode and decode, nothing else |
//! | [`crypt`], [`error`] | keys of mail at rest and a cipher a segment; one error enum an operation |
//! | [`clock`], [`disk`], [`notify`] | where time and storage enter; a wake-up inside one executor |
//! | [`frontier`] | stamps and the durable floor of each shard: the only state that shards share |
//! | [`segment`] | one file of frames: written, scanned, recovered |
//! | [`commit`], [`log`] | the filling batch and its tickets; a chain of segments with one commit task |
//! | [`facts`], `journals`, [`shelf`] | what journals say about units; which of them are lost; what a shard keeps and why, and the ledger of what is gone |
//! | [`compaction`], [`checkpoint`] | which segments go or are rewritten, and the rewriting; journals that get short |
//! | [`store`] | opening all of it, once |
//! | [`reader`], [`merge`] | a record back from disk; one domain's queue over all directories |
//! | [`trace`] | what became of messages, for people: nothing rests on it |
//! | [`ledger`] | P2 as arithmetic |
//! | [`inspect`] | a read-only walk over a directory, for the offline tool: what is there, what is wrong, the ledger recounted |
//! | [`snapshot`] | what belongs together of a directory that a server works on: a copy that opens |
//! | [`repair`] | a copy of a damaged directory that opens again |
//! | `sim` | the simulated disk, clock and executor (feature `sim`: tests and benches) |
//!
//! Never: [`mod@format`] names anything but [`position`]; anything but `disk/dma.rs` and the real clock names glommio;
//! `sim` names more than the traits and types of [`disk`], [`clock`], [`error`] and [`position`]; [`inspect`] opens a file
//! for writing. [`repair`] writes only into the copy that it makes, and its source is a walk of [`inspect`].
//!
//! # Decisions
//!
//! - **Group commit without a setting.** While a write and its sync are in flight the next batch fills; it leaves when
//!   they complete. If it then has fewer than half of their records it waits once, as long as they took and 1 ms at most
//!   (`log::gathering`): under load a commit costs the processor as much as ten messages, and batches of five became larger for
//!   about a quarter less CPU a message. One sender never waits but for his sync.
//! - **Every commit is padded to whole blocks.** Rewriting a half-filled tail block could tear what was promised. The
//!   price is at most a block a commit, and only while there is little to do.
//! - **A segment is preallocated and made whole before its first record**: header, size and name are durable, so a commit
//!   is one write and one data sync, and no promise hangs on a directory entry.
//! - **Failure moves on.** A failed write or sync is final for its file: the log goes on in a fresh segment whose first record
//!   voids the failed range. Nobody needs to know what the disk made of the failed bytes.
//! - **The void's segment outlives the segment that it voids** ([`shelf`]): the index of the latter already leaves the
//!   voided entries out, but an index is derived data and may have to be rebuilt.
//! - **Stamps are taken when the closing record enters a batch.** So a shard's stamps become durable in order, one floor a shard
//!   describes it, and a slow sender holds nothing (H19).
//! - **Settlements are journalled by the shard that owns the domain; bitmaps live with the shard that keeps the segment.** The owner
//!   decides about a unit and must not wait for another shard's disk; the keeper must know what is settled to
//!   unlink. A fact names the unit, not the place, so a journal needs no knowledge of segments, and after a change of the number of
//!   shards any journal speaks for any segment: they are a union (H10).
//! - **Indexes are derived.** Nothing is lost with one; recovery of a sealed segment reads its index, that of the
//!   active one scans at most one segment a shard.
//! - **A checkpoint restates, it does not copy.** Per unit half an octet says how it ended, so a million settled units above
//!   one stuck message are half a megabyte (H11). It is a cycle over all shards ([`checkpoint`]), because owners journal
//!   facts and keepers know which of them still matter; a sequence that is taken first lets holding and releasing be restated
//!   while they go on. Opening a store does the same in one step.
//! - **A tally counts twice.** Accepted units by the records, ended ones by the facts: a segment whose two counts differ is
//!   not unlinked, and the offline audit has something to hold against each other (P2).
//! - **A rewrite is nothing until its first tally.** The copy names its sources; a start that finds all of them untallied
//!   removes it, one that finds any tallied rolls the others forward. No third state, and no commit record. What a checkpoint
//!   had restated names the source, so the outcomes of the copy are journalled before a source is left.
//! - **A rewrite waits for quiet.** A segment that is being drained will soon be gone by itself; what has lost nothing for a
//!   minute, and is half empty, is worth copying. Chunks go with the closing records that pin them.
//! - **Mail leaves the journals their room.** A mail segment is made only while the journals' reserve stays free, and a journal
//!   has its next file at once: on a full disk it is they who make room.
//! - **Segments are made anew by fallocate, not recycled, not zeroed ahead.** Measured on ext4 and XFS (`benches/README.md`):
//!   a write over blocks that were written before is 1.3 to 1.6 times faster on the machine's ext4, up to 3 times on loop
//!   devices. But a recycled file is never blank, so recovery could not tell what a crash left of one that was being made;
//!   and zeroing ahead writes every octet twice, which takes back what it gives on a disk that is busy.
//! - **One checksum a part of the index.** One domain's entries are read and believed without the others.
//! - **Recovery never truncates and never appends** (H6, H9). It scans to the end of the preallocated area, seals what it finds and
//!   starts a new segment; what looks torn is told apart from damage by what later frames knew to be durable. The zeros behind
//!   what it found become a hole: a server that ends each minute would fill a disk with rooms that nobody writes to.
//! - **A start makes durable what it found before it acts upon it.** A process that was killed leaves what it wrote in the cache of
//!   the disk: a tally that is believed, its segment removed, and the tally then lost in a power cut, would be a loss.
//! - **Numbers of segments never return, also where no journal can be read that tells of them**: they have a ceiling on disk, as
//!   stamps have. Else a later start, which can read it, would remove new mail for what is long gone.
//! - **A file that vanishes is noticed once another one was made behind it**: each header names all of its chain that were durable before it
//!   and that no header of a file that is here names; a checkpoint names the first journal of each directory that still counts. What is made last
//!   is named by nothing, and so is for a while what only a file that went had named.
//! - **A lost segment header is survivable**: a valid index repeats the salt, and records are read with that.

pub mod checkpoint;
pub mod clock;
pub mod commit;
pub mod compaction;
pub mod crypt;
pub mod disk;
pub mod error;
pub mod facts;
pub mod format;
pub mod frontier;
mod identity;
pub mod inspect;
mod journals;
pub mod ledger;
pub mod log;
pub mod merge;
pub mod notify;
pub mod position;
pub mod reader;
pub mod repair;
pub mod segment;
pub mod shelf;
pub mod snapshot;
pub mod store;
pub mod trace;

pub use identity::save as save_identity;
#[cfg(feature = "sim")]
pub mod sim;
