//! iperf3's authentication: a token of name, password and time under the server's RSA public key.
//!
//! The token is base64 of RSA over `user: NAME\npwd:  PASSWORD\nts:   UNIXSECONDS`. From 3.17 on the padding is OAEP
//! (SHA-1, as OpenSSL's default), before it was PKCS#1 v1.5. The server keeps `NAME,HASH` lines, HASH being
//! SHA-256 of `{NAME}PASSWORD` in lower-case hex. The channel is not protected, and a token can be replayed for as
//! long as the skew threshold: this is iperf3's protocol, not a good one.
//!
//! PKCS#1 v1.5 lets an attacker decrypt tokens where failures can be told apart (CVE-2024-26306). So a failed
//! decryption goes on with made-up text along the same way, all users are compared in constant time, there is one
//! failure without a reason, and it comes at a fixed time after the token.

mod pem;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    hmac,
    rsa::{
        OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, Pkcs1PrivateDecryptingKey,
        Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

/// Seconds by which clocks may differ unless told otherwise.
pub const SKEW_THRESHOLD: u64 = 10;

/// When a failure is told, counted from the token's arrival: above what any failure takes to find.
const FAILURE_TIME: Duration = Duration::from_millis(100);

/// How tokens are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Padding {
    /// OAEP with SHA-1: iperf3 3.17 and later.
    #[default]
    Oaep,
    /// PKCS#1 v1.5: before 3.17, and with `--use-pkcs1-padding`.
    Pkcs1,
}

/// Why keys, users or a token can't be had.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No PEM block of the wanted kind.
    #[error("found no {0} in PEM form")]
    NoKey(&'static str),
    /// The private key is encrypted.
    #[error("the RSA private key is encrypted: decrypt it first, for instance with openssl pkey")]
    Encrypted,
    /// The block is no base64.
    #[error("the {0} is no base64")]
    Base64(&'static str, #[source] base64::DecodeError),
    /// The key was refused.
    #[error("the {0} can't be used ({1}): it must be RSA of 2048 to 8192 bits")]
    Key(&'static str, String),
    /// Name and password don't fit the key, or encryption failed.
    #[error("name and password are too long for the RSA key ({0} bytes of text, {1} at most)")]
    TooLong(usize, usize),
    /// The name or password has a character that iperf3 servers can't read.
    #[error("the {0} must be without white space and not empty, for iperf3 servers can't read it otherwise")]
    WhiteSpace(&'static str),
    /// Encryption failed.
    #[error("the RSA public key failed to encrypt")]
    Encrypt,
}

/// The client's side: who it is, and the key that hides it.
#[derive(Debug, Clone)]
pub struct Credentials {
    name: String,
    password: String,
    key: PublicEncryptingKey,
    padding: Padding,
}

impl Credentials {
    /// Credentials under a public key (PEM SubjectPublicKeyInfo, what `openssl rsa -pubout` writes).
    ///
    /// # Errors
    /// Where the key can't be used, or name or password can't be read by servers.
    pub fn new(
        name: &str,
        password: &str,
        public_key_pem: &str,
        padding: Padding,
    ) -> Result<Self, AuthError> {
        for (what, text) in [("user name", name), ("password", password)] {
            if text.is_empty() || text.contains(char::is_whitespace) {
                return Err(AuthError::WhiteSpace(what));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            password: password.to_owned(),
            key: read_public_key(public_key_pem)?,
            padding,
        })
    }

    /// The token for a time in seconds since 1970.
    ///
    /// # Errors
    /// Where name and password don't fit the key.
    pub fn token(&self, now: u64) -> Result<String, AuthError> {
        let text = format!("user: {}\npwd:  {}\nts:   {now}", self.name, self.password);
        let mut buffer = vec![0; self.key.key_size_bytes()];
        let (limit, encrypted) = match self.padding {
            Padding::Oaep => {
                let key = OaepPublicEncryptingKey::new(self.key.clone()).map_err(|_| AuthError::Encrypt)?;
                let encrypted = key
                    .encrypt(&OAEP_SHA1_MGF1SHA1, text.as_bytes(), &mut buffer, None)
                    .map(|bytes| BASE64.encode(bytes));
                (key.max_plaintext_size(&OAEP_SHA1_MGF1SHA1), encrypted)
            }
            Padding::Pkcs1 => {
                let key = Pkcs1PublicEncryptingKey::new(self.key.clone()).map_err(|_| AuthError::Encrypt)?;
                let encrypted = key
                    .encrypt(text.as_bytes(), &mut buffer)
                    .map(|bytes| BASE64.encode(bytes));
                (key.max_plaintext_size(), encrypted)
            }
        };
        if text.len() > limit {
            return Err(AuthError::TooLong(text.len(), limit));
        }
        encrypted.map_err(|_| AuthError::Encrypt)
    }
}

/// Checks that a public key can be used, as the command line wants to know it early.
///
/// # Errors
/// Where it can't.
pub fn read_public_key(pem: &str) -> Result<PublicEncryptingKey, AuthError> {
    const WHAT: &str = "RSA public key";
    let der = pem::block(pem, "PUBLIC KEY", WHAT)?.ok_or(AuthError::NoKey(WHAT))?;
    PublicEncryptingKey::from_der(&der).map_err(|why| AuthError::Key(WHAT, why.to_string()))
}

fn read_private_key(pem: &str) -> Result<PrivateDecryptingKey, AuthError> {
    const WHAT: &str = "RSA private key";
    if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(AuthError::Encrypted);
    }
    let der = match pem::block(pem, "PRIVATE KEY", WHAT)? {
        Some(der) => der,
        None => pem::pkcs8(&pem::block(pem, "RSA PRIVATE KEY", WHAT)?.ok_or(AuthError::NoKey(WHAT))?),
    };
    PrivateDecryptingKey::from_pkcs8(&der).map_err(|why| AuthError::Key(WHAT, why.to_string()))
}

#[derive(Debug)]
struct User {
    name: String,
    hash: Vec<u8>,
}

/// The server's side: its key, its users, how far clocks may differ.
pub struct Gatekeeper {
    oaep: OaepPrivateDecryptingKey,
    pkcs1: Option<Pkcs1PrivateDecryptingKey>,
    size: usize,
    users: Vec<User>,
    threshold: u64,
    /// From it comes the made-up text after a failed decryption, the same for the same token.
    made_up: hmac::Key,
}

impl std::fmt::Debug for Gatekeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gatekeeper")
            .field("users", &self.users.len())
            .field("threshold", &self.threshold)
            .finish_non_exhaustive()
    }
}

/// A token was refused. There is no reason on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("test authorization failed")]
pub struct Refused;

impl Gatekeeper {
    /// Reads a private key (PEM, PKCS#8 or PKCS#1, unencrypted) and users (`NAME,HASH` lines; `#` comments).
    /// `pkcs1` accepts PKCS#1 v1.5 besides OAEP. `threshold` is in seconds.
    ///
    /// # Errors
    /// Where the key can't be used.
    pub fn new(private_key_pem: &str, users: &str, threshold: u64, pkcs1: bool) -> Result<Self, AuthError> {
        const WHAT: &str = "RSA private key";
        let unusable = |_| AuthError::Key(WHAT, "it can't decrypt".to_owned());
        let key = read_private_key(private_key_pem)?;
        Ok(Self {
            oaep: OaepPrivateDecryptingKey::new(key.clone()).map_err(unusable)?,
            pkcs1: if pkcs1 {
                Some(Pkcs1PrivateDecryptingKey::new(key.clone()).map_err(unusable)?)
            } else {
                None
            },
            size: key.key_size_bytes(),
            users: read_users(users),
            threshold,
            made_up: hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new())
                .map_err(|_| AuthError::Key(WHAT, "the system gives no random bytes".to_owned()))?,
        })
    }

    /// Whether a token is good at a time in seconds since 1970; the user's name if so.
    ///
    /// # Errors
    /// For every bad token alike.
    pub fn check(&self, token: &str, now: u64) -> Result<String, Refused> {
        // The length is public, and nothing else is decoded before it is right.
        let token = token.trim_ascii();
        if token.len() != self.size.div_ceil(3) * 4 {
            return Err(Refused);
        }
        let cipher = BASE64.decode(token).map_err(|_| Refused)?;
        if cipher.len() != self.size {
            return Err(Refused);
        }
        let oaep = self.claim(&cipher, now, |cipher, buffer| {
            self.oaep
                .decrypt(&OAEP_SHA1_MGF1SHA1, cipher, buffer, None)
                .map(|text| text.len())
                .ok()
        });
        // Both are always tried, so that success with one tells nothing by its time.
        let pkcs1 = self.pkcs1.as_ref().and_then(|key| {
            self.claim(&cipher, now, |cipher, buffer| {
                key.decrypt(cipher, buffer).map(|text| text.len()).ok()
            })
        });
        oaep.or(pkcs1).ok_or(Refused)
    }

    /// [`Self::check`], where a failure comes at a fixed time after the call.
    ///
    /// # Errors
    /// For every bad token alike.
    pub fn check_in_fixed_time(&self, token: Option<&str>, now: u64) -> Result<String, Refused> {
        let arrived = Instant::now();
        let verdict = token.map_or(Err(Refused), |token| self.check(token, now));
        if verdict.is_err() {
            thread::sleep(FAILURE_TIME.saturating_sub(arrived.elapsed()));
        }
        verdict
    }

    /// Decrypts, reads and compares; a failed decryption goes the same way with made-up text.
    fn claim(
        &self,
        cipher: &[u8],
        now: u64,
        decrypt: impl Fn(&[u8], &mut [u8]) -> Option<usize>,
    ) -> Option<String> {
        let made_up = hmac::sign(&self.made_up, cipher);
        let mut buffer = vec![0; self.size];
        let decrypted = decrypt(cipher, &mut buffer);
        let text = if let Some(length) = decrypted {
            buffer.get(..length).unwrap_or_default().to_vec()
        } else {
            let made_up = hex(made_up.as_ref());
            let (name, password) = made_up.split_at(8);
            format!("user: {name}\npwd:  {password}\nts:   {now}").into_bytes()
        };
        let (name, password, time) = read_claim(&String::from_utf8_lossy(&text))?;
        let hash = hex(digest(&SHA256, format!("{{{name}}}{password}").as_bytes()).as_ref());
        let mut known = false;
        for user in &self.users {
            let same_name = verify_slices_are_equal(user.name.as_bytes(), name.as_bytes()).is_ok();
            let same_hash = verify_slices_are_equal(&user.hash, hash.as_bytes()).is_ok();
            known |= same_name & same_hash;
        }
        let in_time = now.abs_diff(time) <= self.threshold;
        (decrypted.is_some() & known & in_time).then_some(name)
    }
}

/// The hash of a user's line: SHA-256 of `{NAME}PASSWORD` in hex.
pub fn password_hash(name: &str, password: &str) -> String {
    hex(digest(&SHA256, format!("{{{name}}}{password}").as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a `String` can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// `NAME,HASH` lines; comments, empty lines and lines without a comma are skipped, as iperf3 does.
fn read_users(text: &str) -> Vec<User> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(','))
        .map(|(name, hash)| User {
            name: name.trim().to_owned(),
            hash: hash
                .split(',')
                .next()
                .unwrap_or_default()
                .trim()
                .as_bytes()
                .to_vec(),
        })
        .collect()
}

/// Reads `user: NAME pwd: PASSWORD ts: SECONDS` with any white space, as iperf3's scanf does.
fn read_claim(text: &str) -> Option<(String, String, u64)> {
    let word = |text: &str, label: &str| -> Option<(String, usize)> {
        let rest = text.trim_start().strip_prefix(label)?.trim_start();
        let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let end = text.len() - rest.len() + length;
        (length > 0).then(|| (rest[..length].to_owned(), end))
    };
    let (name, end) = word(text, "user:")?;
    let text = text.get(end..)?;
    let (password, end) = word(text, "pwd:")?;
    let (time, _) = word(text.get(end..)?, "ts:")?;
    let digits = time.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((name, password, digits.parse().ok()?))
}

#[cfg(test)]
mod tests;
