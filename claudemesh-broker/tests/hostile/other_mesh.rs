//! Two meshes on one broker: whatever a member of one names, nothing of the other is told or changed.

use claudemesh_crypto::{SecretKey, random_id};
use serde_json::{Value, json};

use crate::gateway_kit::{Lab, Person, Socket};
use crate::watch;

/// Appears in everything that the victim's mesh holds.
const CANARY: &str = "canary4711";

/// A second mesh on the lab's broker, with things in it.
struct Victim {
    mesh: String,
    owner_key: SecretKey,
    owner: Person,
    friend: Person,
    invite_id: String,
    message: String,
    memory: String,
    task: String,
    session: Socket,
}

/// Speaks for the victim's mesh with the lab's helpers.
fn inside(lab: Lab, mesh: &str, owner_key: &SecretKey, owner: &Person) -> Lab {
    Lab {
        mesh: mesh.to_owned(),
        owner_key: owner_key.clone(),
        owner: owner.clone(),
        ..lab
    }
}

async fn victim(lab: Lab) -> (Lab, Victim) {
    let (owner_key, member_key) = (SecretKey::generate(), SecretKey::generate());
    let body = json!({
        "name": format!("Mesh {CANARY}"), "owner_pubkey": owner_key.public().to_string(),
        "pubkey": member_key.public().to_string(), "display_name": format!("owner {CANARY}"),
    });
    let (status, created) = lab.call("POST", "/cli/mesh/create", Some(&owner_key), Some(body)).await;
    assert_eq!(status, 200, "{created}");
    let mesh = created["id"].as_str().unwrap().to_owned();
    let owner = Person {
        key: member_key,
        id: created["member_id"].as_str().unwrap().to_owned(),
    };
    let (own_mesh, own_key, own_owner) = (lab.mesh.clone(), lab.owner_key.clone(), lab.owner.clone());
    let lab = inside(lab, &mesh, &owner_key, &owner);
    let friend = lab.join(&format!("friend {CANARY}"), "member").await;
    let invite = lab.invite(&owner_key, "member", 3);
    let invite_id = invite["invite_id"].as_str().unwrap().to_owned();
    let (status, _) = lab
        .call("POST", &lab.path("/invites"), Some(&owner.key), Some(invite))
        .await;
    assert_eq!(status, 200);
    let mut session = lab.connect_v2(&owner).await;
    for request in [
        json!({ "type": "set_summary", "summary": CANARY }),
        json!({ "type": "set_profile", "title": CANARY, "bio": CANARY }),
        json!({ "type": "join_group", "name": CANARY, "role": CANARY }),
        json!({ "type": "set_state", "key": CANARY, "value": CANARY }),
        json!({ "type": "set_state", "key": "shared", "value": CANARY }),
        json!({ "type": "share_skill", "name": "shared", "description": CANARY, "instructions": CANARY, "tags": [CANARY] }),
        json!({ "type": "share_skill", "name": CANARY, "description": CANARY, "instructions": CANARY }),
        json!({ "type": "vector_store", "collection": CANARY, "text": CANARY, "vector": [1, 2], "metadata": { "k": CANARY } }),
        json!({ "type": "vector_store", "collection": "shared", "text": CANARY, "vector": [1, 2] }),
        json!({ "type": "share_context", "summary": CANARY, "topic": CANARY, "filesRead": [CANARY], "tags": [CANARY] }),
    ] {
        let answer = session.ask(request).await;
        assert_ne!(answer["type"], "error", "{answer}");
    }
    let mut made = Vec::new();
    for request in [
        json!({ "type": "remember", "content": format!("mesh shared {CANARY}"), "tags": [CANARY] }),
        json!({ "type": "create_task", "title": CANARY, "tags": [CANARY] }),
    ] {
        let answer = session.ask(request).await;
        made.push(answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned());
    }
    let (task, memory) = (made.remove(1), made.remove(0));
    let message = random_id();
    let ack = session
        .ask(json!({ "type": "send", "id": message, "targetSpec": friend.pubkey(), "nonce": "", "ciphertext": CANARY }))
        .await;
    assert_eq!(ack["type"], "ack", "{ack}");
    let audit = session.ask(json!({ "type": "audit_query" })).await;
    assert!(audit["total"].as_u64().unwrap() > 2);
    let lab = inside(lab, &own_mesh, &own_key, &own_owner);
    let victim = Victim {
        mesh,
        owner_key,
        owner,
        friend,
        invite_id,
        message,
        memory,
        task,
        session,
    };
    (lab, victim)
}

/// Requests with the id in the places that a schema nests.
fn specific(kind: &str, id: &str) -> Vec<Value> {
    match kind {
        "send" => vec![
            json!({ "targetSpec": id, "nonce": "", "ciphertext": "AAAA", "id": random_id() }),
            json!({ "targetSpec": format!("@{id}"), "nonce": "", "ciphertext": "AAAA", "id": random_id() }),
            json!({ "targetSpec": id, "nonce": "", "ciphertext": "AAAA", "id": id }),
            json!({ "targetSpec": "*", "nonce": "", "ciphertext": "AAAA", "sessionHint": id }),
        ],
        "ack_messages" => vec![json!({ "acks": [{ "messageId": id, "stage": "read" }] })],
        "set_grants" => vec![json!({ "grants": { id: ["dm"] } }), json!({ "grants": { id: null } })],
        "group_commit" => vec![
            json!({ "entries": [{}], "seals": [{ "generation": 1, "epoch": 1, "to": id, "seal": {} }] }),
            json!({ "entries": [{ "mesh": id }] }),
        ],
        "group_log" => vec![json!({ "generation": 1, "from_index": 0, "limit": 500 })],
        "key_grant" => vec![json!({ "to": id, "grant": { "mesh": id } })],
        "key_request" => vec![json!({ "request": { "mesh": id, "device": id } })],
        "audit_query" => vec![json!({ "limit": 500 }), json!({ "limit": 500, "offset": 0 })],
        "pull_messages" => vec![json!({ "peek": true }), json!({})],
        // In answers to these the query is not named back.
        "recall" | "get_context" => ["", "canary", CANARY, "mesh", id, "\" OR mesh : \"", "*", "4"]
            .map(|query| json!({ "query": query }))
            .to_vec(),
        "vector_search" => vec![json!({ "collection": "shared", "query": "", "vector": [1, 2], "limit": 100 })],
        "vector_delete" => vec![json!({ "collection": "shared", "id": id })],
        "list_tasks" => vec![json!({}), json!({ "status": "open" }), json!({ "status": "" })],
        "list_skills" => ["", "canary", CANARY, "shared", id]
            .map(|query| json!({ "query": query, "details": true }))
            .to_vec(),
        "get_skill" => vec![
            json!({ "name": "shared" }),
            json!({ "name": "canary" }),
            json!({ "name": CANARY }),
        ],
        "remove_skill" => vec![json!({ "name": "shared" }), json!({ "name": "canary" })],
        "get_state" | "delete_state" => vec![json!({ "key": "shared" })],
        _ => vec![json!({})],
    }
}

fn says_nothing(answer: &Value, sent: &str) {
    let text = answer.to_string();
    // What the attacker sent itself may be named back: the canary was not in it.
    assert!(!text.contains(CANARY), "{sent} → {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_001_sub_e_05_other_meshes_ids_open_nothing() {
    let (lab, mut victim) = victim(watch::lab().await).await;
    let attacker = lab.join("attacker", "admin").await;
    let mut socket = lab.connect_v2(&attacker).await;
    let mut original = {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        lab.connect_v1(&lab.owner).await
    };
    let ids = [
        victim.mesh.clone(),
        victim.owner.id.clone(),
        victim.friend.id.clone(),
        victim.owner.pubkey(),
        victim.friend.pubkey(),
        victim.owner_key.public().to_string(),
        victim.invite_id.clone(),
        victim.message.clone(),
        victim.memory.clone(),
        victim.task.clone(),
    ];
    for operation in claudemesh_proto::schema::operations() {
        let schema = operation.request.as_value();
        let names: Vec<String> = schema["properties"]
            .as_object()
            .into_iter()
            .flat_map(|all| all.keys().cloned())
            .collect();
        for id in &ids {
            // Every field at once and one at a time, and members that no schema has.
            let mut requests = vec![json!({ "meshId": id, "mesh": id, "memberId": id, "to": id, "id": id })];
            for name in &names {
                let mut request = json!({ "meshId": victim.mesh, "mesh_id": victim.mesh });
                request[name] = json!(id);
                requests.push(request);
            }
            requests.extend(specific(operation.meta.wire_type, id));
            for mut request in requests {
                request["type"] = json!(operation.meta.wire_type);
                let sent = request.to_string();
                let answer = socket.ask(request.clone()).await;
                watch::is_typed(&answer, &sent);
                says_nothing(&answer, &sent);
                let answer = original.ask(request).await;
                says_nothing(&answer, &sent);
            }
        }
    }
    // Names of groups that would be part of a statement: what waits in the other mesh stays there.
    for text in crate::strings::TEXTS {
        let answer = socket.ask(json!({ "type": "join_group", "name": text })).await;
        watch::is_typed(&answer, text);
        let pulled = socket.ask(json!({ "type": "pull_messages" })).await;
        says_nothing(&pulled, text);
    }
    // HTTP, signed by an admin of another mesh.
    let paths = [
        ("GET", format!("/mesh/{}/members", victim.mesh)),
        ("GET", format!("/mesh/{}/invites", victim.mesh)),
        ("PATCH", format!("/mesh/{}/settings", victim.mesh)),
        ("PATCH", format!("/mesh/{}/member/{}", victim.mesh, victim.friend.id)),
        ("PATCH", format!("/mesh/{}/member/{}", lab.mesh, victim.friend.id)),
        ("DELETE", format!("/mesh/{}/member/{}", victim.mesh, victim.friend.id)),
        ("DELETE", format!("/mesh/{}/member/{}", lab.mesh, victim.friend.id)),
        ("DELETE", format!("/mesh/{}/invites/{}", victim.mesh, victim.invite_id)),
        ("DELETE", format!("/mesh/{}/invites/{}", lab.mesh, victim.invite_id)),
        ("DELETE", format!("/mesh/{}", victim.mesh)),
        ("POST", format!("/mesh/{}/invites", victim.mesh)),
    ];
    for (method, path) in &paths {
        for signer in [Some(&attacker.key), Some(&lab.owner.key), Some(&lab.owner_key), None] {
            let body =
                json!({ "displayName": "taken", "permission": "admin", "selfEditable": { "displayName": false } });
            let body = (*method != "GET").then_some(body);
            let (status, answer) = lab.call(method, path, signer, body).await;
            assert!((400..500).contains(&status), "{method} {path} → {status} {answer}");
            says_nothing(&answer, path);
        }
    }
    // A hello that mixes the two.
    let mut lab = lab;
    for (mesh, member) in [
        (&victim.mesh, &attacker.id),
        (&victim.mesh, &victim.owner.id),
        (&lab.mesh.clone(), &victim.owner.id),
    ] {
        let own = std::mem::replace(&mut lab.mesh, mesh.clone());
        let mixed = Person {
            key: attacker.key.clone(),
            id: member.clone(),
        };
        let mut socket = lab.socket().await;
        let nonce = socket.challenge().await;
        socket.send(&lab.hello_v2(&mixed, &nonce, &lab.origin())).await;
        let answer = socket.next().await;
        says_nothing(&answer, "hello");
        // The proven key decides who it is: it is nobody in the other mesh, and itself in its own.
        if *mesh == own {
            assert_eq!(answer["memberDisplayName"], "attacker", "{answer}");
        } else {
            assert_eq!(answer["code"], "unauthorized", "{answer}");
        }
        lab.mesh = own;
    }
    // Everything of the victim's is where it was.
    let state = victim
        .session
        .ask(json!({ "type": "get_state", "key": "shared" }))
        .await;
    assert_eq!(state["value"], CANARY);
    let members = victim.session.ask(json!({ "type": "list_members" })).await;
    assert_eq!(members["members"].as_array().unwrap().len(), 2, "{members}");
    let status = victim
        .session
        .ask(json!({ "type": "message_status", "messageId": victim.message }))
        .await;
    assert_eq!(status["recipients"][0]["stage"], "accepted", "{status}");
    let recalled = victim.session.ask(json!({ "type": "recall", "query": CANARY })).await;
    assert_eq!(recalled["memories"].as_array().unwrap().len(), 1, "{recalled}");
    let tasks = victim.session.ask(json!({ "type": "list_tasks" })).await;
    assert_eq!(
        (&tasks["tasks"][0]["status"], &tasks["tasks"][0]["title"]),
        (&json!("open"), &json!(CANARY))
    );
    let skills = victim.session.ask(json!({ "type": "list_skills" })).await;
    assert_eq!(skills["skills"].as_array().unwrap().len(), 2, "{skills}");
    let audit = victim.session.ask(json!({ "type": "audit_verify" })).await;
    assert_eq!(audit["valid"], true);
    watch::nothing_panicked();
}
