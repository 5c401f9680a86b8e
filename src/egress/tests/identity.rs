//! Client identities: what is taken, what is refused and in which words, and that nothing of a key is ever told.

use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, KeyPair};
use rstest::rstest;
use time::{Duration as Days, OffsetDateTime, macros::datetime};

use super::*;

// Made with `openssl ecparam -name prime256v1 -genkey`, `openssl pkcs8 -topk8`, `openssl ec -aes128`,
// `openssl req -x509` and `openssl x509 -req`, which makes certificates of version 1. All of one key.
const SEC1: &str = "\
-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIKLj4L9zoIY8IEAo/pNi+o/lA/IR9xXuNDGuhE6S6LssoAoGCCqGSM49
AwEHoUQDQgAEGxaAHoYU7BAZWDMyNUbhCLLfHYnIxx+s64hli28aiJrWLXmlqh3g
69WQaVITNE92I4IJsHAmVPvyfhQgfK59nA==
-----END EC PRIVATE KEY-----
";
const PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgouPgv3OghjwgQCj+
k2L6j+UD8hH3Fe40Ma6ETpLouyyhRANCAAQbFoAehhTsEBlYMzI1RuEIst8dicjH
H6zriGWLbxqImtYteaWqHeDr1ZBpUhM0T3YjggmwcCZU+/J+FCB8rn2c
-----END PRIVATE KEY-----
";
const PKCS8_ENCRYPTED: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiHLgACbMKtvgICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEEkiDpTxyCYwzoqXiCwZqWgEgZCN
5xOwCTC/gXhgpHCcFnErqS9ELapUdS3VNWfoF3v6QpRMaT7op1QwCs+VIPSJUrl/
5kcDlRBDFKIj2mWGUrNa7qoaOCuOJMztQDc5QJqEA4IfqAxYmgnUv6Fk+Z6vrrJi
NDLBGzFWYG8fRv1GMdTgNot0qPc2A5B/UAqsKLclaNGscB8GThq3j/Q2qTj8aeM=
-----END ENCRYPTED PRIVATE KEY-----
";
const SEC1_ENCRYPTED: &str = "\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,8D5C0EE83EC6B093D0DA085EA4C9A1C6

sG6Q+cb6KYMb/5pTx18palavknzz7rNlmFvy+DcqCwKU+naR3bbhhZouskJS2BOB
7PN5KPQ6d2L5f52zeltdvX2R2iyo5d2mKyUKG4olzzv6ORlYeV7RFYpw3IED3tzs
/lnqJiNyrbZqly9YfVaxPcLfldZXGgHLt3Wo2uJz2RU=
-----END EC PRIVATE KEY-----
";
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBjjCCATWgAwIBAgIUPPCCOZiHF24TouMGVyyVrNGg0ccwCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRaG9va3MuZXhhbXBsZS5jb20wIBcNMjYxMTIxMTM1NjI5WhgP
MjEyNjEwMjgxMzU2MjlaMBwxGjAYBgNVBAMMEWhvb2tzLmV4YW1wbGUuY29tMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEGxaAHoYU7BAZWDMyNUbhCLLfHYnIxx+s
64hli28aiJrWLXmlqh3g69WQaVITNE92I4IJsHAmVPvyfhQgfK59nKNTMFEwHQYD
VR0OBBYEFPOZVy5SIuCDujZ78xn6nBE42IEsMB8GA1UdIwQYMBaAFPOZVy5SIuCD
ujZ78xn6nBE42IEsMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIg
UiPtd210f9kJTWP0riXNCZweb1Hu4lPKK4CimNKO2ZICIGTm2A99qoGGexwPIGNo
p9Q2TVXrf+aPm2R2niETZr1f
-----END CERTIFICATE-----
";
const CERTIFICATE_V1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBVDCB+wIUUo+rafHsOg/gS3dhgKpj5cdMIEAwCgYIKoZIzj0EAwIwLDEVMBMG
A1UECgwMRXhhbXBsZSwgSW5jMRMwEQYDVQQDDApjbGllbnQgb25lMCAXDTI2MTEy
MTEzNTYyOVoYDzIxMjYxMDI4MTM1NjI5WjAsMRUwEwYDVQQKDAxFeGFtcGxlLCBJ
bmMxEzARBgNVBAMMCmNsaWVudCBvbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAQbFoAehhTsEBlYMzI1RuEIst8dicjHH6zriGWLbxqImtYteaWqHeDr1ZBpUhM0
T3YjggmwcCZU+/J+FCB8rn2cMAoGCCqGSM49BAMCA0gAMEUCIQCQVMsn1bofwSpl
jricaGNyBA1xrabfFdaVSKbPb4X1ugIgVzTknUXkOQNuCD8xtyVmrDyBWERagzFW
LDcJ7/BdIZo=
-----END CERTIFICATE-----
";

/// A certificate of its own, with its key.
fn issued(subject: &str, key: KeyPair, not_after: OffsetDateTime) -> (String, KeyPair) {
    let mut params = CertificateParams::new(vec!["client.example.com".to_owned()]).expect("params");
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_after = not_after;
    (params.self_signed(&key).expect("a certificate").pem(), key)
}

fn in_a_year() -> OffsetDateTime {
    OffsetDateTime::now_utc() + Days::days(365)
}

/// What is said of a pair that is refused.
fn refusals(chain: &str, key: &str) -> Vec<(IdentityPart, String)> {
    let refusals = ClientIdentity::parse(chain, key).expect_err("refused");
    refusals.into_iter().map(|refusal| (refusal.part, refusal.detail)).collect()
}

#[track_caller]
fn assert_refused(chain: &str, key: &str, part: IdentityPart, words: &str) {
    let refusals = refusals(chain, key);
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(refusals[0].0, part);
    assert!(refusals[0].1.contains(words), "{}", refusals[0].1);
}

#[rstest]
#[case::sec1_behind_its_parameters(SEC1)]
#[case::pkcs8(PKCS8)]
#[case::with_the_certificate_beside(&format!("{CERTIFICATE}{PKCS8}"))]
fn keys_are_taken_in_every_common_form(#[case] key: &str) {
    for certificate in [CERTIFICATE, CERTIFICATE_V1] {
        let identity = ClientIdentity::parse(certificate, key).expect("an identity");
        assert_eq!(identity.chain_pem(), certificate);
    }
}

#[test]
fn rsa_and_ed25519_keys_are_taken() {
    for algorithm in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let (certificate, key) = issued("client", key, in_a_year());
        ClientIdentity::parse(&certificate, &key.serialize_pem()).expect("an identity");
    }
}

#[test]
fn pkcs1_is_taken() {
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let (certificate, key) = issued("client", key, in_a_year());
    // PKCS#8 of 2,048 bits is PKCS#1 behind 26 bytes.
    let pkcs1 =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &key.serialize_der()[26..]);
    let pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{pkcs1}\n-----END RSA PRIVATE KEY-----\n");
    ClientIdentity::parse(&certificate, &pem).expect("an identity");
}

#[test]
fn the_first_certificate_says_who_and_until_when() {
    let facts = CertificateFacts::of_chain(CERTIFICATE_V1).expect("a certificate");
    assert_eq!(facts.subject, "O=Example, Inc, CN=client one");
    assert_eq!(facts.not_after, datetime!(2126-10-28 13:56:29 UTC));
    let hex: String = facts.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "a1cf60dd522cfaf71530b67dcf4d1fbe0777c14bcabf788ceb16b5da7fb4a3b5");
    assert!(!facts.has_expired(facts.not_after) && facts.has_expired(facts.not_after + Days::seconds(1)));

    let (other, _) = issued("other", KeyPair::generate().expect("a key"), in_a_year());
    let identity = ClientIdentity::parse(&format!("{CERTIFICATE_V1}{other}"), SEC1).expect("an identity");
    assert_eq!(*identity.facts(), facts);
    let alone = ClientIdentity::parse(CERTIFICATE_V1, SEC1).expect("an identity");
    assert_ne!(identity.fingerprint(), alone.fingerprint(), "the chain is another one");
}

#[test]
fn text_around_the_certificates_is_not_kept() {
    let noisy = format!("Bag Attributes\n  friendlyName: x\n{}", CERTIFICATE.replace('\n', "\r\n"));
    assert_eq!(ClientIdentity::parse(&noisy, SEC1).expect("an identity").chain_pem(), CERTIFICATE);
}

#[test]
fn a_chain_that_is_none_is_refused() {
    use IdentityPart::Certificate;
    assert_refused("", SEC1, Certificate, "has no certificate in PEM");
    assert_refused(PKCS8_ENCRYPTED, SEC1, Certificate, "holds a private key");
    assert_refused(&format!("{CERTIFICATE}{PKCS8}"), SEC1, Certificate, "holds a private key");
    assert_refused(CERTIFICATE.trim_end().trim_end_matches('-'), SEC1, Certificate, "is not valid PEM");
    let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_refused(rubbish, SEC1, Certificate, "PEM section 1");
    assert_refused(&format!("{CERTIFICATE}{rubbish}"), SEC1, Certificate, "PEM section 2");
    assert_refused(
        &CERTIFICATE.repeat(MAX_CHAIN_CERTIFICATES + 1),
        SEC1,
        Certificate,
        "at most 8 certificates",
    );
    assert_refused(&"x".repeat(MAX_CHAIN_PEM_BYTES + 1), SEC1, Certificate, "at most 16384 bytes");
    assert!(ClientIdentity::parse(&CERTIFICATE.repeat(MAX_CHAIN_CERTIFICATES), SEC1).is_ok());
}

#[test]
fn a_key_that_is_none_is_refused() {
    use IdentityPart::PrivateKey;
    assert_refused(CERTIFICATE, "", PrivateKey, "has no private key in PEM");
    assert_refused(CERTIFICATE, CERTIFICATE, PrivateKey, "has no private key in PEM");
    assert_refused(CERTIFICATE, PKCS8_ENCRYPTED, PrivateKey, "is encrypted with a passphrase");
    assert_refused(CERTIFICATE, SEC1_ENCRYPTED, PrivateKey, "is encrypted with a passphrase");
    assert_refused(CERTIFICATE, &format!("{PKCS8}{SEC1}"), PrivateKey, "one private key");
    let rubbish = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_refused(CERTIFICATE, rubbish, PrivateKey, "is not a private key for TLS");
    assert_refused(CERTIFICATE, &rubbish.replace("AAAA", "A"), PrivateKey, "is not valid PEM");
    assert_refused(CERTIFICATE, &"x".repeat(MAX_KEY_PEM_BYTES + 1), PrivateKey, "at most 16384 bytes");
}

#[test]
fn a_key_of_another_certificate_is_refused_also_of_one_further_up() {
    let (other, key) = issued("other", KeyPair::generate().expect("a key"), in_a_year());
    let words = "is not the key of the first certificate";
    assert_refused(CERTIFICATE, &key.serialize_pem(), IdentityPart::PrivateKey, words);
    assert_refused(&format!("{other}{CERTIFICATE}"), SEC1, IdentityPart::PrivateKey, words);
}

#[test]
fn both_parts_are_refused_at_once() {
    let parts: Vec<_> = refusals("", "").into_iter().map(|(part, _)| part).collect();
    assert_eq!(parts, [IdentityPart::Certificate, IdentityPart::PrivateKey]);
}

#[test]
fn debug_shows_the_fingerprint_alone() {
    let identity = ClientIdentity::parse(CERTIFICATE, PKCS8).expect("an identity");
    let shown = format!("{identity:?} {:#?}", Some(&identity));
    assert!(shown.starts_with("ClientIdentity(") && shown.len() < 200, "{shown}");
}

proptest! {
    #[test]
    fn whatever_is_given_ends_in_words_that_do_not_quote_it(
        at in 0..SEC1.len(),
        junk in "[!-~]{12,40}",
    ) {
        let broken = format!("{}{junk}{}", &SEC1[..at], &SEC1[at..]);
        for (chain, key) in [(CERTIFICATE, broken.as_str()), (broken.as_str(), SEC1)] {
            if let Err(refusals) = ClientIdentity::parse(chain, key) {
                let told = format!("{refusals:?}");
                prop_assert!(!told.contains(&junk), "{}", told);
            }
        }
    }
}
