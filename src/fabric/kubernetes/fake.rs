//! A small API server in memory, for tests: it keeps objects, starts pods at once, and fails as it is told to.

use super::{
    api::{Cluster, Patience},
    retry_after,
};
use http::{Method, Request, Response, request::Parts};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::{Arc, Mutex},
    time::Duration,
};
use tower::Layer;

/// What is answered once instead of the truth.
pub(super) struct Fault {
    method: Method,
    part: &'static str,
    left: usize,
    answer: Answer,
}

/// How a request is answered.
#[derive(Clone)]
pub(super) enum Answer {
    /// With an error's status code and message.
    Status(u16, &'static str),
    /// Not at all.
    Silence,
    /// With these bytes.
    Bytes(&'static str),
    /// With an error's status code, in plain text, and after how many seconds to come back.
    Later(u16, &'static str),
    /// With the truth.
    Truth,
    /// By closing the connection.
    HangUp,
    /// By doing what is asked, and closing the connection before it is said.
    DoneThenHangUp,
}

/// The server's state.
#[derive(Default)]
pub(super) struct State {
    /// Objects by the path that they are read at.
    pub(super) objects: BTreeMap<String, Value>,
    faults: Vec<Fault>,
    /// Method and path of each request, query and all.
    pub(super) log: Vec<String>,
    /// What pods get as their status; as if they ran where nothing is said.
    pub(super) pod_status: Option<Value>,
    /// Whether Services get no address.
    pub(super) no_service_addresses: bool,
    /// Rights that nobody has, as `verb resource`.
    pub(super) forbidden: Vec<String>,
    version: u64,
    next_address: u8,
}

/// The server.
#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Arc<Mutex<State>>);

impl Fake {
    /// A cluster behind it, that loses patience fast.
    pub(super) fn cluster(&self) -> Cluster {
        self.named("cluster")
    }

    /// The same under another name.
    pub(super) fn named(&self, name: &str) -> Cluster {
        let state = self.0.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let state = state.clone();
            async move { answer(&state, request).await }
        });
        let service = retry_after::layer().layer(service);
        let patience = Patience {
            answer: Duration::from_millis(300),
            attempts: 4,
            pause: Duration::from_millis(1),
            gone_within: Duration::from_millis(500),
        };
        Cluster::of_client(name, "bench", Client::new(service, "bench"), patience)
    }

    /// The next `times` requests of a method on a path that has `part` in it are answered so.
    pub(super) fn fail(&self, method: Method, part: &'static str, times: usize, answer: Answer) {
        self.0.lock().unwrap().faults.push(Fault {
            method,
            part,
            left: times,
            answer,
        });
    }

    /// The next `times` requests of that kind go through before what [`Self::fail`] says next.
    pub(super) fn pass(&self, method: Method, part: &'static str, times: usize) {
        self.fail(method, part, times, Answer::Truth);
    }

    pub(super) fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().put(path, object);
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().cloned().collect()
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["kind"] == "Service"
            && object["spec"].get("clusterIP").is_none()
            && !self.no_service_addresses
        {
            object["spec"]["clusterIP"] = json!("172.16.0.9");
        }
        if object["kind"] == "Pod" && object.get("status").is_none() {
            let of_pool = object["metadata"]["annotations"]["cni.projectcalico.org/ipv4pools"]
                .as_str()
                .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok()?.pop());
            self.next_address += 1;
            let address = match of_pool.as_deref() {
                Some(name) => {
                    let pool = &self.objects[&format!("/apis/crd.projectcalico.org/v1/ippools/{name}")];
                    let cidr = pool["spec"]["cidr"].as_str().unwrap_or_default();
                    let (network, _) = cidr.rsplit_once('.').unwrap_or_default();
                    format!("{network}.{}", self.next_address)
                }
                None => "10.0.1.11".to_owned(),
            };
            object["status"] = self.pod_status.clone().unwrap_or_else(|| {
                json!({
                    "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
                    "containerStatuses": [{
                        "name": "worker", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                        "state": { "running": {} },
                    }],
                })
            });
        }
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn fault(&mut self, method: &Method, path: &str) -> Option<Answer> {
        let fault = self
            .faults
            .iter_mut()
            .find(|fault| fault.left > 0 && fault.method == *method && path.contains(fault.part))?;
        fault.left -= 1;
        Some(fault.answer.clone())
    }

    fn list(&self, path: &str, selector: &str) -> Vec<Value> {
        let (start, plural) = path.rsplit_once('/').unwrap_or(("", path));
        let all = start.ends_with("/v1") || start.ends_with("/v3");
        let inside = |key: &str| {
            let (collection, _) = key.rsplit_once('/').unwrap_or((key, ""));
            collection == path || all && collection.starts_with(start) && collection.ends_with(plural)
        };
        let chosen = |object: &Value| {
            selector
                .split(',')
                .filter(|part| !part.is_empty())
                .all(|part| match part.split_once('=') {
                    Some((key, value)) => object["metadata"]["labels"][key] == value,
                    None => !object["metadata"]["labels"][part].is_null(),
                })
        };
        let found = self.objects.iter().filter(|(key, _)| inside(key));
        found
            .filter(|(_, object)| chosen(object))
            .map(|(_, object)| object.clone())
            .collect()
    }
}

fn response(code: u16, body: &Value) -> Response<Body> {
    let body = Body::from(body.to_string().into_bytes());
    Response::builder().status(code).body(body).unwrap()
}

fn refusal(code: u16, message: &str) -> Response<Body> {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        _ => "Test",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": reason,
    });
    response(code, &body)
}

/// A query's value, with what a selector has in it decoded.
fn query(text: &str, key: &str) -> String {
    let found = text
        .split('&')
        .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    found
        .unwrap_or_default()
        .replace("%2F", "/")
        .replace("%3D", "=")
        .replace("%2C", ",")
}

async fn answer(state: &Mutex<State>, request: Request<Body>) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let asked = parts.uri.query().unwrap_or_default().to_owned();
    let whole = parts
        .uri
        .path_and_query()
        .map_or(String::new(), ToString::to_string);
    let fault = {
        let mut state = state.lock().unwrap();
        state.log.push(format!("{} {whole}", parts.method));
        state.fault(&parts.method, &whole)
    };
    let hung_up = || io::Error::from(ErrorKind::ConnectionReset);
    match fault {
        Some(Answer::Status(code, message)) => Ok(refusal(code, message)),
        Some(Answer::Silence) => std::future::pending().await,
        Some(Answer::Bytes(text)) => Ok(Response::new(Body::from(text.as_bytes().to_vec()))),
        Some(Answer::Later(code, seconds)) => {
            let answer = Response::builder().status(code).header("retry-after", seconds);
            Ok(answer.body(Body::from(b"not now".to_vec())).unwrap())
        }
        Some(Answer::HangUp) => Err(hung_up()),
        Some(Answer::DoneThenHangUp) => {
            truth(state, &parts, &asked, body).await;
            Err(hung_up())
        }
        Some(Answer::Truth) | None => Ok(truth(state, &parts, &asked, body).await),
    }
}

async fn truth(state: &Mutex<State>, parts: &Parts, asked: &str, body: Value) -> Response<Body> {
    let path = parts.uri.path().to_owned();
    if query(asked, "watch") == "true" {
        // A watch that tells all there is, and ends.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let found = state.lock().unwrap().list(&path, &query(asked, "labelSelector"));
        let mut lines = String::new();
        for object in found {
            lines.push_str(&json!({ "type": "MODIFIED", "object": object }).to_string());
            lines.push('\n');
        }
        return Response::new(Body::from(lines.into_bytes()));
    }
    let mut state = state.lock().unwrap();
    match parts.method {
        Method::GET => {
            if let Some(object) = state.objects.get(&path) {
                return response(200, object);
            }
            let plural = path.rsplit('/').next().unwrap_or_default();
            let collections = [
                "pods",
                "nodes",
                "services",
                "events",
                "ippools",
                "felixconfigurations",
                "gateways",
                "endpoints",
                "clusters",
            ];
            if collections.contains(&plural) {
                let items = state.list(&path, &query(asked, "labelSelector"));
                let version = state.version.to_string();
                return response(
                    200,
                    &json!({ "metadata": { "resourceVersion": version }, "items": items }),
                );
            }
            refusal(404, "not found")
        }
        Method::POST => {
            let wanted = &body["spec"]["resourceAttributes"];
            let text = |key: &str| wanted[key].as_str().unwrap_or_default();
            let mut resource = text("resource").to_owned();
            if !text("subresource").is_empty() {
                resource = format!("{resource}/{}", text("subresource"));
            }
            let allowed = !state.forbidden.contains(&format!("{} {resource}", text("verb")));
            let mut answer = body.clone();
            answer["metadata"] = json!({});
            answer["status"] = json!({ "allowed": allowed });
            response(201, &answer)
        }
        Method::PATCH => {
            let kind = parts.headers.get("content-type");
            let apply = kind.is_some_and(|kind| kind.to_str().unwrap().contains("apply-patch"));
            if apply {
                return response(201, &state.put(&path, body));
            }
            let Some(mut object) = state.objects.get(&path).cloned() else {
                return refusal(404, "not found");
            };
            let version = &body["metadata"]["resourceVersion"];
            if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
                return refusal(409, "the object has been modified");
            }
            merge(&mut object, &body);
            response(200, &state.put(&path, object))
        }
        Method::DELETE => match state.objects.remove(&path) {
            Some(object) => response(200, &object),
            None => refusal(404, "not found"),
        },
        _ => refusal(405, "what is that"),
    }
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in changes {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}
