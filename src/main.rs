//! Parse, log, dispatch, exit code; nothing else.

fn main() {}
