//! Colour on a terminal, unless NO_COLOR is set (no-color.org). Colour never carries a meaning alone.

use std::io::IsTerminal;

/// Whether output is coloured.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Colour if `on`.
    pub const fn when(on: bool) -> Self {
        Self { on }
    }

    /// Colour if stdout is a terminal and the environment permits it.
    pub fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self::when(std::io::stdout().is_terminal() && !unwanted && !dumb)
    }

    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    /// A word of a state: green if all is well, yellow if it is in progress, red otherwise.
    pub fn word(self, text: &str) -> String {
        match text.trim_end() {
            "OK" | "delivered" | "enabled" | "success" | "verified" | "done" | "closed" | "excellent" | "good"
            | "fast" | "active" => self.with("32", text),
            "WARN" | "pending" | "retrying" | "retried" | "paused" | "running" | "half_open" | "warning"
            | "acceptable" | "slow" | "idle" => self.with("33", text),
            "FAIL" | "http_status" | "timeout" | "connect_timeout" | "connect_refused" | "connect_reset"
            | "dns_error" | "tls_error" | "blocked_address" | "request_error" | "proxy_error" | "expired"
            | "failed" | "disabled" | "cancelled" | "open" | "bad" | "critical" | "failing" => self.with("31", text),
            _ => text.to_owned(),
        }
    }

    fn with(self, code: &str, text: &str) -> String {
        match self.on {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}
