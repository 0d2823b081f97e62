//! Workers in pods, by `exec`: a WebSocket through the API server to the node's kubelet, with stdin, stdout, stderr and at
//! the end the program's status.

use super::{
    api::Cluster,
    objects::{CONTAINER, PROGRAM, PodPlan},
    pods,
};
use crate::fabric::{FabricError, Transport};
use futures::FutureExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::AttachParams;
use std::{
    io::{self, Cursor},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, ReadBuf};

/// How long a worker that was told to quit has before its connection is cut.
const PARTING: Duration = Duration::from_millis(300);
/// What the streams of a worker may hold back, in bytes.
const STREAM_BUFFER: usize = 64 << 10;

/// Starts a worker in a pod.
pub(super) async fn worker(cluster: &Cluster, plan: &PodPlan) -> Result<Transport, FabricError> {
    let pods = pods::namespaced(cluster, &plan.namespace);
    let streams = AttachParams {
        container: Some(CONTAINER.to_owned()),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
        max_stdin_buf_size: Some(STREAM_BUFFER),
        max_stdout_buf_size: Some(STREAM_BUFFER),
        max_stderr_buf_size: Some(STREAM_BUFFER),
    };
    let place = &plan.place;
    let what = format!("start a worker in the pod {} of {place}", plan.name);
    let mut process = cluster
        .ask(&what, || pods.exec(&plan.name, [PROGRAM, "worker"], &streams))
        .await?;
    let (Some(input), Some(output), Some(errors)) = (process.stdin(), process.stdout(), process.stderr())
    else {
        return Err(FabricError::Failed(format!(
            "the worker of {place} has no streams"
        )));
    };
    let broken = format!(
        "the connection to its pod broke off ({} in {}), at the API server, its node's kubelet or between\n",
        plan.name, plan.namespace
    );
    let status = process.take_status();
    let over = async move {
        match status {
            None => String::new(),
            Some(status) => last_words(status.await, broken),
        }
    };
    let over = over.boxed().shared();
    let runtime = tokio::runtime::Handle::current();
    Ok(Transport {
        input: Box::new(input),
        output: Box::new(UntilOver::new(output, over.clone().map(|_| String::new()))),
        errors: Box::new(UntilOver::new(errors, over)),
        kill: Box::new(move || {
            // Cut at once, the worker would not hear that it may go, and would wait out its coordinator's silence.
            runtime.spawn(async move {
                tokio::time::sleep(PARTING).await;
                process.abort();
            });
        }),
    })
}

/// How a worker ended where that was not as it should: what keeps a program from starting at all comes as the exec's
/// status, not on stderr, and where there is no status the connection has ended first.
fn last_words(status: Option<Status>, broken: String) -> String {
    match status {
        None => broken,
        Some(status) if status.status.as_deref() == Some("Failure") => {
            format!("{}\n", status.message.unwrap_or_default())
        }
        Some(_) => String::new(),
    }
}

/// One of a worker's streams, which ends when the exec does, and with some last words: kube's own streams don't end where
/// the connection breaks off.
struct UntilOver<R, O> {
    inner: R,
    over: O,
    /// What is left of the last words, once the exec is over.
    rest: Option<Cursor<String>>,
}

impl<R, O> UntilOver<R, O> {
    const fn new(inner: R, over: O) -> Self {
        Self {
            inner,
            over,
            rest: None,
        }
    }
}

impl<R: AsyncRead + Unpin, O: Future<Output = String> + Unpin> AsyncRead for UntilOver<R, O> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.rest.is_none() {
            let before = buffer.filled().len();
            match Pin::new(&mut this.inner).poll_read(context, buffer) {
                Poll::Ready(Ok(())) if buffer.filled().len() == before => {}
                Poll::Pending => {}
                read @ Poll::Ready(_) => return read,
            }
            // What was sent before the end is read by now.
            match Pin::new(&mut this.over).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(words) => this.rest = Some(Cursor::new(words)),
            }
        }
        match &mut this.rest {
            Some(rest) => Pin::new(rest).poll_read(context, buffer),
            None => Poll::Ready(Ok(())),
        }
    }
}
