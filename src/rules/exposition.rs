//! The exposition format of `/metrics`: which one answers an `Accept` header, and the classic text out of OpenMetrics.
//!
//! Sources: "Exposition formats" of the Prometheus documentation (text 0.0.4), OpenMetrics 1.0, RFC 9110 section 12.5.1.
//! Both formats have the same series with the same values. They differ in the lines that describe families.

use std::collections::HashMap;

/// A format of `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpositionFormat {
    /// The classic text format, version 0.0.4, which every scraper reads.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// The essence and version of an entry of `Accept`, with its weight in thousandths.
struct MediaRange<'a> {
    essence: &'a str,
    version: Option<&'a str>,
    weight: u16,
}

impl ExpositionFormat {
    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            ExpositionFormat::Text => "text/plain; version=0.0.4; charset=utf-8",
            ExpositionFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    const fn family_and_essence(self) -> (&'static str, &'static str, &'static str) {
        match self {
            ExpositionFormat::Text => ("text/*", "text/plain", "0.0.4"),
            ExpositionFormat::OpenMetrics => ("application/*", "application/openmetrics-text", "1.0.0"),
        }
    }

    /// The format for the values of `Accept`. OpenMetrics must be preferred to the text, or be named with the same weight.
    /// Text is the answer to every other header, because RFC 9110 permits an answer that was not asked for.
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> ExpositionFormat {
        let ranges: Vec<_> = accept.into_iter().flat_map(|value| value.split(',')).filter_map(read).collect();
        let (open, is_named) = ExpositionFormat::OpenMetrics.weight(&ranges);
        let (text, _) = ExpositionFormat::Text.weight(&ranges);
        match open > text || (open == text && open > 0 && is_named) {
            true => ExpositionFormat::OpenMetrics,
            false => ExpositionFormat::Text,
        }
    }

    /// The weight that the most specific range gives this format, and whether that range names it.
    fn weight(self, ranges: &[MediaRange<'_>]) -> (u16, bool) {
        let (family, essence, version) = self.family_and_essence();
        let specificity = |range: &MediaRange<'_>| match range.essence {
            "*/*" => Some(1),
            named if named.eq_ignore_ascii_case(family) => Some(2),
            named if named.eq_ignore_ascii_case(essence) => match range.version {
                None => Some(3),
                Some(asked) => (asked == version).then_some(4),
            },
            _ => None,
        };
        let matching = ranges.iter().filter_map(|range| Some((specificity(range)?, range.weight)));
        matching.max().map_or((0, false), |(specificity, weight)| (weight, specificity > 2))
    }
}

/// Reads an entry of `Accept`. Parameters other than `version` and `q` are ignored. `None` for a malformed weight.
fn read(entry: &str) -> Option<MediaRange<'_>> {
    let mut parts = entry.split(';').map(str::trim);
    let mut range = MediaRange { essence: parts.next()?, version: None, weight: 1_000 };
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { continue };
        match name.trim() {
            name if name.eq_ignore_ascii_case("q") => range.weight = thousandths(value.trim())?,
            name if name.eq_ignore_ascii_case("version") => range.version = Some(value.trim().trim_matches('"')),
            _ => {}
        }
    }
    Some(range)
}

/// A `qvalue` of RFC 9110 in thousandths.
fn thousandths(text: &str) -> Option<u16> {
    let value = text.parse::<f32>().ok().filter(|value| (0.0..=1.0).contains(value))?;
    Some((value * 1_000.0).round() as u16)
}

/// The keyword, the family's name and the rest of a line that describes a family. `None` for every other line.
fn description(line: &str) -> Option<(&str, &str, &str)> {
    let (keyword, rest) = line.strip_prefix("# ")?.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    Some((keyword, name, rest))
}

/// The suffix of the samples' name and the type in the classic format, for a type of OpenMetrics.
fn classic_type(open: &str) -> (&'static str, &str) {
    match open {
        "counter" => ("_total", "counter"),
        "info" => ("_info", "gauge"),
        "stateset" => ("", "gauge"),
        "unknown" => ("", "untyped"),
        other => ("", other),
    }
}

/// The classic text of an OpenMetrics page.
///
/// A family of the classic format has the name of its samples: `_total` of a counter, `_info` of an info, which is a gauge
/// there. Units and the end mark do not exist there.
pub fn classic(open_metrics: &str) -> String {
    let described = open_metrics.lines().filter_map(description);
    let types: HashMap<_, _> =
        described.filter_map(|(keyword, name, rest)| (keyword == "TYPE").then_some((name, rest))).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        let pieces = match description(line) {
            None => [line, "", "", "", ""],
            Some((keyword, name, rest)) => {
                let (suffix, kind) = classic_type(types.get(name).copied().unwrap_or("unknown"));
                match keyword {
                    "HELP" => ["# HELP ", name, suffix, " ", rest],
                    "TYPE" => ["# TYPE ", name, suffix, " ", kind],
                    _ => continue,
                }
            }
        };
        pieces.iter().for_each(|piece| text.push_str(piece));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::ExpositionFormat::{OpenMetrics, Text};
    use super::*;

    #[test]
    fn open_metrics_is_served_only_where_it_is_preferred_or_named() {
        for (accept, expected) in [
            (&[][..], Text),
            (&["*/*"], Text),
            (&["text/plain"], Text),
            (&["text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"], Text),
            (&["application/json"], Text),
            (&["application/openmetrics-text"], OpenMetrics),
            (&["Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8"], OpenMetrics),
            (&["application/openmetrics-text;version=\"1.0.0\""], OpenMetrics),
            (&["application/openmetrics-text", "*/*"], OpenMetrics),
            (&["application/openmetrics-text, text/plain"], OpenMetrics),
            (&["application/openmetrics-text;q=0.4", "text/plain;q=0.5"], Text),
            (&["application/openmetrics-text;q=0"], Text),
            (&["application/openmetrics-text;version=2.0.0"], Text),
            (&["application/openmetrics-text;q=2, text/plain"], Text),
            (&["application/*"], OpenMetrics),
            (&["application/*;q=0.1, text/*"], Text),
            (&["application/openmetrics-text;q=0.1, */*;q=0.9"], Text),
            (&[",;=,q=1", "ü"], Text),
        ] {
            assert_eq!(ExpositionFormat::negotiate(accept.iter().copied()), expected, "{accept:?}");
        }
    }

    /// The headers that Prometheus 2.42 and 3.4 and Telegraf send.
    #[test]
    fn scrapers_get_the_format_that_they_prefer() {
        let old = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let new = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
            text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,\
            text/plain;version=0.0.4;q=0.3";
        assert_eq!(ExpositionFormat::negotiate([old]), OpenMetrics);
        assert_eq!(ExpositionFormat::negotiate([new]), OpenMetrics);
        assert_eq!(ExpositionFormat::negotiate([protobuf]), Text);
    }

    #[test]
    fn a_family_of_the_classic_text_has_its_samples_name() {
        let open = "# HELP a Made.\n# TYPE a counter\na_total 1\n# HELP b_bytes Size.\n# TYPE b_bytes gauge\n\
            # UNIT b_bytes bytes\nb_bytes{x=\"# EOF\"} 2\n# HELP c C.\n# TYPE c info\nc_info{v=\"1\"} 1\n\
            # HELP d D.\n# TYPE d unknown\nd 1\n# EOF\n";
        let text = "# HELP a_total Made.\n# TYPE a_total counter\na_total 1\n# HELP b_bytes Size.\n\
            # TYPE b_bytes gauge\nb_bytes{x=\"# EOF\"} 2\n# HELP c_info C.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n\
            # HELP d D.\n# TYPE d untyped\nd 1\n";
        assert_eq!(classic(open), text);
    }
}
