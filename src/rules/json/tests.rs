//! The scanner against texts that parsers disagree about, and against serde_json on random ones.

use proptest::prelude::*;

use super::*;

fn error(text: impl AsRef<[u8]>) -> JsonError {
    let text = text.as_ref();
    match check(text, JsonLimits::default()) {
        Err(error) => error,
        Ok(()) => panic!("passed: {}", String::from_utf8_lossy(text)),
    }
}

fn passes(text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    let answer = check(text, JsonLimits::default());
    assert!(answer.is_ok(), "{}: {answer:?}", String::from_utf8_lossy(text));
}

#[test]
fn good_texts_pass() {
    for text in [
        "{}",
        "[]",
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0",
        "1e400",
        "1E+9",
        "1.5e-7",
        "\"\"",
        " \t\r\n[ 1 , 2 ]\n",
        r#"{"a":{"a":[{"a":1},{"a":2}]},"b":"a"}"#,
        r#""\u00e9\ud83d\ude00\n\/\\\"""#,
        r#"{"":1," ":2}"#,
        "\"\u{7f}\u{2028}😀\"",
        r#"[1e99999999999999999999,123456789012345678901234567890]"#,
    ] {
        passes(text);
    }
}

/// The members of the outermost object, as `name=value`.
fn members_of(text: &str) -> Option<Vec<String>> {
    let found = members(text.as_bytes(), JsonLimits::default()).unwrap()?;
    Some(found.iter().map(|member| format!("{}={}", member.name, member.value)).collect())
}

#[test]
fn the_members_of_the_outermost_object_alone_are_found() {
    let text = r#" { "a" : {"b":[{"c":1}]} ,"d\u0065":"x, y","":null, "n" :1e400 }  "#;
    let expected = [r#"a={"b":[{"c":1}]}"#, r#"d\u0065="x, y""#, "=null", "n=1e400"];
    assert_eq!(members_of(text).unwrap(), expected);
    assert_eq!(members_of("{}"), Some(Vec::new()));
    for other in [r#"[{"a":1}]"#, "null", "\"{\"", "1"] {
        assert_eq!(members_of(other), None, "{other}");
    }
    assert_eq!(members(br#"{"a":1,"a":2}"#, JsonLimits::default()).unwrap_err().kind, JsonErrorKind::DuplicateMember);
}

#[test]
fn each_kind_of_error_is_named_with_its_place() {
    for (text, kind, offset, pointer) in [
        ("", JsonErrorKind::Unfinished, 0, ""),
        (" ", JsonErrorKind::Unfinished, 1, ""),
        ("{", JsonErrorKind::Unfinished, 1, ""),
        (r#"{"a":[1,"#, JsonErrorKind::Unfinished, 8, "/a/1"),
        (r#"{"a":"b"#, JsonErrorKind::Unfinished, 7, "/a"),
        ("tru", JsonErrorKind::Unfinished, 3, ""),
        ("-", JsonErrorKind::Unfinished, 1, ""),
        (r#""\u12"#, JsonErrorKind::Unfinished, 5, ""),
        (r#""\ud83d"#, JsonErrorKind::Unfinished, 1, ""),
        ("[1,]", JsonErrorKind::Unexpected, 3, "/1"),
        ("[,1]", JsonErrorKind::Unexpected, 1, "/0"),
        ("[1 2]", JsonErrorKind::Unexpected, 3, ""),
        (r#"{"a":1,}"#, JsonErrorKind::Unexpected, 7, ""),
        (r#"{"a" 1}"#, JsonErrorKind::Unexpected, 5, ""),
        ("{a:1}", JsonErrorKind::Unexpected, 1, ""),
        ("{'a':1}", JsonErrorKind::Unexpected, 1, ""),
        ("[1}", JsonErrorKind::Unexpected, 2, ""),
        ("/* */1", JsonErrorKind::Unexpected, 0, ""),
        ("\u{feff}1", JsonErrorKind::Unexpected, 0, ""),
        ("\u{a0}1", JsonErrorKind::Unexpected, 0, ""),
        ("+1", JsonErrorKind::Unexpected, 0, ""),
        (".5", JsonErrorKind::Unexpected, 0, ""),
        ("NaN", JsonErrorKind::Unexpected, 0, ""),
        ("nil", JsonErrorKind::BadLiteral, 0, ""),
        ("[True]", JsonErrorKind::Unexpected, 1, "/0"),
        (r#"{"a":[0,{"b":trux}]}"#, JsonErrorKind::BadLiteral, 13, "/a/1/b"),
        ("01", JsonErrorKind::BadNumber, 1, ""),
        ("[1.]", JsonErrorKind::BadNumber, 3, "/0"),
        ("[1e]", JsonErrorKind::BadNumber, 3, "/0"),
        ("[1.2.3]", JsonErrorKind::BadNumber, 4, "/0"),
        ("[-]", JsonErrorKind::BadNumber, 2, "/0"),
        ("[0x1]", JsonErrorKind::BadNumber, 2, "/0"),
        ("[-Infinity]", JsonErrorKind::BadNumber, 2, "/0"),
        ("1 2", JsonErrorKind::Trailing, 2, ""),
        ("{}{}", JsonErrorKind::Trailing, 2, ""),
        ("null\0", JsonErrorKind::Trailing, 4, ""),
        (r#"["\x"]"#, JsonErrorKind::BadEscape, 3, "/0"),
        (r#"["\u12g4"]"#, JsonErrorKind::BadEscape, 6, "/0"),
        (r#"["\u+123"]"#, JsonErrorKind::BadEscape, 4, "/0"),
        ("[\"a\nb\"]", JsonErrorKind::ControlCharacter, 3, "/0"),
        ("[\"123456789\0\"]", JsonErrorKind::ControlCharacter, 11, "/0"),
        (r#"["\ud83d"]"#, JsonErrorKind::LoneSurrogate, 2, "/0"),
        (r#"["\ud83d\u0041"]"#, JsonErrorKind::LoneSurrogate, 2, "/0"),
        (r#"["x\udc00\ud83d"]"#, JsonErrorKind::LoneSurrogate, 3, "/0"),
        (r#"["\ud83d\n"]"#, JsonErrorKind::LoneSurrogate, 2, "/0"),
        (r#"{"\ud83d":1}"#, JsonErrorKind::LoneSurrogate, 2, ""),
        (r#"{"a":1,"a":2}"#, JsonErrorKind::DuplicateMember, 7, "/a"),
        (r#"{"a":1,"\u0061":2}"#, JsonErrorKind::DuplicateMember, 7, "/a"),
        (r#"{"\n":1,"\u000A":2}"#, JsonErrorKind::DuplicateMember, 8, "/\n"),
        (r#"{"😀":1,"\ud83d\ude00":2}"#, JsonErrorKind::DuplicateMember, 10, "/😀"),
        (r#"{"x":[{"a/b~":{"":0,"":0}}]}"#, JsonErrorKind::DuplicateMember, 20, "/x/0/a~1b~0/"),
    ] {
        let expected = JsonError { offset, pointer: pointer.to_owned(), kind };
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn invalid_utf8_is_placed_too() {
    let found = error(b"{\"a\":[\"x\",\"\xff\"]}");
    assert_eq!(found, JsonError { offset: 11, pointer: "/a/1".into(), kind: JsonErrorKind::InvalidUtf8 });
    assert_eq!(error(b"1\xff").kind, JsonErrorKind::InvalidUtf8);
    assert_eq!(error(b"[01,\"\xff\"]").kind, JsonErrorKind::BadNumber);
    for overlong_or_surrogate in [&b"\"\xc0\x80\""[..], b"\"\xed\xa0\x80\"", b"\"\xf5\x80\x80\x80\"", b"\"\xe2\x82\""] {
        assert_eq!(error(overlong_or_surrogate).kind, JsonErrorKind::InvalidUtf8);
    }
}

#[test]
fn duplicates_are_found_among_many_members() {
    for count in [PAIRWISE_MEMBERS_MAX, PAIRWISE_MEMBERS_MAX + 1, 1000] {
        let members: Vec<_> = (0..count).map(|i| format!("\"k{i}\":{{\"k\":{i}}}")).collect();
        passes(format!("{{{}}}", members.join(",")));
        let twice = format!("{{{},\"k\\u0033\":0,\"k1\":0}}", members.join(","));
        let found = error(&twice);
        assert_eq!((found.kind, found.pointer.as_str()), (JsonErrorKind::DuplicateMember, "/k3"));
        assert_eq!(found.offset, twice.find("\"k\\u").unwrap());
    }
}

#[test]
fn depth_is_counted_in_brackets() {
    let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    passes(nested(DEPTH_MAX));
    let found = error(nested(DEPTH_MAX + 1));
    assert_eq!((found.kind, found.offset), (JsonErrorKind::TooDeep, DEPTH_MAX));
    assert_eq!(found.pointer, "/0".repeat(DEPTH_MAX));
    assert_eq!(error("[".repeat(1_000_000)).kind, JsonErrorKind::TooDeep);
    assert_eq!(error("{\"a\":".repeat(200)).kind, JsonErrorKind::TooDeep);
    assert!(check(b"[[]]", JsonLimits { depth: 1 }).is_err());
    assert!(check(b"[]", JsonLimits { depth: 1 }).is_ok());
    assert!(check(b"1", JsonLimits { depth: 0 }).is_ok());
    assert!(check(nested(DEPTH_MAX + 1).as_bytes(), JsonLimits { depth: usize::MAX }).is_err());
}

#[test]
fn the_walk_finds_members_and_elements() {
    let text = br#" { "a\u0062" : [ 1.5 , "x]\"" , {"}":[]} ] , "c":null }"#;
    check(text, JsonLimits::default()).unwrap();
    let mut seen = Vec::new();
    let end = walk::each_member(text, walk::start(text, 0), |name, at| {
        seen.push((walk::unescaped(name).into_owned(), walk::raw(text, at)?));
        walk::skip(text, at)
    });
    assert_eq!(end, Some(text.len()));
    assert_eq!(seen[0].0, "ab");
    assert_eq!((seen[1].0.as_str(), seen[1].1), ("c", &b"null"[..]));
    let list = seen[0].1;
    let mut items = Vec::new();
    walk::each_element(list, 0, |index, at| {
        items.push((index, walk::raw(list, at)?));
        walk::skip(list, at)
    });
    assert_eq!(items, [(0, &b"1.5"[..]), (1, br#""x]\"""#), (2, br#"{"}":[]}"#)]);
    assert_eq!(walk::compact(text), br#"{"a\u0062":[1.5,"x]\"",{"}":[]}],"c":null}"#);
}

proptest! {
    #[test]
    fn plain_runs_end_where_a_slow_look_says(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let slow = bytes.iter().take_while(|&&b| b >= 0x20 && b != b'"' && b != b'\\').count();
        prop_assert_eq!(walk::plain_len(&bytes), slow);
    }

    #[test]
    fn serde_json_agrees_on_texts_of_json_characters(text in r#"[\[\]{}:,"\\u0-9a-fe.\-+ tru]{0,24}"#) {
        let ours = check(text.as_bytes(), JsonLimits::default());
        let theirs = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text);
        match ours {
            Ok(()) => prop_assert!(theirs.is_ok(), "{}", text),
            Err(error) if matches!(error.kind, JsonErrorKind::DuplicateMember | JsonErrorKind::LoneSurrogate) => {}
            Err(error) => prop_assert!(theirs.is_err(), "{}: {}", text, error),
        }
    }

    #[test]
    fn strings_come_back_as_they_were(text in any::<String>()) {
        let quoted = serde_json::to_string(&text).unwrap();
        passes(&quoted);
        let raw = walk::string(quoted.as_bytes(), 0).unwrap();
        prop_assert_eq!(walk::unescaped(raw), text.as_str());
        prop_assert!(walk::is_text(raw, &text));
        let wide: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        passes(format!("\"{wide}\""));
        prop_assert_eq!(walk::unescaped(wide.as_bytes()), text);
    }

    #[test]
    fn walking_anything_ends(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = walk::skip(&bytes, 0);
        walk::each_member(&bytes, 0, |_, at| walk::skip(&bytes, at));
        walk::each_element(&bytes, 0, |_, at| walk::skip(&bytes, at));
        prop_assert!(walk::compact(&bytes).len() <= bytes.len());
        prop_assert!(walk::Unescaped::new(&bytes).count() <= bytes.len());
        let _ = check(&bytes, JsonLimits::default());
    }
}
