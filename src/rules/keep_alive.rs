//! The time that a receiver keeps an idle connection open, by its `Keep-Alive` header.

/// The least `timeout` of the values of `Keep-Alive`, in seconds (RFC 2068 section 19.7.1.1). `None` if there is none.
pub fn timeout_s<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<u32> {
    let parameters = values.into_iter().flat_map(|value| value.split(','));
    let timeouts = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let digits = value.trim().trim_matches('"');
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        (name.trim().eq_ignore_ascii_case("timeout") && is_number).then(|| digits.parse().unwrap_or(u32::MAX))
    });
    timeouts.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_read_in_all_its_spellings() {
        for (values, expected) in [
            (&["timeout=5"][..], Some(5)),
            (&["timeout=5, max=100"], Some(5)),
            (&["max=9;x,Timeout = 3 "], Some(3)),
            (&["TIMEOUT=\"7\""], Some(7)),
            (&["timeout=0"], Some(0)),
            (&["timeout=99999999999999999999"], Some(u32::MAX)),
            (&["timeout=9", "timeout=4"], Some(4)),
            (&["timeout=-1"], None),
            (&["timeout=1.5"], None),
            (&["timeout="], None),
            (&["timeout"], None),
            (&["max=5"], None),
            (&["idle-timeout=5"], None),
            (&["300"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(timeout_s(values.iter().copied()), expected, "{values:?}");
        }
    }
}
