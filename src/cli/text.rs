//! Files that people write: scenarios and policies.

use super::Failure;
use crate::scenario::LONGEST;
use std::{fs, io::Read as _, path::Path};

/// Reads a text file, and no more of it than a byte too many: what is longer is refused where it is parsed. `what` it is
/// stands in the error.
///
/// # Errors
/// Where it can't be read, or is no UTF-8.
pub(super) fn read(what: &str, file: &Path) -> Result<String, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::Usage(format!("can't read the {what} {}: {error}", file.display()))
    };
    let mut bytes = Vec::new();
    fs::File::open(file)
        .and_then(|open| open.take(LONGEST as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() > LONGEST {
        // It may end in the middle of a character.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| unreadable(&error.utf8_error()))
}
