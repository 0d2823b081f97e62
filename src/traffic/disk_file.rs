//! A file that streams send, or that they write what they receive to (iperf3's `-F`).

use super::{
    stream::{Control, Counter, End, Role, Settings, failure},
    tcp_stream::{Blocks, receive_blocks, send_blocks},
};
use socket2::Socket;
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file by its path. Each stream opens it anew, as in iperf3: several senders each send all of it, and several
/// receivers each write from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFile(Arc<Path>);

impl DiskFile {
    /// The file at a path; nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into().into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its size in bytes now; 0 where there is none.
    pub fn size(&self) -> u64 {
        std::fs::metadata(&self.0).map_or(0, |metadata| metadata.len())
    }

    /// Opens it for what a stream does: a receiver makes it, or empties it.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn open(&self, role: Role) -> io::Result<File> {
        match role {
            Role::Send => File::open(&self.0),
            Role::Receive => File::create(&self.0),
        }
    }
}

/// The blocks of a file, read into a buffer.
struct Read {
    file: File,
    buffer: Vec<u8>,
    filled: usize,
}

impl Blocks for Read {
    fn next(&mut self) -> io::Result<usize> {
        self.filled = 0;
        while self.filled < self.buffer.len() {
            match self.file.read(&mut self.buffer[self.filled..]) {
                Ok(0) => break,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.filled)
    }

    fn write(&mut self, mut socket: &Socket, offset: usize) -> io::Result<usize> {
        socket.write(self.buffer.get(offset..self.filled).unwrap_or_default())
    }
}

/// Sends it from its beginning to its end, unless told to stop before.
pub(super) fn send(
    control: &Control,
    socket: &Socket,
    counter: &Counter,
    settings: &Settings,
    file: &DiskFile,
    start: u64,
) -> End {
    let file = match file.open(Role::Send) {
        Ok(file) => file,
        Err(error) => return broken(&error),
    };
    let mut blocks = Read {
        file,
        buffer: vec![0; settings.length],
        filled: 0,
    };
    send_blocks(control, socket, counter, settings, start, &mut blocks)
}

/// Writes to it what comes, until told to stop.
pub(super) fn receive(
    control: &Control,
    socket: &Socket,
    counter: &Counter,
    settings: &Settings,
    file: &DiskFile,
) -> End {
    let mut file = match file.open(Role::Receive) {
        Ok(file) => file,
        Err(error) => return broken(&error),
    };
    let mut buffer = vec![0; settings.length];
    let mut reader = socket;
    let mut failed = None;
    let end = receive_blocks(control, counter, || {
        let count = reader.read(&mut buffer)?;
        if let Err(error) = file.write_all(buffer.get(..count).unwrap_or_default()) {
            // A full disk ends the stream even where the call would be made again.
            failed = Some(broken(&error));
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(count)
    });
    failed.unwrap_or(end)
}

fn broken(error: &io::Error) -> End {
    failure(error).unwrap_or_else(|| End::Failed(error.raw_os_error().unwrap_or(libc::EIO)))
}
