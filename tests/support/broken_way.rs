//! A way to a server that can be cut, and closed for good: what a load balancer does when it is restarted.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Passes TCP connections on to a server.
pub(crate) struct BrokenWay {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl BrokenWay {
    /// A way to `server`, at an address of loopback.
    pub(crate) fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Self {
            address: listener.local_addr().unwrap(),
            open: Arc::new(AtomicBool::new(true)),
            streams: Arc::default(),
        };
        let (open, streams, server) = (way.open.clone(), way.streams.clone(), server.to_owned());
        thread::spawn(move || {
            for one in listener.incoming() {
                let (Ok(one), true) = (one, open.load(Ordering::Relaxed)) else {
                    continue;
                };
                if let Ok(other) = TcpStream::connect(&server) {
                    pass(&one, &other);
                    pass(&other, &one);
                    streams.lock().unwrap().extend([one, other]);
                }
            }
        });
        way
    }

    /// Ends all connections; new ones are passed on.
    pub(crate) fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            // Some have ended by themselves.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends all connections, and closes each new one at once.
    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
        self.cut();
    }
}

fn pass(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
