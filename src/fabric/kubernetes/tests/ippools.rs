//! IPPools of encapbench's own and of others: whose stay, and what is put back.

use super::{super::objects::MODE_SET, *};

/// Changes the pool `default` to Always.
async fn change(fake: &Fake) -> Result<(), FabricError> {
    pools::change(
        &fake.cluster(),
        CalicoApi::Crd,
        "default",
        VxlanMode::Always,
        &mark(),
    )
    .await
}

#[tokio::test]
async fn a_pool_stays_while_a_stranger_has_an_address_of_it() {
    let fake = fake();
    let mut fabric = prepared(&fake).await.unwrap();
    let stranger = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": "shop", "name": "cart" },
        "spec": { "containers": [] }, "status": { "phase": "Running", "podIP": "198.18.0.77" } });
    fake.put("/api/v1/namespaces/shop/pods/cart", stranger);
    let told = fabric.finish().await.unwrap_err().to_string();
    assert!(
        told.contains("the pod shop/cart has an address of it (198.18.0.0/24)"),
        "{told}"
    );
    assert!(told.contains("encapbench cleanup --run r1"), "{told}");
    let pool = format!("{POOLS}/encapbench-always-r1");
    assert!(fake.paths().contains(&pool));
    // Once it has ended, cleanup takes the pool away.
    let mut over = fake.get("/api/v1/namespaces/shop/pods/cart").unwrap();
    over["status"]["phase"] = json!("Succeeded");
    fake.put("/api/v1/namespaces/shop/pods/cart", over);
    let (runs, _) = left(&fake.cluster()).await.unwrap();
    sweep(&fake.cluster(), &runs[0]).await.unwrap();
    assert!(!fake.paths().contains(&pool));
}

#[tokio::test]
async fn a_changed_pool_is_put_back() {
    let fake = fake();
    let path = format!("{POOLS}/default");
    let mode = || fake.get(&path).unwrap()["spec"]["vxlanMode"].clone();
    let note = |name: &str| fake.get(&path).unwrap()["metadata"]["annotations"][name].clone();
    let change = [("default", VxlanMode::Always)];
    // By the run itself.
    let mut fabric = fabric(&fake, &change).await.unwrap();
    fabric.prepare().await.unwrap();
    assert_eq!(
        (mode(), note(CHANGED_BY), note(MODE_BEFORE)),
        (json!("Always"), json!("r1"), json!("CrossSubnet"))
    );
    fabric.finish().await.unwrap();
    assert_eq!((mode(), note(CHANGED_BY)), (json!("CrossSubnet"), Value::Null));
    // By cleanup.
    let cluster = fake.cluster();
    pools::change(&cluster, CalicoApi::Crd, "default", VxlanMode::Always, &mark())
        .await
        .unwrap();
    let other = RunMark {
        id: "r2".to_owned(),
        ..mark()
    };
    let told = pools::change(&cluster, CalicoApi::Crd, "default", VxlanMode::Always, &other)
        .await
        .unwrap_err();
    assert!(told.to_string().contains("changed by run r1 already"), "{told}");
    let (runs, _) = left(&cluster).await.unwrap();
    sweep(&cluster, &runs[0]).await.unwrap();
    assert_eq!(mode(), "CrossSubnet");
    // What somebody else has set meanwhile stays.
    pools::change(&cluster, CalicoApi::Crd, "default", VxlanMode::Always, &mark())
        .await
        .unwrap();
    let mut object = fake.get(&path).unwrap();
    object["spec"]["vxlanMode"] = json!("Never");
    fake.put(&path, object);
    let told = pools::put_back(&cluster, CalicoApi::Crd, "default", "r1")
        .await
        .unwrap_err();
    assert!(
        told.to_string().contains("somebody has set Never since"),
        "{told}"
    );
    assert_eq!((mode(), note(CHANGED_BY)), (json!("Never"), Value::Null));
}

/// Somebody else writes the pool between the reading and the note, or between the note and the change: nothing of theirs
/// is overwritten, and the pool is changed all the same.
#[tokio::test]
async fn a_conflict_is_met_by_reading_anew() {
    for lost in [0, 1] {
        let fake = fake();
        let pool = "/ippools/default";
        fake.pass(Method::PATCH, pool, lost);
        fake.fail(
            Method::PATCH,
            pool,
            2,
            Answer::Status(409, "the object has been modified"),
        );
        change(&fake).await.unwrap();
        let now = fake.get(&format!("{POOLS}/default")).unwrap();
        assert_eq!(now["spec"]["vxlanMode"], "Always");
        assert_eq!(now["metadata"]["annotations"][MODE_BEFORE], "CrossSubnet");
        fake.fail(
            Method::PATCH,
            pool,
            2,
            Answer::Status(409, "the object has been modified"),
        );
        pools::put_back(&fake.cluster(), CalicoApi::Crd, "default", "r1")
            .await
            .unwrap();
        let now = fake.get(&format!("{POOLS}/default")).unwrap();
        assert_eq!(now["spec"]["vxlanMode"], "CrossSubnet");
        assert_eq!(now["metadata"]["annotations"], json!({}));
    }
}

/// Somebody writes it again and again: it is left alone, and who runs is told.
#[tokio::test]
async fn endless_conflicts_leave_the_pool_alone() {
    let fake = fake();
    fake.fail(
        Method::PATCH,
        "/ippools/default",
        100,
        Answer::Status(409, "the object has been modified"),
    );
    let mut fabric = fabric(&fake, &[("default", VxlanMode::Always)]).await.unwrap();
    let told = fabric.prepare().await.unwrap_err();
    assert!(
        matches!(&told, FabricError::Unable(text) if text.contains("has been modified")),
        "{told}"
    );
    fabric.finish().await.unwrap();
    assert_eq!(fake.paths(), before());
    assert_eq!(
        fake.get(&format!("{POOLS}/default")).unwrap()["spec"]["vxlanMode"],
        "CrossSubnet"
    );
}

/// The change is made, but the connection is closed before the server says so: asked again, nothing goes wrong.
#[tokio::test]
async fn a_lost_answer_changes_nothing_twice() {
    for lost in 0..2 {
        let fake = fake();
        fake.pass(Method::PATCH, "/ippools/default", lost);
        fake.fail(Method::PATCH, "/ippools/default", 1, Answer::DoneThenHangUp);
        change(&fake)
            .await
            .unwrap_or_else(|error| panic!("the answer to patch {lost} is lost: {error}"));
        let now = fake.get(&format!("{POOLS}/default")).unwrap();
        let notes = &now["metadata"]["annotations"];
        assert_eq!(
            (&now["spec"]["vxlanMode"], &notes[MODE_BEFORE], &notes[MODE_SET]),
            (&json!("Always"), &json!("CrossSubnet"), &json!("Always"))
        );
        fake.fail(Method::PATCH, "/ippools/default", 1, Answer::DoneThenHangUp);
        pools::put_back(&fake.cluster(), CalicoApi::Crd, "default", "r1")
            .await
            .unwrap();
        assert_eq!(
            fake.get(&format!("{POOLS}/default")).unwrap()["spec"]["vxlanMode"],
            "CrossSubnet"
        );
    }
}

/// Somebody sets another mode between the note and the change: theirs stays.
#[tokio::test]
async fn a_mode_that_is_set_meanwhile_stays() {
    let fake = fake();
    let path = format!("{POOLS}/default");
    let mut noted = fake.get(&path).unwrap();
    noted["spec"]["vxlanMode"] = json!("Never");
    noted["metadata"]["annotations"] =
        json!({ CHANGED_BY: "r1", MODE_BEFORE: "CrossSubnet", MODE_SET: "Always" });
    fake.put(&path, noted);
    let told = pools::change(
        &fake.cluster(),
        CalicoApi::Crd,
        "default",
        VxlanMode::Always,
        &mark(),
    )
    .await
    .unwrap_err()
    .to_string();
    assert!(told.contains("its vxlanMode was CrossSubnet, is Never"), "{told}");
    assert_eq!(fake.get(&path).unwrap()["spec"]["vxlanMode"], "Never");
}
