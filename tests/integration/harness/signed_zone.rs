//! A name server of one signed zone on loopback (RFC 4033 to 4035), the zone `test`: each name in it exists and has the address
//! 127.0.0.1 where nothing else is said, and what is not there is denied by an NSEC record of the name itself. Below `plain.test`
//! nothing is signed, by a delegation that says so. What is forged is signed wrongly. A second zone, `evil`, is signed and trusted as well:
//! its records come beside answers about `test`.

use hickory_resolver::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_resolver::proto::dnssec::rdata::sig::SigInput;
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, NSEC, RRSIG};
use hickory_resolver::proto::dnssec::{Algorithm, DnssecSigner, PublicKey as _, SigningKey as _, TBS};
use hickory_resolver::proto::op::{Message, OpCode, Query};
use hickory_resolver::proto::rr::rdata::{A, MX, NS, SOA, TLSA, TXT};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType, SerialNumber};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// See the module.
#[derive(Clone)]
pub struct SignedZone {
    pub address: SocketAddr,
    records: Arc<Mutex<Vec<Row>>>,
    anchor: String,
}

struct Row {
    name: Name,
    data: RData,
    is_forged: bool,
}

struct Key {
    apex: Name,
    signer: DnssecSigner,
    dnskey: DNSKEY,
}

struct Answering {
    keys: [Key; 2],
    records: Arc<Mutex<Vec<Row>>>,
}

impl SignedZone {
    /// Answers until the test ends.
    pub fn start() -> Self {
        let (ours, our_anchor) = Key::new(apex());
        let (theirs, their_anchor) = Key::new(stranger());
        let anchor = our_anchor + &their_anchor;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, records) = (socket.local_addr().unwrap(), Arc::<Mutex<Vec<Row>>>::default());
        let answering = Answering { keys: [ours, theirs], records: Arc::clone(&records) };
        thread::spawn(move || {
            let mut memory = [0; 1500];
            while let Ok((count, peer)) = socket.recv_from(&mut memory) {
                let query = Message::from_vec(&memory[..count]).unwrap();
                let _ = socket.send_to(&answering.answer(&query).to_vec().unwrap(), peer);
            }
        });
        Self { address, records, anchor }
    }

    /// Writes what validation begins from.
    pub fn write_anchor(&self, path: &Path) {
        fs::write(path, &self.anchor).unwrap();
    }

    pub fn add_text(&self, name: &str, text: &str) {
        self.add(name, RData::TXT(TXT::new(vec![text.to_owned()])), false);
    }

    pub fn add_address(&self, name: &str, address: Ipv4Addr) {
        self.add(name, RData::A(A(address)), false);
    }

    pub fn add_exchanger(&self, name: &str, host: &str, is_forged: bool) {
        self.add(name, RData::MX(MX::new(10, absolute(host))), is_forged);
    }

    /// The TLSA records of a name are this one from now on.
    pub fn set_tlsa(
        &self,
        name: &str,
        (usage, selector, matching): (u8, u8, u8),
        data: &[u8],
        is_forged: bool,
    ) {
        let known = absolute(name);
        self.records.lock().unwrap().retain(|row| row.name != known);
        let data = TLSA::new(usage.into(), selector.into(), matching.into(), data.to_vec());
        self.add(name, RData::TLSA(data), is_forged);
    }

    fn add(&self, name: &str, data: RData, is_forged: bool) {
        self.records.lock().unwrap().push(Row { name: absolute(name), data, is_forged });
    }
}

impl Key {
    fn new(apex: Name) -> (Self, String) {
        let key = Ed25519SigningKey::from_pkcs8(&Ed25519SigningKey::generate_pkcs8().unwrap()).unwrap();
        let public = key.to_public_key().unwrap();
        let dnskey = DNSKEY::from_key(&public);
        let anchor = format!("{apex} 3600 IN DNSKEY 257 3 15 {}\n", base64(public.public_bytes()));
        let signer =
            DnssecSigner::new(dnskey.clone(), Box::new(key), apex.clone(), Duration::from_secs(86_400));
        (Self { apex, signer, dnskey }, anchor)
    }
}

impl Answering {
    fn answer(&self, query: &Message) -> Message {
        let asked = query.queries[0].clone();
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        reply.metadata.recursion_desired = true;
        reply.metadata.recursion_available = true;
        let (found, is_forged) = self.find(&asked);
        let is_signed = !is_below_plain(asked.name()) || asked.query_type() == RecordType::DS;
        if found.is_empty() {
            self.deny(&asked, is_signed, &mut reply);
        } else {
            let signature = is_signed.then(|| self.sign(&found, is_forged));
            reply.answers = found.into_iter().chain(signature).collect();
        }
        // The stranger's of that type stand before what is asked for.
        let theirs: Vec<Record> = {
            let records = self.records.lock().unwrap();
            let rows = records
                .iter()
                .filter(|row| stranger().zone_of(&row.name) && row.data.record_type() == asked.query_type());
            rows.map(|row| Record::from_rdata(row.name.clone(), 0, row.data.clone())).collect()
        };
        if !theirs.is_empty() && apex().zone_of(asked.name()) {
            let signature = self.sign(&theirs, false);
            reply.answers.splice(0..0, theirs.into_iter().chain([signature]));
        }
        reply.add_query(asked);
        reply
    }

    fn find(&self, asked: &Query) -> (Vec<Record>, bool) {
        let (name, kind) = (asked.name(), asked.query_type());
        let record = |data| Record::from_rdata(name.clone(), 0, data);
        let records = self.records.lock().unwrap();
        let rows: Vec<&Row> =
            records.iter().filter(|row| row.name == *name && row.data.record_type() == kind).collect();
        if !rows.is_empty() {
            let is_forged = rows.iter().any(|row| row.is_forged);
            return (rows.iter().map(|row| record(row.data.clone())).collect(), is_forged);
        }
        let data = match kind {
            RecordType::DNSKEY if self.keys.iter().any(|key| key.apex == *name) => {
                RData::DNSSEC(DNSSECRData::DNSKEY(self.key(name).dnskey.clone()))
            }
            RecordType::NS if *name == apex() || *name == plain() => RData::NS(NS(absolute("ns.test"))),
            RecordType::A if *name != apex() => RData::A(A(Ipv4Addr::LOCALHOST)),
            _ => return (Vec::new(), false),
        };
        (vec![record(data)], false)
    }

    fn deny(&self, asked: &Query, is_signed: bool, reply: &mut Message) {
        let name = asked.name();
        let zone = if is_signed { apex() } else { plain() };
        let soa = SOA::new(absolute("ns.test"), absolute("admin.test"), 1, 60, 60, 60, 0);
        let soa = Record::from_rdata(zone, 0, RData::SOA(soa));
        if !is_signed {
            reply.add_authority(soa);
            return;
        }
        let types: &[RecordType] = if *name == plain() { &[RecordType::NS] } else { &[RecordType::HINFO] };
        let next = Name::from_labels([&b"\0"[..]]).unwrap().append_domain(name).unwrap();
        let nsec = NSEC::new_cover_self(next, types.iter().copied());
        let nsec = Record::from_rdata(name.clone(), 0, RData::DNSSEC(DNSSECRData::NSEC(nsec)));
        for record in [soa, nsec] {
            let signature = self.sign(core::slice::from_ref(&record), false);
            reply.add_authority(record);
            reply.add_authority(signature);
        }
    }

    fn key(&self, name: &Name) -> &Key {
        self.keys.iter().find(|key| key.apex.zone_of(name)).unwrap_or(&self.keys[0])
    }

    fn sign(&self, records: &[Record], is_forged: bool) -> Record {
        let first = &records[0];
        let key = self.key(&first.name);
        let now = u32::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let input = SigInput {
            type_covered: first.record_type(),
            algorithm: Algorithm::ED25519,
            num_labels: first.name.num_labels(),
            original_ttl: first.ttl,
            sig_expiration: SerialNumber::new(now + 86_400),
            sig_inception: SerialNumber::new(now - 3_600),
            key_tag: key.dnskey.calculate_key_tag().unwrap(),
            signer_name: key.apex.clone(),
        };
        let to_sign = TBS::from_input(&first.name, DNSClass::IN, &input, records.iter()).unwrap();
        let mut signature = key.signer.sign(&to_sign).unwrap();
        signature[7] ^= u8::from(is_forged);
        let data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, signature)));
        Record::from_rdata(first.name.clone(), first.ttl, data)
    }
}

fn absolute(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).unwrap()
}

fn apex() -> Name {
    absolute("test")
}

fn stranger() -> Name {
    absolute("evil")
}

fn plain() -> Name {
    absolute("plain.test")
}

fn is_below_plain(name: &Name) -> bool {
    plain().zone_of(name)
}

fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let number = group.iter().fold(0_u32, |number, octet| number << 8 | u32::from(*octet))
            << (8 * (3 - group.len()));
        let digit = |place: usize| match place <= group.len() {
            true => char::from(ALPHABET[(number >> (18 - 6 * place) & 63) as usize]),
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    octets.chunks(3).map(group).collect()
}
