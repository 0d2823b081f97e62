use super::*;
use proptest::prelude::*;
use std::{path::Path, process::Command};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/iperf3-captures");

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(FOLDER).join("10-auth-testkey").join(name)).unwrap()
}

fn gatekeeper(pkcs1: bool) -> Gatekeeper {
    Gatekeeper::new(&file("private.pem"), &file("users.csv"), SKEW_THRESHOLD, pkcs1).unwrap()
}

/// The token that a real client sent, and the time of it (decrypted with the key, not taken from the capture).
fn captured(name: &str) -> String {
    let text = std::fs::read_to_string(Path::new(FOLDER).join(name)).unwrap();
    let capture: serde_json::Value = serde_json::from_str(&text).unwrap();
    let elements = capture["control"][0]["elements"].as_array().unwrap();
    let parameters = elements
        .iter()
        .find(|element| element["kind"] == "params-json")
        .unwrap();
    let hex = parameters["hex"].as_str().unwrap();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    document["authtoken"].as_str().unwrap().to_owned()
}

/// The time inside a token, for tests that replay it.
fn time_of(token: &str, pkcs1: bool) -> u64 {
    let key = read_private_key(&file("private.pem")).unwrap();
    let cipher = BASE64.decode(token).unwrap();
    let mut buffer = vec![0; cipher.len()];
    let text = if pkcs1 {
        Pkcs1PrivateDecryptingKey::new(key)
            .unwrap()
            .decrypt(&cipher, &mut buffer)
            .unwrap()
            .to_vec()
    } else {
        let key = OaepPrivateDecryptingKey::new(key).unwrap();
        key.decrypt(&OAEP_SHA1_MGF1SHA1, &cipher, &mut buffer, None)
            .unwrap()
            .to_vec()
    };
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("user: mario\npwd:  "), "{text}");
    text.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn tokens_of_real_clients_are_accepted_within_the_skew() {
    for (name, pkcs1) in [
        ("10-auth-ok.3.21.json", false),
        ("10-auth-ok.3.12.json", true),
        ("10-auth-ok-pkcs1.s3.21-c3.12.json", true),
    ] {
        let token = captured(name);
        let time = time_of(&token, pkcs1);
        let keeper = gatekeeper(pkcs1);
        for (now, good) in [
            (time, true),
            (time + 10, true),
            (time - 10, true),
            (time + 11, false),
            (time - 11, false),
        ] {
            assert_eq!(
                keeper.check(&token, now).ok(),
                good.then(|| "mario".to_owned()),
                "{name} at {now}"
            );
        }
    }
}

#[test]
fn a_wrong_password_and_a_wrong_padding_are_refused() {
    let token = captured("10-auth-bad.3.21.json");
    assert_eq!(
        gatekeeper(true).check(&token, time_of(&token, false)),
        Err(Refused)
    );
    // A server that wants OAEP alone refuses PKCS#1, as 3.21 does; with the option both are taken.
    let token = captured("10-auth-padding-mismatch.s3.21-c3.12.json");
    let time = time_of(&token, true);
    assert_eq!(gatekeeper(false).check(&token, time), Err(Refused));
    assert!(gatekeeper(true).check(&token, time).is_ok());
}

#[test]
fn tokens_of_ours_are_accepted_by_ours_with_either_padding() {
    for padding in [Padding::Oaep, Padding::Pkcs1] {
        let good = Credentials::new("mario", "luigi", &file("public.pem"), padding).unwrap();
        let token = good.token(1_795_389_047).unwrap();
        assert_eq!(token.len(), 344);
        assert_eq!(
            gatekeeper(true).check(&token, 1_795_389_050).as_deref(),
            Ok("mario")
        );
        for (name, password) in [("mario", "Luigi"), ("Mario", "luigi"), ("peach", "luigi")] {
            let bad = Credentials::new(name, password, &file("public.pem"), padding).unwrap();
            assert_eq!(
                gatekeeper(true).check(&bad.token(1_795_389_047).unwrap(), 1_795_389_050),
                Err(Refused)
            );
        }
    }
}

#[test]
fn what_servers_cannot_read_is_refused_at_the_client() {
    let new =
        |name: &str, password: &str| Credentials::new(name, password, &file("public.pem"), Padding::Oaep);
    assert!(matches!(
        new("ma rio", "x"),
        Err(AuthError::WhiteSpace("user name"))
    ));
    assert!(matches!(new("mario", ""), Err(AuthError::WhiteSpace("password"))));
    let long = new("mario", &"x".repeat(300)).unwrap();
    assert!(matches!(long.token(1), Err(AuthError::TooLong(_, 214))));
}

#[test]
fn keys_are_read_in_the_forms_that_openssl_writes() {
    assert!(matches!(read_public_key("nothing"), Err(AuthError::NoKey(_))));
    assert!(matches!(
        read_private_key("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
        Err(AuthError::Encrypted)
    ));
    // The PKCS#8 key's inner octets are the PKCS#1 key; wrapping them gives the same key again.
    let pkcs8 = pem::block(&file("private.pem"), "PRIVATE KEY", "")
        .unwrap()
        .unwrap();
    let inner = &pkcs8[26..];
    assert_eq!(pem::pkcs8(inner), pkcs8);
    let text = format!(
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n",
        BASE64.encode(inner)
    );
    assert_eq!(read_private_key(&text).unwrap().key_size_bits(), 2048);
}

#[test]
fn openssl_reads_our_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    for (padding, name) in [(Padding::Oaep, "oaep"), (Padding::Pkcs1, "pkcs1")] {
        let credentials = Credentials::new("mario", "luigi", &file("public.pem"), padding).unwrap();
        std::fs::write(
            &path,
            BASE64.decode(credentials.token(1_795_389_047).unwrap()).unwrap(),
        )
        .unwrap();
        let output = Command::new("openssl")
            .args(["pkeyutl", "-decrypt", "-inkey"])
            .arg(Path::new(FOLDER).join("10-auth-testkey/private.pem"))
            .args(["-pkeyopt", &format!("rsa_padding_mode:{name}"), "-in"])
            .arg(&path)
            .output();
        let Ok(output) = output else {
            crate::skip::skip("openssl is not installed, tokens were not checked against it");
            return;
        };
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "user: mario\npwd:  luigi\nts:   1795389047",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn claims_are_read_with_any_white_space() {
    let claim = Some(("a".to_owned(), "b".to_owned(), 5));
    assert_eq!(read_claim("user: a\npwd:  b\nts:   5"), claim);
    assert_eq!(read_claim("user: a\npwd: b\nts: 5\n"), claim);
    assert_eq!(read_claim("user:a pwd:b ts:5x"), claim);
    for bad in [
        "",
        "user: a",
        "user: a\npwd:  b\nts:   x",
        "pwd: b\nuser: a\nts: 5",
        "user: \npwd:  b",
    ] {
        assert_eq!(read_claim(bad), None, "{bad}");
    }
}

#[test]
fn users_are_read_as_iperf3_does() {
    let users = read_users("# a,b\n\nno comma\nmario,abc\r\n luigi , def , more\n");
    let pairs: Vec<_> = users
        .iter()
        .map(|user| (user.name.as_str(), user.hash.as_slice()))
        .collect();
    assert_eq!(pairs, [("mario", b"abc".as_slice()), ("luigi", b"def")]);
    assert!(file("users.csv").contains(&password_hash("mario", "luigi")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 256), text in "\\PC{0,400}") {
        let keeper = gatekeeper(true);
        prop_assert_eq!(keeper.check(&text, 0), Err(Refused));
        prop_assert_eq!(keeper.check(&BASE64.encode(bytes), 0), Err(Refused));
    }
}
