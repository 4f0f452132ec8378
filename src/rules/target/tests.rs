//! Targets against the hostile corpus and against neighbours of its rows.

use super::*;

/// The corpus: one JSON object per URL. `stage` says when it must be decided.
const CORPUS: &str = include_str!("../../../tests/data/hostile_urls.json");

fn policy(allow: &[&str], deny: &[&str]) -> TargetPolicy {
    let own = |items: &[&str]| items.iter().map(|item| item.to_string()).collect::<Vec<_>>();
    TargetPolicy::parse(&own(allow), &own(deny), false).unwrap()
}

/// Splits items at white space.
fn list(items: &str) -> Vec<&str> {
    items.split_whitespace().collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The name, as [`check_url`] would return it.
fn name(text: &str) -> TargetHost {
    TargetHost::Name(text.to_owned())
}

fn dial(host: &str, addrs: &[&str], port: u16, policy: &TargetPolicy) -> Result<(), TargetRefused> {
    let addrs: Vec<_> = addrs.iter().map(|addr| ip(addr)).collect();
    check_addrs(&name(host), &addrs, port, policy)
}

#[track_caller]
fn refuses(urls: &[&str], policy: &TargetPolicy) {
    for url in urls {
        let answer = check_url(url, policy);
        assert!(answer.is_err(), "{url} passed as {answer:?}");
    }
}

#[track_caller]
fn refuses_address(urls: &[&str], policy: &TargetPolicy) {
    for url in urls {
        assert_eq!(check_url(url, policy), Err(TargetRefused::Address), "{url}");
    }
}

#[track_caller]
fn passes(urls: &[&str], policy: &TargetPolicy) {
    for url in urls {
        let answer = check_url(url, policy);
        assert!(answer.is_ok(), "{url} refused: {answer:?}");
    }
}

#[test]
fn every_row_of_the_corpus_is_decided_as_it_says() {
    let rows: Vec<serde_json::Value> = serde_json::from_str(CORPUS).unwrap();
    let mut own = TargetPolicy::default();
    own.own.push("93.184.216.99:443".parse().unwrap());
    let mut checked = 0;
    for row in &rows {
        let text = row["url"].as_str().unwrap();
        let stage = row["stage"].as_str().unwrap();
        let by_text = check_url(text, &own);
        let answer = match stage {
            "create" => by_text.map(drop),
            "dial" => {
                let target = by_text.unwrap_or_else(|_| panic!("{row}: refused by its text"));
                let addrs: Vec<_> = row["dns"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|addr| match addr.as_str().unwrap() {
                        "<own address>" => ip("93.184.216.99"),
                        addr => ip(addr),
                    })
                    .collect();
                check_addrs(&target.host, &addrs, target.port, &own)
            }
            _ => continue,
        };
        checked += 1;
        assert_eq!(answer.is_ok(), row["expect"] == "allow", "{row}: {answer:?}");
        if matches!(row["cls"].as_str(), Some("ip-literal" | "ip-encoding" | "dns")) {
            assert_eq!(answer, Err(TargetRefused::Address), "{row}");
        }
    }
    assert!(checked > 70, "only {checked} rows checked");
}

#[test]
fn special_ranges_are_closed_from_edge_to_edge() {
    for addr in list(
        "0.255.255.255 10.255.255.255 100.64.0.0 100.127.255.255 127.255.255.255
         169.254.170.2 169.254.170.23 168.63.129.16 172.16.0.0 192.0.0.8 192.0.0.255
         192.0.2.1 192.168.0.1 192.168.255.255 198.19.255.255 203.0.113.255 224.0.0.1
         240.0.0.1 254.255.255.255 192.31.196.1 192.52.193.1 192.175.48.1",
    ) {
        assert_eq!(
            check_url(&format!("http://{addr}/"), &TargetPolicy::default()),
            Err(TargetRefused::Address),
            "{addr}"
        );
    }
    for addr in list(
        "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe ::ffff:0:7f00:1 ::ffff:0:8.8.8.8
         ::8.8.8.8 ::2 64:ff9b::a9fe:a9fe 64:ff9b::a00:1 64:ff9b:1::808:808
         64:ff9b:0:1::808:808 2002:7f00:1::1 2002:808:808::1 2001::1
         2001:0:4136:e378:8000:63bf:f5ff:fffe 2001:2::1 2001:20::1 2001:1ff::1 3fff::1
         3fff:fff::1 3ffe::1 100::1 100:0:0:1::1 fc00::1 fd12:3456::1 febf::1 fe80::1 ff0e::1
         4000::1 1fff::1 fd20:ce::254 2620:4f:8000::1 2a00:1450::5efe:10.0.0.1
         2a00:1450::200:5efe:7f00:1",
    ) {
        assert_eq!(
            check_url(&format!("http://[{addr}]/"), &TargetPolicy::default()),
            Err(TargetRefused::Address),
            "{addr}"
        );
    }
}

#[test]
fn neighbours_of_special_ranges_are_open() {
    let open = TargetPolicy::default();
    passes(
        &list(
            "http://1.1.1.1/ http://11.0.0.0/ http://100.128.0.0/ http://128.0.0.0/
         http://169.255.0.0/ http://172.32.0.0/ http://192.0.3.0/ http://192.169.0.0/
         http://198.17.255.255/ http://198.51.101.0/ http://203.0.112.255/
         http://223.255.255.255/ http://168.63.129.17/ http://192.88.98.255/
         http://[2001:200::1]/ http://[2001:db7::1]/ http://[2001:db9::1]/ http://[2003::1]/
         http://[3fff:1000::1]/ http://[2000::1]/ http://[::ffff:8.8.8.8]/
         http://[64:ff9b::808:808]/",
        ),
        &open,
    );
}

#[test]
fn encodings_of_an_address_are_read_before_they_are_checked() {
    refuses_address(
        &list(
            "http://0X7F000001/ http://2130706433/ http://0x7f.0x0.0x0.0x1/ http://0177.0.0.1/
         http://127.0.1/ http://127.0.0.1./ http://127.1./ http://127.0.0.1/
         http://①②⑦.0.0.1/ http://１２７.０.０.１/ http://127.0.0.1/ http://127%2e0%2e0%2e1/
         http://0xA9FEA9FE/ http://169.254.43518/ http://3232235521/ http://00000177.1/
         http://0x/ http://127。1/ HTTP://127.0.0.1/ http://[0:0:0:0:0:0:0:1]/
         http://[::FFFF:127.0.0.1]/ http://[::ffff:7F00:0001]:8080/",
        ),
        &TargetPolicy::default(),
    );
}

#[test]
fn names_of_loopback_and_metadata_are_closed_like_addresses() {
    refuses_address(
        &list(
            "http://localhost/ http://localhost./ http://LocalHost:8080/ http://a.b.localhost/
         http://localhost.localdomain/ http://ip6-loopback/ http://localhost6/
         http://loopback/ http://ｌｏｃａｌｈｏｓｔ/ http://%6cocalhost/
         http://metadata.google.internal/ http://METADATA.google.internal./ http://metadata/
         http://instance-data/ http://metadata.goog/ http://x.metadata.google.internal/",
        ),
        &TargetPolicy::default(),
    );
}

#[test]
fn malformed_urls_are_refused() {
    let long_name = format!("http://{}com/", "a.".repeat(130));
    refuses(
        &list(
            "http http: http:/ http:// http:example.com http:/example.com/ http:///example.com/
         http:////example.com ftp://example.com/ file:///etc/passwd data:text/plain,x
         unix:/run/x.sock unix:///run/x.sock wss://example.com/ dict://example.com/
         example.com/hook http+unix://%2frun/ blob:http://example.com/ http://?x http://:80/
         http://@/ http://@example.com/ http://:@example.com/ http://user@example.com/
         http://example.com%40evil.net@x/ http://example.com/# http://example.com/#x
         http://example.com:0/ http://example.com:/ http://example.com:65536/
         http://example.com:-1/ http://example.com:8a/ http://example.com:25/
         http://example.com:6667/ http://example.com:10080/ http://example.com:4190/
         http://a..example.com/ http://.example.com/ http://./ http://example.com../
         http://*.example.com/ http://exa<mple.com/ http://example.com^x/ http://1.2.3.4.5/
         http://example.256/ http://0x7g.1/ http://[::1/ http://[]/ http://[::g]/
         http://[::1]x/ http://[1:2:3:4:5:6:7:8:9]/ http://erp/ http://erp./ http://nas.local/
         http://NAS.LOCAL./ http://db.internal/ http://x.onion./",
        ),
        &TargetPolicy::default(),
    );
    refuses(
        &[
            "",
            "https:\\\\example.com",
            "http:\\/example.com",
            "http://1.1.1.1 &@2.2.2.2",
            "http://1.1.1.1&@2.2.2.2# @3.3.3.3/",
            " http://example.com/",
            "http://example.com/ ",
            "http://example.com/\n",
            "ht\ntp://example.com/",
            "http://exam\tple.com/",
            "http://example.com/\u{7f}",
            "http://example.com/\u{85}",
            "http://example.com/\u{2028}x",
            "http://example.com/a\\b",
            "http://example.com\r\nHost: x/",
            "http://example.com\0/",
            &long_name,
        ],
        &TargetPolicy::default(),
    );
}

#[test]
fn the_length_limit_holds_before_and_after_escaping() {
    let open = TargetPolicy::default();
    let fill = |n: usize, with: &str| format!("http://example.com/{}", with.repeat(n));
    passes(&[&fill(URL_BYTES_MAX - 19, "a")], &open);
    refuses(&[&fill(URL_BYTES_MAX - 18, "a"), &fill(1000, "é")], &open);
}

#[test]
fn a_good_url_comes_back_in_parts() {
    let target =
        check_url("HTTPS://Hooks.Example.com.:8443/a b?q=ü".replace(' ', "%20").as_str(), &TargetPolicy::default())
            .unwrap();
    assert_eq!(target.host, name("hooks.example.com"));
    assert_eq!((target.scheme, target.port), (UrlScheme::Https, 8443));
    assert_eq!(target.path_and_query, "/a%20b?q=%C3%BC");
    assert_eq!(target.url, "https://hooks.example.com.:8443/a%20b?q=%C3%BC");
    assert_eq!(target.authority(), "hooks.example.com:8443");
    let short = check_url("http://münchen.example:80", &TargetPolicy::default()).unwrap();
    assert_eq!(short.url, "http://xn--mnchen-3ya.example/");
    assert_eq!(short.authority(), "xn--mnchen-3ya.example");
    let v6 = check_url("http://[2606:4700:4700::1111]:8080/?", &TargetPolicy::default()).unwrap();
    assert_eq!(v6.authority(), "[2606:4700:4700::1111]:8080");
    assert_eq!(v6.path_and_query, "/?");
}

#[test]
fn allowed_networks_open_and_nothing_else_does() {
    let lab = policy(&["127.0.0.0/8", "10.1.0.0/16", "fd12::/16"], &[]);
    passes(
        &list(
            "http://127.0.0.1:9000/ http://localhost:9000/ http://foo.localhost/ http://127.1/
         http://ip6-localhost/ http://10.1.2.3/ http://[fd12::5]/ http://[::ffff:10.1.2.3]/
         http://[64:ff9b::a01:203]/",
        ),
        &lab,
    );
    refuses_address(
        &list(
            "http://10.2.0.1/ http://[::1]/ http://0.0.0.0/ http://[fd13::5]/
         http://[2002:a01:203::1]/ http://[::10.1.2.3]/",
        ),
        &lab,
    );
    refuses(&["http://erp/", "http://127.0.0.1:22/", "http://x.internal/"], &lab);
    assert!(dial("localhost", &["127.0.0.1", "::1"], 9000, &lab).is_ok());
    assert!(dial("erp.example.com", &["10.1.0.9"], 80, &lab).is_ok());
    assert!(dial("erp.example.com", &["10.1.0.9", "93.184.216.34"], 80, &lab).is_ok());
    assert!(dial("erp.example.com", &["10.1.0.9", "10.2.0.9"], 80, &lab).is_err());
    assert!(dial("erp.example.com", &["::1"], 80, &lab).is_err());
    assert!(dial("localhost", &["10.9.9.9"], 80, &lab).is_err());
}

#[test]
fn allowed_names_open_their_private_addresses() {
    let lab = policy(&["erp", "*.corp.internal", "localhost", "*.local"], &[]);
    passes(&["http://erp/", "http://a.b.corp.internal/", "http://LOCALHOST./", "http://nas.local:8080/"], &lab);
    refuses(&["http://corp.internal/", "http://xcorp.internal/", "http://erp2/", "http://10.0.0.5/"], &lab);
    assert!(dial("erp", &["10.0.0.5", "fd00::5"], 80, &lab).is_ok());
    assert!(dial("other.example.com", &["10.0.0.5"], 80, &lab).is_err());
    assert!(dial("erp", &["169.254.169.254"], 80, &lab).is_err());
    assert!(dial("erp", &[], 80, &lab).is_err());
}

#[test]
fn metadata_stays_closed_whatever_is_allowed() {
    let all = policy(&["0.0.0.0/0", "::/0", "*.internal", "metadata", "erp"], &[]);
    passes(&["http://10.0.0.1/", "http://[fd00::1]/", "http://169.254.1.1/"], &all);
    for addr in list(
        "169.254.169.254 169.254.170.2 169.254.170.23 168.63.129.16 100.100.100.200
         192.0.0.192 fd00:ec2::254 fd20:ce::254 ::ffff:169.254.169.254 ::169.254.169.254
         ::ffff:0:169.254.169.254 64:ff9b::169.254.169.254 64:ff9b:1::169.254.169.254
         64:ff9b:1:a9fe:a9:fe00:: 2002:a9fe:a9fe:: 2001:0:a9fe:a9fe::1
         2001:0:808:808:0:0:5601:5601 fe80::5efe:169.254.169.254",
    ) {
        let literal = TargetHost::Ip(ip(addr));
        assert_eq!(check_url(&format!("http://{literal}/"), &all), Err(TargetRefused::Address), "{addr}");
        assert_eq!(dial("erp", &[addr], 80, &all), Err(TargetRefused::Address), "{addr}");
    }
    refuses_address(&["http://metadata/", "http://metadata.google.internal/"], &all);
    assert!(dial("metadata.google.internal", &["10.0.0.1"], 80, &all).is_err());
}

#[test]
fn deny_beats_allow_and_closes_public_places() {
    let shut = policy(
        &["10.0.0.0/8", "erp", "127.0.0.0/8"],
        &["10.9.0.0/16", "8.8.8.0/24", "*.evil.example", "127.0.0.53", "::1"],
    );
    passes(&["http://10.8.0.1/", "http://erp/", "http://evil.example/", "http://localhost/"], &shut);
    refuses_address(
        &list(
            "http://10.9.0.1/ http://8.8.8.8/ http://[64:ff9b::808:808]/ http://[::ffff:8.8.8.8]/
         http://x.evil.example/ http://127.0.0.53/",
        ),
        &shut,
    );
    assert!(dial("erp", &["10.9.0.1"], 80, &shut).is_err());
    assert!(dial("x.evil.example", &["93.184.216.34"], 80, &shut).is_err());
    assert!(dial("localhost", &["127.0.0.1"], 80, &shut).is_ok());
    assert!(dial("localhost", &["::1"], 80, &shut).is_err());
}

#[test]
fn the_daemon_never_calls_itself() {
    let mut lab = policy(&["127.0.0.0/8", "::1", "0.0.0.0/8", "10.0.0.0/8", "erp"], &[]);
    lab.own = vec!["127.0.0.1:8080".parse().unwrap()];
    refuses_address(&["http://127.0.0.1:8080/", "http://localhost:8080/", "http://0.0.0.0:8080/"], &lab);
    passes(&["http://127.0.0.1:8081/", "http://127.0.0.2:8080/", "http://[::1]:8080/", "http://10.0.0.1:8080/"], &lab);
    assert!(dial("erp", &["127.0.0.1"], 8080, &lab).is_err());
    assert!(dial("erp", &["127.0.0.1"], 8081, &lab).is_ok());

    lab.own = vec!["0.0.0.0:8080".parse().unwrap(), "10.0.0.1:8080".parse().unwrap()];
    refuses_address(&["http://127.0.0.1:8080/", "http://127.9.9.9:8080/", "http://10.0.0.1:8080/"], &lab);
    passes(&["http://127.0.0.1:80/", "http://10.0.0.2:8080/", "http://[::1]:8080/"], &lab);

    lab.own = vec!["[::]:8080".parse().unwrap()];
    refuses_address(&["http://[::1]:8080/", "http://127.0.0.1:8080/", "http://[::ffff:127.0.0.1]:8080/"], &lab);
}

#[test]
fn https_only_closes_http() {
    let strict = TargetPolicy::parse(&[], &[], true).unwrap();
    passes(&["https://example.com/"], &strict);
    refuses(&["http://example.com/"], &strict);
}

#[test]
fn settings_name_the_item_that_is_wrong() {
    for bad in
        ["", "*", "*.", "10.0.0.0/33", "10.0.0.256", "127.1", "a b", "http://x/", "*.*.x", "x/8", "a..b", "erp:80"]
    {
        let error = TargetPolicy::parse(&["10.0.0.0/8".into(), bad.into()], &[], false).unwrap_err();
        assert!(error.contains(&format!("{bad:?}")) && error.contains("allow"), "{bad}: {error}");
        assert!(TargetPolicy::parse(&[], &[bad.into()], false).unwrap_err().contains("deny"));
    }
    policy(
        &["10.0.0.5/8", "[::1]", "fd00::/8", "ERP.", "*.Corp.Internal", "münchen.example"],
        &["::ffff:10.0.0.0/104"],
    );
}

#[test]
fn every_refused_address_gives_the_same_words() {
    let words = |url: &str| check_url(url, &TargetPolicy::default()).unwrap_err().to_string();
    assert_eq!(words("http://127.0.0.1/"), words("http://metadata.google.internal/"));
    assert_eq!(words("http://[fe80::1]/"), words("http://localhost/"));
    assert_eq!(words("http://10.0.0.1/"), ADDRESS_REFUSED);
}

#[test]
fn ports_of_other_protocols_are_open_where_the_host_itself_is_named() {
    let named = policy(&["erp", "*.corp.internal", "10.0.0.5", "hooks.example.com", "192.168.0.0/16", "fd00::5"], &[]);
    passes(
        &list(
            "http://erp:6379/ http://a.corp.internal:22/ http://10.0.0.5:6000/ http://hooks.example.com:25/
         http://[fd00::5]:6667/ http://[::ffff:10.0.0.5]:6379/",
        ),
        &named,
    );
    refuses(&["http://192.168.0.5:6379/", "http://other.example.com:25/", "http://10.0.0.6:6379/"], &named);
    // The addresses are checked again at every connect, because the settings may have changed.
    assert!(dial("hooks.example.com", &["93.184.216.34"], 25, &named).is_ok());
    assert!(dial("hooks.example.com", &["93.184.216.34"], 25, &TargetPolicy::default()).is_err());
    assert!(dial("erp", &["10.0.0.7"], 6379, &named).is_ok());
}

#[test]
fn a_name_that_a_proxy_resolves_is_checked_by_its_text_and_an_address_as_ever() {
    let policy = policy(&["erp", "10.0.0.5"], &["shop.example"]);
    let checked = |host: &str, port| {
        let host = host.parse().map_or_else(|_| name(host), TargetHost::Ip);
        check_unresolved(&host, port, &policy)
    };
    for (host, port) in [("a.example", 443), ("erp", 80), ("erp", 6379), ("10.0.0.5", 80), ("93.184.216.34", 443)] {
        assert_eq!(checked(host, port), Ok(()), "{host}:{port}");
    }
    for (host, port) in [
        ("localhost", 80),
        ("x.localhost", 80),
        ("127.0.0.1", 80),
        ("10.0.0.6", 80),
        ("fd00::1", 80),
        ("169.254.169.254", 80),
        ("metadata.google.internal", 80),
        ("shop.example", 443),
        ("printer", 80),
        ("printer.local", 80),
        ("a.example", 25),
    ] {
        assert_eq!(checked(host, port), Err(TargetRefused::Address), "{host}:{port}");
    }
}

#[test]
fn the_port_list_can_be_searched() {
    assert!(BLOCKED_PORTS.is_sorted());
}
