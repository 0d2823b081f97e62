//! What the server may do wrong, and what becomes of a run then: it asks again within bounds, or says clearly what is
//! wrong; and what it made is removed, or named.

use super::*;

#[tokio::test]
async fn an_overloaded_or_failing_server_is_asked_again() {
    for code in [429, 500, 502, 503, 504] {
        let fake = fake();
        fake.fail(Method::PATCH, "/pods/", 2, Answer::Status(code, "not now"));
        fake.fail(Method::GET, "/nodes", 1, Answer::Status(code, "not now"));
        let mut fabric = prepared(&fake)
            .await
            .unwrap_or_else(|error| panic!("{code}: {error}"));
        fake.fail(Method::DELETE, "/pods/", 2, Answer::Status(code, "not now"));
        fabric.finish().await.unwrap();
        assert_eq!(fake.paths(), before(), "{code}");
    }
}

#[tokio::test]
async fn a_server_that_goes_on_failing_is_told_of_and_nothing_stays() {
    let fake = fake();
    fake.fail(Method::PATCH, "-4-", 100, Answer::Status(500, "etcd is full"));
    let mut fabric = fabric(&fake, &[]).await.unwrap();
    let error = fabric.prepare().await.unwrap_err();
    assert!(
        matches!(&error, FabricError::Failed(text) if text.contains("etcd is full")),
        "{error}"
    );
    fabric.finish().await.unwrap();
    assert_eq!(fake.paths(), before());
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let fake = fake();
    fake.fail(Method::GET, "/version", 100, Answer::Silence);
    let error = read(&fake.cluster(), &[], false).await.unwrap_err();
    assert!(error.to_string().contains("did not answer within"), "{error}");
    assert!(matches!(FabricError::from(error), FabricError::Unable(_)));
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_no_panic() {
    let fake = fake();
    fake.fail(Method::GET, "/nodes", 100, Answer::Bytes("<html>a proxy</html>"));
    let error = read(&fake.cluster(), &[], false).await.unwrap_err();
    assert!(error.to_string().starts_with("can't list nodes: "), "{error}");
}

/// A watch whose version is gone (410), that breaks within an object, or that is refused, ends no wait.
#[tokio::test]
async fn a_watch_that_breaks_is_begun_anew() {
    let gone = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","code":410,"message":"too old resource version","reason":"Expired","status":"Failure"}}
"#;
    for answer in [
        Answer::Status(410, "too old resource version"),
        Answer::Bytes(gone),
        Answer::Bytes(r#"{"type":"ADDED","object":{"kind":"Po"#),
        Answer::Status(500, "no watch today"),
    ] {
        let fake = fake();
        // Pods that are not there at first: the wait must go on past the broken watch.
        fake.0.lock().unwrap().pod_status = Some(json!({ "phase": "Pending" }));
        fake.fail(Method::GET, "watch=true", 2, answer);
        let mut fabric = fabric(&fake, &[]).await.unwrap();
        let later = fake.clone();
        let start = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            later.0.lock().unwrap().pod_status = None;
            for path in later.paths().iter().filter(|path| path.starts_with(PODS)) {
                let mut pod = later.get(path).unwrap();
                pod.as_object_mut().unwrap().remove("status");
                later.put(path, pod);
            }
        };
        let (prepared, ()) = tokio::join!(fabric.prepare(), start);
        prepared.unwrap();
        fabric.finish().await.unwrap();
        assert_eq!(fake.paths(), before());
    }
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let refusals = [
        (
            403,
            r#"pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true)"#,
            "pod-security.kubernetes.io/enforce=privileged",
        ),
        (
            403,
            r#"pods "x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=4, limited: pods=4"#,
            "raise the namespace's quota",
        ),
        (
            400,
            r#"admission webhook "policy.example.com" denied the request: no images without a registry"#,
            "a policy of this cluster",
        ),
        (404, r#"namespaces "bench" not found"#, "make the namespace first"),
        (
            403,
            r"pods is forbidden: User cannot create resource pods",
            "forbidden",
        ),
    ];
    for (code, message, hint) in refusals {
        let fake = fake();
        fake.fail(Method::PATCH, "/pods/", 100, Answer::Status(code, message));
        let mut fabric = fabric(&fake, &[]).await.unwrap();
        let error = fabric.prepare().await.unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, FabricError::Unable(_)), "{told}");
        assert!(told.contains(message) && told.contains(hint), "{told}");
        fabric.finish().await.unwrap();
        assert_eq!(fake.paths(), before(), "a pool was left");
    }
}

#[tokio::test]
async fn a_pod_that_does_not_start_says_its_own_reason() {
    let fake = fake();
    fake.0.lock().unwrap().pod_status = Some(json!({
        "phase": "Pending",
        "containerStatuses": [{ "name": "worker", "image": "encapbench:9", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ErrImageNeverPull", "message": "no image" } } }],
    }));
    let told = prepared(&fake).await.unwrap_err();
    assert!(
        told.contains("ErrImageNeverPull: no image") && told.contains("scripts/build-image"),
        "{told}"
    );
}

#[tokio::test]
async fn missing_rights_are_told_in_one_message() {
    let fake = fake();
    fake.0.lock().unwrap().forbidden = vec![
        "create pods/exec".to_owned(),
        "list nodes".to_owned(),
        "delete ippools".to_owned(),
    ];
    let cluster = fake.cluster();
    let needs = Needs {
        pools: true,
        own_pools: true,
        ..Needs::default()
    };
    let lacking = missing(&cluster, &needed(needs, CalicoApi::Crd)).await.unwrap();
    let told = explain(&cluster, &lacking).to_string();
    insta::assert_snapshot!(told);
}

/// A closed connection, a request that is done and not answered, an overloaded server that says so in its header only,
/// and a quota that other pods are counted against at the same time: asked again, all is well, and nothing is there twice.
#[tokio::test]
async fn whatever_passes_is_outlasted() {
    let quota = "Operation cannot be fulfilled on resourcequotas \"compute\": the object has been modified; please apply \
                 your changes to the latest version and try again";
    let answers = [
        Answer::HangUp,
        Answer::DoneThenHangUp,
        Answer::Later(429, "0"),
        Answer::Later(503, "0"),
        Answer::Silence,
        Answer::Status(409, quota),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let fake = fake();
        // Of pods made at the same time each is met once at most: three times in all are less than one's attempts.
        for (method, part) in [
            (Method::GET, "/nodes"),
            (Method::GET, "/ippools"),
            (Method::PATCH, "/ippools/"),
            (Method::PATCH, "/pods/"),
        ] {
            fake.fail(method, part, 2, answer.clone());
        }
        let mut fabric = prepared(&fake)
            .await
            .unwrap_or_else(|error| panic!("{number}: {error}"));
        for (method, part) in [
            (Method::DELETE, "/pods/"),
            (Method::DELETE, "/ippools/"),
            (Method::GET, "/pods?"),
        ] {
            fake.fail(method, part, 2, answer.clone());
        }
        fabric.finish().await.unwrap();
        assert_eq!(fake.paths(), before(), "{number}");
    }
}

#[tokio::test]
async fn a_server_may_say_in_its_header_only_how_long_to_wait() {
    let fake = fake();
    fake.fail(Method::GET, "/nodes", 1, Answer::Later(429, "1"));
    let begun = std::time::Instant::now();
    read(&fake.cluster(), &[], false).await.unwrap();
    let took = begun.elapsed();
    // Its own pause would be a millisecond.
    assert!(took >= Duration::from_secs(1), "{took:?}");
    fake.fail(Method::GET, "/nodes", 100, Answer::Later(429, "0"));
    let told = read(&fake.cluster(), &[], false).await.unwrap_err().to_string();
    assert!(
        told.starts_with("can't list nodes: ") && told.contains("429 Too Many Requests"),
        "{told}"
    );
}

/// How often nodes are asked for where the answer is always this one.
async fn asked_for_nodes(answer: Answer) -> usize {
    let fake = fake();
    fake.fail(Method::GET, "/nodes", 100, answer);
    read(&fake.cluster(), &[], false).await.unwrap_err();
    let state = fake.0.lock().unwrap();
    state.log.iter().filter(|line| line.contains("/nodes")).count()
}

/// A server that is never reached is given up after as many attempts as there are to be, and not one more.
#[tokio::test]
async fn attempts_are_bounded() {
    for answer in [
        Answer::HangUp,
        Answer::Status(500, "no"),
        Answer::Status(429, "no"),
        Answer::Status(409, "no"),
    ] {
        assert_eq!(asked_for_nodes(answer).await, 4);
    }
    for answer in [
        Answer::Status(403, "no"),
        Answer::Status(410, "gone"),
        Answer::Status(422, "what"),
    ] {
        assert_eq!(asked_for_nodes(answer).await, 1, "to ask again is no use");
    }
}

/// What can't be removed is named, each object, with what to do; and one that can't be keeps no other from it.
#[tokio::test]
async fn what_stays_is_named() {
    for (answer, why) in [
        (Answer::Status(403, "pods is forbidden"), "forbidden"),
        (Answer::Status(500, "etcd is full"), "etcd is full"),
        (Answer::HangUp, "connection reset"),
        (Answer::Silence, "did not answer"),
    ] {
        let fake = fake();
        let mut fabric = prepared(&fake).await.unwrap();
        fake.fail(Method::DELETE, "-1-", 1000, answer.clone());
        fake.fail(Method::DELETE, "-3-", 1000, answer);
        let told = fabric.finish().await.unwrap_err().to_string();
        let stay: Vec<String> = fake
            .paths()
            .into_iter()
            .filter(|path| !before().contains(path))
            .collect();
        assert_eq!(stay.len(), 2, "{stay:?}");
        for path in &stay {
            let name = path.rsplit('/').next().unwrap();
            assert!(
                told.contains(&format!("can't delete the pod bench/{name}")),
                "{name}: {told}"
            );
        }
        assert!(
            told.contains(why) && told.contains("encapbench cleanup --run r1"),
            "{told}"
        );
    }
}

/// A pod that is deleted but does not go, as on a node that is gone.
#[tokio::test]
async fn a_pod_that_does_not_go_is_named() {
    let fake = fake();
    let mut fabric = prepared(&fake).await.unwrap();
    fake.fail(
        Method::DELETE,
        "-1-",
        1000,
        Answer::Bytes(r#"{"kind":"Pod","apiVersion":"v1","metadata":{}}"#),
    );
    let told = fabric.finish().await.unwrap_err().to_string();
    assert!(
        told.contains("-1-") && told.contains("is still there after 0.5 s"),
        "{told}"
    );
}

/// Rights that are taken away while a run goes on end it with a message, and what it made is named if it can't go.
#[tokio::test]
async fn rights_that_go_in_mid_run_are_told() {
    let fake = fake();
    let mut fabric = prepared(&fake).await.unwrap();
    fake.fail(
        Method::GET,
        "/pods?",
        1000,
        Answer::Status(403, "pods is forbidden: User \"u\" cannot list"),
    );
    let told = fabric.prepare().await.unwrap_err();
    assert!(
        matches!(&told, FabricError::Unable(text) if text.contains("can't list pods: pods is forbidden")),
        "{told}"
    );
    let told = fabric.finish().await.unwrap_err().to_string();
    assert!(
        told.contains("can't list pods") && told.contains("cleanup --run r1"),
        "{told}"
    );
}

#[tokio::test]
async fn expired_credentials_say_so() {
    let fake = fake();
    fake.fail(Method::GET, "/nodes", 1, Answer::Status(401, "Unauthorized"));
    let error = read(&fake.cluster(), &[], false).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains("the credentials have expired"), "{told}");
    assert!(error.is_forbidden() && matches!(FabricError::from(error), FabricError::Unable(_)));
}

/// Cleanup meets the same servers: what it can't remove it names, and goes on with the rest.
#[tokio::test]
async fn cleanup_goes_on_past_what_it_cannot_remove() {
    let fake = fake();
    let fabric = prepared(&fake).await.unwrap();
    drop(fabric);
    let (runs, _) = left(&fake.cluster()).await.unwrap();
    fake.fail(Method::DELETE, "-2-", 1000, Answer::Status(500, "no"));
    let told = sweep(&fake.cluster(), &runs[0]).await.unwrap_err().to_string();
    let stay: Vec<String> = fake
        .paths()
        .into_iter()
        .filter(|path| !before().contains(path))
        .collect();
    assert_eq!(stay.len(), 1, "{stay:?}");
    assert!(stay[0].contains("-2-") && told.contains("-2-"), "{told}");
}
