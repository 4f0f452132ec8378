//! One HTTP/1.1 exchange with one place: TCP, TLS over TCP, or a unix socket. A connection per exchange; every wait and
//! every body has a limit. Knows nothing of Postrider's API, so that `listen --forward` uses it too.

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
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Above the longest answer the API holds back, the 30 s of a long poll.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(120);
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A place to send requests to, made from a URL.
#[derive(Clone)]
pub struct Place {
    way: Way,
    /// The `Host` of every request.
    host: HeaderValue,
    /// The URL's path without its trailing slash; goes before every request's own.
    prefix: String,
    /// As the user wrote it, for messages.
    written: String,
}

#[derive(Clone)]
enum Way {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16, name: ServerName<'static>, connector: TlsConnector },
    Unix(PathBuf),
}

impl Place {
    /// Of `http://host:port/prefix`, `https://…` or `unix:/path`; `Err` says what is wrong with it.
    pub fn of(written: &str) -> Result<Self, String> {
        if let Some(path) = written.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return Ok(Self {
                way: Way::Unix(path),
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
        let way = match url.scheme() {
            "http" => Way::Tcp { host: bare, port },
            "https" => {
                let name = ServerName::try_from(bare.clone()).map_err(|_| wrong())?;
                Way::Tls { host: bare, port, name, connector: trusting(system_roots(), None)? }
            }
            _ => return Err(wrong()),
        };
        Ok(Self {
            way,
            host: HeaderValue::from_str(&authority).map_err(|_| wrong())?,
            prefix: url.path().trim_end_matches('/').to_owned(),
            written: written.to_owned(),
        })
    }

    /// The same place, shown this certificate and key (PEM files) where TLS is spoken. `Err` says which cannot be used.
    pub fn showing(self, cert: &Path, key: &Path) -> Result<Self, String> {
        let way = match self.way {
            Way::Tls { host, port, name, .. } => {
                let chain = CertificateDer::pem_file_iter(cert)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|error| format!("{}: {error}", cert.display()))?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
                Way::Tls { host, port, name, connector: trusting(system_roots(), Some((chain, key)))? }
            }
            way => way,
        };
        Ok(Self { way, ..self })
    }

    pub fn written(&self) -> &str {
        &self.written
    }

    /// Sends `request`, whose URI is a path, and reads the whole answer. `Err` says in words why there is none.
    pub async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
        let path = format!("{}{}", self.prefix, request.uri());
        let path = PathAndQuery::try_from(path).map_err(|error| format!("not a path: {error}"))?;
        *request.uri_mut() = Uri::from(path);
        request.headers_mut().insert(header::HOST, self.host.clone());
        timeout(EXCHANGE_TIMEOUT, self.connected(request))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", EXCHANGE_TIMEOUT.as_secs())))
    }

    async fn connected(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
        match &self.way {
            Way::Unix(path) => {
                let stream = in_time(UnixStream::connect(path)).await?;
                over(stream, request).await
            }
            Way::Tcp { host, port } => over(tcp(host, *port).await?, request).await,
            Way::Tls { host, port, name, connector } => {
                let stream = tcp(host, *port).await?;
                let stream = in_time(connector.connect(name.clone(), stream)).await;
                over(stream.map_err(|error| format!("TLS: {error}"))?, request).await
            }
        }
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = in_time(TcpStream::connect((host, port))).await?;
    // A request is written in two pieces; without this the second waits for the first one's acknowledgement.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

async fn in_time<T>(connecting: impl Future<Output = io::Result<T>>) -> Result<T, String> {
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
    }
}

async fn over<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let words = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(words)?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    driver.abort();
    let body = body.map_err(|error| format!("the answer is not whole: {error}"))?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// Trusts what the system trusts (SSL_CERT_FILE included), or Mozilla's list where the system has none.
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
