//! Access to the API's listeners besides the key: certificates of clients, renewal by SIGHUP, the mode of a socket.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::security::certificates::{Authority, Signed, client};
use crate::security::support::eventually;
use crate::support::process::{Program, refused, said_by, start, start_anywhere};

const ADMIN_KEY: &str = "admin-key-of-the-mutual-tls-tests";

/// A folder with the files that the settings name.
struct Files {
    folder: tempfile::TempDir,
    servers: Authority,
}

impl Files {
    fn new() -> Files {
        let files = Files { folder: tempfile::tempdir().expect("a directory"), servers: Authority::new() };
        files.renew(&files.servers);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    /// A new certificate of `authority` for the listener.
    fn renew(&self, authority: &Authority) {
        let Signed { cert, key } = authority.signs("localhost");
        fs::write(self.path("cert.pem"), cert).expect("written");
        fs::write(self.path("key.pem"), key).expect("written");
    }

    fn start(&self, level: &str) -> Program {
        self.start_with(level, &[])
    }

    fn start_with(&self, level: &str, more: &[(&str, &str)]) -> Program {
        let (cert, key, ca) = (self.text("cert.pem"), self.text("key.pem"), self.text("clients.pem"));
        let mut variables = vec![
            ("POSTRIDER_SERVER__TLS_CERT", cert.as_str()),
            ("POSTRIDER_SERVER__TLS_KEY", key.as_str()),
            ("POSTRIDER_ADMIN_KEY", ADMIN_KEY),
            ("POSTRIDER_LOG__LEVEL", level),
        ];
        if self.path("clients.pem").exists() {
            variables.push(("POSTRIDER_SERVER__TLS_CLIENT_CA", ca.as_str()));
        }
        variables.extend(more);
        start(&self.path("data"), &self.path("log"), &variables)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("a log")
    }
}

/// The status that this client gets for a list, or the reason why it gets no answer.
async fn status(address: SocketAddr, client: Arc<ClientConfig>, key: &str) -> Result<u16, String> {
    let tcp = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = TlsConnector::from(client).connect(name, tcp).await.map_err(|error| error.to_string())?;
    let asked = format!(
        "GET /v1/webhooks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut heard = Vec::new();
    // With TLS 1.3 a refused client gets the error when it reads.
    stream.read_to_end(&mut heard).await.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&heard);
    text.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(|| format!("no status in {text:?}"))
}

#[tokio::test]
async fn with_a_client_authority_a_client_without_a_certificate_is_refused() {
    let files = Files::new();
    let (clients, strangers) = (Authority::new(), Authority::new());
    fs::write(files.path("clients.pem"), clients.pem()).expect("written");
    let program = files.start("info");
    let known = clients.signs("producer");
    let ask = async |identity: Option<&Signed>, key: &str| {
        status(program.address, client(&files.servers, identity, &[b"http/1.1"]), key).await
    };
    assert_eq!(ask(Some(&known), ADMIN_KEY).await, Ok(200));
    assert_eq!(ask(Some(&known), "another key").await, Ok(401), "a certificate is no key");
    for (who, identity) in [
        ("nobody", None),
        ("a stranger", Some(strangers.signs("producer"))),
        ("one whose time is over", Some(clients.signs_until("producer", 2020))),
        ("the server itself", Some(files.servers.signs("localhost"))),
    ] {
        let refused = ask(identity.as_ref(), ADMIN_KEY).await;
        assert!(refused.is_err(), "{who}: {refused:?}");
    }
    assert_eq!(ask(Some(&known), ADMIN_KEY).await, Ok(200), "the others go on");
    // The program's own client shows a certificate too.
    fs::write(files.path("me.pem"), &known.cert).expect("written");
    fs::write(files.path("me.key"), &known.key).expect("written");
    fs::write(files.path("roots.pem"), files.servers.pem()).expect("written");
    let (url, roots) = (format!("https://localhost:{}", program.address.port()), files.text("roots.pem"));
    let (cert, key) = (files.text("me.pem"), files.text("me.key"));
    let mut variables =
        vec![("POSTRIDER_URL", url.as_str()), ("POSTRIDER_TOKEN", ADMIN_KEY), ("SSL_CERT_FILE", &roots)];
    let (code, said) = said_by(&files.path("data"), &["webhook", "list"], &variables);
    assert_eq!(code, 69, "{said}");
    variables.extend([("POSTRIDER_CLIENT_CERT", cert.as_str()), ("POSTRIDER_CLIENT_KEY", key.as_str())]);
    let (code, said) = said_by(&files.path("data"), &["webhook", "list"], &variables);
    assert_eq!(code, 0, "{said}");
    program.stop();
}

#[tokio::test]
async fn a_hangup_reads_certificate_key_and_authorities_again() {
    let files = Files::new();
    let (first, second) = (Authority::new(), Authority::new());
    fs::write(files.path("clients.pem"), first.pem()).expect("written");
    let program = files.start("info");
    let (of_first, of_second) = (first.signs("a"), second.signs("b"));
    let ask = async |servers: &Authority, identity: &Signed| {
        status(program.address, client(servers, Some(identity), &[b"http/1.1"]), ADMIN_KEY).await.ok()
    };
    assert_eq!(ask(&files.servers, &of_first).await, Some(200));

    let renewed = Authority::new();
    files.renew(&renewed);
    fs::write(files.path("clients.pem"), second.pem()).expect("written");
    assert_eq!(ask(&files.servers, &of_first).await, Some(200), "the old files are used until SIGHUP");
    program.signal("HUP");
    assert_eq!(eventually("the new ones", async || ask(&renewed, &of_second).await).await, 200);
    assert_eq!(ask(&files.servers, &of_second).await, None, "the old certificate is gone");
    assert_eq!(ask(&renewed, &of_first).await, None, "so is the old authority");

    fs::write(files.path("clients.pem"), "nonsense").expect("written");
    program.signal("HUP");
    eventually("the complaint", async || files.log().contains("could not be read again").then_some(())).await;
    assert!(files.log().contains("clients.pem"), "{}", files.log());
    assert_eq!(ask(&renewed, &of_second).await, Some(200), "a broken renewal changes nothing");
    program.stop();
}

#[tokio::test]
async fn a_hangup_reads_the_certificate_of_a_standby_again() {
    let files = Files::new();
    files.start("info").stop();
    let master_key = fs::read(files.path("data/master.key")).expect("a key");
    fs::remove_dir_all(files.path("data")).expect("removed");
    fs::create_dir(files.path("data")).expect("a directory");
    fs::write(files.path("data/master.key"), master_key).expect("written");
    fs::write(files.path("replicate.key"), "a key").expect("written");
    let key = files.text("replicate.key");
    // No owner answers on the port of discard.
    let standby = [("POSTRIDER_STANDBY__OF", "http://127.0.0.1:9"), ("POSTRIDER_STANDBY__KEY_FILE", key.as_str())];
    let program = files.start_with("info", &standby);
    let ask = async |servers: &Authority| status(program.address, client(servers, None, &[b"http/1.1"]), "").await.ok();
    assert_eq!(ask(&files.servers).await, Some(503));
    let renewed = Authority::new();
    files.renew(&renewed);
    program.signal("HUP");
    assert_eq!(eventually("the new certificate", async || ask(&renewed).await).await, 503);
    assert_eq!(ask(&files.servers).await, None, "the old certificate is gone");
    program.stop();
}

#[test]
fn an_authority_of_clients_without_tls_is_a_bad_configuration() {
    let files = Files::new();
    let ca = files.text("clients.pem");
    let alone = [("POSTRIDER_SERVER__TLS_CLIENT_CA", ca.as_str())];
    let (code, words) = refused(&files.path("data"), &files.path("log"), &alone);
    assert_eq!(code, 78, "{words}");
    assert!(words.contains("server.tls_cert"), "{words}");
    let (cert, key) = (files.text("cert.pem"), files.text("key.pem"));
    let missing =
        [("POSTRIDER_SERVER__TLS_CERT", cert.as_str()), ("POSTRIDER_SERVER__TLS_KEY", key.as_str()), alone[0]];
    let (code, words) = refused(&files.path("data"), &files.path("log"), &missing);
    assert_eq!(code, 78, "{words}");
    assert!(words.contains("clients.pem"), "{words}");
}

/// The finest log of HTTP/2 and TLS contains neither keys nor requests.
#[tokio::test]
async fn the_finest_log_of_a_secured_listener_holds_no_secret() {
    let files = Files::new();
    let program = files.start("trace");
    for protocol in [b"h2".as_slice(), b"http/1.1"] {
        let tcp = TcpStream::connect(program.address).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(client(&files.servers, None, &[protocol]));
        let stream = hyper_util::rt::TokioIo::new(connector.connect(name, tcp).await.expect("a handshake"));
        let secret = "whsec_c2VjcmV0LW9mLXRoZS1sb2ctdGVzdC1pcy10aGlz";
        let body = serde_json::json!({
            "url": "https://example.com/", "secret": secret, "headers": { "X-Api-Key": "api-key-in-the-log" },
        });
        let body = http_body_util::Full::new(bytes::Bytes::from(body.to_string()));
        let request = http::Request::post(match protocol {
            b"h2" => format!("https://localhost:{}/v1/webhooks", program.address.port()),
            _ => "/v1/webhooks".to_owned(),
        });
        let request =
            request.header("content-type", "application/json").header("authorization", format!("Bearer {ADMIN_KEY}"));
        let status = if protocol == b"h2" {
            let executor = hyper_util::rt::TokioExecutor::new();
            let (mut requests, http) = hyper::client::conn::http2::handshake(executor, stream).await.expect("HTTP/2");
            tokio::spawn(http);
            requests.send_request(request.body(body).expect("a request")).await.expect("an answer").status()
        } else {
            let (mut requests, http) = hyper::client::conn::http1::handshake(stream).await.expect("HTTP");
            tokio::spawn(http);
            let request = request.header("host", "localhost").body(body).expect("a request");
            requests.send_request(request).await.expect("an answer").status()
        };
        assert_eq!(status, 201);
    }
    program.stop();
    let log = files.log();
    assert!(log.len() > 1_000, "the log has content: {log}");
    for secret in [ADMIN_KEY, "c2VjcmV0LW9mLXRoZS1sb2c", "secret-of-the-log-test", "api-key-in-the-log", "PRIVATE"] {
        assert!(!log.contains(secret), "{secret}");
    }
}

async fn says_hello(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return false };
    // Any host and any origin are accepted, because no browser reaches a unix socket.
    let asked = "GET /healthz HTTP/1.1\r\nHost: anything\r\nOrigin: https://evil.example\r\nConnection: close\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.expect("said");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.expect("heard");
    heard.starts_with("HTTP/1.1 200")
}

#[tokio::test]
async fn a_unix_socket_has_the_mode_that_the_settings_say() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let (api, metrics) = (folder.path().join("api"), folder.path().join("metrics"));
    let (api_at, metrics_at) = (format!("unix:{}", api.display()), format!("unix:{}", metrics.display()));
    let mode = |socket: &Path| fs::metadata(socket).expect("a socket").permissions().mode() & 0o777;
    for (written, expected) in [(None, 0o660), (Some("0600"), 0o600), (Some("666"), 0o666)] {
        let mut variables =
            vec![("POSTRIDER_LISTEN", api_at.as_str()), ("POSTRIDER_METRICS__LISTEN", metrics_at.as_str())];
        variables.extend(written.map(|mode| ("POSTRIDER_SERVER__SOCKET_MODE", mode)));
        let program = start_anywhere(&data, &log, &variables);
        assert_eq!((mode(&api), mode(&metrics)), (expected, expected));
        assert!(says_hello(&api).await);
        program.stop();
        assert!(!api.exists());
    }
    for wrong in ["0999", "rw", "0060", "010600", "-1"] {
        let variables = [("POSTRIDER_LISTEN", api_at.as_str()), ("POSTRIDER_SERVER__SOCKET_MODE", wrong)];
        let (code, words) = refused(&data, &log, &variables);
        assert_eq!(code, 78, "{words}");
        assert!(words.contains("permission bits"), "{words}");
    }
}
