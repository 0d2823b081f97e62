//! Why a command could not do what it was asked to, with the exit code for it: the one table of that.

use super::Exit;
use crate::{coordinator::RunError, fabric::FabricError, run::FolderError, worker::protocol::chain};
use std::{error::Error, io};

/// A command's failure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The user said something that can't be.
    #[error("{0}")]
    Usage(String),
    /// A file's content is bad; the text has its own file, line and column.
    #[error("{0}")]
    BadFile(String),
    /// A run folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The fabric.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// Reports could not be made.
    #[error("failed to make the report: {0}")]
    Report(String),
    /// The output could not be written.
    #[error("failed to write the output: {0}")]
    Output(#[from] io::Error),
    /// The machine refuses something basic.
    #[error("{0}")]
    Machine(String),
}

impl Failure {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_)
            | Self::BadFile(_)
            | Self::Fabric(FabricError::Scenario(_))
            | Self::Run(RunError::Fabric(FabricError::Scenario(_))) => Exit::Usage,
            Self::Folder(error) | Self::Run(RunError::Folder(error)) => match error {
                FolderError::Io { .. } | FolderError::NoSpace { .. } | FolderError::Locked { .. } => {
                    Exit::Unable
                }
                FolderError::Exists(_)
                | FolderError::NoRun(_)
                | FolderError::Manifest { .. }
                | FolderError::Trial { .. } => Exit::Usage,
            },
            Self::Fabric(FabricError::Unable(_)) | Self::Run(RunError::Fabric(FabricError::Unable(_))) => {
                Exit::Unable
            }
            Self::Fabric(FabricError::Failed(_)) | Self::Run(RunError::Fabric(FabricError::Failed(_))) => {
                Exit::RunFailed
            }
            Self::Report(_) => Exit::RunFailed,
            Self::Output(_) | Self::Machine(_) => Exit::Unable,
        }
    }

    /// Prints it with its causes.
    pub fn print(&self, out: &mut dyn io::Write) {
        let text = match self {
            // It is laid out over several lines already.
            Self::BadFile(text) => text.clone(),
            other => format!("encapbench: {}", chain(other as &dyn Error)),
        };
        // There is nowhere left to say that this failed.
        let _ = writeln!(out, "{}", text.trim_end());
    }
}
