//! Workers by `exec`: a server on loopback that speaks WebSocket as an API server does, and breaks off as it is told to.

use super::*;
use crate::{
    fabric::Transport,
    worker::protocol::{Job, Message, Request, VERSION},
};
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message as Frame, handshake::derive_accept_key, protocol::Role},
};

/// What becomes of a request for `exec`.
#[derive(Clone, Copy)]
enum Exec {
    /// The connection is closed before it is answered.
    HangUp,
    /// An error's status.
    Refuse(u16, &'static str),
    /// A worker that says hello, and then this.
    Worker(Then),
}

/// What a worker, or the way to it, does once it was given a job.
#[derive(Clone, Copy)]
enum Then {
    /// The job is done.
    Done,
    /// The TCP connection breaks off.
    Break,
    /// The WebSocket is closed as the protocol has it, without a word of how the worker ended.
    Close,
    /// The program is killed, which the kubelet tells.
    Killed,
}

/// Serves one answer after the other, the last one for good; its address.
async fn server(answers: &'static [Exec]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut next = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answers[next.min(answers.len() - 1)];
            next += 1;
            tokio::spawn(serve(stream, answer));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, answer: Exec) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(
        head.contains("/pods/encapbench-r1-") && head.contains("/exec?"),
        "{head}"
    );
    let then = match answer {
        Exec::HangUp => return,
        Exec::Refuse(code, message) => {
            let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message });
            let body = body.to_string();
            let text = format!(
                "HTTP/1.1 {code} No\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).await.unwrap();
            return;
        }
        Exec::Worker(then) => then,
    };
    let key = head.lines().find_map(|line| {
        line.to_lowercase()
            .starts_with("sec-websocket-key:")
            .then(|| line[18..].trim())
    });
    let upgrade = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: \
         {}\r\nsec-websocket-protocol: v4.channel.k8s.io\r\n\r\n",
        derive_accept_key(key.unwrap().as_bytes())
    );
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let mut input = String::new();
    while let Some(Ok(frame)) = socket.next().await {
        let data = frame.into_data();
        if data.first() != Some(&0) {
            continue;
        }
        input.push_str(std::str::from_utf8(&data[1..]).unwrap());
        while let Some((line, rest)) = input.split_once('\n') {
            let request: Request = serde_json::from_str(line).unwrap();
            input = rest.to_owned();
            match request {
                Request::Hello { .. } => {
                    let hello = Message::Hello {
                        version: VERSION,
                        encapbench: "9".to_owned(),
                        machine: "m".to_owned(),
                        kernel: "k".to_owned(),
                    };
                    say(&mut socket, 1, &hello).await;
                }
                Request::Start { id, .. } => match then {
                    Then::Done => {
                        let result = Box::new(crate::worker::protocol::JobResult::Nothing);
                        say(&mut socket, 1, &Message::Done { id, result }).await;
                    }
                    Then::Break => return,
                    Then::Close => {
                        socket.close(None).await.unwrap();
                        return;
                    }
                    Then::Killed => {
                        let status = json!({ "kind": "Status", "status": "Failure", "reason": "NonZeroExitCode",
                            "message": "command terminated with non-zero exit code: exit code 137" });
                        say(&mut socket, 3, &status).await;
                        return;
                    }
                },
                _ => {}
            }
        }
    }
}

/// A line on one of the streams of `exec`: 1 is stdout, 3 the status.
async fn say(socket: &mut WebSocketStream<TcpStream>, stream: u8, message: &impl serde::Serialize) {
    let mut frame = vec![stream];
    serde_json::to_writer(&mut frame, message).unwrap();
    frame.push(b'\n');
    socket.send(Frame::binary(frame)).await.unwrap();
}

/// A fabric whose pods were made by the server in memory, and whose workers are the other one's.
async fn with_workers(answers: &'static [Exec]) -> KubernetesFabric {
    let mut fabric = prepared(&fake()).await.unwrap();
    let address = server(answers).await;
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let patience = Patience {
        answer: Duration::from_secs(5),
        attempts: 4,
        pause: Duration::from_millis(1),
        gone_within: Duration::from_secs(1),
    };
    let client = kube::Client::try_from(config).unwrap();
    fabric.reach(Cluster::of_client("cluster", "bench", client, patience));
    fabric
}

fn place() -> Place {
    "pod@a/Always".parse().unwrap()
}

/// A worker's streams, as whoever drives it has them.
struct Driven {
    transport: Transport,
    output: Vec<u8>,
}

impl Driven {
    async fn send(&mut self, request: &Request) {
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        self.transport.input.write_all(&line).await.unwrap();
        self.transport.input.flush().await.unwrap();
    }

    /// The next message; where the output ends, what stderr had to say until its own end.
    async fn next(&mut self) -> Result<Message, String> {
        loop {
            if let Some(end) = self.output.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.output.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line).unwrap());
            }
            if self.transport.output.read_buf(&mut self.output).await.unwrap() == 0 {
                let mut said = String::new();
                self.transport.errors.read_to_string(&mut said).await.unwrap();
                return Err(said);
            }
        }
    }

    /// Gives it a job, and waits for what comes of it, five seconds at most.
    async fn ask(&mut self) -> Result<Message, String> {
        let job = Box::new(job());
        self.send(&Request::Start { id: 1, job }).await;
        tokio::time::timeout(Duration::from_secs(5), self.next())
            .await
            .unwrap()
    }
}

async fn greeted(fabric: &mut KubernetesFabric) -> Result<Driven, String> {
    let transport = fabric.launch(&place()).await.map_err(|error| error.to_string())?;
    let mut worker = Driven {
        transport,
        output: Vec::new(),
    };
    worker.send(&Request::Hello { version: VERSION }).await;
    let hello = worker.next().await?;
    assert!(matches!(hello, Message::Hello { .. }), "{hello:?}");
    Ok(worker)
}

fn job() -> Job {
    Job::Resolve {
        name: "localhost".to_owned(),
    }
}

/// An exec that is refused for now, or whose connection is closed, is tried again.
#[tokio::test]
async fn an_exec_that_fails_for_now_is_tried_again() {
    let mut fabric = with_workers(&[
        Exec::HangUp,
        Exec::Refuse(500, "error dialing backend: EOF"),
        Exec::Refuse(429, "too many requests"),
        Exec::Worker(Then::Done),
    ])
    .await;
    let mut worker = greeted(&mut fabric).await.unwrap();
    worker.ask().await.unwrap();
}

/// One that is refused for good says why: the right that is missing, the pod that is gone, the node that is.
#[tokio::test]
async fn an_exec_that_is_refused_says_why() {
    let refusals: [(&'static [Exec], &str); 4] = [
        (
            &[Exec::Refuse(
                403,
                "pods \"x\" is forbidden: cannot create resource pods/exec",
            )],
            "cannot create resource pods/exec",
        ),
        (&[Exec::Refuse(404, "pods \"x\" not found")], "not found"),
        (
            &[Exec::Refuse(400, "container worker is not valid")],
            "is not valid",
        ),
        (
            &[Exec::Refuse(
                500,
                "error dialing backend: dial tcp 10.0.1.11:10250: i/o timeout",
            )],
            "i/o timeout",
        ),
    ];
    for (answers, why) in refusals {
        let mut fabric = with_workers(answers).await;
        let told = greeted(&mut fabric).await.err().unwrap();
        assert!(
            told.starts_with("can't start a worker in the pod encapbench-r1-") && told.contains(why),
            "{told}"
        );
    }
}

/// Where the connection breaks the worker's streams end at once, the last with why; and the next worker can be started.
#[tokio::test]
async fn a_connection_that_breaks_in_mid_trial_ends_the_trial_and_no_more() {
    let broken: [(&'static [Exec], &str); 3] = [
        (
            &[Exec::Worker(Then::Break), Exec::Worker(Then::Done)],
            "the connection to its pod broke off",
        ),
        (
            &[Exec::Worker(Then::Close), Exec::Worker(Then::Done)],
            "the connection to its pod broke off",
        ),
        (
            &[Exec::Worker(Then::Killed), Exec::Worker(Then::Done)],
            "exit code 137",
        ),
    ];
    for (answers, why) in broken {
        let mut fabric = with_workers(answers).await;
        let mut worker = greeted(&mut fabric).await.unwrap();
        let told = worker.ask().await.unwrap_err();
        assert!(told.contains(why), "{told}");
        let mut worker = greeted(&mut fabric).await.unwrap();
        worker.ask().await.unwrap();
    }
}
