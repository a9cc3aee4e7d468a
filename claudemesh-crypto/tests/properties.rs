//! Parsers never panic, whatever comes in; what is written can be read; what is altered is refused.

use claudemesh_crypto::*;
use proptest::prelude::*;

fn secret() -> impl Strategy<Value = SecretKey> {
    any::<[u8; 32]>().prop_map(|seed| SecretKey::from_seed(&seed))
}

/// Text without the separators of signed texts.
fn field() -> impl Strategy<Value = String> {
    "[^|\r\n]{1,40}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn parsers_never_panic(text in "\\PC{0,120}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let alice = SecretKey::from_seed(&[2; 32]);
        let public = alice.public();
        let encoded = encode_base64(&bytes);
        let token = encode_base64_url(&bytes);
        for input in [text.as_str(), &encoded, &token] {
            let _ = parse_invite(input);
            let _ = InviteV1::from_token(input);
            let _ = InviteV2::parse(input);
            let _ = InviteCapability::from_json(input);
            let _ = decode_box_key(input);
            let _ = open_root_key(&alice.to_box_key(), input);
            let _ = SignedRequest::from_header(input);
            let _ = SignedRequest::from_header(&format!("{REQUEST_SCHEME} {input}"));
            let _ = verify_hello_v1(input, input, input, 0, input, 0);
            let _ = decode_plain_text(input);
            let _ = open_direct(&[&alice], &public, input, input);
            let _ = open_meta(&[&alice], &public, input, input, b"");
            let _ = open_incoming(&[&alice], Some(input), input, input, input);
            for prefix in ["ic://join/", "claudemesh://i/", "https://", "https://host/i/Ab#", "host/i/", "http://["] {
                let _ = parse_invite(&format!("{prefix}{input}"));
            }
        }
        let _ = open_sealed(&alice.to_box_key(), &bytes);
        let _ = InviteV1::from_token(&encode_base64_url(text.as_bytes()));
        // Not a real backup: those take a key derivation each.
        if !bytes.starts_with(b"CMB1") {
            prop_assert!(open_backup("passphrase long enough", &bytes).is_err());
        }
    }

    #[test]
    fn direct_round_trips(from in secret(), to in secret(), body in prop::collection::vec(any::<u8>(), 0..300), bit in any::<usize>()) {
        let sealed = seal_direct(&from, &to.public(), &body)?;
        let opened = open_direct(&[&from, &to], &from.public(), &sealed.nonce, &sealed.ciphertext)?;
        prop_assert_eq!(opened.as_slice(), body.as_slice());
        let mut bytes = decode_base64(&sealed.ciphertext).unwrap_or_default();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let altered = open_direct(&[&to], &from.public(), &sealed.nonce, &encode_base64(&bytes));
        prop_assert_eq!(altered, Err(EnvelopeError::Undecryptable));
    }

    #[test]
    fn meta_round_trips(from in secret(), to in secret(), body in "\\PC{0,60}", id in "\\PC{0,40}", seq in any::<u64>(), sent_at in any::<i64>(), epoch in any::<Option<u64>>()) {
        let head = epoch.map(|epoch| MetaHead { generation: 1, epoch, index: epoch, hash: "00".repeat(32) });
        let meta = DirectMeta::for_body(body.as_bytes(), id, seq, "now".to_owned(), sent_at, head);
        let sealed = seal_meta(&from, &to.public(), &meta)?;
        let opened = open_meta(&[&to], &from.public(), &sealed.nonce, &sealed.ciphertext, body.as_bytes())?;
        prop_assert_eq!(opened, meta);
    }

    #[test]
    fn sealed_boxes_round_trip(to in secret(), body in prop::collection::vec(any::<u8>(), 0..300)) {
        let sealed = seal_to(&to.public(), &body)?;
        prop_assert_eq!(sealed.len(), body.len() + SEAL_OVERHEAD);
        let opened = open_sealed(&to.to_box_key(), &sealed)?;
        prop_assert_eq!(opened.as_slice(), body.as_slice());
    }

    #[test]
    fn clear_text_round_trips(text in "\\PC{1,100}") {
        let envelope = encode_plain_text(&text);
        let opened = open_incoming(&[], None, "", &envelope.nonce, &envelope.ciphertext);
        prop_assert_eq!(opened, Opened::Plaintext { text, authenticated: false });
    }

    #[test]
    fn v1_invites_round_trip(owner in secret(), mesh_id in field(), mesh_slug in field(), broker_url in field(), root in any::<[u8; 32]>(), expires_at in any::<i64>(), admin in any::<bool>()) {
        let role = if admin { InviteRole::Admin } else { InviteRole::Member };
        let new = NewInviteV1 { mesh_id: &mesh_id, mesh_slug: &mesh_slug, broker_url: &broker_url, expires_at, mesh_root_key: &root, role };
        let invite = new.sign(&owner)?;
        let token = invite.to_token();
        let read = InviteV1::from_token(&token)?;
        prop_assert_eq!(read.verify(expires_at)?, owner.public());
        prop_assert_eq!(*read.root_key()?, root);
        match parse_invite(&format!("https://mesh.example.com/join/{}", token.as_str()))? {
            InviteLink::Token { payload, .. } => prop_assert_eq!(*payload, invite),
            InviteLink::Code { .. } => prop_assert!(false, "a token became a code"),
        }
    }

    #[test]
    fn v2_invites_round_trip(owner in secret(), mesh_id in field(), invite_id in field(), expires_at in any::<i64>()) {
        let invite = InviteV2 { mesh_id, invite_id, expires_at, role: InviteRole::Member, owner_pubkey: owner.public() };
        let capability = InviteCapability::from_json(&invite.sign(&owner)?.to_json())?;
        prop_assert_eq!(capability.verify(&owner.public(), expires_at)?, invite);
    }

    #[test]
    fn links_round_trip(owner in secret(), bytes in any::<[u8; 32]>(), code in "[A-Za-z0-9]{1,16}", host in "[a-z]{1,10}(\\.[a-z]{1,5})?(:[1-9][0-9]{0,3})?") {
        let (secret, base) = (InviteSecret::from_bytes(bytes), format!("https://{host}"));
        let link = format_link(&base, &code, &secret, &owner.public());
        let expected = InviteLink::Code { code, base_url: Some(base), secret: Some(secret), owner: Some(owner.public()) };
        prop_assert_eq!(parse_invite(&link)?, expected);
    }

    #[test]
    fn requests_round_trip(key in secret(), method in "[A-Z]{3,7}", path in "/[!-~]{0,60}", body in prop::collection::vec(any::<u8>(), 0..100), now in any::<i64>()) {
        let signed = SignedRequest::from_header(&sign_request(&key, &method, &path, &body, now).to_header())?;
        prop_assert_eq!(signed.verify(&method, &path, &body, now)?, key.public());
        prop_assert_eq!(signed.verify(&method, &format!("{path}x"), &body, now), Err(RequestError::BadSignature));
    }

    #[test]
    fn hellos_round_trip(member in secret(), session in secret(), mesh in field(), id in field(), nonce in field(), now in any::<i64>()) {
        let signature = sign_hello_v1(&member, &mesh, &id, now).to_string();
        let pubkey = member.public().to_string();
        prop_assert_eq!(verify_hello_v1(&mesh, &id, &pubkey, now, &signature, now)?, member.public());
        let hello = HelloV2 { origin: "wss://h", nonce: &nonce, mesh_id: &mesh, member_id: &id, pubkey: member.public(), session_pubkey: session.public(), timestamp_ms: now };
        hello.verify(&hello.sign(&member, &session)?, now)?;
    }

    #[test]
    fn canonical_json_is_json_of_the_same_value(keys in prop::collection::btree_map("\\PC{0,8}", any::<i64>(), 0..8)) {
        let forward: serde_json::Map<String, serde_json::Value> = keys.iter().map(|(k, v)| (k.clone(), (*v).into())).collect();
        let backward = keys.iter().rev().map(|(k, v)| (k.clone(), (*v).into())).collect();
        let value = serde_json::Value::Object(forward);
        let text = canonical_json(&value);
        prop_assert_eq!(&text, &canonical_json(&serde_json::Value::Object(backward)));
        let read: serde_json::Value = serde_json::from_str(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(read, value);
    }
}
