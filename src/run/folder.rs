//! The run folder on disk: made once, appended to and synced after each trial, read by all that report.

use super::{Manifest, ManifestError, Trial};
use rustix::fs::{FallocateFlags, FlockOperation};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// The trial log's file name.
pub const TRIALS: &str = "trials.jsonl";
/// Holds the process id of the encapbench that writes to the folder, locked while it does.
pub const LOCK: &str = "run.lock";
/// Space kept back so that the last trial can be written where the disk fills up.
const RESERVE: &str = ".reserve";
/// More than a long trial's line needs, in bytes.
const RESERVE_BYTES: u64 = 4 << 20;

/// Lines that are worth a thread of their own.
const LINES_FOR_A_THREAD: usize = 500;

/// What to do once the disk is full.
fn after_full(folder: &Path, saved: Option<usize>) -> String {
    let Some(saved) = saved else {
        return "nothing is saved yet; free some space, then run again".to_owned();
    };
    format!(
        "{saved} trials are saved; free some space, then go on with `encapbench run --resume {}`",
        folder.display()
    )
}

/// Why a run folder could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file or folder could not be used.
    #[error("failed to {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The disk is full.
    #[error("no space is left for {}: {}", path.display(), after_full(folder, *saved))]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// The run folder.
        folder: PathBuf,
        /// Trials that are in the log; `None`: there is not even a manifest to go on with.
        saved: Option<usize>,
    },
    /// The folder has a run already.
    #[error("{} has a run already: choose another --out, or go on with --resume", .0.display())]
    Exists(PathBuf),
    /// Not a run folder.
    #[error("{} is not a run folder: it has no {MANIFEST}", .0.display())]
    NoRun(PathBuf),
    /// Another encapbench writes to it.
    #[error("{} is in use by another encapbench (process {pid}): wait for it to end", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// Its process id.
        pid: String,
    },
    /// Its manifest can't be read.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The manifest's path.
        path: PathBuf,
        /// Why not.
        source: ManifestError,
    },
    /// A line of the trial log can't be read.
    #[error("{}:{line}: the trial can't be read: {source}", path.display())]
    Trial {
        /// The log's path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why not.
        source: serde_json::Error,
    },
}

/// A run as it was read: manifest and trials.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The manifest.
    pub manifest: Manifest,
    /// The trials in the order they were run.
    pub trials: Vec<Trial>,
    /// Whether the log's last line was torn and dropped.
    pub torn: bool,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { action, path, source }
}

/// Reads a run folder, without changing it.
///
/// # Errors
/// Where it is no run folder, or a line other than a torn last one can't be read.
pub fn read(folder: &Path) -> Result<Recorded, FolderError> {
    let path = folder.join(MANIFEST);
    let text = match fs::read(&path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Err(FolderError::NoRun(folder.to_owned()));
        }
        other => other.map_err(io_error("read", &path))?,
    };
    let manifest = Manifest::parse(&text).map_err(|source| FolderError::Manifest { path, source })?;
    let path = folder.join(TRIALS);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(io_error("read", &path))?,
    };
    let (trials, whole) = parse_trials(&path, &bytes)?;
    Ok(Recorded {
        manifest,
        trials,
        torn: whole < bytes.len(),
    })
}

/// The trials of a log, and how many bytes of it are whole lines. A last line without its newline is torn: the
/// writer was cut off in it. Long logs are read by all cores.
fn parse_trials(path: &Path, bytes: &[u8]) -> Result<(Vec<Trial>, usize), FolderError> {
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let lines: Vec<&[u8]> = bytes[..whole].split(|byte| *byte == b'\n').collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = lines.len().div_ceil(cores).max(LINES_FOR_A_THREAD);
    let parse = |first: usize, lines: &[&[u8]]| -> Result<Vec<Trial>, FolderError> {
        let lines = lines.iter().enumerate().filter(|(_, line)| !line.is_empty());
        lines
            .map(|(index, line)| {
                serde_json::from_slice(line).map_err(|source| FolderError::Trial {
                    path: path.to_owned(),
                    line: first + index + 1,
                    source,
                })
            })
            .collect()
    };
    let mut parts: Vec<Result<Vec<Trial>, FolderError>> = Vec::new();
    std::thread::scope(|scope| {
        let mut shares = lines.chunks(share).enumerate();
        let own = shares.next();
        let others: Vec<_> = shares
            .map(|(number, lines)| scope.spawn(move || parse(number * share, lines)))
            .collect();
        if let Some((_, lines)) = own {
            parts.push(parse(0, lines));
        }
        for other in others {
            parts.push(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
    });
    let mut trials = Vec::with_capacity(lines.len());
    for part in parts {
        trials.append(&mut part?);
    }
    Ok((trials, whole))
}

/// A run folder that is being written to.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    log: File,
    saved: usize,
    reserve: Option<File>,
    // Held for its lock.
    _lock: File,
}

impl Folder {
    /// Makes the folder and writes the manifest.
    ///
    /// # Errors
    /// Where it has a run already, or can't be made or written.
    pub fn create(path: &Path, manifest: &Manifest) -> Result<Self, FolderError> {
        fs::create_dir_all(path).map_err(io_error("make the run folder", path))?;
        if path.join(MANIFEST).exists() {
            return Err(FolderError::Exists(path.to_owned()));
        }
        let lock = lock(path)?;
        let mut text = serde_json::to_string_pretty(manifest).map_err(|error| FolderError::Io {
            action: "encode",
            path: path.join(MANIFEST),
            source: error.into(),
        })?;
        text.push('\n');
        let mut folder = Self {
            path: path.to_owned(),
            log: open_log(path)?,
            saved: 0,
            reserve: None,
            _lock: lock,
        };
        folder.reserve();
        folder.write(MANIFEST, text.as_bytes())?;
        Ok(folder)
    }

    /// Opens a folder whose run was cut off, drops a torn last line, and gives what is recorded.
    ///
    /// # Errors
    /// As [`read`], and where another encapbench writes to it.
    pub fn resume(path: &Path) -> Result<(Self, Recorded), FolderError> {
        // No lock is left in what is no run folder.
        if !path.join(MANIFEST).exists() {
            return Err(FolderError::NoRun(path.to_owned()));
        }
        // Read under the lock: before it, another may still append.
        let lock = lock(path)?;
        let recorded = read(path).inspect_err(|_| {
            let _ = fs::remove_file(path.join(LOCK));
        })?;
        let mut log = open_log(path)?;
        let log_path = path.join(TRIALS);
        if recorded.torn {
            let mut bytes = Vec::new();
            log.seek(SeekFrom::Start(0))
                .and_then(|_| log.read_to_end(&mut bytes))
                .map_err(io_error("read", &log_path))?;
            let (_, whole) = parse_trials(&log_path, &bytes)?;
            log.set_len(whole as u64)
                .and_then(|()| log.sync_all())
                .map_err(io_error("cut the torn last line of", &log_path))?;
        }
        let mut folder = Self {
            path: path.to_owned(),
            log,
            saved: recorded.trials.len(),
            reserve: None,
            _lock: lock,
        };
        folder.reserve();
        Ok((folder, recorded))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a trial to the log and syncs it. When this returns, the trial survives a crash of the machine. On a
    /// full disk the space kept back for this is used, so that the trial is saved before the error is returned.
    ///
    /// # Errors
    /// Where the disk is full, or fails.
    pub fn append(&mut self, trial: &Trial) -> Result<(), FolderError> {
        let path = self.path.join(TRIALS);
        let mut line = serde_json::to_vec(trial).map_err(|error| FolderError::Io {
            action: "encode a trial for",
            path: path.clone(),
            source: error.into(),
        })?;
        line.push(b'\n');
        let before = self
            .log
            .seek(SeekFrom::End(0))
            .map_err(io_error("append to", &path))?;
        let Err(error) = self.log.write_all(&line).and_then(|()| self.log.sync_data()) else {
            self.saved += 1;
            return Ok(());
        };
        // Never leave half a line behind whole ones.
        let _ = self.log.set_len(before);
        if !matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            return Err(FolderError::Io {
                action: "append to",
                path,
                source: error,
            });
        }
        self.reserve = None;
        let again = self
            .log
            .seek(SeekFrom::Start(before))
            .and_then(|_| self.log.write_all(&line))
            .and_then(|()| self.log.sync_data());
        match again {
            Ok(()) => self.saved += 1,
            Err(_) => {
                let _ = self.log.set_len(before);
            }
        }
        Err(self.no_space(path))
    }

    fn no_space(&self, path: PathBuf) -> FolderError {
        FolderError::NoSpace {
            path,
            folder: self.path.clone(),
            saved: self.path.join(MANIFEST).exists().then_some(self.saved),
        }
    }

    /// Writes a file of the folder whole: a reader sees the old or the new one, never half of it.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        write_whole(&self.path, name, bytes).map_err(|error| match error {
            FolderError::Io { source, path, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                self.no_space(path)
            }
            other => other,
        })
    }

    /// Keeps space back, in a file without a name: however this ends, the kernel gives it back. A file system that
    /// can't is none the worse.
    fn reserve(&mut self) {
        let path = self.path.join(RESERVE);
        let reserved = File::create(&path).and_then(|file| {
            fs::remove_file(&path)?;
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)?;
            Ok(file)
        });
        match reserved {
            Ok(file) => self.reserve = Some(file),
            Err(error) => tracing::debug!("no space kept back in {}: {error}", self.path.display()),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path.join(LOCK));
    }
}

/// Writes a file of a folder whole, by a new file that takes its name.
///
/// # Errors
/// Where it can't be written.
pub fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
    let path = folder.join(name);
    let new = folder.join(format!(".{name}.new"));
    let written = File::create(&new)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_data()))
        .and_then(|()| fs::rename(&new, &path));
    written.map_err(|source| {
        let _ = fs::remove_file(&new);
        FolderError::Io {
            action: "write",
            path,
            source,
        }
    })
}

fn open_log(folder: &Path) -> Result<File, FolderError> {
    let path = folder.join(TRIALS);
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))
}

/// Takes the folder for this process. The lock goes with the process, however it ends.
fn lock(folder: &Path) -> Result<File, FolderError> {
    let path = folder.join(LOCK);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        return Err(FolderError::Locked {
            folder: folder.to_owned(),
            pid: pid.trim().to_owned(),
        });
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_error("write", &path))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
