//! Original clients: hello of version 1, no acknowledgements, no receipts.

use super::kit::*;
use claudemesh_client::ClientEvent;
use claudemesh_client::proto::model::{DeliveryStage, PeerStatus, Priority};
use claudemesh_client::proto::tools::MessageKind;
use claudemesh_crypto::{Envelope, PublicKey, SecretKey, encode_base64, open_direct, seal_direct};
use serde_json::{Value, json};

/// A `send` as the original makes it: with an id of 16 characters and without `_reqId`.
pub fn send(target: &str, envelope: &Envelope, priority: &str) -> Value {
    json!({
        "type": "send",
        "id": claudemesh_crypto::random_id()[..16],
        "targetSpec": target,
        "priority": priority,
        "nonce": envelope.nonce,
        "ciphertext": envelope.ciphertext,
    })
}

fn read(push: &Value, key: &SecretKey) -> String {
    let sender: PublicKey = push["senderPubkey"].as_str().unwrap().parse().unwrap();
    let (nonce, ciphertext) = (push["nonce"].as_str().unwrap(), push["ciphertext"].as_str().unwrap());
    let bytes = open_direct(&[key], &sender, nonce, ciphertext).unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub async fn acknowledged(socket: &mut Socket, frame: &Value) -> Value {
    socket.send(frame).await;
    let ack = socket.next_of("ack").await;
    assert_eq!((&ack["id"], &ack["queued"]), (&frame["id"], &json!(true)), "{ack}");
    assert!(ack["_reqId"].is_null() && ack["messageId"].is_string());
    ack
}

pub async fn original_clients_talk_to_each_other(database: Database) {
    let lab = Lab::start(database).await;
    let ana = lab.mesh("Lab", "ana").await;
    let (otto, olga) = (lab.join_offline(&ana, "otto").await, lab.join_offline(&ana, "olga").await);
    let (otto_key, olga_key) = (SecretKey::generate(), SecretKey::generate());
    let (mut otto_socket, ack) = Socket::v1(&lab, &otto, Some(&otto_key)).await;
    assert_eq!(ack["memberDisplayName"], "otto");
    assert!(ack["presenceId"].is_string() && ack["services"].is_array());
    assert_eq!(ack["memberProfile"]["messageMode"], "push");
    for of_version_2 in ["protocol", "head", "leaseMs", "waitingLow", "_reqId"] {
        assert!(ack[of_version_2].is_null(), "{of_version_2}");
    }
    let (mut olga_socket, _) = Socket::v1(&lab, &olga, Some(&olga_key)).await;
    let joined = otto_socket.next_of("push").await;
    assert_eq!((&joined["subtype"], &joined["event"]), (&json!("system"), &json!("peer_joined")));
    assert_eq!(joined["eventData"]["name"], "olga");

    otto_socket.send(&json!({ "type": "list_peers" })).await;
    let list = otto_socket.next_of("peers_list").await;
    let peer = list["peers"].as_array().unwrap().iter().find(|peer| peer["displayName"] == "olga").unwrap();
    assert_eq!(peer["pubkey"], olga_key.public().to_string());
    for (field, value) in [("status", "idle"), ("cwd", "/home/someone/project"), ("peerType", "ai")] {
        assert_eq!(peer[field], value);
    }
    assert!(list["_reqId"].is_null());

    let text = lab.text("from otto");
    let envelope = seal_direct(&otto_key, &olga_key.public(), text.as_bytes()).unwrap();
    let target = olga_key.public().to_string();
    let ack = acknowledged(&mut otto_socket, &send(&target, &envelope, "next")).await;
    let push = olga_socket.next_message().await;
    assert_eq!(push["messageId"], ack["messageId"]);
    assert_eq!(push["senderPubkey"], otto_key.public().to_string());
    assert_eq!(push["priority"], "next");
    assert_eq!(read(&push, &olga_key), text);
    // It is never delivered again, and the sender gets no receipt.
    assert_eq!(olga_socket.drained().await, Vec::<Value>::new());
    assert_eq!(otto_socket.drained().await, Vec::<Value>::new());

    // Asking how far it is, in the original's shape. What was pushed counts as delivered as soon as that is on disk.
    let status = loop {
        otto_socket
            .send(&json!({ "type": "message_status", "messageId": ack["messageId"] }))
            .await;
        let status = otto_socket.next_of("message_status_result").await;
        if status["delivered"] == true {
            break status;
        }
    };
    assert_eq!(status["recipients"][0]["status"], "delivered");
    lab.finish().await;
}

pub async fn both_versions_talk_to_each_other(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let otto = lab.join_offline(&ana, "otto").await;
    let key = SecretKey::generate();
    let (mut socket, _) = Socket::v1(&lab, &otto, Some(&key)).await;
    let member = ben.person.identity.public();
    for to in [ben.session_key(), member] {
        let text = lab.text("from otto");
        let envelope = seal_direct(&key, &to, text.as_bytes()).unwrap();
        acknowledged(&mut socket, &send(&to.to_string(), &envelope, "now")).await;
        let message = recv(&ben).await;
        assert_eq!(message.text.as_ref(), Some(&text));
        assert_eq!((message.from.as_str(), message.kind), ("otto", MessageKind::Direct));
        assert!(!message.authenticated, "nothing proves an original session's key");
        assert!(!message.warnings.is_empty());
        let answer = lab.text("from ben");
        ben.reply(&message, &answer, Priority::Now).await.unwrap();
        let push = socket.next_message().await;
        assert_eq!(push["senderPubkey"], ben.session_key().to_string());
        assert_eq!(read(&push, &key), answer);
    }
    // By name, sealed to the session: an original client has nothing else to open it with.
    let text = lab.text("by name");
    let sent = ben.send_text("otto", &text, Priority::Next).await.unwrap();
    assert_eq!(read(&socket.next_message().await, &key), text);
    wait_stage(&ben, &sent.message_id, &otto.key(), DeliveryStage::Delivered).await;

    // To everybody, in the clear as the original does it, and said so.
    let text = "to everybody in the clear";
    let nonce = encode_base64(&claudemesh_crypto::random_bytes::<24>());
    for nonce in [String::new(), nonce] {
        let ciphertext = encode_base64(text.as_bytes());
        acknowledged(&mut socket, &send("*", &Envelope { nonce, ciphertext }, "now")).await;
        for client in [&ana, &ben] {
            let message = recv(client).await;
            assert_eq!((message.text.as_deref(), message.kind), (Some(text), MessageKind::Broadcast));
            assert!(!message.authenticated && !message.warnings.is_empty());
        }
    }
    // What it has no key for reaches it sealed, and never in the clear.
    let sealed = lab.text("sealed to the group");
    ben.send_text("*", &sealed, Priority::Now).await.unwrap();
    recv(&ana).await;
    let push = socket.next_message().await;
    assert!(!push.to_string().contains(&sealed) && !push.to_string().contains(&encode_base64(sealed.as_bytes())));
    lab.finish().await;
}

pub async fn defect_067_cli_19_who_is_offline_gets_it_by_member_key(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let otto = lab.join_offline(&ana, "otto").await;
    ben.client.close().await;
    let key = SecretKey::generate();
    let (mut socket, _) = Socket::v1(&lab, &otto, Some(&key)).await;
    let text = lab.text("for later");
    let to = ben.person.identity.public();
    let envelope = seal_direct(&key, &to, text.as_bytes()).unwrap();
    acknowledged(&mut socket, &send(&to.to_string(), &envelope, "next")).await;
    let back = ben.person.connect().await;
    assert_eq!(recv_text(&back).await, text);
    // With several sessions one of them gets it, and can open it: the key is the member's.
    let beside = ben.person.connect().await;
    for number in 0..4 {
        let text = lab.text("for one of two");
        let envelope = seal_direct(&key, &to, text.as_bytes()).unwrap();
        acknowledged(&mut socket, &send(&to.to_string(), &envelope, "now")).await;
        let came = tokio::select! {
            message = recv(&back) => message.text.clone(),
            message = recv(&beside) => message.text.clone(),
        };
        assert_eq!(came, Some(text), "{number}");
        let busy = if number % 2 == 0 { PeerStatus::Dnd } else { PeerStatus::Idle };
        set_status(&back, busy).await;
    }
    assert_eq!((back.waiting(), beside.waiting()), (0, 0));
    beside.close().await;

    // And the other way round, to a client without a session key.
    socket.close().await;
    eventually("the end of the session", || async {
        (!peer_names(&ana).await.contains(&"otto".to_owned())).then_some(())
    })
    .await;
    let texts = [lab.text("for later"), lab.text("for much later")];
    ana.send_text("otto", &texts[0], Priority::Next).await.unwrap();
    ana.send_text("otto", &texts[1], Priority::Low).await.unwrap();
    let (mut socket, ack) = Socket::v1(&lab, &otto, None).await;
    assert_eq!(ack["restored"], true);
    let mut came = [socket.next_message().await, socket.next_message().await];
    came.sort_by_key(|push| push["priority"] == "low");
    let came: Vec<_> = came.iter().map(|push| read(push, &otto.identity.member)).collect();
    assert_eq!(came, texts);
    socket.close().await;
    let (mut socket, _) = Socket::v1(&lab, &otto, None).await;
    assert_eq!(socket.drained().await, Vec::<Value>::new(), "pushed is delivered");
    lab.finish().await;
}

pub async fn replies_have_the_originals_shape(database: Database) {
    let (lab, Three { ana, .. }) = Lab::with_three(database).await;
    let otto = lab.join_offline(&ana, "otto").await;
    let (mut socket, _) = Socket::v1(&lab, &otto, Some(&SecretKey::generate())).await;
    let mut events = ana.events();
    // What the original does not answer is answered only if it is asked to be.
    let silent = [
        json!({ "type": "set_state", "key": "k", "value": { "n": 1 } }),
        json!({ "type": "set_status", "status": "working" }),
        json!({ "type": "set_summary", "summary": "busy" }),
        json!({ "type": "set_stats", "stats": { "messagesIn": 1 } }),
        json!({ "type": "join_group", "name": "backend", "role": "lead" }),
        json!({ "type": "leave_group", "name": "backend" }),
        json!({ "type": "share_context", "summary": "read the code", "filesRead": ["a.rs"], "keyFindings": ["f"] }),
    ];
    for frame in &silent {
        socket.send(frame).await;
    }
    assert_eq!(socket.drained().await, Vec::<Value>::new());
    let change = event(&mut events, "the change", |event| match event {
        ClientEvent::StateChange(change) => Some(change),
        _ => None,
    });
    let change = change.await;
    assert_eq!((change.key.as_str(), change.updated_by.as_str()), ("k", "otto"));
    for frame in silent {
        let (reply, _) = socket.ask(frame.clone()).await;
        assert_ne!(reply["type"], "error", "{frame}: {reply}");
    }
    // Those that it answers.
    socket.send(&json!({ "type": "get_state", "key": "k" })).await;
    let reply = socket.next_of("state_result").await;
    assert_eq!((&reply["key"], &reply["value"], &reply["updatedBy"]), (&json!("k"), &json!({ "n": 1 }), &json!("otto")));
    socket.send(&json!({ "type": "list_state" })).await;
    assert_eq!(socket.next_of("state_list").await["entries"][0]["key"], "k");
    socket.send(&json!({ "type": "set_visible", "visible": true })).await;
    let ack = socket.next_of("ack").await;
    assert_eq!((&ack["queued"], &ack["messageId"]), (&json!(false), &json!("")));
    socket.send(&json!({ "type": "mesh_info" })).await;
    assert_eq!(socket.next_of("mesh_info_result").await["yourName"], "otto");

    memory_contexts_and_tasks(&mut socket).await;

    // Errors are typed, with and without an id, and the connection lives on.
    socket.send(&json!({ "type": "no_such_thing" })).await;
    let error = socket.next_of("error").await;
    assert_eq!(error["code"], "unknown_type");
    assert!(error["_reqId"].is_null() && error["message"].is_string());
    let (error, _) = socket.ask(json!({ "type": "no_such_thing" })).await;
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("unknown_type")));
    let (error, _) = socket.ask(json!({ "type": "set_status", "status": "asleep" })).await;
    assert_eq!((&error["code"], &error["field"]), (&json!("invalid_request"), &json!("/status")));
    let mut frame = send(&"ab".repeat(32), &Envelope { nonce: String::new(), ciphertext: "eA==".to_owned() }, "now");
    frame["id"] = json!("0123456789abcdef");
    socket.send(&frame).await;
    let error = socket.next_of("error").await;
    assert_eq!((&error["code"], &error["id"]), (&json!("no_such_peer"), &frame["id"]));
    assert_eq!(socket.drained().await, Vec::<Value>::new());
    lab.finish().await;
}

/// What the original sends with them, and what it gets.
async fn memory_contexts_and_tasks(socket: &mut Socket) {
    socket
        .send(&json!({ "type": "remember", "content": "the build is green", "tags": ["ci"] }))
        .await;
    let id = socket.next_of("memory_stored").await["id"].clone();
    socket.send(&json!({ "type": "recall", "query": "build" })).await;
    let found = socket.next_of("memory_results").await["memories"][0].clone();
    assert_eq!(
        (&found["id"], &found["content"], &found["tags"], &found["rememberedBy"]),
        (&id, &json!("the build is green"), &json!(["ci"]), &json!("otto"))
    );
    assert!(found["rememberedAt"].as_str().unwrap().ends_with('Z'));
    socket.send(&json!({ "type": "forget", "memoryId": id })).await;
    let ack = socket.next_of("ack").await;
    assert_eq!((&ack["id"], &ack["messageId"], &ack["queued"]), (&id, &id, &json!(false)));

    socket.send(&json!({ "type": "get_context", "query": "a.rs" })).await;
    let found = socket.next_of("context_results").await["contexts"][0].clone();
    assert_eq!(
        (&found["peerName"], &found["summary"], &found["filesRead"], &found["keyFindings"], &found["tags"]),
        (&json!("otto"), &json!("read the code"), &json!(["a.rs"]), &json!(["f"]), &json!([]))
    );
    socket.send(&json!({ "type": "list_contexts" })).await;
    let listed = socket.next_of("context_list").await["contexts"][0].clone();
    assert_eq!((&listed["peerName"], &listed["summary"]), (&json!("otto"), &json!("read the code")));
    assert!(listed["updatedAt"].is_string());

    socket.send(&json!({ "type": "create_task", "title": "review" })).await;
    let id = socket.next_of("task_created").await["id"].clone();
    // It does not wait for an answer to these, and would take one for that to something else.
    socket.send(&json!({ "type": "claim_task", "taskId": id })).await;
    socket.send(&json!({ "type": "complete_task", "taskId": id, "result": "fine" })).await;
    assert_eq!(socket.drained().await, Vec::<Value>::new());
    socket.send(&json!({ "type": "list_tasks", "status": "completed", "assignee": "" })).await;
    let task = socket.next_of("task_list").await["tasks"][0].clone();
    assert_eq!(
        (&task["id"], &task["status"], &task["claimedBy"], &task["assignee"], &task["createdBy"], &task["priority"]),
        (&id, &json!("done"), &json!("otto"), &json!(null), &json!("otto"), &json!("normal"))
    );
    socket.send(&json!({ "type": "claim_task", "taskId": id })).await;
    assert_eq!(socket.next_of("error").await["code"], "task_not_claimable");
    socket.send(&json!({ "type": "complete_task", "taskId": "none" })).await;
    assert_eq!(socket.next_of("error").await["code"], "task_not_found");
    let (other, _) = socket.ask(json!({ "type": "create_task", "title": "another" })).await;
    let (list, _) = socket.ask(json!({ "type": "claim_task", "taskId": other["id"] })).await;
    assert_eq!((&list["type"], list["tasks"].as_array().unwrap().len()), (&json!("task_list"), 2));
}
