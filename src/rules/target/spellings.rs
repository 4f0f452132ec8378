//! Tests the address check with generated spellings of open and closed addresses.
//!
//! A closed address is closed in every spelling, and an open one is open. Each special-purpose range ends where its
//! registry says.

use std::net::Ipv6Addr;

use super::*;

/// Addresses from inside and from both ends of every closed range.
const CLOSED: &[[u8; 4]] = &[
    [0, 0, 0, 0],
    [0, 255, 255, 255],
    [10, 0, 0, 1],
    [10, 255, 255, 255],
    [100, 64, 0, 1],
    [100, 100, 100, 200],
    [100, 127, 255, 255],
    [127, 0, 0, 1],
    [127, 255, 255, 255],
    [169, 254, 0, 23],
    [169, 254, 42, 42],
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [172, 16, 0, 1],
    [172, 31, 255, 255],
    [192, 0, 0, 1],
    [192, 0, 0, 192],
    [192, 0, 2, 7],
    [192, 88, 99, 1],
    [192, 168, 1, 1],
    [198, 18, 0, 1],
    [198, 19, 255, 255],
    [198, 51, 100, 7],
    [203, 0, 113, 7],
    [224, 0, 0, 1],
    [239, 255, 255, 250],
    [240, 0, 0, 1],
    [255, 255, 255, 255],
    [168, 63, 129, 16],
];

const OPEN: &[[u8; 4]] = &[[8, 8, 8, 8], [1, 1, 1, 1], [93, 184, 216, 34], [223, 255, 255, 255], [172, 32, 0, 1]];

/// One part of an IPv4 address in every base, padded and not.
fn parts(value: u32) -> Vec<String> {
    vec![
        format!("{value}"),
        format!("0{value:o}"),
        format!("00000{value:o}"),
        format!("0x{value:x}"),
        format!("0X{value:X}"),
        format!("0x0000{value:x}"),
    ]
}

/// The dotted, short and whole spellings of an IPv4 address (inet_aton), in every base and in mixtures of bases.
fn numbers(octets: [u8; 4]) -> Vec<String> {
    let [a, b, c, d] = octets.map(u32::from);
    let mut all = Vec::new();
    for shape in
        [vec![a, b, c, d], vec![a, b, c << 8 | d], vec![a, b << 16 | c << 8 | d], vec![u32::from_be_bytes(octets)]]
    {
        let written: Vec<Vec<String>> = shape.iter().map(|part| parts(*part)).collect();
        for base in 0..written[0].len() {
            all.push(written.iter().map(|part| part[base].clone()).collect::<Vec<_>>().join("."));
            // Each part uses the next base.
            let mixed = written.iter().enumerate().map(|(at, part)| part[(base + at) % part.len()].clone());
            all.push(mixed.collect::<Vec<_>>().join("."));
        }
    }
    all
}

/// Unicode and percent-encoded variants of a spelling.
fn disguises(text: &str) -> Vec<String> {
    let each = |change: &dyn Fn(char) -> String| text.chars().map(change).collect::<String>();
    let shifted = |c: char, zero: u32| match c.to_digit(10) {
        Some(digit) => char::from_u32(zero + digit).unwrap_or(c).to_string(),
        None => c.to_string(),
    };
    vec![
        text.to_owned(),
        format!("{text}."),
        each(&|c| format!("%{:02x}", u32::from(c))),
        text.replace('.', "%2E"),
        each(&|c| shifted(c, 0xff10)),
        each(&|c| shifted(c, 0x1d7ce)),
        each(&|c| shifted(c, 0x1d7f6)),
        text.replace('.', "\u{3002}"),
        text.replace('.', "\u{ff0e}"),
        text.replace('.', "\u{ff61}"),
        each(&|c| if c.is_ascii_alphabetic() { shifted(c, 0).to_uppercase() } else { c.to_string() }),
        // Soft hyphen, zero-width space and variation selector are mapped to nothing.
        text.replacen('0', "\u{ad}0", 1),
        text.replacen('1', "1\u{200b}", 1),
        format!("{text}\u{fe0f}"),
    ]
}

/// IPv6 addresses that stand for an IPv4 address, or carry it.
fn costumes(octets: [u8; 4]) -> Vec<Ipv6Addr> {
    let v4 = u128::from(u32::from_be_bytes(octets));
    let of = |high: u128| Ipv6Addr::from_bits(high | v4);
    let six_to_four = 0x2002_u128 << 112 | v4 << 80;
    let teredo = 0x2001_0000_u128 << 96;
    vec![
        of(0xffff << 32),
        of(0),
        of(0xffff_0000_u128 << 32),
        of(0x0064_ff9b_u128 << 96),
        of(0x0064_ff9b_0001_u128 << 80),
        Ipv6Addr::from_bits(six_to_four),
        Ipv6Addr::from_bits(six_to_four | 1),
        Ipv6Addr::from_bits(teredo | v4 << 64),
        Ipv6Addr::from_bits(teredo | 0x0808_0808 << 64 | (v4 ^ 0xffff_ffff)),
        of(0x2a00_1450_u128 << 96 | 0x5efe << 32),
        of(0x2a00_1450_u128 << 96 | 0x0200_5efe << 32),
    ]
}

/// Every spelling of an IPv6 address.
fn written_v6(v6: Ipv6Addr) -> Vec<String> {
    let s = v6.segments();
    let [.., a, b, c, d] = v6.octets();
    let hex = |width: usize| s.map(|part| format!("{part:0width$x}")).join(":");
    let dotted =
        format!("{}:{a}.{b}.{c}.{d}", s[..6].iter().map(|part| format!("{part:x}")).collect::<Vec<_>>().join(":"));
    vec![v6.to_string(), v6.to_string().to_uppercase(), hex(1), hex(4), hex(4).to_uppercase(), dotted]
}

fn hosts(octets: [u8; 4]) -> Vec<String> {
    numbers(octets).iter().flat_map(|text| disguises(text)).collect()
}

#[test]
fn a_closed_address_is_closed_in_every_spelling() {
    let all = TargetPolicy::parse(&["0.0.0.0/0".into(), "::/0".into()], &[], false).unwrap();
    let mut checked = 0;
    for octets in CLOSED {
        let is_metadata = ranges::is_metadata(Ipv4Addr::from(*octets).into());
        let v6 = costumes(*octets).into_iter().flat_map(written_v6).map(|text| format!("[{text}]"));
        for host in hosts(*octets).into_iter().chain(v6) {
            for url in [format!("http://{host}/hook"), format!("HTTPS://{host}:8443")] {
                let answer = check_url(&url, &TargetPolicy::default());
                assert!(answer.is_err(), "{url} passed as {answer:?}");
                checked += 1;
                if is_metadata {
                    assert!(check_url(&url, &all).is_err(), "{url} passed where everything is allowed");
                }
            }
        }
    }
    assert!(checked > 30_000, "{checked}");
}

/// A spelling that no parser reads would prove nothing, so the test asserts how many are read.
#[test]
fn an_open_address_is_open_in_every_spelling_that_is_read() {
    for octets in OPEN {
        for host in numbers(*octets).iter().flat_map(|text| disguises(text).into_iter().take(11)) {
            let target = check_url(&format!("http://{host}/hook"), &TargetPolicy::default());
            let read = target.unwrap_or_else(|refused| panic!("{host}: {refused}"));
            assert_eq!(read.host, TargetHost::Ip(Ipv4Addr::from(*octets).into()), "{host}");
        }
        let mapped = Ipv4Addr::from(*octets).to_ipv6_mapped();
        for host in written_v6(mapped) {
            assert!(check_url(&format!("http://[{host}]/"), &TargetPolicy::default()).is_ok(), "{host}");
        }
    }
}

/// The IANA IPv4 Special-Purpose Address Registry and the multicast block: first and last address of each.
const REGISTRY_V4: &str =
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
    203.0.113.0/24 224.0.0.0/4 240.0.0.0/4";

/// The IANA IPv6 Special-Purpose Address Registry, and the ranges that RFC 4291 reserves.
const REGISTRY_V6: &str =
    "::/128 ::1/128 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128
    2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16
    2620:4f:8000::/48 3ffe::/16 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8";

fn networks(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|net| net.parse().unwrap()).collect()
}

fn is_open(ip: IpAddr) -> bool {
    check_url(&format!("https://{}/", TargetHost::Ip(ip)), &TargetPolicy::default()).is_ok()
}

#[test]
fn every_range_of_the_registries_is_closed_from_end_to_end_and_open_beside_them() {
    let all: Vec<IpNet> = networks(REGISTRY_V4).into_iter().chain(networks(REGISTRY_V6)).collect();
    let mut open_neighbours = 0;
    for net in &all {
        assert!(!is_open(net.network()), "{net}: first");
        assert!(!is_open(net.broadcast()), "{net}: last");
        let beside: [Option<IpAddr>; 2] = match (net.network(), net.broadcast()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => [
                first.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
                last.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
            ],
            (IpAddr::V6(first), IpAddr::V6(last)) => [
                first.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
                last.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
            ],
            _ => unreachable!("one network, one family"),
        };
        for ip in beside.into_iter().flatten() {
            let closed_too = all.iter().any(|other| other.contains(&ip))
                || matches!(ip, IpAddr::V6(v6) if v6.to_bits() >> 125 != 0b001);
            assert_eq!(is_open(ip), !closed_too, "{ip} beside {net}");
            open_neighbours += usize::from(!closed_too);
        }
    }
    assert!(open_neighbours > 35, "{open_neighbours}");
}

/// URLs that parsers split in different ways. `{evil}` is a refused host.
const AMBIGUOUS_URLS: [&str; 50] = [
    "http://{evil}@good.example/",
    "http://good.example@{evil}/",
    "http://good.example:80@{evil}/",
    "http://good.example:pass@{evil}/",
    "http://good.example%40{evil}/",
    "http://good.example\\@{evil}/",
    "http://good.example\\.{evil}/",
    "http:\\\\{evil}\\",
    "http:/\\{evil}/",
    "http:{evil}",
    "http:/{evil}/",
    "http:///{evil}/",
    "//{evil}/",
    "///{evil}",
    "\\\\{evil}\\share",
    "http://good.example#@{evil}/",
    "http://good.example/#{evil}",
    "http://good.example ,{evil}/",
    "http://good.example&@{evil}/",
    "http://good.example;{evil}/",
    "http://{evil}\t.good.example/",
    "http://{evil}\n.good.example/",
    "http://{evil}\r\nHost: good.example/",
    "\thttp://{evil}/",
    "h\tttp://{evil}/",
    "http\n://{evil}/",
    "http://{evil}\0.good.example/",
    "http://{evil}%00.good.example/",
    "http://{evil}%0d%0a.good.example/",
    "http://{evil}%23.good.example/",
    "http://{evil}%2f.good.example/",
    "http://{evil}%3f.good.example/",
    "http://{evil}%5c.good.example/",
    "http://[{evil}]/",
    "http://good.example:{evil}/",
    "jar:http://{evil}!/",
    "view-source:http://{evil}/",
    "feed:http://{evil}/",
    "url:http://{evil}/",
    "blob:http://{evil}/",
    "gopher://{evil}:6379/_x",
    "dict://{evil}:11211/stat",
    "ldap://{evil}/",
    "tftp://{evil}/",
    "ssh2.exec://{evil}/",
    "http+unix://{evil}/",
    "http://{evil}:80:80/",
    "http://{evil}:+80/",
    "http://{evil}:80 /",
    "http://{evil}:８０/",
];

#[test]
fn urls_that_parsers_split_in_different_ways_are_refused() {
    let targets = ["127.0.0.1", "169.254.169.254", "localhost", "[::1]", "10.0.0.1:80"];
    for evil in targets {
        for shape in AMBIGUOUS_URLS {
            let url = shape.replace("{evil}", evil);
            let answer = check_url(&url, &TargetPolicy::default());
            assert!(answer.is_err(), "{url:?} passed as {answer:?}");
        }
    }
}

#[test]
fn zones_empty_brackets_and_future_addresses_are_refused() {
    for host in [
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[2606:4700::1%25eth0]",
        "[::1%0]",
        "[]",
        "[:]",
        "[v1.fe80::a+en1]",
        "[1]",
        "[::1",
        "::1",
        "[::ffff:256.0.0.1]",
        "[::1.2.3]",
        "[::01.2.3.4]",
        "[0x7f.1]",
        "[127.0.0.1]",
        "256.0.0.1",
        "1.2.3.4.5",
        "4294967296",
        "0x100000000",
        "1.2.3.0x100",
        "08.8.8.8",
        "1..2.3.4",
        ".127.0.0.1",
        "127.0.0.1..",
        "0x.0x.0x",
    ] {
        let answer = check_url(&format!("http://{host}/"), &TargetPolicy::default());
        assert!(answer.is_err(), "{host} passed as {answer:?}");
    }
}

#[test]
fn metadata_names_are_closed_whatever_is_allowed_and_however_they_are_written() {
    let everything = ["0.0.0.0/0", "::/0", "*.internal", "metadata", "*.goog", "*.com", "*.net", "rancher-metadata"];
    let all = TargetPolicy::parse(&everything.map(str::to_owned), &[], false).unwrap();
    for name in [
        "metadata.google.internal",
        "METADATA.GOOGLE.INTERNAL.",
        "metadata。google。internal",
        "ｍｅｔａｄａｔａ.google.internal",
        "%6detadata.google.internal",
        "x.metadata.google.internal",
        "metadata",
        "metadata.goog",
        "metadata.tencentyun.com",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.exoscale.com",
        "api.metadata.cloud.ibm.com",
        "instance-data",
        "rancher-metadata",
    ] {
        let refused = check_url(&format!("http://{name}/latest/"), &all);
        assert_eq!(refused, Err(TargetRefused::Address), "{name}");
    }
    for address in
        ["fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "fd00:c1::a9fe:a9fe", "fd00:a9fe:a9fe::1"]
    {
        assert_eq!(check_url(&format!("http://[{address}]/"), &all), Err(TargetRefused::Address), "{address}");
    }
}

#[test]
fn addresses_that_people_have_are_open() {
    for url in [
        "https://example.com",
        "https://example.com?x=1",
        "https://example.com/a/b;c=d?e=f&g=%20h",
        "https://example.com./hook",
        "HTTPS://Hooks.Example.COM/In",
        "https://hooks.example.com:8443/",
        "http://example.com:80/",
        "https://xn--mnchen-3ya.example/",
        "https://münchen.example/",
        "https://日本語.jp/",
        "https://пример.рф/",
        "https://faß.de/",
        "https://a-b.c--d.example/",
        "https://_dmarc.example.com/",
        "https://1password.com/",
        "https://127.0.0.1.example.com/",
        "https://10.example.com/",
        "https://localhost.example.com/",
        "https://metadata.example.com/",
        "https://internal.example.com/",
        "https://local.example.com/",
        "https://hooks.slack.com/services/T000/B000/XXXX",
        "https://webhook.site/0195a000-0000-7000-8000-000000000000",
        "https://example.com/redirect?to=http://127.0.0.1/",
        "https://example.com/@user",
        "https://example.com/a//b/../c",
        "https://example.com/%2e%2e/%0d%0a",
        "https://[2001:4860:4860::8888]:8443/",
        "https://[2a00:1450:4001:81b::200e]/",
        "https://8.8.4.4/",
        "https://example.test/",
        "https://example.museum/",
    ] {
        let answer = check_url(url, &TargetPolicy::default());
        assert!(answer.is_ok(), "{url} refused: {answer:?}");
    }
}
