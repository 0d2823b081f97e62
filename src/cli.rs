//! The command line: one file a subcommand.

#[cfg(feature = "lab")]
pub mod lab;
