//! `postrider ready`: asks the daemon whether it is ready, for the health checks of containers and for scripts.

use clap::Args;
use serde_json::Value;

use super::{
    Exit,
    client::{self, Remote},
};

/// Whether the daemon is ready: exit code 0 if it is, 1 with the reasons if it is not, 69 without an answer
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  postrider ready\n  postrider ready --url http://127.0.0.1:8080")]
pub struct Ready {
    #[command(flatten)]
    remote: Remote,
}

impl Ready {
    /// Asks `/readyz`, which needs no key.
    pub async fn run(self) -> Result<(), Exit> {
        let client = self.remote.keyless_client()?;
        let answer = client.peek("/readyz", None).await;
        let (status, body) =
            answer.map_err(|error| Exit::unreachable(format!("the daemon gives no answer: {error}")))?;
        if status.is_success() {
            check_is_readiness(&body).map_err(|exit| exit.hint(client.other_server_hint()))?;
            return self.remote.screen().text(body);
        }
        let reasons = serde_json::from_slice(&body).map_or_else(|_| status.to_string(), |body| reasons(&body));
        Err(Exit::failed(format!("not ready: {reasons}")).hint("`postrider doctor` says more"))
    }
}

/// Another server may answer 200 to every path.
fn check_is_readiness(body: &[u8]) -> Result<(), Exit> {
    match client::object(body)?["status"] == "ready" {
        true => Ok(()),
        false => Err(Exit::failed("the answer is not the readiness that was expected: its `status` is not \"ready\"")),
    }
}

/// The reasons of an answer in one line.
fn reasons(body: &Value) -> String {
    let reasons: Vec<String> = body["reasons"].as_array().into_iter().flatten().map(reason).collect();
    if reasons.is_empty() { "the daemon gives no reason".to_owned() } else { reasons.join("; ") }
}

fn reason(reason: &Value) -> String {
    match (reason["code"].as_str(), reason["detail"].as_str()) {
        (Some(code), Some(detail)) => format!("{code}: {detail}"),
        _ => reason.as_str().map_or_else(|| reason.to_string(), str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_readiness_object_is_ready() {
        assert!(check_is_readiness(br#"{"status": "ready", "reasons": [], "warnings": []}"#).is_ok());
        for other in ["ok", "\"ready\"", "", r#"{"status": "ok"}"#, "[]"] {
            let exit = check_is_readiness(other.as_bytes()).expect_err(other);
            assert!(exit.code() == 1 && exit.text().contains("expected"), "{other}: {}", exit.text());
        }
    }

    #[test]
    fn reasons_stand_in_one_line() {
        let body = json!({ "reasons": [{ "code": "disk_full", "detail": "1 MB is left" }, "standby"] });
        assert_eq!(reasons(&body), "disk_full: 1 MB is left; standby");
        assert_eq!(reasons(&json!({})), "the daemon gives no reason");
    }
}
