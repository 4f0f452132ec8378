//! Opens the listeners of the daemon: those of the API, and that of the pages.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use crate::config::{self, Settings};
use crate::engine::network::{ListenAddr, Listener, Network};

use super::DaemonError;

/// The listeners of the API, unless they were handed in, and that of `ui.listen`. The latter is `None` if the pages are off,
/// or on the listener of the API.
///
/// # Errors
/// An address cannot be listened on.
pub(super) async fn listen_all(
    settings: &Settings,
    network: &dyn Network,
    handed_in: Vec<Box<dyn Listener>>,
) -> Result<(Vec<Box<dyn Listener>>, Option<Box<dyn Listener>>), DaemonError> {
    let mode = settings.server.socket_mode;
    let of_api = match handed_in.is_empty() {
        true => vec![listen(network, &settings.listen, mode).await?],
        false => handed_in,
    };
    match settings.ui.listen.as_ref().filter(|_| settings.ui.enabled) {
        Some(at) => Ok((of_api, Some(listen(network, at, mode).await?))),
        None => Ok((of_api, None)),
    }
}

/// Opens one listener. A socket of the file system gets the permissions `mode`.
///
/// # Errors
/// The address cannot be listened on.
pub(super) async fn listen(
    network: &dyn Network,
    at: &config::ListenSetting,
    mode: u32,
) -> Result<Box<dyn Listener>, DaemonError> {
    let at = match at {
        config::ListenSetting::Tcp(addr) => ListenAddr::Tcp(*addr),
        config::ListenSetting::Unix(path) => ListenAddr::Unix(path.clone()),
    };
    let failed = |source| DaemonError::Io { context: format!("cannot listen on {at}"), source };
    let listener = network.listen(&at).await.map_err(failed)?;
    if let ListenAddr::Unix(path) = &at {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(listener)
}

/// The TCP addresses of listeners.
pub(super) fn addresses(listeners: &[Box<dyn Listener>]) -> Vec<SocketAddr> {
    let tcp = listeners.iter().filter_map(|listener| match listener.local_addr() {
        ListenAddr::Tcp(addr) => Some(addr),
        ListenAddr::Unix(_) => None,
    });
    tcp.collect()
}
