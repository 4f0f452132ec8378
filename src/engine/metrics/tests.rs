//! Both exposition formats by their rules: types, names, units, grouping and the end mark.

use std::collections::{BTreeSet, HashSet};

use super::*;

/// A family with the names of its samples, as a page describes it.
#[derive(Debug, Default)]
struct DescribedFamily {
    name: String,
    kind: String,
    unit: Option<String>,
    samples: BTreeSet<String>,
}

fn page(format: ExpositionFormat) -> String {
    let metrics = Metrics::default();
    metrics.committed(1, Duration::from_millis(3), 4_096);
    metrics.sent(12);
    metrics.text(format, &GaugeInputs::default(), 1)
}

/// The families of a page. A sample must stand below its own family's description, and a family must stand once.
fn families(page: &str) -> Vec<DescribedFamily> {
    let (mut families, mut seen): (Vec<DescribedFamily>, _) = (Vec::new(), HashSet::new());
    for line in page.lines().filter(|line| *line != "# EOF") {
        let Some(rest) = line.strip_prefix("# ") else {
            let name = line.split(['{', ' ']).next().expect("a name").to_owned();
            families.last_mut().expect("a family").samples.insert(name);
            continue;
        };
        let mut words = rest.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (keyword, name, text) = (word(), word(), word());
        if families.last().is_none_or(|family| family.name != name) {
            assert!(seen.insert(name.clone()), "{name} stands twice");
            families.push(DescribedFamily { name, ..DescribedFamily::default() });
        }
        let family = families.last_mut().expect("a family");
        assert!(family.samples.is_empty(), "{line} follows samples");
        match keyword.as_str() {
            "TYPE" => family.kind = text,
            "UNIT" => family.unit = Some(text),
            "HELP" => assert!(text.len() > 2 && !text.contains(['\\', '"']), "{line}"),
            _ => panic!("{line}"),
        }
    }
    families
}

/// The samples that a family may have, by the suffixes of its type.
fn has_only(family: &DescribedFamily, suffixes: &[&str]) {
    let allowed: BTreeSet<_> = suffixes.iter().map(|suffix| format!("{}{suffix}", family.name)).collect();
    assert!(!family.samples.is_empty() && family.samples.is_subset(&allowed), "{family:?}");
}

#[test]
fn the_classic_text_has_its_own_types_and_no_line_of_open_metrics() {
    let text = page(ExpositionFormat::Text);
    assert!(text.ends_with('\n') && !text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    for family in families(&text) {
        match family.kind.as_str() {
            "counter" => {
                assert!(family.name.ends_with("_total"), "{family:?}");
                has_only(&family, &[""]);
            }
            "gauge" => has_only(&family, &[""]),
            "histogram" => has_only(&family, &["_bucket", "_sum", "_count"]),
            other => panic!("{other} is no type of the classic text: {family:?}"),
        }
    }
}

#[test]
fn open_metrics_has_suffixes_and_units_by_its_rules_and_an_end() {
    let text = page(ExpositionFormat::OpenMetrics);
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    for family in families(&text) {
        match family.kind.as_str() {
            "counter" => {
                assert!(!family.name.ends_with("_total"), "{family:?}");
                has_only(&family, &["_total"]);
            }
            "gauge" => has_only(&family, &[""]),
            "info" => has_only(&family, &["_info"]),
            "histogram" => has_only(&family, &["_bucket", "_sum", "_count"]),
            other => panic!("{other}: {family:?}"),
        }
        if let Some(unit) = &family.unit {
            assert!(family.name.ends_with(&format!("_{unit}")), "{family:?}");
        }
    }
}

#[test]
fn both_formats_have_the_same_series() {
    let series = |format| -> Vec<String> {
        let text = page(format);
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let mut series: Vec<String> = samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect();
        // The order of a family's labels is free.
        series.sort_unstable();
        series
    };
    let open = series(ExpositionFormat::OpenMetrics);
    assert!(open.len() > 80, "{open:?}");
    assert_eq!(series(ExpositionFormat::Text), open);
}
