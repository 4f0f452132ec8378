//! An HTTP/1.1 client with one connection per exchange, over TCP, TLS or a unix socket.
//!
//! Every wait and every body has a limit. The client knows nothing of Postrider's API: the command line uses it for the API
//! and for `listen --forward`, the daemon for the export of spans.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Full, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::rules::tls_words;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time of an exchange: more than the longest wait of the API, the 30 s of a long poll.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum time until a request with `Upgrade` is answered.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Maximum number of headers of an answer. hyper bounds their bytes.
const ANSWER_HEADERS_MAX: usize = 10_000;

/// The endpoint of a URL.
#[derive(Clone)]
pub struct HttpEndpoint {
    transport: Transport,
    /// The `Host` of every request.
    host: HeaderValue,
    /// The URL's path without its trailing slash. It is the prefix of every request's path.
    prefix: String,
    /// The URL as the user wrote it, for messages.
    written: String,
}

#[derive(Clone)]
enum Transport {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16, name: ServerName<'static>, connector: TlsConnector },
    Unix(PathBuf),
}

impl HttpEndpoint {
    /// Parses `http://host:port/prefix`, `https://…` or `unix:/path`.
    ///
    /// # Errors
    /// The text is no such URL, or TLS cannot be configured.
    pub fn parse(written: &str) -> Result<Self, String> {
        if let Some(path) = written.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return Ok(Self {
                transport: Transport::Unix(path),
                host: HeaderValue::from_static("localhost"),
                prefix: String::new(),
                written: written.to_owned(),
            });
        }
        let wrong = || format!("`{written}` is not a URL such as http://127.0.0.1:8080, https://host or unix:/path");
        let url = url::Url::parse(written).map_err(|_| wrong())?;
        let host = url.host_str().ok_or_else(wrong)?.to_owned();
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let transport = match url.scheme() {
            "http" => Transport::Tcp { host: bare, port },
            "https" => {
                let name = ServerName::try_from(bare.clone()).map_err(|_| wrong())?;
                Transport::Tls { host: bare, port, name, connector: trusting(system_roots(), None)? }
            }
            _ => return Err(wrong()),
        };
        Ok(Self {
            transport,
            host: HeaderValue::from_str(&authority).map_err(|_| wrong())?,
            prefix: url.path().trim_end_matches('/').to_owned(),
            written: written.to_owned(),
        })
    }

    /// Adds a client certificate and its key (PEM files) for TLS.
    ///
    /// # Errors
    /// A file cannot be read, or the key does not fit the certificate.
    pub fn showing(self, cert: &Path, key: &Path) -> Result<Self, String> {
        let transport = match self.transport {
            Transport::Tls { host, port, name, .. } => {
                let chain = CertificateDer::pem_file_iter(cert)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|error| format!("{}: {error}", cert.display()))?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
                Transport::Tls { host, port, name, connector: trusting(system_roots(), Some((chain, key)))? }
            }
            transport => transport,
        };
        Ok(Self { transport, ..self })
    }

    /// Replaces the trusted certificates of TLS by those of a PEM file.
    ///
    /// # Errors
    /// The file cannot be read, or has no usable certificate.
    pub fn trusting_only(self, ca: &Path) -> Result<Self, String> {
        let transport = match self.transport {
            Transport::Tls { host, port, name, .. } => {
                let mut roots = rustls::RootCertStore::empty();
                let certificates =
                    CertificateDer::pem_file_iter(ca).map_err(|error| format!("{}: {error}", ca.display()))?;
                for certificate in certificates {
                    let added = certificate.map_err(|error| error.to_string());
                    added
                        .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()))
                        .map_err(|error| format!("{}: {error}", ca.display()))?;
                }
                if roots.is_empty() {
                    return Err(format!("{}: holds no certificate", ca.display()));
                }
                Transport::Tls { host, port, name, connector: trusting(roots, None)? }
            }
            transport => transport,
        };
        Ok(Self { transport, ..self })
    }

    /// The URL as the user wrote it.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Connects, with the TLS handshake if the URL has TLS, and sends nothing.
    ///
    /// # Errors
    /// A sentence that says why there is no connection.
    pub async fn reach(&self) -> Result<(), String> {
        match &self.transport {
            Transport::Unix(path) => in_time(UnixStream::connect(path)).await.map(drop),
            Transport::Tcp { host, port } => tcp(host, *port).await.map(drop),
            Transport::Tls { host, port, name, connector } => tls((host, *port), name, connector).await.map(drop),
        }
    }

    /// Sends `request`, whose URI is a path, and reads the whole response.
    ///
    /// # Errors
    /// A sentence that says why there is no response.
    pub async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
        let path = format!("{}{}", self.prefix, request.uri());
        let path = PathAndQuery::try_from(path).map_err(|error| format!("not a path: {error}"))?;
        *request.uri_mut() = Uri::from(path);
        request.headers_mut().insert(header::HOST, self.host.clone());
        timeout(EXCHANGE_TIMEOUT, self.connected(request))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {}s", EXCHANGE_TIMEOUT.as_secs())))
    }

    /// Sends `request` with `Upgrade`. Returns the response, and the connection if the status is 101.
    ///
    /// # Errors
    /// A sentence that says why there is no response.
    pub async fn upgrade(&self, mut request: Request<Full<Bytes>>) -> Result<UpgradeAnswer, String> {
        let path = format!("{}{}", self.prefix, request.uri());
        let path = PathAndQuery::try_from(path).map_err(|error| format!("not a path: {error}"))?;
        *request.uri_mut() = Uri::from(path);
        request.headers_mut().insert(header::HOST, self.host.clone());
        let upgrading = async {
            match &self.transport {
                Transport::Unix(path) => upgraded(in_time(UnixStream::connect(path)).await?, request).await,
                Transport::Tcp { host, port } => upgraded(tcp(host, *port).await?, request).await,
                Transport::Tls { host, port, name, connector } => {
                    upgraded(tls((host, *port), name, connector).await?, request).await
                }
            }
        };
        let words = || format!("no answer within {}s", UPGRADE_TIMEOUT.as_secs());
        timeout(UPGRADE_TIMEOUT, upgrading).await.unwrap_or_else(|_| Err(words()))
    }

    async fn connected(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
        match &self.transport {
            Transport::Unix(path) => {
                let stream = in_time(UnixStream::connect(path)).await?;
                over(stream, request).await
            }
            Transport::Tcp { host, port } => over(tcp(host, *port).await?, request).await,
            Transport::Tls { host, port, name, connector } => {
                over(tls((host, *port), name, connector).await?, request).await
            }
        }
    }
}

/// The answer to a request with `Upgrade`.
pub struct UpgradeAnswer {
    pub response: Response<Bytes>,
    /// `None` unless the status is 101.
    pub stream: Option<TokioIo<Upgraded>>,
}

async fn upgraded<S>(stream: S, request: Request<Full<Bytes>>) -> Result<UpgradeAnswer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let words = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = http1().handshake(TokioIo::new(stream)).await.map_err(words)?;
    tokio::spawn(connection.with_upgrades());
    let mut answer = sender.send_request(request).await.map_err(words)?;
    let stream = match answer.status() {
        http::StatusCode::SWITCHING_PROTOCOLS => {
            Some(TokioIo::new(hyper::upgrade::on(&mut answer).await.map_err(words)?))
        }
        _ => None,
    };
    let (parts, body) = answer.into_parts();
    let body = match stream {
        Some(_) => Bytes::new(),
        None => {
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            body.map_err(|error| format!("the answer is not whole: {error}"))?.to_bytes()
        }
    };
    Ok(UpgradeAnswer { response: Response::from_parts(parts, body), stream })
}

fn http1() -> hyper::client::conn::http1::Builder {
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_headers(ANSWER_HEADERS_MAX);
    builder
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = in_time(TcpStream::connect((host, port))).await?;
    // A request is written in two pieces. With Nagle's algorithm the second would wait for the acknowledgement of the first.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

/// Connects with a TLS handshake. A failure of the handshake has the words of `tls_words`.
async fn tls(
    (host, port): (&str, u16),
    name: &ServerName<'static>,
    connector: &TlsConnector,
) -> Result<TlsStream<TcpStream>, String> {
    let stream = tcp(host, port).await?;
    let handshake = async {
        connector.connect(name.clone(), stream).await.map_err(|error| {
            match error.get_ref().and_then(|why| why.downcast_ref::<rustls::Error>()) {
                Some(why) => io::Error::other(tls_words::words(why)),
                None => error,
            }
        })
    };
    in_time(handshake).await.map_err(|error| format!("TLS: {error}"))
}

async fn in_time<T>(connecting: impl Future<Output = io::Result<T>>) -> Result<T, String> {
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no connection within {}s", CONNECT_TIMEOUT.as_secs())),
    }
}

async fn over<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let words = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = http1().handshake(TokioIo::new(stream)).await.map_err(words)?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(words)?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    driver.abort();
    let body = body.map_err(|error| format!("the answer is not whole: {error}"))?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// The root certificates of the system (`SSL_CERT_FILE` included). If there are none, Mozilla's list.
fn system_roots() -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn trusting(roots: rustls::RootCertStore, identity: Option<Identity>) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("the client certificate and its key do not fit: {error}"))?,
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests;
