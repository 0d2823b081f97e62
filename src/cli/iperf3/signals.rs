//! SIGINT, SIGTERM and SIGHUP end a test in good order.

use crate::sys::stop::Stop;
use std::{
    io,
    sync::{Arc, OnceLock},
    thread,
};
use tokio::signal::unix::{SignalKind, signal};

/// Which signal came, in the C library's words.
#[derive(Debug, Clone, Default)]
pub(super) struct Caught(Arc<OnceLock<&'static str>>);

impl Caught {
    /// `by signal Interrupt(2)`, or nothing.
    pub(super) fn text(&self) -> String {
        self.0
            .get()
            .map(|name| format!(" by signal {name}"))
            .unwrap_or_default()
    }

    pub(super) fn any(&self) -> bool {
        self.0.get().is_some()
    }
}

/// Listens from now on, in a thread of its own. The first signal stops the token, the second the program.
///
/// # Errors
/// Where the system has no descriptor or thread left.
pub(super) fn listen(stop: &Stop) -> io::Result<Caught> {
    let caught = Caught::default();
    let (stop, name) = (stop.clone(), caught.clone());
    let (ready, is_ready) = std::sync::mpsc::channel();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let run = || -> io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut interrupt = signal(SignalKind::interrupt())?;
                let mut terminate = signal(SignalKind::terminate())?;
                let mut hangup = signal(SignalKind::hangup())?;
                let _ = ready.send(Ok(()));
                loop {
                    let which = tokio::select! {
                        _ = interrupt.recv() => "Interrupt(2)",
                        _ = terminate.recv() => "Terminated(15)",
                        _ = hangup.recv() => "Hangup(1)",
                    };
                    if name.0.set(which).is_err() {
                        std::process::exit(1);
                    }
                    stop.stop();
                }
            })
        };
        if let Err(error) = run() {
            let _ = ready.send(Err(error));
        }
    })?;
    is_ready
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the signal thread died")))?;
    Ok(caught)
}
