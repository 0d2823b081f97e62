//! PEM (RFC 7468) blocks of keys, and PKCS#1 private keys as PKCS#8.

use super::AuthError;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

/// The bytes of the first block with that label; `None` if there is none. `what` names it in errors.
pub(super) fn block(pem: &str, label: &str, what: &'static str) -> Result<Option<Vec<u8>>, AuthError> {
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let Some((_, rest)) = pem.split_once(&begin) else {
        return Ok(None);
    };
    let Some((body, _)) = rest.split_once(&end) else {
        return Ok(None);
    };
    let base64: String = body.split_whitespace().collect();
    BASE64
        .decode(base64)
        .map(Some)
        .map_err(|error| AuthError::Base64(what, error))
}

/// Wraps an RSAPrivateKey (RFC 8017) into a PrivateKeyInfo (RFC 5958).
pub(super) fn pkcs8(rsa: &[u8]) -> Vec<u8> {
    // version 0; rsaEncryption, NULL
    const HEAD: [u8; 18] = [
        0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05,
        0x00,
    ];
    let mut body = HEAD.to_vec();
    body.push(0x04);
    push_length(&mut body, rsa.len());
    body.extend_from_slice(rsa);
    let mut der = vec![0x30];
    push_length(&mut der, body.len());
    der.extend(body);
    der
}

/// A DER length (X.690, 8.1.3).
fn push_length(der: &mut Vec<u8>, length: usize) {
    if length < 0x80 {
        der.push(length as u8);
        return;
    }
    let bytes = length.to_be_bytes();
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    der.push(0x80 | bytes.len() as u8);
    der.extend_from_slice(bytes);
}
