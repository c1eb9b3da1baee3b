//! Authentication from outside: who may do what on a real server, and that no log tells a secret.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::server::{Server, Setup};
use harness::wire::{Decoder, Encoder};
use md5::{Digest, Md5};

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

const EXISTS: i32 = 3;
const PING: i32 = 11;
const AUTH: i32 = 100;
const SASL: i32 = 102;
const NO_AUTH: i32 = -102;
const AUTH_FAILED: i32 = -115;
const NOT_AUTHENTICATED: i32 = -124;

const JAAS: &str = "Server { org.apache.zookeeper.server.auth.DigestLoginModule required \
    user_root=\"xyzzy-root\" user_bob=\"xyzzy-bob\"; };";

/// One reply: xid, zxid, error, body.
type Reply = (i32, i64, i32, Vec<u8>);

/// A connection with a session, for requests that the harness's client has not.
struct Raw(TcpStream);

impl Raw {
    fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).expect("it accepts");
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut raw = Raw(stream);
        let mut hello = Encoder::frame();
        hello.int(0).long(0).int(10_000).long(0).bytes(&[0; 16]).bool(false);
        raw.0.write_all(&hello.finish()).unwrap();
        assert_eq!(raw.frame().expect("a session").len(), 37);
        raw
    }

    /// The next frame; none: it was closed.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        match self.0.read_exact(&mut length) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
            read => read.unwrap(),
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut frame).unwrap();
        Some(frame)
    }

    fn ask(&mut self, xid: i32, op: i32, fields: impl FnOnce(&mut Encoder)) -> Reply {
        let mut out = Encoder::frame();
        out.int(xid).int(op);
        fields(&mut out);
        self.0.write_all(&out.finish()).unwrap();
        let frame = self.frame().expect("an answer");
        let mut reply = Decoder::new(&frame);
        let head = (reply.int().unwrap(), reply.long().unwrap(), reply.int().unwrap());
        (head.0, head.1, head.2, frame[16..].to_vec())
    }

    fn auth(&mut self, scheme: &str, auth: &str) -> Reply {
        self.ask(-4, AUTH, |out| {
            out.int(0).string(scheme).string(auth);
        })
    }

    fn token(&mut self, xid: i32, token: &[u8]) -> Reply {
        self.ask(xid, SASL, |out| {
            out.bytes(token);
        })
    }

    /// The whole exchange; gives the last reply and what was said.
    fn sasl(&mut self, user: &str, password: &str) -> (Reply, [String; 2]) {
        let (_, _, err, body) = self.token(1, b"");
        assert_eq!(err, 0);
        let challenge = String::from_utf8(body[4..].to_vec()).unwrap();
        let nonce = challenge.split('"').nth(3).expect("a nonce").to_owned();
        let response = respond(user, password, &nonce);
        (self.token(2, response.as_bytes()), [nonce, response])
    }

    /// The error of a read of `path`.
    fn exists(&mut self, path: &str) -> i32 {
        let (_, _, err, _) = self.ask(7, EXISTS, |out| {
            out.string(path).bool(false);
        });
        err
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a client of DIGEST-MD5 answers to a challenge: RFC 2831, 2.1.2.
fn respond(user: &str, password: &str, nonce: &str) -> String {
    const URI: &str = "zookeeper/zk-sasl-md5";
    let secret = Md5::digest(format!("{user}:zk-sasl-md5:{password}"));
    let key = [&secret[..], format!(":{nonce}:clientnonce").as_bytes()].concat();
    let what = hex(&Md5::digest(format!("AUTHENTICATE:{URI}")));
    let key = hex(&Md5::digest(key));
    let value = hex(&Md5::digest(format!("{key}:{nonce}:00000001:clientnonce:auth:{what}")));
    format!(
        "charset=utf-8,username=\"{user}\",realm=\"zk-sasl-md5\",nonce=\"{nonce}\",nc=00000001,\
         cnonce=\"clientnonce\",digest-uri=\"{URI}\",maxbuf=65536,response={value},qop=auth"
    )
}

fn start(folder: &tempfile::TempDir, lines: &[&str]) -> Server {
    let jaas = folder.path().join("jaas.conf");
    std::fs::write(&jaas, JAAS).unwrap();
    let login = format!("java.security.auth.login.config={}", jaas.display());
    let setup = Setup::new(SERVER, &folder.path().join("data"), folder.path())
        .with("ringkeeper.segmentSizeKb=1024")
        .with("superUser=root")
        .with(&login)
        .logging("trace");
    lines.iter().fold(setup, |setup, line| setup.with(line)).start()
}

/// Creates /private for `scheme` and `id` alone.
fn create_private(raw: &mut Raw, scheme: &str, id: &str) {
    let (_, _, err, _) = raw.ask(6, 1, |out| {
        out.string("/private").bytes(b"").int(1).int(31).string(scheme).string(id).int(0);
    });
    assert_eq!(err, 0);
}

#[test]
fn a_sasl_user_is_let_in_with_its_password_and_the_super_user_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder, &[]);
    let mut bob = Raw::connect(server.address);
    let ((xid, zxid, err, proof), _) = bob.sasl("bob", "xyzzy-bob");
    assert_eq!((xid, zxid, err), (2, 0, 0));
    assert!(proof[4..].starts_with(b"rspauth="));
    create_private(&mut bob, "sasl", "bob");
    assert_eq!(bob.exists("/private"), 0);
    let mut nobody = Raw::connect(server.address);
    assert_eq!(nobody.exists("/private"), NO_AUTH);
    let mut root = Raw::connect(server.address);
    root.sasl("root", "xyzzy-root");
    assert_eq!(root.exists("/private"), 0);
    for (user, password) in [("bob", "xyzzy-root"), ("eve", "xyzzy-bob"), ("eve", "")] {
        let mut wrong = Raw::connect(server.address);
        let (reply, _) = wrong.sasl(user, password);
        assert_eq!(reply, (2, 0, AUTH_FAILED, vec![0xff; 4]));
        assert_eq!(wrong.frame(), None, "it was not closed");
    }
}

#[test]
fn where_authentication_is_enforced_nothing_else_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let lines = ["enforce.auth.enabled=true", "enforce.auth.schemes=digest"];
    let server = start(&folder, &lines);
    let mut hasty = Raw::connect(server.address);
    assert_eq!(hasty.ask(-2, PING, |_| ()), (-2, 0, NOT_AUTHENTICATED, vec![]));
    assert_eq!(hasty.frame(), None, "it was not closed");
    let mut polite = Raw::connect(server.address);
    assert_eq!(polite.auth("digest", "a:b"), (-4, 0, 0, vec![]));
    assert_eq!(polite.exists("/"), 0);
    let mut failing = Raw::connect(server.address);
    assert_eq!(failing.auth("nosuch", "x"), (-4, 0, AUTH_FAILED, vec![]));
    assert_eq!(failing.frame(), None, "it was not closed");
}

#[test]
fn no_log_tells_a_password_a_digest_or_a_token() {
    // SHA1 of root:swordfish, in base64.
    const SUPER: &str = "8ux96FwyZtPCEb77bk2+6k2Eon8=";
    let folder = tempfile::tempdir().unwrap();
    let digest = format!("DigestAuthenticationProvider.superDigest=root:{SUPER}");
    let password = "SASLAuthenticationProvider.superPassword=xyzzy-super";
    let server = start(&folder, &[&digest, password, "enforce.auth.enabled=false"]);
    let mut secrets: Vec<String> =
        ["xyzzy", "swordfish", "opensesame", SUPER].map(str::to_owned).to_vec();

    let mut client = Raw::connect(server.address);
    assert_eq!(client.auth("digest", "root:swordfish").2, 0);
    create_private(&mut client, "auth", "");
    assert_eq!(client.auth("digest", "alice:opensesame").2, 0);
    let (_, said) = client.sasl("bob", "xyzzy-bob");
    secrets.extend(said);
    let mut failing = Raw::connect(server.address);
    assert_eq!(failing.auth("sasl", "opensesame").2, AUTH_FAILED);
    let mut wrong = Raw::connect(server.address);
    let (reply, said) = wrong.sasl("bob", "xyzzy-eve");
    assert_eq!(reply.2, AUTH_FAILED);
    secrets.extend(said);
    let mut reader = Raw::connect(server.address);
    assert_eq!(reader.exists("/private"), NO_AUTH);

    let (_, log) = server.terminate();
    assert!(log.contains("SASL failed"), "the log says that somebody failed:\n{log}");
    for secret in secrets {
        assert!(!log.contains(&secret), "the log tells {secret}:\n{log}");
    }
}
