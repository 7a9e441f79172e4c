//! A scripted ACME server (RFC 8555): signatures and nonces are checked, names are looked for where it is told, and it errs when it is told to.

use super::policy_host::Authority;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme,
    StreamOwned,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// See the module; the listener ends with the process.
pub struct CertificateAuthority {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// What it does, and what it saw.
pub struct State {
    pub authority: Authority,
    /// Where names are looked for; with `by_handshake` by TLS-ALPN-01.
    pub visits: SocketAddr,
    pub by_handshake: bool,
    /// It takes no name to be ours.
    pub refuses: bool,
    /// What it issues has ended for two thirds already.
    pub issues_old: bool,
    /// One nonce is not taken, and a new one handed out.
    pub bad_nonces: u32,
    /// It knows no account of before.
    pub forgets: bool,
    pub accounts: Vec<Account>,
    pub issued: u32,
    nonces: BTreeSet<String>,
    count: u64,
    order: Order,
}

/// A registration.
#[derive(Clone)]
pub struct Account {
    pub payload: Value,
    /// Of its key (RFC 7638).
    thumbprint: String,
    key: Vec<u8>,
    is_known: bool,
}

#[derive(Default)]
struct Order {
    names: Vec<String>,
    /// Whether each was found to be ours; none: not looked for.
    found: Vec<Option<bool>>,
    chain: Option<String>,
}

struct Asked {
    method: String,
    path: String,
    body: Vec<u8>,
}

struct Answer {
    status: &'static str,
    headers: String,
    body: String,
}

impl CertificateAuthority {
    /// Its own server's certificate is by `authority`, for `localhost`.
    pub fn start(authority: Authority, visits: SocketAddr, by_handshake: bool) -> Self {
        let issued = authority.issue("localhost");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(issued.chain, issued.key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            authority,
            visits,
            by_handshake,
            refuses: false,
            issues_old: false,
            bad_nonces: 0,
            forgets: false,
            accounts: Vec::new(),
            issued: 0,
            nonces: BTreeSet::new(),
            count: 0,
            order: Order::default(),
        }));
        let (config, shared) = (Arc::new(config), Arc::clone(&state));
        thread::spawn(move || {
            for link in listener.incoming().map_while(Result::ok) {
                let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                let state = Arc::clone(&shared);
                thread::spawn(move || drop(serve(StreamOwned::new(tls, link), &state)));
            }
        });
        Self { address, state }
    }

    pub fn directory(&self) -> String {
        format!("https://localhost:{}/directory", self.address.port())
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn serve(link: impl Read + Write, state: &Mutex<State>) -> io::Result<()> {
    let mut link = BufReader::new(link);
    let mut line = String::new();
    link.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut length, mut host) = (0, String::new());
    loop {
        let mut field = String::new();
        link.read_line(&mut field)?;
        let Some((name, value)) = field.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "host" => value.clone_into(&mut host),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    link.read_exact(&mut body)?;
    let asked = Asked { method, path, body };
    let Answer { status, headers, body } = state.lock().unwrap().answer(&asked, &host);
    let nonce = state.lock().unwrap().nonce();
    let head = format!(
        "HTTP/1.1 {status}\r\nReplay-Nonce: {nonce}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let link = link.get_mut();
    link.write_all(head.as_bytes())?;
    if asked.method != "HEAD" {
        link.write_all(body.as_bytes())?;
    }
    link.flush()
}

fn told(status: &'static str, headers: String, body: &Value) -> Answer {
    Answer { status, headers: format!("Content-Type: application/json\r\n{headers}"), body: body.to_string() }
}

fn problem(status: &'static str, kind: &str, detail: &str) -> Answer {
    let body = json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail});
    let headers = "Content-Type: application/problem+json\r\n".to_owned();
    Answer { status, headers, body: body.to_string() }
}

fn decoded(value: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap()
}

impl State {
    fn nonce(&mut self) -> String {
        self.count += 1;
        let nonce = format!("nonce{}", self.count);
        self.nonces.insert(nonce.clone());
        nonce
    }

    fn answer(&mut self, asked: &Asked, host: &str) -> Answer {
        let url = |path: &str| format!("https://{host}{path}");
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/directory") => {
                let paths = [("newNonce", "/nonce"), ("newAccount", "/account"), ("newOrder", "/order")];
                let all: serde_json::Map<_, _> =
                    paths.iter().map(|(name, path)| ((*name).to_owned(), url(path).into())).collect();
                told("200 OK", String::new(), &all.into())
            }
            ("HEAD", "/nonce") => told("200 OK", String::new(), &Value::Null),
            ("POST", path) => match self.signed(asked, &url(path)) {
                Ok((account, payload)) => self.post(path, account, &payload, &url),
                Err(answer) => answer,
            },
            _ => problem("404 Not Found", "malformed", "nothing is here"),
        }
    }

    /// The account that signed, and what: RFC 8555 6.2 to 6.5.
    fn signed(&mut self, asked: &Asked, url: &str) -> Result<(Account, Value), Answer> {
        let jws: Value = serde_json::from_slice(&asked.body).unwrap();
        let protected: Value = serde_json::from_slice(&decoded(&jws["protected"])).unwrap();
        assert_eq!((protected["alg"].as_str(), protected["url"].as_str()), (Some("ES256"), Some(url)));
        let is_fresh = self.nonces.remove(protected["nonce"].as_str().unwrap());
        if !is_fresh || self.bad_nonces > 0 {
            self.bad_nonces = self.bad_nonces.saturating_sub(1);
            return Err(problem("400 Bad Request", "badNonce", "use the new one"));
        }
        let account = match protected["jwk"].as_object() {
            Some(jwk) => {
                assert_eq!(asked.path, "/account", "only a registration brings its key");
                let canonical = format!(
                    r#"{{"crv":{},"kty":{},"x":{},"y":{}}}"#,
                    jwk["crv"], jwk["kty"], jwk["x"], jwk["y"]
                );
                let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()).as_ref());
                let key = [vec![4], decoded(&jwk["x"]), decoded(&jwk["y"])].concat();
                Account { payload: Value::Null, thumbprint, key, is_known: true }
            }
            None => {
                let number = protected["kid"].as_str().unwrap().rsplit('/').next().unwrap();
                self.accounts[number.parse::<usize>().unwrap()].clone()
            }
        };
        let signed = format!("{}.{}", jws["protected"].as_str().unwrap(), jws["payload"].as_str().unwrap());
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &account.key);
        key.verify(signed.as_bytes(), &decoded(&jws["signature"])).expect("signed by the account's key");
        if !account.is_known {
            return Err(problem("400 Bad Request", "accountDoesNotExist", "who are you"));
        }
        let payload = decoded(&jws["payload"]);
        let payload =
            if payload.is_empty() { Value::Null } else { serde_json::from_slice(&payload).unwrap() };
        Ok((account, payload))
    }

    fn post(
        &mut self,
        path: &str,
        account: Account,
        payload: &Value,
        url: &dyn Fn(&str) -> String,
    ) -> Answer {
        let number = || path.rsplit('/').next().unwrap().parse::<usize>().unwrap();
        let location = |path: &str| format!("Location: {}\r\n", url(path));
        match path.split('/').nth(1).unwrap() {
            "account" => {
                let at = location(&format!("/account/{}", self.accounts.len()));
                self.accounts.push(Account { payload: payload.clone(), ..account });
                told("201 Created", at, &json!({"status": "valid"}))
            }
            "order" if path == "/order" => {
                if core::mem::take(&mut self.forgets) {
                    self.accounts.iter_mut().for_each(|account| account.is_known = false);
                    return problem("400 Bad Request", "accountDoesNotExist", "who are you");
                }
                let names = payload["identifiers"].as_array().unwrap().iter();
                let names: Vec<String> =
                    names.map(|name| name["value"].as_str().unwrap().to_owned()).collect();
                self.order = Order { found: vec![None; names.len()], names, chain: None };
                told("201 Created", location("/order/1"), &self.order_state(url))
            }
            "order" => told("200 OK", String::new(), &self.order_state(url)),
            "authz" => told("200 OK", String::new(), &self.authorization(number(), url)),
            "challenge" => {
                let number = number();
                let name = self.order.names[number].clone();
                let expected = format!("token{number}.{}", account.thumbprint);
                let is_ours = !self.refuses && self.is_ours(&name, &format!("token{number}"), &expected);
                self.order.found[number] = Some(is_ours);
                told("200 OK", String::new(), &self.authorization(number, url)["challenges"][0])
            }
            "finalize" => {
                assert!(self.order.found.iter().all(|found| *found == Some(true)), "ready");
                let csr = CertificateSigningRequestDer::from(decoded(&payload["csr"]));
                let days = self.issues_old.then_some(((2020, 1, 1), (2029, 1, 1)));
                self.order.chain = Some(self.authority.sign(&csr, &self.order.names, days));
                self.issued += 1;
                told("200 OK", location("/order/1"), &self.order_state(url))
            }
            "certificate" => Answer {
                status: "200 OK",
                headers: "Content-Type: application/pem-certificate-chain\r\n".to_owned(),
                body: self.order.chain.clone().unwrap(),
            },
            other => panic!("{other}"),
        }
    }

    fn order_state(&self, url: &dyn Fn(&str) -> String) -> Value {
        let Order { names, found, chain } = &self.order;
        let status = match chain {
            Some(_) => "valid",
            None if found.contains(&Some(false)) => "invalid",
            None if found.iter().all(|found| *found == Some(true)) => "ready",
            None => "pending",
        };
        let authorizations: Vec<String> = (0..names.len()).map(|n| url(&format!("/authz/{n}"))).collect();
        let identifiers: Vec<Value> =
            names.iter().map(|name| json!({"type": "dns", "value": name})).collect();
        json!({
            "status": status, "identifiers": identifiers, "authorizations": authorizations,
            "finalize": url("/finalize/1"), "certificate": chain.as_ref().map(|_| url("/certificate/1")),
        })
    }

    fn authorization(&self, number: usize, url: &dyn Fn(&str) -> String) -> Value {
        let status = match self.order.found[number] {
            None => "pending",
            Some(true) => "valid",
            Some(false) => "invalid",
        };
        let error =
            json!({"type": "urn:ietf:params:acme:error:unauthorized", "detail": "nothing of yours is there"});
        let challenge = |kind: &str| {
            json!({
                "type": kind, "url": url(&format!("/challenge/{number}")), "token": format!("token{number}"),
                "status": status, "error": (status == "invalid").then(|| error.clone()),
            })
        };
        let kinds = if self.by_handshake { ["tls-alpn-01", "dns-01"] } else { ["http-01", "dns-01"] };
        json!({
            "status": status, "identifier": {"type": "dns", "value": self.order.names[number]},
            "challenges": kinds.map(challenge),
        })
    }

    fn is_ours(&self, name: &str, token: &str, expected: &str) -> bool {
        if self.by_handshake {
            let digest = digest(&SHA256, expected.as_bytes());
            return shaken(self.visits, name).is_ok_and(|leaf| is_answer(&leaf, digest.as_ref()));
        }
        let ask = || -> io::Result<String> {
            let mut link = TcpStream::connect(self.visits)?;
            link.set_read_timeout(Some(Duration::from_secs(10)))?;
            let path = format!("/.well-known/acme-challenge/{token}");
            write!(link, "GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            link.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| {
            answer.starts_with("HTTP/1.1 200 ") && answer.split_once("\r\n\r\n").unwrap().1 == expected
        })
    }
}

/// Whether a certificate has the identifier of RFC 8737 3, critical, with this digest.
fn is_answer(leaf: &[u8], digest: &[u8]) -> bool {
    const IDENTIFIER: [u8; 10] = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f];
    const CRITICAL: [u8; 3] = [0x01, 0x01, 0xff];
    let expected = [&IDENTIFIER[..], &CRITICAL, &[0x04, 0x22, 0x04, 0x20], digest].concat();
    leaf.windows(expected.len()).any(|window| window == expected)
}

/// What a handshake for a name shows (RFC 8737 3).
pub fn shaken(address: SocketAddr, name: &str) -> Result<Vec<u8>, rustls::Error> {
    let provider = Arc::new(default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let failed = |error: io::Error| rustls::Error::General(error.to_string());
    let mut link = TcpStream::connect(address).map_err(failed)?;
    link.set_read_timeout(Some(Duration::from_secs(10))).map_err(failed)?;
    let mut tls = ClientConnection::new(Arc::new(config), name)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut link).map_err(failed)?;
    }
    assert_eq!(tls.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    Ok(tls.peer_certificates().unwrap()[0].to_vec())
}

/// An authority looks at what is shown, whoever signed it.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
