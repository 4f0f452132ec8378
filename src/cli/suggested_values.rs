//! Values that shells complete for a flag that takes others as well.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error};

/// Reads any text. Shells complete these.
#[derive(Clone, Copy, Debug)]
pub struct Suggested(pub &'static [&'static str]);

impl TypedValueParser for Suggested {
    type Value = String;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_values_are_accepted_as_well() {
        let flag = Arg::new("step").long("step").value_parser(Suggested(&["5m", "1h"]));
        assert_eq!(flag.get_possible_values().len(), 2);
        let read = Command::new("x").arg(flag).try_get_matches_from(["x", "--step", "15m"]).expect("it is taken");
        assert_eq!(read.get_one::<String>("step").map(String::as_str), Some("15m"));
    }
}
