//! Output whose reader may go, as `head` does.

use std::io::{self, ErrorKind, Write};

/// Writes until nobody reads any more, and then drops what comes: the command goes on, writes its files, and ends with
/// the code that its work deserves, so that `encapbench gate RUN | head` is as red as `encapbench gate RUN`.
pub(super) struct Pipe<W: Write>(Option<W>);

impl<W: Write> Pipe<W> {
    pub(super) const fn new(out: W) -> Self {
        Self(Some(out))
    }

    /// What was wanted of the output, or nothing once its reader is gone.
    fn with<T>(&mut self, gone: T, wanted: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        let Some(out) = &mut self.0 else {
            return Ok(gone);
        };
        match wanted(out) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.0 = None;
                Ok(gone)
            }
            ended => ended,
        }
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with((), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads so many bytes, and then no more.
    struct Head(usize);

    impl Write for Head {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 {
                return Err(ErrorKind::BrokenPipe.into());
            }
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_ends_nothing() {
        let mut pipe = Pipe::new(Head(3));
        pipe.write_all(b"one two three").unwrap();
        pipe.write_all(b"four").unwrap();
        pipe.flush().unwrap();
    }

    #[test]
    fn other_errors_are_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(ErrorKind::StorageFull.into())
            }
        }
        let mut pipe = Pipe::new(Full);
        assert_eq!(pipe.write(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(pipe.flush().unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
