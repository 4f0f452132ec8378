//! Socket activation (sd_listen_fds(3)): the daemon uses its supervisor's listener, and no client is refused while it
//! starts.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::support::installation::Installation;

/// systemd's steps between making a listener and running the daemon: descriptor 3, and the two variables.
const LAUNCH: &str = r#"exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" serve"#;

fn launched(installation: &Installation, listener: impl Into<OwnedFd>) -> Command {
    let program = installation.command();
    let mut launcher = Command::new("/bin/sh");
    launcher.args(["-c", LAUNCH, env!("CARGO_BIN_EXE_postrider")]).env_clear();
    launcher.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    launcher.stdin(Stdio::from(listener.into()));
    launcher
}

#[test]
fn a_passed_tcp_listener_is_served_and_an_early_client_is_answered() {
    let mut installation = Installation::with("");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // The connection is queued before the daemon exists.
    let mut early = TcpStream::connect(address).expect("a connection");
    early.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("sent");
    let command = launched(&installation, listener);
    installation.run(command);
    assert_eq!(installation.url, format!("http://{address}"), "not the address of `listen`");
    let mut answer = String::new();
    early.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(installation.json(&["webhook", "list"])["data"].is_array());
    installation.stop();
}

#[test]
fn a_passed_unix_listener_is_served_and_its_file_is_left_to_the_supervisor() {
    let mut installation = Installation::with("");
    let path = installation.folder.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let command = launched(&installation, listener);
    installation.run(command);
    assert_eq!(installation.url, format!("unix:{}", path.display()));
    assert!(installation.json(&["webhook", "list"])["data"].is_array());
    installation.stop();
    assert!(path.exists());
}
