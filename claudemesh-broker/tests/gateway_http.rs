//! HTTP endpoints: what they answer, and to whom they do not.
#![allow(missing_docs)]

mod gateway_kit;

use claudemesh_broker::security::rate_limit::Limit;
use claudemesh_crypto::{
    BoxSecretKey, InviteRole, NewInviteV1, SecretKey, decode_box_key, encode_box_key, open_root_key, random_bytes,
};
use claudemesh_proto::limits::MAX_HTTP_BODY_BYTES;
use gateway_kit::{Lab, authorization, http, now_ms};
use serde_json::{Value, json};

#[tokio::test]
async fn health_metrics_and_common_rules() {
    let lab = Lab::start().await;
    for path in ["/health", "/health/ready", "/health/live"] {
        let (status, health) = lab.call("GET", path, None, None).await;
        assert_eq!(
            (status, &health["status"], &health["db"]),
            (200, &json!("ok"), &json!("up"))
        );
        assert!(health["version"].is_string() && health["gitSha"].is_string() && health["uptime"].is_u64());
    }
    let _session = lab.connect_v1(&lab.owner).await;
    let metrics = http(lab.addr(), "GET", "/metrics", "", b"").await;
    assert!(
        metrics.body.contains("broker_connections_active 1\n"),
        "{}",
        metrics.body
    );
    assert!(metrics.body.contains("broker_commit_rows_count"));
    assert!(
        !metrics.body.contains(&format!("endpoint=\"/mesh/{}", lab.mesh)),
        "routes are counted, not paths"
    );

    for (method, path) in [("GET", "/nothing"), ("GET", "/ws/"), ("PUT", "/join"), ("GET", "/")] {
        let answer = http(lab.addr(), method, path, "", b"").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "not found"),
            "{method} {path}"
        );
        assert!(!answer.head.contains("\ncontent-type:"));
    }
    let options = http(
        lab.addr(),
        "OPTIONS",
        "/mesh/x/settings",
        "origin: https://a.example\r\n",
        b"",
    )
    .await;
    assert_eq!((options.status, options.body.as_str()), (204, ""));
    assert!(options.head.contains("access-control-allow-origin: *"));
    assert!(options.head.contains("authorization") && options.head.contains("patch"));
    assert!(!options.head.contains("allow-credentials"));

    let large = vec![b' '; MAX_HTTP_BODY_BYTES + 1];
    let answer = http(lab.addr(), "POST", "/join", "", &large).await;
    assert_eq!(answer.status, 413);
    let error: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        (&error["ok"], &error["error"]),
        (&json!(false), &json!("payload too large"))
    );
}

#[tokio::test]
async fn defect_112_meshes_are_made_by_who_holds_the_owners_key() {
    let lab = Lab::start().await;
    let key = SecretKey::generate();
    let owner = key.public().to_string();
    let body = json!({ "name": "Lab Mesh", "owner_pubkey": owner, "pubkey": lab.owner.pubkey() });
    let (status, error) = lab.call("POST", "/cli/mesh/create", None, Some(body.clone())).await;
    assert_eq!((status, &error["code"]), (401, &json!("unauthorized")));
    let (status, error) = lab
        .call("POST", "/cli/mesh/create", Some(&lab.owner.key), Some(body.clone()))
        .await;
    assert_eq!((status, &error["code"]), (403, &json!("forbidden")));
    let (status, mesh) = lab
        .call("POST", "/cli/mesh/create", Some(&key), Some(body.clone()))
        .await;
    assert_eq!((status, &mesh["slug"]), (200, &json!("lab-mesh-2")), "{mesh}");
    assert_eq!(mesh["broker_url"], format!("ws://{}/ws", lab.addr()));
    for (field, value) in [
        ("slug", json!("Not A Slug")),
        ("name", json!("")),
        ("pubkey", json!("00".repeat(32))),
    ] {
        let mut bad = body.clone();
        bad[field] = value;
        let (status, _) = lab.call("POST", "/cli/mesh/create", Some(&key), Some(bad)).await;
        assert_eq!(status, 400, "{field}");
    }
}

#[tokio::test]
async fn defect_015_sub_e_04_cli_42_a_signature_covers_the_request_and_is_good_once() {
    let lab = Lab::start().await;
    let path = lab.path("/members");
    let header = authorization(&lab.owner.key, "GET", &path, b"");
    assert_eq!(http(lab.addr(), "GET", &path, &header, b"").await.status, 200);
    let replayed = http(lab.addr(), "GET", &path, &header, b"").await;
    assert_eq!(replayed.status, 401);
    assert!(replayed.body.contains("replayed"), "{}", replayed.body);

    let settings = lab.path("/settings");
    let body = br#"{"selfEditable":{"displayName":false}}"#;
    let header = authorization(&lab.owner.key, "PATCH", &settings, body);
    for (method, target, sent) in [
        (
            "PATCH",
            settings.as_str(),
            br#"{"selfEditable":{"displayName":true}}"#.as_slice(),
        ),
        ("PATCH", &format!("{settings}?x"), body),
        ("PATCH", "/mesh/other/settings", body),
        ("DELETE", &lab.path(""), b""),
    ] {
        let answer = http(lab.addr(), method, target, &header, sent).await;
        assert_eq!(answer.status, 401, "{method} {target}: {}", answer.body);
        assert!(answer.body.contains("bad_signature"));
    }
    // Attempts with it did not use it up.
    assert_eq!(http(lab.addr(), "PATCH", &settings, &header, body).await.status, 200);
    for header in [
        "authorization: Bearer x\r\n",
        "authorization: ClaudemeshSig key=\"x\"\r\n",
    ] {
        assert_eq!(http(lab.addr(), "GET", &path, header, b"").await.status, 400);
    }
    let old = claudemesh_crypto::sign_request(&lab.owner.key, "GET", &path, b"", now_ms() - 61_000);
    let answer = http(lab.addr(), "GET", &path, &format!("authorization: {old}\r\n"), b"").await;
    assert!(
        answer.status == 401 && answer.body.contains("timestamp_skew"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn invites_are_for_those_who_may() {
    let lab = Lab::start().await;
    let admin = lab.join("ada", "admin").await;
    let member = lab.join("bob", "member").await;
    let path = lab.path("/invites");
    let stranger = SecretKey::generate();

    for (signer, status) in [(&member.key, 403), (&stranger, 401)] {
        let invite = lab.invite(signer, "member", 1);
        assert_eq!(lab.call("POST", &path, Some(signer), Some(invite)).await.0, status);
        assert_eq!(lab.call("GET", &path, Some(signer), None).await.0, status);
        assert_eq!(
            lab.call("DELETE", &format!("{path}/x"), Some(signer), None).await.0,
            status
        );
    }
    // An admin signs with its own key, and invites members only.
    let own = lab.invite(&admin.key, "member", 2);
    let (status, made) = lab.call("POST", &path, Some(&admin.key), Some(own.clone())).await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(
        made["url"],
        format!("http://{}/i/{}", lab.addr(), own["code"].as_str().unwrap())
    );
    assert_eq!(
        lab.call("POST", &path, Some(&admin.key), Some(own.clone())).await.0,
        409,
        "its id is taken"
    );
    let (status, _) = lab
        .call(
            "POST",
            &path,
            Some(&admin.key),
            Some(lab.invite(&admin.key, "admin", 1)),
        )
        .await;
    assert_eq!(status, 403);
    // Nor may it hand in what the owner signed, or what does not say what it stores.
    let (status, _) = lab
        .call(
            "POST",
            &path,
            Some(&admin.key),
            Some(lab.invite(&lab.owner_key, "member", 1)),
        )
        .await;
    assert_eq!(status, 403);
    for (field, value) in [
        ("max_uses", json!(0)),
        ("expires_at", json!(now_ms() / 1_000 - 1)),
        ("expires_at", json!(now_ms() / 1_000 + 400 * 86_400)),
        ("expires_at", json!(now_ms() / 1_000 + 60)),
        ("role", json!("admin")),
        ("invite_id", json!("0123456789abcdef")),
        ("canonical_v2", json!("v=2|x")),
        ("signature", json!("ab".repeat(64))),
    ] {
        let mut bad = lab.invite(&lab.owner_key, "member", 1);
        bad[field] = value.clone();
        let (status, error) = lab.call("POST", &path, Some(&lab.owner.key), Some(bad)).await;
        assert!(status == 400 || status == 401, "{field} {value}: {status} {error}");
    }

    let (_, listed) = lab.call("GET", &path, Some(&lab.owner.key), None).await;
    let invites = listed["invites"].as_array().unwrap();
    assert_eq!(invites.len(), 1, "used ones are gone: {listed}");
    let id = invites[0]["id"].as_str().unwrap();
    assert_eq!(
        lab.call("DELETE", &format!("{path}/{id}"), Some(&lab.owner.key), None)
            .await
            .0,
        200
    );
    assert_eq!(
        lab.call("DELETE", &format!("{path}/{id}"), Some(&lab.owner.key), None)
            .await
            .0,
        404
    );
    let (status, error) = lab.claim(own["code"].as_str().unwrap(), &stranger, "x").await;
    assert_eq!((status, &error["error"]), (410, &json!("revoked")));
}

#[tokio::test]
async fn sub_e_30_a_claim_uses_an_invite_only_if_it_succeeds() {
    let lab = Lab::start().await;
    let code = lab.invited("member", 1).await;
    let key = SecretKey::generate();
    let recipient = BoxSecretKey::from(random_bytes::<32>());
    let body = |field: &str, value: Value| {
        let mut body = json!({
            "recipient_x25519_pubkey": encode_box_key(&recipient.public_key()),
            "peer_pubkey": key.public().to_string(),
        });
        body[field] = value;
        body
    };
    for path in [
        format!("/invites/{code}/claim"),
        format!("/api/public/invites/{code}/claim"),
    ] {
        for (field, value) in [
            ("recipient_x25519_pubkey", json!("short")),
            ("recipient_x25519_pubkey", json!("!".repeat(43))),
            // A key of small order: anybody could open what is sealed to it.
            ("recipient_x25519_pubkey", json!("A".repeat(43))),
            ("peer_pubkey", Value::Null),
            ("peer_pubkey", json!("00".repeat(32))),
            ("display_name", json!("x".repeat(129))),
        ] {
            let (status, error) = lab.call("POST", &path, None, Some(body(field, value.clone()))).await;
            assert_eq!((status, &error["error"]), (400, &json!("malformed")), "{field} {value}");
        }
    }
    let (status, error) = lab.claim("NOSUCHCODE", &key, "x").await;
    assert_eq!((status, &error["error"]), (404, &json!("not_found")));

    let path = format!("/api/public/invites/{code}/claim");
    let (status, claimed) = lab
        .call("POST", &path, None, Some(body("display_name", json!("carl"))))
        .await;
    assert_eq!(status, 200, "{claimed}");
    assert!(decode_box_key(&encode_box_key(&recipient.public_key())).is_ok());
    assert_eq!(
        open_root_key(&recipient, claimed["sealed_root_key"].as_str().unwrap())
            .unwrap()
            .len(),
        32
    );
    assert_eq!(claimed["mesh_id"], lab.mesh.as_str());
    assert_eq!(claimed["owner_pubkey"], lab.owner_key.public().to_string());
    // The same key again takes nothing.
    let (status, again) = lab.claim(&code, &key, "carl").await;
    assert_eq!((status, &again["already_member"]), (200, &json!(true)));
    assert_eq!(again["member_id"], claimed["member_id"]);
    let (status, error) = lab.claim(&code, &SecretKey::generate(), "dora").await;
    assert_eq!((status, &error["error"]), (410, &json!("exhausted")));

    // Of many at once, as many succeed as may.
    let code = lab.invited("member", 2).await;
    let keys: Vec<_> = (0..6).map(|_| SecretKey::generate()).collect();
    let claims = keys.iter().map(|key| lab.claim(&code, key, "x"));
    let statuses = futures_util::future::join_all(claims).await;
    assert_eq!(statuses.iter().filter(|(status, _)| *status == 200).count(), 2);
    let (status, found) = lab
        .call("GET", &format!("/api/public/invite-code/{code}"), None, None)
        .await;
    assert_eq!((status, found), (404, json!({ "found": false })));
}

#[tokio::test]
async fn an_invite_of_an_admin_ends_with_the_admin() {
    let lab = Lab::start().await;
    let admin = lab.join("ada", "admin").await;
    let invite = lab.invite(&admin.key, "member", 5);
    let code = invite["code"].as_str().unwrap().to_owned();
    assert_eq!(
        lab.call("POST", &lab.path("/invites"), Some(&admin.key), Some(invite))
            .await
            .0,
        200
    );
    assert_eq!(lab.claim(&code, &SecretKey::generate(), "x").await.0, 200);
    let demote = Some(json!({ "permission": "member" }));
    let path = lab.path(&format!("/member/{}", admin.id));
    assert_eq!(lab.call("PATCH", &path, Some(&lab.owner.key), demote).await.0, 200);
    let (status, error) = lab.claim(&code, &SecretKey::generate(), "y").await;
    assert_eq!((status, &error["error"]), (400, &json!("bad_signature")));
}

#[tokio::test]
async fn joining_with_a_token_checks_in_the_originals_order() {
    let lab = Lab::start().await;
    let new_invite = NewInviteV1 {
        mesh_id: &lab.mesh,
        mesh_slug: "lab-mesh",
        broker_url: "ws://127.0.0.1/ws",
        expires_at: now_ms() / 1_000 + 600,
        mesh_root_key: &[7; 32],
        // The payload's word on the standing counts for nothing.
        role: InviteRole::Admin,
    };
    let token = new_invite.sign(&lab.owner_key).unwrap();
    let text = token.to_token().to_string();
    let hash: String = {
        use sha2::Digest as _;
        sha2::Sha256::digest(&text)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let mut invite = lab.invite(&lab.owner_key, "member", 1);
    invite["token_hash"] = json!(hash);
    invite["preset"] = json!({ "displayName": "preset name", "roleTag": "db" });
    assert_eq!(
        lab.call("POST", &lab.path("/invites"), Some(&lab.owner.key), Some(invite))
            .await
            .0,
        200
    );

    let key = SecretKey::generate();
    let body = |token: &str, payload: &claudemesh_crypto::InviteV1| {
        json!({
            "invite_token": token,
            "invite_payload": payload,
            "peer_pubkey": key.public().to_string().to_uppercase(),
            "display_name": "given name",
        })
    };
    let refused = async |body: Value| {
        let (status, error) = lab.call("POST", "/join", None, Some(body)).await;
        assert_eq!((status, &error["ok"]), (400, &json!(false)), "{error}");
        error["error"].as_str().unwrap().to_owned()
    };
    let mut bad = body(&text, &token);
    bad["display_name"] = json!("");
    assert_eq!(
        refused(bad).await,
        "invite_token, invite_payload, peer_pubkey, display_name required"
    );
    let mut bad = body(&text, &token);
    bad["peer_pubkey"] = json!("xyz");
    assert_eq!(refused(bad).await, "peer_pubkey must be 64 hex chars (32 bytes)");
    let mut bad = body(&text, &token);
    bad["invite_payload"]["expires_at"] = json!(now_ms() / 1_000 + 999_999);
    assert_eq!(refused(bad).await, "invite_bad_signature");
    let mut bad = body(&text, &token);
    bad["invite_payload"] = json!("text");
    assert_eq!(refused(bad).await, "invite_bad_signature");
    let elsewhere = NewInviteV1 {
        mesh_id: "nowhere",
        ..new_invite
    }
    .sign(&lab.owner_key)
    .unwrap();
    assert_eq!(refused(body(&text, &elsewhere)).await, "mesh_not_found");
    let forged = new_invite.sign(&SecretKey::generate()).unwrap();
    assert_eq!(refused(body(&text, &forged)).await, "invite_owner_mismatch");
    assert_eq!(refused(body("another-token", &token)).await, "invite_not_found");
    let past = NewInviteV1 {
        expires_at: now_ms() / 1_000 - 5,
        ..new_invite
    }
    .sign(&lab.owner_key)
    .unwrap();
    assert_eq!(refused(body(&text, &past)).await, "invite_expired");

    let (status, joined) = lab.call("POST", "/join", None, Some(body(&text, &token))).await;
    assert_eq!((status, &joined["ok"]), (200, &json!(true)), "{joined}");
    assert!(joined.get("alreadyMember").is_none());
    let (_, again) = lab.call("POST", "/join", None, Some(body(&text, &token))).await;
    assert_eq!(
        (&again["alreadyMember"], &again["memberId"]),
        (&json!(true), &joined["memberId"])
    );
    let mut other = body(&text, &token);
    other["peer_pubkey"] = json!(SecretKey::generate().public().to_string());
    assert_eq!(refused(other).await, "invite_exhausted");

    let (_, members) = lab.call("GET", &lab.path("/members"), Some(&key), None).await;
    let me = members["members"]
        .as_array()
        .unwrap()
        .iter()
        .find(|member| member["id"] == joined["memberId"])
        .unwrap();
    assert_eq!(
        (&me["permission"], &me["displayName"]),
        (&json!("member"), &json!("preset name")),
        "{me}"
    );
    assert_eq!(me["roleTag"], "db");
}

#[tokio::test]
async fn defect_100_sub_e_05_members_edit_what_they_may_and_nobody_elses() {
    let lab = Lab::start().await;
    let (admin, bob) = (lab.join("ada", "admin").await, lab.join("bob", "member").await);
    let path = |id: &str| lab.path(&format!("/member/{id}"));
    let mut socket = lab.connect_v2(&bob).await;

    let change = json!({ "displayName": "robert", "roleTag": "db", "groups": [{ "name": "@backend" }] });
    let (status, answer) = lab.call("PATCH", &path(&bob.id), Some(&bob.key), Some(change)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["member"]["displayName"], &answer["changes"]["roleTag"]),
        (&json!("robert"), &json!("db"))
    );
    let push = loop {
        let push = socket.next_of("push").await;
        if push["event"] == "profile_updated" {
            break push;
        }
    };
    assert_eq!(push["eventData"]["displayName"], "robert");
    // The session that was there before has the new name, without connecting again.
    let peers = socket.ask(json!({ "type": "list_peers" })).await;
    assert_eq!(
        (&peers["peers"][0]["displayName"], &peers["peers"][0]["memberPubkey"]),
        (&json!("robert"), &json!(bob.pubkey())),
        "{peers}"
    );

    let name = || Some(json!({ "displayName": "mallory" }));
    let role = || Some(json!({ "permission": "admin" }));
    for (signer, target, body, status) in [
        (&bob.key, &admin.id, name(), 403),
        (&bob.key, &bob.id, role(), 403),
        (
            &bob.key,
            &bob.id,
            Some(json!({ "permissions": { "canInvite": true } })),
            403,
        ),
        (&admin.key, &bob.id, role(), 403),
        (&admin.key, &lab.owner.id, name(), 403),
        (
            &admin.key,
            &bob.id,
            Some(json!({ "permissions": { "canManagePermissions": true } })),
            403,
        ),
        (
            &admin.key,
            &bob.id,
            Some(json!({ "permissions": { "canSend": false } })),
            200,
        ),
        (
            &lab.owner.key,
            &lab.owner.id,
            Some(json!({ "permission": "member" })),
            403,
        ),
        (&lab.owner.key, &bob.id, Some(json!({})), 400),
        (&lab.owner.key, &bob.id, Some(json!({ "displayName": "  " })), 400),
        (
            &lab.owner.key,
            &bob.id,
            Some(json!({ "displayName": "x".repeat(129) })),
            400,
        ),
        (&SecretKey::generate(), &bob.id, name(), 401),
        // The owner's own key speaks for the owner.
        (&lab.owner_key, &bob.id, name(), 200),
    ] {
        let (have, answer) = lab.call("PATCH", &path(target), Some(signer), body.clone()).await;
        assert_eq!(have, status, "{body:?}: {answer}");
    }

    // A member of another mesh is out of reach, for the owner as well.
    let other_key = SecretKey::generate();
    let other = json!({ "name": "other", "owner_pubkey": other_key.public().to_string(), "pubkey": other_key.public().to_string() });
    let (_, other) = lab
        .call("POST", "/cli/mesh/create", Some(&other_key), Some(other))
        .await;
    let foreign = other["member_id"].as_str().unwrap();
    assert_eq!(
        lab.call("PATCH", &path(foreign), Some(&lab.owner.key), name()).await.0,
        404
    );
    assert_eq!(
        lab.call("DELETE", &path(foreign), Some(&lab.owner.key), None).await.0,
        404
    );
    assert_eq!(
        lab.call("GET", &lab.path("/members"), Some(&other_key), None).await.0,
        401
    );
    assert_eq!(
        lab.call("GET", "/mesh/nowhere/members", Some(&other_key), None).await.0,
        401,
        "strangers learn nothing"
    );

    // Rules of the mesh.
    let rules = Some(
        json!({ "selfEditable": { "displayName": false, "roleTag": false, "groups": true, "messageMode": true } }),
    );
    let (status, error) = lab
        .call("PATCH", &lab.path("/settings"), Some(&bob.key), rules.clone())
        .await;
    assert_eq!((status, &error["error"]), (403, &json!("admin access required")));
    assert_eq!(
        lab.call("PATCH", &lab.path("/settings"), Some(&admin.key), Some(json!({})))
            .await
            .0,
        400
    );
    assert_eq!(
        lab.call("PATCH", &lab.path("/settings"), Some(&admin.key), rules)
            .await
            .0,
        200
    );
    let body = Some(json!({ "displayName": "b", "roleTag": "t", "messageMode": "inbox" }));
    let (status, error) = lab.call("PATCH", &path(&bob.id), Some(&bob.key), body).await;
    assert_eq!(
        (status, &error["error"]),
        (403, &json!("admin-managed fields: displayName, roleTag"))
    );

    // Removal.
    assert_eq!(lab.call("DELETE", &path(&admin.id), Some(&bob.key), None).await.0, 403);
    assert_eq!(
        lab.call("DELETE", &path(&lab.owner.id), Some(&admin.key), None).await.0,
        403
    );
    assert_eq!(
        lab.call("DELETE", &path(&bob.id), Some(&bob.key), None).await.0,
        200,
        "everybody may leave"
    );
    let (status, error) = lab.call("GET", &lab.path("/members"), Some(&bob.key), None).await;
    assert_eq!((status, &error["code"]), (403, &json!("revoked")));
}

#[tokio::test]
async fn defect_017_094_hooks_speak_for_the_member_that_signed() {
    let lab = Lab::start_with(|config| config.hook_rate = Limit::per_minute(2, 2)).await;
    let bob = lab.join("bob", "member").await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    let report = |status: &str| Some(json!({ "cwd": "/work", "pid": 1, "status": status }));
    let (status, answer) = lab
        .call("POST", "/hook/set-status", Some(&lab.owner.key), report("working"))
        .await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    assert!(answer["presence_id"].is_string());
    let peers = socket.ask(json!({ "type": "list_peers" })).await;
    assert_eq!(peers["peers"][0]["status"], "working");
    // The same directory and process, but another member's.
    let (_, answer) = lab
        .call("POST", "/hook/set-status", Some(&bob.key), report("dnd"))
        .await;
    assert_eq!(answer, json!({ "ok": true, "pending": true }));
    let peers = socket.ask(json!({ "type": "list_peers" })).await;
    assert_eq!(peers["peers"][0]["status"], "working");

    let (status, _) = lab.call("POST", "/hook/set-status", None, report("idle")).await;
    assert_eq!(status, 401);
    let (status, _) = lab
        .call("POST", "/hook/set-status", Some(&SecretKey::generate()), report("idle"))
        .await;
    assert_eq!(status, 401);
    let (status, answer) = lab
        .call("POST", "/hook/set-status", Some(&bob.key), Some(json!({ "cwd": "/w" })))
        .await;
    assert_eq!((status, &answer["error"]), (200, &json!("cwd and status required")));
    assert_eq!(
        lab.call("POST", "/hook/set-status", Some(&bob.key), report("busy"))
            .await
            .0,
        400
    );
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(
            lab.call("POST", "/hook/set-status", Some(&bob.key), report("idle"))
                .await,
        );
    }
    let (status, error) = statuses.pop().unwrap();
    assert_eq!((status, &error["error"]), (429, &json!("rate limited")));
    let (_, owners) = lab
        .call("POST", "/hook/set-status", Some(&lab.owner.key), report("idle"))
        .await;
    assert_eq!(owners["ok"], true, "one member's bucket is not another's");
}

/// Whoever is in several meshes is busy in all of them.
#[tokio::test]
async fn defect_094_one_report_reaches_every_mesh_of_the_member() {
    let lab = Lab::start().await;
    let owner_key = SecretKey::generate();
    let body = json!({
        "name": "Second", "owner_pubkey": owner_key.public().to_string(), "pubkey": lab.owner.pubkey(),
        "display_name": "olivia elsewhere",
    });
    let (status, second) = lab.call("POST", "/cli/mesh/create", Some(&owner_key), Some(body)).await;
    assert_eq!(status, 200, "{second}");
    let mut first = lab.connect_v1(&lab.owner).await;
    let (mesh, member) = (second["id"].as_str().unwrap(), second["member_id"].as_str().unwrap());
    let mut hello = lab.hello_v1(&lab.owner);
    let timestamp = hello["timestamp"].as_i64().unwrap();
    let signature = claudemesh_crypto::sign_hello_v1(&lab.owner.key, mesh, member, timestamp).to_string();
    (hello["meshId"], hello["memberId"], hello["signature"]) = (json!(mesh), json!(member), json!(signature));
    let mut elsewhere = lab.socket().await;
    elsewhere.send(&hello).await;
    assert_eq!(elsewhere.next().await["type"], "hello_ack");
    for status in ["working", "idle"] {
        let report = json!({ "cwd": "/work", "pid": 4242, "status": status });
        let (code, answer) = lab
            .call("POST", "/hook/set-status", Some(&lab.owner.key), Some(report))
            .await;
        assert_eq!((code, &answer["ok"]), (200, &json!(true)), "{answer}");
        for socket in [&mut first, &mut elsewhere] {
            let peers = socket.ask(json!({ "type": "list_peers" })).await;
            assert_eq!(peers["peers"][0]["status"], status, "{peers}");
        }
    }
}

#[tokio::test]
async fn only_the_owner_archives_and_archived_is_final() {
    let lab = Lab::start().await;
    let admin = lab.join("ada", "admin").await;
    let code = lab.invited("member", 1).await;
    assert_eq!(lab.call("DELETE", &lab.path(""), Some(&admin.key), None).await.0, 403);
    assert_eq!(
        lab.call("DELETE", &lab.path(""), Some(&lab.owner_key), None).await.0,
        200
    );
    assert_eq!(
        lab.call("GET", &lab.path("/members"), Some(&lab.owner.key), None)
            .await
            .0,
        410
    );
    let (status, error) = lab.claim(&code, &SecretKey::generate(), "x").await;
    assert_eq!((status, &error["error"]), (404, &json!("not_found")));
}

#[tokio::test]
async fn guessing_is_slow() {
    let lab = Lab::start_with(|config| config.enrol_rate = Limit::per_minute(3, 3)).await;
    let mut last = 0;
    for _ in 0..4 {
        last = lab.claim("NOSUCHCODE", &lab.owner.key, "x").await.0;
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn the_page_of_a_link_does_not_tell_which_invites_exist() {
    let lab = Lab::start().await;
    let code = lab.invited("member", 1).await;
    let real = http(lab.addr(), "GET", &format!("/i/{code}"), "", b"").await;
    let other = http(lab.addr(), "GET", "/i/ABCDEFGH", "", b"").await;
    assert_eq!((real.status, &real.body), (200, &other.body));
    assert!(real.body.contains("claudemesh join") && !real.body.contains("<script"));
    assert!(real.head.contains("no-referrer") && real.head.contains("default-src 'none'"));
    assert_eq!(http(lab.addr(), "GET", "/i/%3Cscript%3E", "", b"").await.status, 404);
}
