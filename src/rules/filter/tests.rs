//! Tests filters: matching, refused filters, and reading back.

use super::*;

fn filter(text: &str) -> Filter {
    Filter::parse_text(text.as_bytes()).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"))
}

#[track_caller]
fn lets_through(condition: &str, data: &[&str]) {
    let condition = filter(condition);
    for data in data {
        assert!(condition.matches(data.as_bytes()), "{} stopped {data}", condition.as_json());
    }
}

#[track_caller]
fn stops(condition: &str, data: &[&str]) {
    let condition = filter(condition);
    for data in data {
        assert!(!condition.matches(data.as_bytes()), "{} let {data} through", condition.as_json());
    }
}

#[track_caller]
fn mistakes(text: &str) -> Vec<String> {
    let Err(mistakes) = Filter::parse_text(text.as_bytes()) else {
        panic!("{text:.200} is a filter");
    };
    assert!(mistakes.iter().all(|(_, detail)| !detail.is_empty()), "{text}");
    mistakes.into_iter().map(|(pointer, _)| pointer).collect()
}

#[test]
fn the_documented_example_works() {
    let text =
        r#"{"all":[{"path":"/a/b","gte":5},{"any":[{"path":"/c","eq":"x"}]},{"not":{"path":"/d","exists":true}}]}"#;
    lets_through(text, &[r#"{"a":{"b":5},"c":"x"}"#, r#" { "c" : "x" , "a" : { "z":[], "b" : 5.0e0 } } "#]);
    stops(
        text,
        &[
            r#"{"a":{"b":4.99999999999999999999},"c":"x"}"#,
            r#"{"a":{"b":5},"c":"y"}"#,
            r#"{"a":{"b":5},"c":"x","d":null}"#,
            "{}",
            "[]",
            "5",
            "null",
        ],
    );
}

#[test]
fn numbers_compare_as_decimals() {
    lets_through(r#"{"path":"/n","eq":1}"#, &[r#"{"n":1.0}"#, r#"{"n":10e-1}"#]);
    stops(r#"{"path":"/n","eq":9007199254740993}"#, &[r#"{"n":9007199254740992}"#]);
    lets_through(r#"{"path":"/n","gt":9007199254740992}"#, &[r#"{"n":9007199254740993}"#]);
    lets_through(r#"{"path":"/n","gt":1e400}"#, &[r#"{"n":1e401}"#]);
    stops(r#"{"path":"/n","gt":1e400}"#, &[r#"{"n":1e400}"#, r#"{"n":9e399}"#, r#"{"n":"1e401"}"#, r#"{"n":[1e401]}"#]);
    lets_through(r#"{"path":"/n","lte":0.1}"#, &[r#"{"n":0.1}"#, r#"{"n":-5}"#, r#"{"n":0.09999999999999999999999}"#]);
    stops(
        r#"{"path":"/n","lt":0.1}"#,
        &[r#"{"n":0.1}"#, r#"{"n":0.10000000000000000000001}"#, r#"{"n":true}"#, r#"{"n":null}"#],
    );
}

#[test]
fn missing_or_of_another_type_is_false_but_for_the_negative_ones() {
    let strange =
        [r#"{}"#, r#"{"v":{}}"#, r#"{"v":[]}"#, r#"{"v":null}"#, r#"{"v":false}"#, r#"{"w":"a"}"#, "7", "\"a\""];
    for positive in
        [r#""eq":"a""#, r#""in":["a",1]"#, r#""prefix":"a""#, r#""gt":0"#, r#""gte":0"#, r#""lt":0"#, r#""lte":0"#]
    {
        stops(&format!(r#"{{"path":"/v",{positive}}}"#), &strange);
        lets_through(&format!(r#"{{"not":{{"path":"/v",{positive}}}}}"#), &strange);
    }
    lets_through(r#"{"path":"/v","ne":"a"}"#, &strange);
    stops(r#"{"path":"/v","ne":"a"}"#, &[r#"{"v":"a"}"#, r#"{"v":"\u0061"}"#]);
    lets_through(r#"{"path":"/v","exists":false}"#, &["{}", "[]", r#"{"w":1}"#, "1"]);
    lets_through(r#"{"path":"/v","exists":true}"#, &[r#"{"v":null}"#, r#"{"v":[]}"#]);
    stops(r#"{"path":"/v","exists":false}"#, &[r#"{"v":null}"#]);
    stops(r#"{"path":"/v","exists":true}"#, &["{}"]);
}

#[test]
fn values_compare_by_structure() {
    let condition = r#"{"path":"","eq":{"a":[1,{"b":null}],"c":"é"}}"#;
    lets_through(
        condition,
        &[r#"{"c":"\u00e9","a":[1.0,{"b":null}]}"#, r#" {"\u0061" : [ 1e0 , {"b" : null} ], "c":"é"}"#],
    );
    stops(
        condition,
        &[
            r#"{"c":"é","a":[1,{"b":null}],"d":1}"#,
            r#"{"c":"é"}"#,
            r#"{"a":[1,{"b":null},2],"c":"é"}"#,
            r#"{"a":[1],"c":"é"}"#,
            r#"{"a":[1,{"b":false}],"c":"é"}"#,
            r#"{"a":[2,{"b":null}],"c":"é"}"#,
            r#"[]"#,
        ],
    );
    lets_through(
        r#"{"path":"/x","in":[[],{},2,"two",true]}"#,
        &[r#"{"x":[]}"#, r#"{"x":{}}"#, r#"{"x":2.0}"#, r#"{"x":"two"}"#, r#"{"x":true}"#],
    );
    stops(
        r#"{"path":"/x","in":[[],{},2,"two",true]}"#,
        &[r#"{"x":[[]]}"#, r#"{"x":"2"}"#, r#"{"x":false}"#, r#"{"x":null}"#],
    );
    stops(r#"{"path":"/x","in":[]}"#, &[r#"{"x":null}"#]);
}

#[test]
fn paths_are_json_pointers() {
    lets_through(r#"{"path":"/a~1b/m~0n/","eq":1}"#, &[r#"{"a/b":{"m~n":{"":1}}}"#, r#"{"a\/b":{"m~n":{"":1}}}"#]);
    lets_through(r#"{"path":"/~01","eq":1}"#, &[r#"{"~1":1}"#]);
    lets_through(r#"{"path":"/l/10","eq":10}"#, &[r#"{"l":[0,1,2,3,4,5,6,7,8,9,10]}"#, r#"{"l":{"10":10}}"#]);
    stops(r#"{"path":"/l/01","eq":1}"#, &[r#"{"l":[0,1]}"#]);
    lets_through(r#"{"path":"/l/01","eq":1}"#, &[r#"{"l":{"01":1}}"#]);
    stops(r#"{"path":"/l/-","exists":true}"#, &[r#"{"l":[0,1]}"#]);
    stops(r#"{"path":"/l/99999999999999999999999","exists":true}"#, &[r#"{"l":[0,1]}"#]);
    lets_through(r#"{"path":"","exists":true}"#, &["null"]);
    stops(r#"{"path":"/a/b","exists":true}"#, &[r#"{"a":"b"}"#, r#"{"a":[{"b":1}]}"#]);
}

#[test]
fn one_walk_serves_paths_that_share_beginnings() {
    let condition = r#"{"all":[{"path":"/a/b","eq":1},{"path":"/a","exists":true},{"path":"/a/c/0","eq":2},{"path":"/a/b","lt":2},
        {"path":"","ne":null},{"path":"/a/c/1/d","prefix":"x"},{"path":"/a/cc","exists":false},{"path":"/b","eq":true}]}"#;
    lets_through(condition, &[r#"{"b":true,"a":{"c":[2,{"d":"xy"}],"b":1}}"#]);
    stops(
        condition,
        &[r#"{"b":true,"a":{"c":[2,{"d":"yx"}],"b":1}}"#, r#"{"b":true,"a":{"c":[2,{"d":"xy"}],"b":1,"cc":0}}"#],
    );
}

#[test]
fn prefixes_are_of_the_text_not_of_its_escapes() {
    lets_through(r#"{"path":"","prefix":"a\n"}"#, &[r#""a\nb""#, r#""\u0061\u000a""#]);
    stops(r#"{"path":"","prefix":"a\n"}"#, &[r#""a""#, r#""a\\n""#, r#""b""#]);
    lets_through(r#"{"path":"","prefix":""}"#, &[r#""""#]);
    lets_through(r#"{"path":"","prefix":"😀"}"#, &[r#""\ud83d\ude00!""#]);
}

#[test]
fn empty_groups_follow_logic() {
    lets_through(r#"{"all":[]}"#, &["{}"]);
    stops(r#"{"any":[]}"#, &["{}"]);
}

#[test]
fn bytes_that_are_no_json_lead_nowhere() {
    stops(r#"{"path":"/a","eq":1}"#, &["", " ", "{", r#"{"a""#, r#"{"a":"#, r#"{"a":}"#, "}{"]);
}

#[test]
fn mistakes_are_pointed_at() {
    for (text, pointers) in [
        ("null", vec![""]),
        ("[]", vec![""]),
        ("{}", vec![""]),
        (r#"{"path":"/a"}"#, vec![""]),
        (r#"{"eq":1}"#, vec![""]),
        (r#"{"path":"/a","eq":1,"ne":2}"#, vec!["/ne"]),
        (r#"{"path":"/a","like":1}"#, vec!["/like"]),
        (r#"{"path":"/a","eq":1,"a/b":1}"#, vec!["/a~1b"]),
        (r#"{"path":"a","eq":1}"#, vec!["/path"]),
        (r#"{"path":"/~2","eq":1}"#, vec!["/path"]),
        (r#"{"path":"/~","eq":1}"#, vec!["/path"]),
        (r#"{"path":7,"eq":1}"#, vec!["/path"]),
        (r#"{"path":"/a","gt":"5"}"#, vec!["/gt"]),
        (r#"{"path":"/a","in":1}"#, vec!["/in"]),
        (r#"{"path":"/a","exists":"yes"}"#, vec!["/exists"]),
        (r#"{"path":"/a","prefix":1}"#, vec!["/prefix"]),
        (r#"{"all":{}}"#, vec!["/all"]),
        (r#"{"all":[1]}"#, vec!["/all/0"]),
        (r#"{"not":[]}"#, vec!["/not"]),
        (r#"{"all":[],"any":[]}"#, vec!["/any"]),
        (r#"{"all":[],"path":"/a"}"#, vec!["/path"]),
        (r#"{"all":[],"nor":[]}"#, vec!["/nor"]),
        (r#"{"any":[{"path":"x","eq":1},{"not":{"path":"/a","foo":1}}]}"#, vec!["/any/0/path", "/any/1/not/foo"]),
        (r#"{"path":"/a","eq":{"x":1,"x":2}}"#, vec!["/eq/x"]),
        (r#"{"path":"/a","eq":tru"#, vec!["/eq"]),
    ] {
        assert_eq!(mistakes(text), pointers, "{text}");
    }
}

#[test]
fn depth_and_leaves_are_bounded() {
    let nested = |n: usize| format!(r#"{}{{"path":"","exists":true}}{}"#, r#"{"not":"#.repeat(n), "}".repeat(n));
    filter(&nested(DEPTH_MAX - 1));
    assert_eq!(mistakes(&nested(DEPTH_MAX)), ["/not".repeat(DEPTH_MAX)]);
    mistakes(&nested(10_000));
    let many = |n: usize| format!(r#"{{"all":[{}]}}"#, vec![r#"{"path":"","exists":true}"#; n].join(","));
    lets_through(&many(LEAVES_MAX), &["1"]);
    assert_eq!(mistakes(&many(LEAVES_MAX + 5)), ["/all/64"]);
    let long = |n: usize| format!(r#"{{"path":"/{}","eq":1}}"#, "a".repeat(n));
    filter(&long(PATH_BYTES_MAX - 1));
    assert_eq!(mistakes(&long(PATH_BYTES_MAX)), ["/path"]);
    let wide = |n: usize| format!(r#"{{"path":"","eq":"{}"}}"#, "a".repeat(n - 19));
    filter(&wide(TEXT_BYTES_MAX));
    assert_eq!(mistakes(&wide(TEXT_BYTES_MAX + 1)), [""]);
}

#[test]
fn a_filter_comes_back_as_it_was_given() {
    let given = r#"{"any":[{"eq":1e400,"path":"/a"},{"path":"/b","in":[1.0,{"y":"\u0041 ","x":null}]}]}"#;
    let spaced = given.replace(',', " ,\n ").replace(':', " : ");
    let read: Filter = serde_json::from_str(&spaced).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), given);
    let packed = rmp_serde::to_vec_named(&read).unwrap();
    let back: Filter = rmp_serde::from_slice(&packed).unwrap();
    assert_eq!(back, read);
    assert!(back.matches(br#"{"a":10e399}"#));

    let value = serde_json::json!({"all": [{"path": "/n", "eq": 9007199254740993_u64}]});
    let parsed = Filter::parse(&value).unwrap();
    assert_eq!(serde_json::to_value(&parsed).unwrap(), value);
    assert_eq!(serde_json::from_value::<Filter>(value).unwrap(), parsed);
    assert!(!parsed.matches(br#"{"n":9007199254740992}"#));
    assert!(serde_json::from_str::<Filter>(r#"{"path":"x","eq":1}"#).unwrap_err().to_string().contains("filter/path"));
}
