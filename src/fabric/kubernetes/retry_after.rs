//! `Retry-After` of answers that have it in their header only: an API server with too many requests in flight says so in
//! plain text (RFC 6585, RFC 9110), and so does a proxy before it. It is put where the server's own errors have it:
//! `details.retryAfterSeconds` of a `Status`.

use bytes::Bytes;
use http::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{Either, Full};
use serde_json::json;
use tower::util::MapResponseLayer;

type Told<B> = Response<Either<B, Full<Bytes>>>;

/// The layer of a client that does so.
pub(super) fn layer<B>() -> MapResponseLayer<fn(Response<B>) -> Told<B>> {
    MapResponseLayer::new(told)
}

fn told<B>(response: Response<B>) -> Told<B> {
    let code = response.status();
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let wait = text(RETRY_AFTER).and_then(|text| text.trim().parse::<u32>().ok());
    let is_status = text(CONTENT_TYPE).is_some_and(|kind| kind.contains("json"));
    let (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(seconds), false) =
        (code, wait, is_status)
    else {
        return response.map(Either::Left);
    };
    let message =
        format!("the API server, or a proxy before it, answered {code}, and asked to wait for {seconds} s");
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "message": message,
        "details": { "retryAfterSeconds": seconds },
    });
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Either::Right(Full::from(status.to_string())))
}
