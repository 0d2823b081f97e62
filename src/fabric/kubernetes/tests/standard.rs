//! The Pod Security Standard `restricted`, as the pods keep it.

use super::{fabric, fake};
use serde_json::{Value, json};

/// The Pod Security Standard `restricted`, control by control, as of Kubernetes 1.33
/// (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).
fn breaches(pod: &Value) -> Vec<&'static str> {
    let spec = &pod["spec"];
    let mut found = Vec::new();
    let mut check = |name, broken: bool| {
        if broken {
            found.push(name);
        }
    };
    for (name, key) in [
        ("host network", "hostNetwork"),
        ("host PID", "hostPID"),
        ("host IPC", "hostIPC"),
    ] {
        check(name, spec[key] == json!(true));
    }
    let of_pod = &spec["securityContext"];
    check(
        "sysctls",
        of_pod["sysctls"].as_array().is_some_and(|all| !all.is_empty()),
    );
    check(
        "HostProcess",
        of_pod["windowsOptions"]["hostProcess"] == json!(true),
    );
    check("run as user 0", of_pod["runAsUser"] == json!(0));
    let allowed = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        check(
            "volume types",
            !allowed.iter().any(|kind| !volume[*kind].is_null()),
        );
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            let context = &container["securityContext"];
            let either = |key: &str| {
                if context[key].is_null() {
                    of_pod[key].clone()
                } else {
                    context[key].clone()
                }
            };
            check("privileged", context["privileged"] == json!(true));
            check("escalation", context["allowPrivilegeEscalation"] != json!(false));
            check("non-root", either("runAsNonRoot") != json!(true));
            check("root user", either("runAsUser") == json!(0));
            let profile = either("seccompProfile")["type"].clone();
            check(
                "seccomp",
                !matches!(profile.as_str(), Some("RuntimeDefault" | "Localhost")),
            );
            check(
                "capabilities dropped",
                context["capabilities"]["drop"] != json!(["ALL"]),
            );
            let added = context["capabilities"]["add"].as_array();
            check(
                "capabilities added",
                added
                    .into_iter()
                    .flatten()
                    .any(|one| *one != json!("NET_BIND_SERVICE")),
            );
            check(
                "proc mount",
                !matches!(context["procMount"].as_str(), None | Some("Default")),
            );
            for port in container["ports"].as_array().into_iter().flatten() {
                check("host ports", !matches!(port["hostPort"].as_u64(), None | Some(0)));
            }
        }
    }
    for key in ["appArmorProfile", "seLinuxOptions"] {
        check("profiles are the default", !of_pod[key].is_null());
    }
    found
}

#[tokio::test]
async fn pods_keep_the_restricted_standard_and_nodes_need_the_host_network_only() {
    let fabric = fabric(&fake(), &[]).await.unwrap();
    let mut seen = (0, 0);
    for object in fabric.objects().unwrap() {
        if object["kind"] != "Pod" {
            continue;
        }
        let place = object["metadata"]["annotations"]["encapbench.io/place"]
            .as_str()
            .unwrap();
        if place.contains('@') {
            seen.0 += 1;
            assert_eq!(breaches(&object), Vec::<&str>::new(), "{place}");
        } else {
            seen.1 += 1;
            assert_eq!(breaches(&object), ["host network"], "{place}");
        }
        assert_eq!(object["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(object["spec"]["automountServiceAccountToken"], false);
        assert!(object["spec"]["activeDeadlineSeconds"].as_u64().unwrap() > 0);
        assert!(object["metadata"]["name"].as_str().unwrap().len() <= 63);
    }
    assert_eq!(seen, (4, 2));
}

#[test]
fn the_check_of_the_standard_can_fail() {
    let bad = json!({ "spec": { "hostNetwork": true, "hostPID": true,
        "volumes": [ { "name": "v", "hostPath": { "path": "/" } } ],
        "containers": [ { "name": "c", "ports": [ { "hostPort": 80 } ], "securityContext": { "privileged": true } } ] } });
    let found = breaches(&bad);
    for control in [
        "host network",
        "host PID",
        "volume types",
        "privileged",
        "escalation",
        "non-root",
        "seccomp",
        "capabilities dropped",
        "host ports",
    ] {
        assert!(found.contains(&control), "{control} is not checked");
    }
}
