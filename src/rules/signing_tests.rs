//! Signatures against published vectors, against vectors computed with another implementation, and against themselves.

use proptest::prelude::*;

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const NOW_S: i64 = 1_772_705_160;
const BODY: &str = r#"{"id":"019cbd75-3130-7922-b7c3-94ca668965c7","type":"delivered","timestamp":"2026-03-05T10:05:00.000Z","data":{"message_id":"m-1002","to":"bob@example.com"}}"#;
/// Computed with node:crypto from `SECRET`, `BODY` and `NOW_S`.
const ED25519: &str = "v1a,RH46rklpJAoFXxrcYfQ++238xMhWVuS0wxpWAn4doThaJScSi1rLfaa1qdicDesgu2EbJiAmQQ9Mb1Ttap1DBQ==";
const PUBLIC: &str = "whpk_iC/sXNiCg77zj7CxDQXivtta9fBivtJgj5GvT/vl5Xw=";
const ALL: [SignatureScheme; 4] =
    [SignatureScheme::Standard, SignatureScheme::Ed25519, SignatureScheme::Dfns, SignatureScheme::Sent];
/// Every scheme, each of which signs alone.
const EACH: [SignatureScheme; 5] = [
    SignatureScheme::Standard,
    SignatureScheme::Ed25519,
    SignatureScheme::Dfns,
    SignatureScheme::Sent,
    SignatureScheme::Svix,
];

fn ids() -> SignedIds {
    SignedIds {
        event_id: "019cbd75-3130-7922-b7c3-94ca668965c7".parse().unwrap(),
        webhook_id: "019ca8a0-3e80-726f-8f06-5e86b5932aa2".parse().unwrap(),
    }
}

fn signed(schemes: &[SignatureScheme], secrets: &[&str], body: &str) -> Vec<(&'static str, String)> {
    sign(schemes, secrets.iter().copied(), ids(), NOW_S, body.as_bytes()).unwrap()
}

fn find<'h>(headers: &'h [(&'static str, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
}

#[test]
fn the_golden_vectors_come_out() {
    let golden: Value = serde_json::from_str(include_str!("../../tests/golden/signatures.json")).unwrap();
    let secret = golden["secret"].as_str().unwrap();
    let timestamp_s = golden["timestamp"].as_i64().unwrap();
    let vectors = golden["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let scheme = match vector["scheme"].as_str().unwrap() {
            "sent" => SignatureScheme::Sent,
            "standard-webhooks" => SignatureScheme::Standard,
            "dfns" => SignatureScheme::Dfns,
            other => panic!("unknown scheme {other}"),
        };
        let body = vector["body"].as_str().unwrap();
        let headers = sign(&[scheme], [secret], ids(), timestamp_s, body.as_bytes()).unwrap();
        for (name, value) in vector["headers"].as_object().unwrap() {
            assert_eq!(find(&headers, &name.to_lowercase()), value.as_str(), "{scheme:?} {name}");
        }
        let key = parse_secret(secret).unwrap();
        assert_eq!(verify(&key, |name| find(&headers, name), body.as_bytes(), timestamp_s), Ok(scheme));
    }
}

#[test]
fn ed25519_signatures_and_keys_are_those_of_another_implementation() {
    assert_eq!(find(&signed(&[SignatureScheme::Ed25519], &[SECRET], BODY), WEBHOOK_SIGNATURE), Some(ED25519));
    let key = parse_secret(SECRET).unwrap().public_key();
    assert_eq!(public_key_text(&key), PUBLIC);
    let set = jwks(&[key]);
    let expected = json!({ "kty": "OKP", "crv": "Ed25519", "x": "iC_sXNiCg77zj7CxDQXivtta9fBivtJgj5GvT_vl5Xw",
        "kid": "dRW6IYOZmNYIrS8oWyg_hlhlQft1Ot_N6suuSpX2Uns", "use": "sig", "alg": "EdDSA" });
    assert_eq!(set["keys"], json!([expected]));
}

#[test]
fn the_thumbprint_is_that_of_rfc_8037() {
    let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    let set = jwks(&[x.try_into().unwrap()]);
    assert_eq!(set["keys"][0]["kid"], "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn every_live_secret_signs_and_the_vendors_schemes_use_the_newest() {
    let both = signed(&ALL, &[SECRET, OLD], BODY);
    let (new, old) = (signed(&ALL, &[SECRET], BODY), signed(&ALL, &[OLD], BODY));
    let split = |headers: &[(&'static str, String)]| -> Vec<String> {
        find(headers, WEBHOOK_SIGNATURE).unwrap().split(' ').map(str::to_owned).collect()
    };
    let (n, o) = (split(&new), split(&old));
    assert_eq!(split(&both), [n[0].clone(), o[0].clone(), n[1].clone(), o[1].clone()]);
    assert_eq!(find(&both, SENT_SIGNATURE), find(&new, SENT_SIGNATURE));
    assert_eq!(find(&both, DFNS_SIGNATURE), find(&new, DFNS_SIGNATURE));
    // Svix's scheme never stands beside Standard Webhooks', so its three headers are not here.
    assert_eq!(both.len(), HEADERS.len() - 3);
    assert!(both.iter().zip(HEADERS).all(|((name, _), expected)| *name == expected));
}

/// The rule of sent.dm's own receivers (github sentdm/n8n-nodes-sent, `signature.ts`): the whole header is one value.
fn sent_receiver_accepts(headers: &[(&'static str, String)], secret: &str, body: &str) -> bool {
    let value = find(headers, SENT_SIGNATURE).unwrap();
    let Some(given) = value.strip_prefix("v1,").and_then(|encoded| STANDARD.decode(encoded).ok()) else { return false };
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let signed = format!("{}.{}.{body}", find(headers, SENT_ID).unwrap(), find(headers, SENT_TIMESTAMP).unwrap());
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes(), &given).is_ok()
}

#[test]
fn a_receiver_of_sent_accepts_the_new_secret_during_a_rotation() {
    let during = signed(&[SignatureScheme::Sent], &[SECRET, OLD], BODY);
    assert!(sent_receiver_accepts(&during, SECRET, BODY), "{during:?}");
    assert!(!sent_receiver_accepts(&during, OLD, BODY), "the old secret is invalid at once");
}

#[test]
fn without_a_scheme_a_request_still_has_its_id_and_time() {
    let headers = signed(&[], &[], BODY);
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [WEBHOOK_ID, WEBHOOK_TIMESTAMP]);
    assert_eq!(Signer::new(&[SignatureScheme::Standard], []).unwrap_err(), BadSecret::Missing);
}

#[test]
fn a_text_that_is_no_secret_is_refused_with_the_reason() {
    let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
    assert!(parse_secret(&of(24)).is_ok());
    assert!(parse_secret(&of(75)).is_ok());
    assert!(parse_secret(of(25).trim_end_matches('=')).is_ok(), "padding may be left out");
    assert_eq!(parse_secret(&of(23)), Err(BadSecret::Length(23)));
    assert_eq!(parse_secret(&of(76)), Err(BadSecret::Length(76)));
    assert_eq!(parse_secret("whsec_"), Err(BadSecret::Length(0)));
    assert_eq!(parse_secret(SECRET.trim_start_matches("whsec_")), Err(BadSecret::Prefix));
    for text in
        [format!("{SECRET}\n"), format!("whsec_{}", "-_".repeat(16)), format!("{SECRET}B"), format!("{SECRET}Bx")]
    {
        assert_eq!(parse_secret(&text), Err(BadSecret::Base64), "{text:?}");
    }
}

#[test]
fn a_plain_secret_is_its_own_key() {
    let text = "a-shared_secret-of-32-characters";
    let key = parse_any_secret(text).unwrap();
    assert_eq!((key.text(), key.bytes.as_slice()), (text, text.as_bytes()));
    assert_eq!(parse_any_secret(SECRET).unwrap(), parse_secret(SECRET).unwrap());
    assert_eq!(parse_secret(text), Err(BadSecret::Prefix), "the Standard Webhooks form needs its prefix");
    for text in [&text[1..], &"x".repeat(129), &format!("{text} "), &text.replace('-', "+")] {
        assert_eq!(parse_any_secret(text), Err(BadSecret::Plain), "{text}");
    }
    let promised = format!("whsec_{}", "-_".repeat(16));
    assert_eq!(parse_plain_secret(&promised), Err(BadSecret::Plain));
    assert_eq!(parse_any_secret(&promised), Err(BadSecret::Base64), "the prefix promises base64");
}

#[test]
fn a_made_secret_is_drawn_again_until_it_is_plain() {
    let mut draws = [[0xff; 24], [0xfb; 24], [1; 24], [2; 24]].into_iter();
    let text = make_secret(|| draws.next().unwrap());
    assert_eq!(text, format!("whsec_{}", STANDARD.encode([1; 24])));
    assert!(parse_secret(&make_secret(|| [0xff; 24])).is_ok(), "a source that never varies ends too");
}

#[test]
fn a_request_that_does_not_add_up_is_not_believed() {
    let key = parse_secret(SECRET).unwrap();
    for scheme in EACH {
        let dfns_body = format!(r#"{{"timestampSent":{NOW_S}}}"#);
        let body = if scheme == SignatureScheme::Dfns { &dfns_body } else { BODY };
        let headers = signed(&[scheme], &[OLD, SECRET], body);
        let current = signed(&[scheme], &[SECRET, OLD], body);
        let check = |headers: &[(&'static str, String)], body: &str, now_s| {
            verify(&key, |name| find(headers, name), body.as_bytes(), now_s)
        };
        assert_eq!(check(&current, body, NOW_S + TOLERANCE_S), Ok(scheme));
        assert_eq!(check(&current, body, NOW_S - TOLERANCE_S - 1), Err(VerifyError::Stale), "{scheme:?}");
        assert_eq!(check(&current, &format!("{body} "), NOW_S), Err(VerifyError::Mismatch), "{scheme:?}");
        let takes_newest = matches!(scheme, SignatureScheme::Dfns | SignatureScheme::Sent);
        let older = if takes_newest { Err(VerifyError::Mismatch) } else { Ok(scheme) };
        assert_eq!(check(&headers, body, NOW_S), older, "{scheme:?}");
        let other = parse_secret("whsec_BAECAwQFBgcICQoLDA0ODxAREhMUFRYX").unwrap();
        assert_eq!(verify(&other, |name| find(&current, name), body.as_bytes(), NOW_S), Err(VerifyError::Mismatch));
    }
    assert_eq!(verify(&key, |_| None, BODY.as_bytes(), NOW_S), Err(VerifyError::Unsigned));
    let only = |name: &str| (name == WEBHOOK_SIGNATURE).then_some("v1,AAAA");
    assert_eq!(verify(&key, only, BODY.as_bytes(), NOW_S), Err(VerifyError::Incomplete));
}

#[test]
fn nothing_secret_is_shown_for_debugging() {
    let shown = format!("{:?} {:?}", parse_secret(SECRET).unwrap(), Signer::new(&ALL, [SECRET]).unwrap());
    assert_eq!(shown, "SecretKey(…) Signer(…)");
}

proptest! {
    #[test]
    fn a_signed_request_is_verified(
        secret in prop::collection::vec(any::<u8>(), 24..=64),
        body in prop::collection::vec(any::<u8>(), 0..200),
        now_s in 0i64..1 << 40,
        scheme in prop::sample::select(&EACH),
    ) {
        let text = format!("whsec_{}", STANDARD.encode(secret));
        let headers = sign(&[scheme], [text.as_str()], ids(), now_s, &body).unwrap();
        let key = parse_secret(&text).unwrap();
        prop_assert_eq!(verify(&key, |name| find(&headers, name), &body, now_s), Ok(scheme));
    }

    #[test]
    fn no_header_makes_verifying_panic(signature in ".*", timestamp in ".*", body in any::<Vec<u8>>()) {
        let key = parse_secret(SECRET).unwrap();
        for name in [WEBHOOK_SIGNATURE, SENT_SIGNATURE, DFNS_SIGNATURE] {
            let header = |asked: &str| match asked {
                WEBHOOK_ID | SENT_ID => Some("id"),
                WEBHOOK_TIMESTAMP | SENT_TIMESTAMP => Some(timestamp.as_str()),
                other => (other == name).then_some(signature.as_str()),
            };
            prop_assert!(verify(&key, header, &body, NOW_S).is_err());
        }
    }
}

/// The vector of Svix's documentation ("Verifying webhooks manually").
#[test]
fn svixs_published_example_verifies_under_its_own_header_names() {
    let header = |name: &str| match name {
        SVIX_ID => Some("msg_p5jXN8AQM9LWM0D4loKWxJek"),
        SVIX_TIMESTAMP => Some("1614265330"),
        SVIX_SIGNATURE => Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        _ => None,
    };
    let key = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let body = br#"{"test": 2432232314}"#;
    assert_eq!(verify(&key, header, body, 1_614_265_330), Ok(SignatureScheme::Svix));
    assert_eq!(verify(&key, header, b"{}", 1_614_265_330), Err(VerifyError::Mismatch));
}

#[test]
fn svixs_scheme_signs_its_own_id_with_every_secret_and_no_other_header_states_one() {
    let headers = signed(&[SignatureScheme::Svix], &[SECRET, OLD], BODY);
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [SVIX_ID, SVIX_TIMESTAMP, SVIX_SIGNATURE]);
    assert_eq!(find(&headers, SVIX_ID), Some(svix_message_id(ids().event_id).as_str()));
    assert_eq!(find(&headers, SVIX_SIGNATURE).unwrap().split(' ').count(), 2);
    let signer = Signer::new(&[SignatureScheme::Svix], [SECRET, OLD]).unwrap().named(true);
    let renamed = signer.headers(ids(), NOW_S, BODY.as_bytes());
    let values =
        |headers: &[(&'static str, String)]| headers.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
    assert_eq!(values(&renamed), values(&headers));
    assert_eq!(
        renamed.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE]
    );
}
