//! StrataMX, a secondary MX: the architecture, and the design of record beside `storage/FORMAT.md`.
//!
//! A protected domain publishes StrataMX at a worse MX preference than its own mail server, the *primary*.
//! While the primary cannot be reached senders fall back to StrataMX; it takes every message, keeps it, notices
//! by itself that the primary is back, and hands everything over in order.
//!
//! # Promises
//! The unit is (message, recipient), counted per domain.
//! - **P1** `250` to the end of data is sent only after the record is durable: written with O_DIRECT, synced, and
//!   its segment's name synced before that.
//! - **P2** every accepted unit ends in one outcome, or is backlog or held.
//! - **P3** if A's `250` was sent before B's `MAIL` arrived, the primary is offered A before B. Excepted: a message
//!   that the primary puts off by itself, or that broke three sessions, steps aside and blocks nobody.
//! - **P4** at least once, almost always once: what a crash may repeat is at most
//!   [`limits::OUTSTANDING_MAX`] messages a domain.
//! - **P5** notices go to proven reverse-paths only: SPF, or an aligned signature ([`shard`], `replay::bounce`).
//! - **P6** never an open relay, no smuggling; the session stays in step at the true end of data.
//! - **P7** everything has a bound, and they stand in [`limits`].
//! - **P8** the drain starts by itself within `retry_interval` of the primary's return.
//!
//! # Two planes
//! ```text
//!            data plane: one shard a core, nothing shared            control plane: OS threads
//!  senders ->  shard-0: accept -> smtp -> storage -> replay  \       lookup: DNS
//!  senders ->  shard-1: accept -> smtp -> storage -> replay   >--bridge-->  files, admin (HTTP)
//!  senders ->  shard-n: ...                                  /
//!                  \______ mesh: arrivals, settled units _____/
//! ```
//! - **Data plane** ([`shard`]): one glommio executor a core, of all cores but one unless told. Each shard accepts (SO_REUSEPORT), speaks SMTP,
//!   appends to its own log, and replays the domains that hash to it, from all shards' logs.
//! - **Control plane** ([`control`]): the lookup thread, where hickory-resolver lives, and that of files, which looks at
//!   certificates and lists of recipients and keeps what primaries said about them and who they are, and the admin thread ([`control::admin`]) with its database's ([`control::store`]). Tokio current-thread runtimes; of
//!   mail they see header sections, after the 250, and what an operator exports.
//! - They meet in [`bridge`]: bounded channels and immutable snapshots. Shards meet in [`shard::mesh`].
//! - The protocol machines ([`smtp`]), the policies and the formats are sans-IO: bytes and `now` in, events and
//!   deadlines out. Disk and clock enter by traits of `storage`, links and dialing by [`shard::link`].
//!
//! # What shards share, and why it is little
//! Stamps, floors, connection counts and rates, certificates, what each domain has stored (`bridge::usage`), and the keys
//! of mail at rest; everything else is told by notes. Usage and keys have a lock each, taken when a domain is new or a
//! segment is opened, never for a message; certificates one that a handshake reads; recipients of a domain one that RCPT and
//! a handed-over message take for a look; who the primary is one a session with it; addresses of senders 64, of which a connection takes one twice and MAIL one once.
//! - A *stamp* orders messages over all shards and restarts. It is taken when the record enters a commit batch
//!   (H19), below a ceiling that is persisted ahead of use (H1).
//! - A shard publishes its *floor* before it takes a stamp. The owner of a domain reads the lowest floor, then
//!   empties its inbox, then dispatches stamps below that floor only (H12). The order of these three is the
//!   whole proof: an arrival is sent before the floor passes it.
//! - The *owner* of a domain holds its queue and journals what became of each unit. The *keeper* of a segment
//!   (the shard that wrote it, or `directory % shards` for directories of more shards than run) holds half an
//!   octet a unit and unlinks the segment when all are set, after a tally is durable.
//!
//! # Never-arrows
//! `tests/integration/architecture` checks them, with a canary that must fail.
//! - smtp, message -> core, memchr, multiversion (which picks the scan of mail data that a processor can run), limits. No
//!   sockets, files, clocks, glommio, tokio, storage, shard, control.
//! - storage -> never stratamx; inside it only `disk/dma.rs` and the real clock name glommio.
//! - shard -> smtp, message, auth, storage, bridge, config, limits, metrics. Never control, hickory, tokio.
//! - auth -> message, bridge, limits. Never shard, control, glommio, storage.
//! - control -> bridge, config, limits, metrics, message, auth, support, update. Never shard, glommio, storage.
//! - init -> config, limits, update. It starts the server as a program, and knows nothing of it.
//! - support -> limits. What a support bundle is made of, and what is left out of it.
//! - update -> limits. What the server and PID 1 say to each other, and the rule that both hold an image against.
//! - command, main -> all; nothing -> command. tools -> smtp, config, storage. Nothing -> tools.
//!
//! # Decisions, with reasons
//! - **A message up to 256 KiB waits in the receive buffer** and is copied once, into the aligned block of the
//!   log, checksummed on the way; the offset, which seeds the checksum, is known only then. Larger ones become
//!   chunk records while they arrive, so that memory per session is bounded at any size.
//! - **Mail data has one stored form**, that of DATA. BDAT chunks are stuffed on their way into a buffer of their own, and a
//!   last line without an end is given one, which is recorded: a reader, or an older program, that did not know of a second
//!   form would smuggle (H46), and every tool would need both. The price is one copy of what comes by BDAT.
//! - **A domain has one name, its A-labels in lower case** (`config::canonical_domain`): lane, quota and index go by it, and the
//!   stored mailbox has it, whatever the sender wrote. smtp knows no IDNA; the verdict names the mailbox.
//! - **ETRN counts by asking the owners**, with a bound on the wait; whoever gets no number in time is told that it has begun.
//! - **Recipients are stored grouped by domain**: the units of one domain are a contiguous range, an index
//!   entry is 32 octets, and a unit's bit follows from it without reading the record.
//! - **Settled entries are gone, not marked**: the owner's memory holds what is unsettled, so millions of
//!   delivered messages behind one stuck one cost half an octet each (H11).
//! - **What waits is 40 octets in a sorted list of small chunks**, whatever it waits for: maps of the standard library
//!   cost three times that, and a vector that doubles costs as much while it grows. Deferred messages are swept
//!   together, so that their order stays and no timer is theirs. A message with more than 16 recipients in a domain
//!   that is partly decided costs a bit a unit and an allocation more (64 octets a message, [`shard`]).
//! - **Mail expires by a fact, never by its age** (H4): what is past its retention is taken out of the queue, journalled,
//!   and only then told to the keeper of its segment. What is in flight waits for the next round; mail of a domain
//!   that is not configured waits for ever (H14).
//! - **Nothing expires by a doubtful clock** (H5). Whether it is synchronised is read from what systemd-timesyncd leaves in
//!   /run: the kernel's own word needs a system call that no safe crate offers. Not known means no. `expiry_clock =
//!   "trusted"` is the operator's word instead. A jump against monotonic time suspends expiry whoever vouches, and a start waits up to an hour for both to agree.
//! - **Usage is counted a domain in one table of atomics**, raised when a batch is durable and before its 250, lowered with the
//!   last final fact. A message in two domains counts in both. A verdict reads counts, so messages that are on their
//!   way at the same time may pass a quota together.
//! - **A message steps aside only for its own sake**: it was put off and the primary took something else, or three
//!   sessions broke over its data, a 421 in reply to its dot among them. Three in a row put off, over distinct
//!   recipients, mean that it is the primary, and then everything stays in order (H23); each pause looks twice as
//!   far, so that three full mailboxes at the head do not stop a domain. What stepped aside once is no evidence.
//! - **Greylisting is no outage and no evidence** (`replay::greylisting`): who is greylisted steps aside at once, until the primary expects him (it
//!   states the seconds, or he waits as any other), without a canary, and takes his place among the others' tickets again: a primary that greylists
//!   all that is new would leave no order to a backlog. The guard watches on until they came again once. Known it is by its words only: a 4.7.1
//!   alone may be a policy that lasts. A session ends behind [`limits::CLIENT_ERRORS_MAX`] refusals in a row, before Postfix says 421 to a client with too
//!   many errors; where a 421 comes behind answers all the same, it is a limit, or everything is put off (H23), and nobody is down. To more recipients
//!   than fit in front of that limit a message comes so many times.
//! - **What rides behind a dot may be dropped** (`smtp::client`): Haraka takes it for smuggling and answers 503 to each command. Such a transaction
//!   begins again in its place, and nothing rides in that session any more; the next one finds out again, for a round trip.
//! - **A primary that hangs costs 30 s a try**, not the 5 minutes that RFC 5321 4.5.3.2.1 gives a greeting: the next
//!   try comes by itself, and P8 would not hold else.
//! - **A panic of a shard ends the process**: its socket would go on taking connections that nobody serves.
//!   All that was promised is durable; a supervisor starts the server again.
//! - **Several messages are in flight on one connection** (`replay::delivery`), since round trips decide how long a drain takes. The
//!   next envelope rides behind a dot; where a host has swallowed a refused chunk on this connection (H45) whole transactions
//!   leave by BDAT, in a window that doubles and then grows by one. A connection asks anew, at no cost of a round trip; only a bad
//!   answer is remembered beyond it, for a day and by address. Each transaction that rides says RSET first: a server that keeps an
//!   envelope whose end it refused would add the next one's recipients to it. What is in flight and what is not settled
//!   are bounded together (P4).
//! - **The journal knows what is on its way** (`backlog::offers`): a row about a message is durable before anything of it leaves, so a start
//!   lists and flags what a crash may have delivered (`may_repeat`). Rows ride in the writes that settle what went before, so a steady drain
//!   waits for nothing more. What a primary was late to answer, or broke off behind (H21), has its row before its sender's 250. Rows of one message
//!   are told in the order in which they came about, whatever passes what where a batch is full: the last one counts.
//! - **Connections to a primary share tickets** (`replay::lane`): a message may leave on a connection when all earlier ones for any of its
//!   recipients are in flight on the same one, or had their outcome. That the earlier one was *offered* elsewhere is not enough: its
//!   connection may break before the primary has seen it. Recipients are bits of a set of 256, so a message to 500 costs what one costs and
//!   waits for nearly all, and they for it. P4's 16 and the guard's canaries are counted over all connections, P4's with what is carried through.
//! - **The number of connections is found out** (`backlog::pace`), one more while work waits that could go on it, half when the primary has
//!   too much of us. One that is refused beside another that serves says nothing of an outage. Half of a shard's places are for first
//!   connections, further ones leave when somebody waits for one, and behind each message a lane lets as many turns pass as it has
//!   connections: shares go by domains.
//! - **A recipient has a rate where his provider has one** (`replay::profile`, `backlog::pacing`): his mail waits in its place and whatever else is
//!   for him behind it (P3), nobody else's. Up to 1,024 such are looked past; who has more in front than that holds up his domain.
//! - **Only who was alone is blamed** (H44): a session that breaks with several in flight makes its first message without an outcome a
//!   suspect, tried alone until it has passed or broken three more; the others go back to their places.
//! - **A session that ends before a message's data** asks whether it is the message or the primary (`backlog::queue::breaking`), and the next message
//!   tells: behind three sessions that ended in its turn before anything was taken, that one has a session at once. If it gets through the other steps aside, else all stay in
//!   order: a primary that says 421 to each MAIL is down, and Postfix that says so to one sender does not stop a domain.
//! - **A session speaks for one client at a time** (`smtp::client::naming`). XCLIENT rides behind the message before, so another client each time
//!   costs three round trips; where the primary takes no second one (Postfix gives leave by the address that it has been told) the lane makes the
//!   next session at once. EHLO is said in the client's name: Postfix goes by that and forgets the HELO attribute. Whom the primary refuses
//!   by XCLIENT or that EHLO has his message's answer, and who breaks sessions by his name steps aside as by his data (H44): a stranger's address or
//!   name must not stop a lane. What we ask by MAIL FROM:<> is asked in a session of our own.
//! - **What a primary speaks belongs to its address** (`config::Primary`), so that a redirect, a smarthost and a notice to a protected domain each
//!   speak what their host does. LMTP goes without BDAT (what a refused chunk of several recipients is answered is not told by anybody), and
//!   with several recipients nothing rides behind the dot: of a server that gives one reply to all, another command's reply would be
//!   taken for a delivery. A sender who waits has one reply, so nothing is carried through to it.
//! - **A primary's LIMITS (RFC 9422) bound a session and a transaction**: the session behind the last MAIL is followed by another at once. More
//!   recipients than a transaction may have are offered in their order, in transactions one after the other, with nothing between them for whom they
//!   share (P3). Each unit has its turn before the message steps aside or counts as put off, so a mailbox that is full for ever keeps nobody behind
//!   it waiting (`backlog::queue::turns`). Probes and callouts ask in as many transactions.
//! - **What is carried through has a task of its own** (`replay::proxied`), which the session asks by a channel: it outlives the session where the primary
//!   still owes a reply (H21), sessions stay free of dialers, and whatever hangs there has a patience on both ends. A domain's state, its backlog and whether it
//!   lets us name clients reach the sessions of all shards by a few atomics ([`bridge::Passage`]): a message is counted before its 250, and the lane says up to
//!   which count nothing waits in order, so no proxied message overtakes one that was acknowledged (H42). Only XCLIENT proves the trust path so far; with
//!   XFORWARD a primary would judge us and answer the sender.
//! - **A refusal that is carried through is a verdict only if it can be one**: a recipient whom the primary took lately and does not know now makes
//!   the transaction ours (H22), and so do three in a row that it put off (H23).
//! - **`defer` asks before it sends anybody away**: a proof of life not older than half a minute, by a callout if there is none.
//! - **Deadlines are swept, not timed**: a session that waits leaves its waker and its deadline in one cell; one
//!   timer a shard looks at all of them. A thousand idle sessions cost one wake-up in two seconds.
//! - **Facts gather before they are journalled**, up to 8 messages or 20 ms, within what P4 allows: else each
//!   delivery would cost a block.
//! - **Who waits for what is under way waits for an epoch** (`shard::epoch`): a rewrite until nobody names the old places,
//!   a checkpoint until every durable fact was told. New work belongs to the next epoch and starves nobody.
//! - **A node is put together in one place** ([`shard::node`]), in steps that are types, whatever machine it runs on: what `tests/simulation`
//!   finds in a world of its own making, it finds in the code that serves.
//! - **TLS is a link over a link** (`shard::tls`), so that sessions, tests and the simulator are the same with and without
//!   it. What a write made leaves with the next operation: else a write that is given up could not be told apart from
//!   one that went out. The server name chooses the certificate among those that the control plane put into one cell
//!   ([`bridge::Certificates`]); a shard is told nothing else when they change.
//! - **A rate is one instant an address**, in the same map as the counts of connections, shared by all shards: SO_REUSEPORT
//!   spreads a sender's connections over them, so a rate of one shard alone would mean nothing.
//! - **Memory for what comes is counted where it grows**, in the receive buffers; when it is short nothing new is begun,
//!   and what is under way goes to the log in smaller chunks, so that it can end.
//! - **Early talk behind STARTTLS closes** as it does behind DATA: whoever put it there did not wait, and whether it would
//!   be read before or inside TLS is a matter of timing.
//! - **Nobody waits for SPF, DKIM or DMARC** ([`auth`]). SPF is asked at the first
//!   recipient whose domain wants it (at MAIL a client could have our name servers asked for nothing), the body is hashed while its record is on its way to the
//!   disk, the rest is asked after the 250; each question is put only if there is room for it. A verdict is 32 bits that go
//!   along with what is queued, told to the journal as a row that an older program leaves out. No verdict means not proven.
//! - **A signature proves a reverse-path of its own domain or of one below it**, not of one above: DMARC's relaxed alignment would have
//!   it both ways, and a name below may be another's. So no list of public suffixes decides where notices go.
//! - **SPF is evaluated by us**, records are parsed by mail-auth: its evaluation knows no bound on void lookups and takes the match
//!   of an inner `include` for that of the whole record. DKIM and DMARC are mail-auth's; the organisation is found by RFC 9989's tree walk.
//! - **Authentication-Results are made when mail leaves** (`message::authentication_results`), from the verdict and the header section: the record stays as it came, and
//!   what is found after the 250 is in it. Forged ones are cut out of what goes, as ranges of the stored octets: mail without any, which is nearly all, is copied as it lies.
//!   Whoever has his mail carried through live judges the client himself.
//! - **What became of a message is told once, behind the facts** (`replay::chronicle`, `storage::trace`): the journal knows stamps and codes, people ask for names and words. Rows are
//!   no part of a promise, so they wait for nobody's sync and nobody waits for theirs; while a message is queued its record tells the rest.
//! - **ARC seals are made when mail leaves, by the lookup thread** (`auth::arc`, `replay::lane::sealing`): signing costs a millisecond of RSA, and a chain that came with the mail asks for DNS. A seal
//!   is a help and no condition: what does not come in time is not waited for again for a minute. A chain that was not looked into is not gone on with.
//! - **A panic in authentication ends nothing** ([`auth::contained`]): it works on strangers' octets and on nothing that others rely on.
//! - **Local parts are compared in one form** (`bridge::recipients`): unquoted, composed, in lower case. RFC 5321 2.4 leaves case to
//!   the primary, and none in use tells mailboxes apart by it; mail goes on as it was typed.
//! - **Files are looked at by a thread of their own**: a list of a million lines takes a while, a file system may stall, and no question
//!   about names waits for either.
//! - **Who a primary is, is learned while it is up, and looked at before anything is offered** ([`bridge::Acquaintance`], `bridge::fingerprint`, H41). One strong sign is another machine: other
//!   software, or it takes a recipient that cannot exist and used to refuse him. Of the weak ones (name, keywords, key, a banner that hides its software)
//!   it takes two: each alone is ordinary life, and a warning that comes with each renewed certificate is read by nobody. Values of SIZE and LIMITS are settings. A farm is a
//!   bounded set; a new machine of it is one while the last session is not older than an hour, since an outage in which no mail came is not seen.
//!   What stands in for a primary by a redirect is not met, and what is known belongs to the primaries as the configuration names them.
//! - **A stranger is met with canaries and copies, and never frozen for being one**: most are new servers of the same people. Until he is known nothing is carried
//!   through to him (of that there would be no copy), and recipients are neither learned nor asked. Copies are kept for a day from his coming also when he has
//!   proven himself: a rescue system may know the recipients. When he becomes known without proof, whoever was not met since is forgotten: the same
//!   rescue system would be no stranger the next time.
//! - **Fingerprints are a file that a start can do without**: damaged they are none, and nobody is a stranger until somebody is known. What is not yet written down
//!   when the power fails is found again: a stranger is never learned, so behind the restart he is one.
//! - **An outage ends when everything due was handed over**, not when a connection is made: before that a primary is neither asked
//!   about recipients nor learned from (H22, H26). After it it has to accept somebody, postmaster at least, before a refusal counts.
//! - **After an outage a refusal is evidence first** (`shard::backlog::guard`): its unit is parked, not held, so that a server whose mailboxes come
//!   back in the next hours gets it without an operator. Final it is only after known-good recipients were taken; and for a recipient that
//!   was good before, after a day. Where nobody is known, as many distinct recipients refused as taken freeze: two refused beside a hundred
//!   taken are spam, and DESIGN.md's two alone would stop a domain for it.
//! - **A notice is a record that names its units** (`replay::notice`), durable before they are settled, sent behind that. Journal and mail log
//!   are files of their own, so no batch holds both; and a mark in the journal that one is owed would need a second look for whether it was made.
//!   A start reads the notices that wait, settles their units that are open, and makes no second one. They are of one reserved domain: a name a
//!   destination would let strangers grow the ledger. What keeps a notice from being made holds the units.
//! - **A refusal waits for the verdict** (60 s at most, at the pace of what is put off): mail is handed over faster than DNS answers, and what is
//!   held for that would need an operator.
//! - **A probe that is put off decides nothing**: a server that greylists MAIL FROM:<> is not a sick one.
//! - **Who probes has places of his own** (`shard::places`), and a host is asked for all its domains by one of them
//!   (`shard::hosts`): else mail of a well server would wait behind 10,000 dead ones, or 5,000 domains would dial one host.
//! - **A domain's own MX records are a route like any other** (`replay::route`): who is equal or worse than us goes, and a host that
//!   greets with our name is us, whatever led there. What leaves nobody is told and waits: it may be an operator's next step, and a
//!   bounce for it could not be taken back. Answers are kept beyond their time for as long as no name server speaks.
//! - **What says nothing about a recipient lets it in**: greylisting, a refused MAIL FROM:<>, a catch-all, a refusal of us. The mail is
//!   kept and the primary decides when it comes; putting it off would delay all mail of a domain whose server does so.
//! - **The operator asks the shards, and nobody else answers** (`bridge::operator`): a bounded channel a shard, plain types, pages of
//!   a bounded length by stamp and domain, cut at the frontier's horizon, so that mail that arrives meanwhile leaves no hole. The owner of a
//!   domain tells its row; the admin thread owns no mail and no index, and costs no memory a message.
//! - **Counts are those of the store**: a start sums what records, facts and tallies say for each domain (it reads all of that anyway), and
//!   facts count when they are durable. Backlog is what is neither ended nor held, so a row always balances.
//! - **What is measured is counted in cells of a shard** ([`metrics`]): no atomic and no allocation for a message; a scrape takes a copy of each shard's and
//!   adds them up. METRICS.md is the table of what is shown and the program's own: names and help are read from it. The encoder is ours: two formats that differ
//!   in three lines, over counters that live elsewhere, are less than what a crate for them asks for; Prometheus itself reads both in the tests.
//! - **A queue id is found by a walk**, over the headers of what waits in the directory that it names: a map would cost memory a message, for a
//!   question that is asked by hand.
//! - **Copies are records that stay** ([`shard`], `keeping`): a domain's `safety_net`, or a primary that is another, keeps what was delivered for a time. Settled is settled: no queue, count
//!   or tally knows of it, only the unlink of the segment waits, and a rewrite takes along what is kept. Until when is journalled in the frame of the fact that
//!   it was delivered, so it holds over restarts and other configurations; an older program leaves that out and unlinks. While space is short copies go
//!   first, before mail is refused for it.
//! - **What is replayed is mail of its own** (`operator::replay`): a record with a stamp and queue id of its own that names the original, since a settlement is for
//!   ever and identity is the stamp (H10). Keepers tell what they have, the owner reads and appends it in the order of the originals, then journals that it did;
//!   so the same command does it once, and a crash in between forgets 16 messages at most. Nothing proves its sender any more: refused, it is held.
//! - **What an operator does is a fact like any other**: the queue changes first, so that no delivery picks the message up, the answer comes
//!   when the fact is durable. Release is a fact that the format always had: an older program takes it up (H13). A message that is being
//!   sent is left alone (409).
//! - **What an operator orders about a domain is no configuration** ([`bridge::Orders`]): maintenance and a redirect hold until they end, are kept in a file of
//!   their own, durable before the answer, and reach lanes and sessions as a cell that both look at before each message. A redirect is for mail that waits:
//!   nothing is carried through to whoever stands in for a primary, nothing is learned from him, and he is met with canaries. The test message in front of it
//!   is no record: it is nobody's mail, and P2 does not count it.
//! - **What the API provisions is a database with a thread of its own, and a mirror in memory** ([`control::store`], [`control::provisioning`]):
//!   mail relies on the mirror, which is the file's `Domain`s and more of them, read by the same parser from the same keys. SQLite can be
//!   locked, slow or full: then a change is refused (503, 507), and nothing else happens. A change is durable, then mirrored, then in force on all
//!   shards by the same note as a reload, then answered; it is made to its end also when its client has gone. A database that cannot be read stops
//!   the start: its domains would be refused for good, where nobody answering has senders come again. Its steps only add (H13). On a full disk it is read all the same, alone.
//! - **The file comes first**: what it has is pinned, an API that changed it would be undone by the next reload. The API names no files of the server.
//! - **Nobody does what cannot be written down**: the audit log's entry is there before a change, or a look at a message's content, is begun.
//!   A token is random, so its SHA-256 is enough; it is told once, and an answer that has one is not kept for an Idempotency-Key.
//! - **Outages and alerts are looked for, not sent by the shards** ([`control::alert`]): every five seconds the admin thread asks for the rows that the operator sees
//!   too. It costs the shards no code and a bounded time, and a shard that does not answer is an alert itself. Rules, the life of an outage and what is told of it
//!   when are pure; a happening and its line for each contact are one transaction, so a kill tells nothing twice and forgets nothing. That a
//!   server is back is told by its outage, with the ledger, and only to whom its being down was told. It runs also without a listener.
//! - **The watch runs by the clock that never steps**, from the wall time of its start: no alert opens, ends or comes again by a step. A line is marked as tried, durably,
//!   before it leaves: a database that can be read and not written would send it every five seconds. A server is back when it has taken mail for a minute, since one that
//!   takes a probe and fails behind it would be back at each probe; who sees nothing ends nothing.
//! - **What is served is what is described**: one list of routes (`control::admin::routes`) makes router and OpenAPI document.
//! - **One HTTP stack**: hyper, under axum for the API and under hyper-util's client for the commands; instant-acme and webhooks build on
//!   the same, a client with a stack of its own would double it. MTA-STS policies are fetched by hyper over tokio-rustls, one request a
//!   connection, so that nothing follows a redirect or keeps a connection; the API has no TLS of its own yet.
//! - **What a primary has to show is one pure table** (`shard::replay::security`): of the domain's `tls`, its MTA-STS policy and the
//!   host's TLSA records. It is verified inside the handshake ([`bridge::ClientTls`]), so that nothing is said to whom it is not meant for.
//!   Everything that fails is of now: the next host, then the mail waits, and whoever reads the log is told once, not at each try. A probe, a
//!   callout and a message that is carried through keep to the same terms, so a host that may have no mail is never up.
//! - **`dane` looks at MTA-STS too, `mta-sts` does not look at DANE**: both are "what is published", with DANE first (RFC 8461 2); but
//!   behind a name server that strips signatures all that is signed is forged, and only who chose `dane` should wait for that.
//! - **DNSSEC is validated here** by hickory-resolver, from the root's keys on, in a second resolver with a cache of its own: an AD bit would have
//!   to be believed of whoever is at the other end of UDP. It looks at each set of records alone, and takes an answer without
//!   records for insecure when all in its authority section is, also a stranger's. So of each answer only what is the asked name's own counts
//!   (`control::dnssec`): its aliases in order, records at their end, denials signed by the zone whose SOA they come with, a wildcard with
//!   its zone's word that the name does not exist. Stricter than needed in three places, where mail waits in place of a fine rule: DNAME;
//!   aliases that come in several answers, or end in a denial in the same answer; a wildcard behind an alias.
//! - **An MTA-STS policy is taken back by nobody but its domain**: a record that is gone, a web server that is down, a name server that is silent
//!   leave it in force until its time is over, also over a restart. Of a primary that the configuration names its `mx` lines are not asked: they tell
//!   which hosts of an unsigned DNS are the domain's, and the operator has said so. One that is kept is used at once, and a
//!   newer one by who asks next, so that no web server stands before mail. Without any authority the server does not start with `mta-sts`
//!   or `dane`: each policy would look like none. Authorities are the system's (rustls-native-certs): they are
//!   withdrawn by the system's updates, not by ours; the licence of the compiled-in list is none of those that the tree takes.
//! - **Through what mail went is counted since the start**: the journal's facts have no place for it, and a number that survives would need one.
//! - **The demo and the tests kill a real process**: what must survive a crash is tried by a crash.
//! - **The listener is made by socket2**, not by glommio, for SO_REUSEADDR and IPV6_V6ONLY; that takes the
//!   `unsafe` of the program (`shard/socket.rs`), and so do the rings: the linker puts our system call in place of liburing's, so that completions
//!   do not interrupt the shards (`IORING_SETUP_COOP_TASKRUN`, about a quarter of the CPU a message). A patched glommio would be 25,000 lines of others to carry for one flag.
//! - **The appliance is one file that runs from memory** ([`init`], `appliance/`): a kernel of Debian, and one static program that is PID 1 and server. PID 1 is a process
//!   apart, since what strangers send must not end it; addresses, DHCP and file systems are made by busybox and xfsprogs, which know how. It serves from its
//!   data partition or not at all: a directory in memory would take mail just as well, until the next reset.
//! - **An update is a second file beside the running one, and the loader counts** ([`update`], `init::update`): no boot code of ours, and nothing that runs is written to. The
//!   server looks at an image for the sake of a good answer, PID 1 looks again for that of safety, in the end at what it reads back from the disk. A version is newer by the
//!   loader's own order, or it would be written and never started. It stays once it has taken a message, kept it and handed it over: PID 1 is sender and mail server of a domain
//!   that the server protects for the trial. ETRN tells that it waits and that it is settled, so nothing inside of the server is looked at.
//! - **A disk is asked by smartctl, and believed together with the kernel's log** (`init::health`): smartmontools knows bridges, controllers and makers as nobody else does, and costs the image
//!   two megabytes; virtio tells nothing, but reads and writes of it that fail stand in `/dev/kmsg`. Who asks is a thread of PID 1 that may hang with its disk. PID 1 tells the server, a state and
//!   sentences, and the server makes metrics and alerts of it.
//! - **A configuration is changed from afar by a new revision, and one that cuts its maker off does not stand** (`init::revisions`): PID 1 has the files and the last
//!   word, the server who asks and what he has seen. Each comes into force by the least that does it; a reload follows the link to the directory in force, since
//!   names in a configuration are relative to it. On probation it is until somebody has confirmed it *over it*, and going back is one rename that needs no room:
//!   a start that finds it unconfirmed, but for the one start that a change of the network needs, goes back too, so no power cut makes it stay.
//! - **A backup is looked for, not asked for** (`storage::snapshot`, `command::backup`): files of a store that is worked on belong together when they are opened in one order, so no shard stops
//!   or knows of it, and it is the same of a server that is dead. The API starts the program once more, since this process owns no mail. Who restores it hands over again what was handed over
//!   since: the archive cannot know, and is told so.
//! - **A backup is taken back by a start of the appliance** (`init::restore`): whole beside what is there, then by renames, each of which may be done twice. It is ordered behind the end of the
//!   server, when it has been counted that nothing waits: what is acknowledged until then would be lost (P2), and two queues cannot be made one. The network stays the machine's own.
//! - **The appliance's key of mail at rest is PID 1's** (`init::at_rest`): sealed on the disk by a TPM, a passphrase, a recovery key, opened into a file in memory. The server knows a
//!   key file as anywhere else; where that is named and not there it is locked, and serves its admin API without a log. The few commands of a TPM are marshalled by hand, and a
//!   version on trial makes no keys (H13).
//!
//! # Not built yet
//! Reports of TLS of our own (RFC 8460).

pub mod auth;
pub mod bridge;
pub mod command;
pub mod config;
pub mod control;
pub mod init;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod shard;
pub mod smtp;
pub mod support;
pub mod update;
