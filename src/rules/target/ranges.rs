//! Classifies addresses: special-purpose, cloud metadata service, or IPv4 embedded in IPv6.
//!
//! Invariant: an address counts as public only if none of its forms is refused.
//! Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates), RFC 4291, RFC 6052.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks without public receivers: (first address, prefix length).
const SPECIAL_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),       // this host on this network
    ([10, 0, 0, 0], 8),      // private use
    ([100, 64, 0, 0], 10),   // shared address space of carriers
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local
    ([172, 16, 0, 0], 12),   // private use
    ([192, 0, 0, 0], 24),    // IETF protocol assignments
    ([192, 0, 2, 0], 24),    // TEST-NET-1
    ([192, 31, 196, 0], 24), // AS112-v4
    ([192, 52, 193, 0], 24), // AMT
    ([192, 88, 99, 0], 24),  // 6to4 relay anycast, deprecated
    ([192, 168, 0, 0], 16),  // private use
    ([192, 175, 48, 0], 24), // direct delegation AS112
    ([198, 18, 0, 0], 15),   // benchmarking
    ([198, 51, 100, 0], 24), // TEST-NET-2
    ([203, 0, 113, 0], 24),  // TEST-NET-3
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, and the broadcast address
];

/// IPv6 networks inside the global unicast space 2000::/3 that are not public: (first address, prefix length).
const SPECIAL_V6: &[([u16; 8], u32)] = &[
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),         // IETF assignments, Teredo, ORCHID
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),     // documentation
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),         // 6to4, deprecated
    ([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), // direct delegation AS112
    ([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16),         // 6bone, given back
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),         // documentation
];

/// Addresses at which clouds serve credentials and configuration to their machines.
const METADATA_V4: &[[u8; 4]] = &[
    [169, 254, 169, 254], // most clouds
    [169, 254, 170, 2],   // AWS ECS task credentials
    [169, 254, 170, 23],  // AWS EKS pod identity
    [169, 254, 42, 42],   // Scaleway
    [169, 254, 0, 23],    // Tencent
    [169, 254, 169, 250], // Rancher
    [169, 254, 169, 252], // Google Kubernetes Engine
    [168, 63, 129, 16],   // Azure wire server
    [100, 100, 100, 200], // Alibaba
    [192, 0, 0, 192],     // Oracle classic
];

/// The same addresses over IPv6.
const METADATA_V6: &[[u16; 8]] = &[
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],      // AWS
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23],       // AWS EKS pod identity
    [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254],       // Google
    [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42],        // Scaleway
    [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], // Oracle
    [0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1],    // Akamai (Linode)
    [0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe],    // OpenStack
];

/// Names of those services. Names below the first one belong to it too.
const METADATA_NAMES: &[&str] = &[
    "metadata.google.internal",
    "metadata.goog",
    "metadata",
    "metadata.internal",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "instance-data",
    "instance-data.ec2.internal",
    "rancher-metadata",
    "metadata.platformequinix.com",
    "metadata.packet.net",
    "metadata.exoscale.com",
    "api.metadata.cloud.ibm.com",
];

/// Whether the address, or an IPv4 address that it carries, is a cloud's metadata service.
pub fn is_metadata(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => METADATA_V4.contains(&v4.octets()),
        IpAddr::V6(v6) => {
            METADATA_V6.contains(&v6.segments()) || carried_v4(v6).any(|v4| METADATA_V4.contains(&v4.octets()))
        }
    }
}

/// Whether the name (lower case, no final dot) is that of a cloud's metadata service.
pub fn is_metadata_name(name: &str) -> bool {
    METADATA_NAMES.contains(&name) || name.strip_suffix(METADATA_NAMES[0]).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether the address cannot belong to a public receiver. IPv4 in IPv6 is checked by [`carried_v4`] if it is mapped or
/// NAT64, because both reach that IPv4 host. Every historical form is refused.
pub fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_special_v4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped().or_else(|| nat64(v6)) {
            Some(v4) => is_special_v4(v4),
            None => is_special_v6(v6),
        },
    }
}

fn is_special_v4(v4: Ipv4Addr) -> bool {
    let bits = v4.to_bits();
    SPECIAL_V4.iter().any(|&(first, prefix)| (bits ^ u32::from_be_bytes(first)) >> (32 - prefix) == 0)
}

fn is_special_v6(v6: Ipv6Addr) -> bool {
    let bits = v6.to_bits();
    bits >> 125 != 0b001
        || SPECIAL_V6.iter().any(|&(first, prefix)| (bits ^ Ipv6Addr::from(first).to_bits()) >> (128 - prefix) == 0)
        || isatap(v6).is_some_and(is_special_v4)
}

/// The IPv4 address behind the well-known NAT64 prefix 64:ff9b::/96 (RFC 6052).
pub fn nat64(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = v6.to_bits();
    (low >> 32 == 0x0064_ff9b << 64).then(|| Ipv4Addr::from_bits(low as u32))
}

/// The IPv4 address in an ISATAP interface identifier (RFC 5214).
fn isatap(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    (matches!(s[4], 0 | 0x200) && s[5] == 0x5efe).then(|| pair(s[6], s[7]))
}

/// Every IPv4 address the IPv6 address may stand for: mapped, translated (RFC 2765), compatible, NAT64 (well-known
/// and local-use, RFC 8215), 6to4, both ends of Teredo, ISATAP. Public hosts carry none of these by accident.
pub fn carried_v4(v6: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let s = v6.segments();
    let tail = pair(s[6], s[7]);
    let zeros = |n: usize| s[..n].iter().all(|&part| part == 0);
    let when = |yes: bool, v4: Ipv4Addr| yes.then_some(v4);
    let local_nat64 = s[..3] == [0x64, 0xff9b, 1];
    let teredo = s[..2] == [0x2001, 0];
    [
        when(zeros(5) && matches!(s[5], 0 | 0xffff), tail),
        when(zeros(4) && s[4] == 0xffff && s[5] == 0, tail),
        nat64(v6),
        when(local_nat64, tail),
        // A /48 translation prefix puts the address around the reserved octet 8 (RFC 6052 section 2.2).
        when(local_nat64, pair(s[3], (s[4] << 8) | (s[5] >> 8))),
        when(s[0] == 0x2002, pair(s[1], s[2])),
        when(teredo, pair(s[2], s[3])),
        when(teredo, pair(!s[6], !s[7])),
        isatap(v6),
    ]
    .into_iter()
    .flatten()
}

fn pair(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}
