//! The health of a webhook in words, each with its reason: success, speed, activity and circuit.

use maud::{Markup, html};

use crate::model::webhook::{CircuitState, WebhookState};
use crate::rules::health::{Health, HealthWord};
use crate::ui::format::{self, foreign};
use crate::ui::frame;
use crate::ui::mood;

/// The colour class and the icon of a word. Only trouble has a colour that is seen.
fn parts(word: &str) -> (&'static str, &'static str) {
    match word {
        "critical" | "failing" => ("bad", "bad"),
        "warning" | "slow" => ("retry", "retry"),
        "unknown" | "idle" => ("off", "off"),
        _ => ("ok", "ok"),
    }
}

fn line(word: &HealthWord) -> Markup {
    let (class, icon) = parts(word.state);
    html! {
        li { (frame::state(class, icon, &mood::sentence(word.state))) p { (foreign(&mood::sentence(&word.reason))) } }
    }
}

fn circuit(state: &WebhookState) -> Option<Markup> {
    let word = match state.circuit {
        CircuitState::Closed => return None,
        CircuitState::Open => "Circuit open",
        CircuitState::HalfOpen => "Circuit half open",
    };
    let failures = format::counted(u64::from(state.consecutive_failures), "failure", "failures");
    let said = format!("After {failures} in a row; one probe at a time");
    Some(html! { li { (frame::state("bad", "bad", word)) p { (said) } } })
}

/// The panel. `None` in place of the state of a disabled webhook, whose circuit sends nothing.
pub fn panel(health: &Health, state: Option<&WebhookState>) -> Markup {
    html! {
        section.panel aria-labelledby="he" {
            header { h2 #he { "Health" } span.muted { "24 hours" } }
            ul.words {
                @for word in [&health.success_rate, &health.response_time, &health.activity] { (line(word)) }
                @if let Some(circuit) = state.and_then(circuit) { (circuit) }
            }
        }
    }
}
