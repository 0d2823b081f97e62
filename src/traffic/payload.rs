//! What streams carry: random bytes or repeating digits, in memory and, for sendfile, in a memory file.

use rand::{TryRng as _, rngs::SysRng};
use rustix::fs::{MemfdFlags, memfd_create};
use std::{fs::File, io, io::Write as _, sync::Arc};

/// A payload that all streams of a test share, made before the test.
#[derive(Debug, Clone)]
pub struct Payload {
    bytes: Arc<[u8]>,
    file: Option<Arc<File>>,
}

impl Payload {
    /// `length` bytes: random, so that no compressing path flatters itself, or with `repeating` the digits 0 to 9
    /// over and over. With `in_file` there is a memory file of them too (memfd_create(2)), for sendfile.
    ///
    /// # Errors
    /// Where the system has no randomness, or no memory file.
    pub fn new(length: usize, repeating: bool, in_file: bool) -> io::Result<Self> {
        let mut bytes = vec![0; length];
        if repeating {
            for (byte, digit) in bytes.iter_mut().zip((b'0'..=b'9').cycle()) {
                *byte = digit;
            }
        } else {
            SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
        }
        let file = if in_file {
            let mut file = File::from(memfd_create("encapbench-payload", MemfdFlags::CLOEXEC)?);
            file.write_all(&bytes)?;
            Some(Arc::new(file))
        } else {
            None
        };
        Ok(Self {
            bytes: bytes.into(),
            file,
        })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The memory file, if one was asked for.
    pub fn file(&self) -> Option<&File> {
        self.file.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn the_file_holds_the_bytes() {
        let payload = Payload::new(5000, false, true).unwrap();
        let mut read = vec![0; 5000];
        payload.file().unwrap().read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, payload.bytes());
        assert_ne!(
            Payload::new(64, false, false).unwrap().bytes(),
            Payload::new(64, false, false).unwrap().bytes()
        );
        assert_eq!(Payload::new(12, true, false).unwrap().bytes(), b"012345678901");
    }
}
