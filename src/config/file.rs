//! A settings file as a flat list of settings with their lines.
//!
//! It knows TOML and the table of settings. Values are read later, so that every problem of a file is reported at once.

use std::path::Path;

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{SettingProblem, keys, value::RawSetting};

/// One setting found in a file.
pub struct FileEntry {
    pub key: &'static keys::SettingKey,
    pub raw: RawSetting,
    /// Line number, from 1.
    pub line: usize,
}

/// Reads the file's text. `path` appears only in the problems.
pub fn read(text: &str, path: &Path) -> (Vec<FileEntry>, Vec<SettingProblem>) {
    let mut reading = FileReader { text, path, entries: Vec::new(), problems: Vec::new() };
    match DeTable::parse(text) {
        Ok(table) => reading.top_level(table.get_ref()),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            reading.problem(at, None, error.message().replace('\n', ", "));
        }
    }
    (reading.entries, reading.problems)
}

struct FileReader<'a> {
    text: &'a str,
    path: &'a Path,
    entries: Vec<FileEntry>,
    problems: Vec<SettingProblem>,
}

type Item<'a, 'b> = (&'a Spanned<DeString<'b>>, &'a Spanned<DeValue<'b>>);

impl FileReader<'_> {
    fn top_level(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            match value.get_ref() {
                DeValue::Table(section) if keys::sections().contains(&name.get_ref().as_ref()) => {
                    section.iter().for_each(|item| self.setting(name.get_ref(), item));
                }
                DeValue::Table(_) if keys::find(name.get_ref()).is_none() => {
                    let known = keys::sections();
                    self.unknown(name, "section", &known);
                }
                _ if keys::sections().contains(&name.get_ref().as_ref()) => {
                    let text = format!("is a section; write [{}] and its settings below", name.get_ref());
                    self.problem(name.span().start, Some(name.get_ref().to_string()), text);
                }
                _ => self.setting("", (name, value)),
            }
        }
    }

    fn setting(&mut self, section: &str, (name, value): Item<'_, '_>) {
        let full = match section {
            "" => name.get_ref().to_string(),
            _ => format!("{section}.{}", name.get_ref()),
        };
        match keys::find(&full).filter(|key| key.name.rsplit_once('.').map_or("", |(of, _)| of) == section) {
            Some(key) => {
                let line = self.line(name.span().start);
                self.entries.push(FileEntry { key, raw: raw(value.get_ref()), line });
            }
            None => {
                let kind = match section {
                    "" => "setting".to_owned(),
                    _ => format!("setting of [{section}]"),
                };
                self.unknown(name, &kind, &keys::names_in(section));
            }
        }
    }

    fn unknown(&mut self, name: &Spanned<DeString<'_>>, kind: &str, known: &[&str]) {
        let near = keys::nearest(name.get_ref(), known.iter().copied());
        let hint = near.map_or(".".to_owned(), |near| format!("; did you mean {near}?"));
        let text = format!("no such {kind}{hint} Known are: {}", known.join(", "));
        self.problem(name.span().start, Some(name.get_ref().to_string()), text);
    }

    fn problem(&mut self, at: usize, key: Option<String>, text: String) {
        let place = format!("{}:{}", self.path.display(), self.line(at));
        self.problems.push(SettingProblem { place, key, text });
    }

    fn line(&self, at: usize) -> usize {
        self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
    }
}

fn raw(value: &DeValue<'_>) -> RawSetting {
    match value {
        DeValue::String(text) => RawSetting::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => RawSetting::Whole(number),
            Err(_) => RawSetting::Other("a number of more than 64 bits"),
        },
        DeValue::Boolean(on) => RawSetting::Switch(*on),
        DeValue::Array(entries) => {
            let texts = entries.iter().map(|entry| entry.get_ref().as_str().map(str::to_owned));
            texts
                .collect::<Option<Vec<_>>>()
                .map_or(RawSetting::Other("an array of other things than texts"), RawSetting::List)
        }
        DeValue::Float(_) => RawSetting::Other("a fraction"),
        DeValue::Datetime(_) => RawSetting::Other("a date"),
        DeValue::Table(_) => RawSetting::Other("a table"),
    }
}

/// The embedded file with its commented-out settings enabled: every line `# name = value`.
pub fn uncommented(text: &str) -> String {
    let switched_on = |line: &str| match line.strip_prefix("# ") {
        Some(setting) if is_assignment(setting) => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(switched_on).collect()
}

fn is_assignment(line: &str) -> bool {
    let name_ends = line.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    name_ends.is_some_and(|end| end > 0 && line[end..].starts_with(" = "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        read(text, Path::new("p.toml")).1.iter().map(SettingProblem::to_string).collect()
    }

    #[test]
    fn entries_carry_their_line_and_written_value() {
        let text = "# a comment\nretention = \"7d\"\n\n[delivery]\nallow = [\n  \"erp\",\n]\nmax_in_flight = 0x10\n";
        let (entries, problems) = read(text, Path::new("p.toml"));
        assert_eq!(problems, []);
        let found: Vec<_> = entries.iter().map(|e| (e.key.name, e.line, e.raw.clone())).collect();
        assert_eq!(found.len(), 3);
        assert!(found.contains(&("retention", 2, RawSetting::Text("7d".into()))));
        assert!(found.contains(&("delivery.allow", 5, RawSetting::List(vec!["erp".into()]))));
        assert!(found.contains(&("delivery.max_in_flight", 8, RawSetting::Whole(16))));
    }

    #[test]
    fn unknown_settings_and_sections_are_named_with_their_line() {
        let found = problems("retenton = \"7d\"\n[delivery]\nalow = []\n[deliver]\nx = 1\n");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found.iter().any(|p| { p.starts_with("p.toml:1: retenton: no such setting; did you mean retention?") })
        );
        assert!(
            found
                .iter()
                .any(|p| { p.starts_with("p.toml:3: alow: no such setting of [delivery]; did you mean allow?") })
        );
        assert!(found.iter().any(|p| p.starts_with("p.toml:4: deliver: no such section; did you mean delivery?")));
        assert!(found[0].contains("Known are: "), "{}", found[0]);
        let far = problems("zzzzzzzzzzzz = 1");
        assert!(far[0].contains("no such setting. Known are: data_dir, listen"), "{}", far[0]);
    }

    #[test]
    fn a_setting_outside_its_section_is_unknown_and_a_section_is_no_setting() {
        assert!(problems("\"delivery.allow\" = []")[0].contains("no such setting"));
        assert!(problems("\n\ndelivery = 3")[0].starts_with("p.toml:3: delivery: is a section"));
        assert_eq!(problems("delivery.allow = [\"erp\"]"), Vec::<String>::new());
    }

    #[test]
    fn broken_toml_names_its_line() {
        let found = problems("listen = \"127.0.0.1:0\"\nretention = 31d\n");
        assert!(found[0].starts_with("p.toml:2: "), "{}", found[0]);
        let twice = problems("listen = \"a\"\nlisten = \"b\"\n");
        assert!(twice[0].starts_with("p.toml:2: ") && twice[0].contains("duplicate"), "{}", twice[0]);
    }

    #[test]
    fn only_commented_settings_are_switched_on() {
        let text = "# Prose = not one.\n# retention = \"31d\"\n#x = 1\n[log]\n# level = \"info\"\n";
        assert_eq!(uncommented(text), "# Prose = not one.\nretention = \"31d\"\n#x = 1\n[log]\nlevel = \"info\"\n");
    }
}
