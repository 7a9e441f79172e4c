//! An authority of our own, the certificates that it issues, and a web server of one MTA-STS policy.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
    PublicKeyData as _, SanType,
};
use ring::digest::{SHA256, digest};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// See the module.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate with its key.
pub struct Issued {
    pub pem: String,
    /// SHA-256 of its public key, as `3 1 1` has it.
    pub key_digest: Vec<u8>,
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// Year, month, day.
pub type Day = (i32, u8, u8);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Signs what is asked for, if it is for these names: the chain in PEM. `days`: its first and last.
    pub fn sign(
        &self,
        request: &CertificateSigningRequestDer<'_>,
        names: &[String],
        days: Option<(Day, Day)>,
    ) -> String {
        let mut request = CertificateSigningRequestParams::from_der(request).unwrap();
        let asked = request.params.subject_alt_names.iter().map(|name| match name {
            SanType::DnsName(name) => name.to_string(),
            other => panic!("{other:?}"),
        });
        assert_eq!(asked.collect::<Vec<_>>(), names);
        if let Some((first, last)) = days {
            let day = |(year, month, day): Day| rcgen::date_time_ymd(year, month, day);
            (request.params.not_before, request.params.not_after) = (day(first), day(last));
        }
        request.signed_by(&self.issuer).unwrap().pem() + &self.pem
    }

    pub fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            pem: key.serialize_pem() + &leaf.pem(),
            key_digest: digest(&SHA256, &key.subject_public_key_info()).as_ref().to_vec(),
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}

impl Issued {
    /// Key and certificate in one file, as Postfix reads them.
    pub fn write(&self, path: &Path) {
        fs::write(path, &self.pem).unwrap();
    }
}

/// A web server that closes when this is dropped.
pub struct PolicyHost {
    pub address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl PolicyHost {
    /// Answers every request with this policy.
    pub fn start(shown: Issued, policy: &str) -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(shown.chain, shown.key)
            .unwrap();
        let (config, policy) = (Arc::new(config), policy.to_owned());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, is_over) = (listener.local_addr().unwrap(), Arc::<AtomicBool>::default());
        let over = Arc::clone(&is_over);
        thread::spawn(move || {
            for link in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                let _ = serve(&mut StreamOwned::new(tls, link), &policy);
            }
        });
        Self { address, is_over }
    }
}

fn serve(link: &mut (impl Read + Write), policy: &str) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        link.read_exact(&mut octet)?;
        request.push(octet[0]);
    }
    assert!(request.starts_with(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n"));
    let octets = policy.len();
    write!(
        link,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {octets}\r\n\r\n{policy}"
    )?;
    link.flush()
}

impl Drop for PolicyHost {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // It looks when somebody comes.
        let _ = std::net::TcpStream::connect(self.address);
    }
}
