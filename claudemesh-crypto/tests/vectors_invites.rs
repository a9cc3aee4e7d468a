//! Invites of both generations against the original's vectors.

mod support;

use claudemesh_crypto::{
    BoxSecretKey, InviteCapability, InviteError, InviteLink, InviteRole, InviteV1, InviteV2, NewInviteV1,
    decode_base64_url, decode_box_key, encode_base64_url, encode_box_key, open_root_key, open_sealed, parse_invite,
    seal_root_key, seal_root_key_with_ephemeral,
};
use sha2::{Digest as _, Sha512};
use support::{array, bytes, integer, key, text, vectors};

fn root_key(encoded: &str) -> [u8; 32] {
    decode_base64_url(encoded)
        .expect("base64")
        .try_into()
        .expect("32 bytes")
}

fn payload(value: &serde_json::Value) -> InviteV1 {
    serde_json::from_value(value.clone()).expect("payload")
}

#[test]
fn v1_payload_and_token() {
    let file = vectors("invite_v1");
    let owner = key("owner");
    let invite = payload(&file["payload"]);
    let expires_at = integer(&file, "/payload/expires_at");

    let made = NewInviteV1 {
        mesh_id: text(&file, "/payload/mesh_id"),
        mesh_slug: text(&file, "/payload/mesh_slug"),
        broker_url: text(&file, "/payload/broker_url"),
        expires_at,
        mesh_root_key: &root_key(text(&file, "/payload/mesh_root_key")),
        role: InviteRole::Member,
    }
    .sign(&owner)
    .expect("fields without separators");
    assert_eq!(made, invite);
    assert_eq!(made.signature, text(&file, "/signature"));
    assert_eq!(made.canonical().as_str(), text(&file, "/canonical"));
    assert_eq!(made.canonical().as_bytes(), bytes(&file, "/canonical_hex"));
    assert_eq!(
        serde_json::to_string(&made).expect("json"),
        text(&file, "/payload_json")
    );
    assert_eq!(made.to_token().as_str(), text(&file, "/token"));

    let read = InviteV1::from_token(text(&file, "/token")).expect("token");
    assert_eq!(read, invite);
    assert_eq!(read.verify(expires_at), Ok(owner.public()));
    assert_eq!(read.verify(expires_at + 1), Err(InviteError::Expired { expires_at }));
}

#[test]
fn v1_links() {
    let file = vectors("invite_v1");
    let links = file["links"].as_object().expect("links is an object");
    assert_eq!(links.len(), 4);
    let token = text(&file, "/token");
    let expected = payload(&file["payload"]);
    let mut inputs: Vec<String> = links
        .values()
        .filter_map(|link| link.as_str().map(str::to_owned))
        .collect();
    inputs.extend(
        inputs
            .clone()
            .into_iter()
            .filter(|link| link.contains("://"))
            .map(|link| link + "/"),
    );
    inputs.push(format!("claudemesh://join/{token}"));
    inputs.push(format!("  http://localhost:8787/join/{token}\n"));
    for input in inputs {
        match parse_invite(&input) {
            Ok(InviteLink::Token { token: found, payload }) => {
                assert_eq!(found.as_str(), token, "{input}");
                assert_eq!(*payload, expected, "{input}");
            }
            other => panic!("{input}: {other:?}"),
        }
    }
}

#[test]
fn v1_join_and_tampered() {
    let file = vectors("invite_v1");
    let join = &file["join_request"];
    assert_eq!(text(join, "/invite_token"), text(&file, "/token"));
    assert_eq!(payload(&join["invite_payload"]).verify(0), Ok(key("owner").public()));
    assert_eq!(text(join, "/peer_pubkey"), key("bob").public().to_string());

    let refused = payload(&file["tampered"]["payload"]).verify(0);
    assert_eq!(
        refused.map_err(|error| error.code()),
        Err(text(&file, "/tampered/expect"))
    );
}

#[test]
fn v2_capability() {
    let file = vectors("invite_v2");
    let owner = key("owner");
    let expires_at = integer(&file, "/fields/expires_at");
    let invite = InviteV2 {
        mesh_id: text(&file, "/fields/mesh_id").to_owned(),
        invite_id: text(&file, "/fields/invite_id").to_owned(),
        expires_at,
        role: InviteRole::Member,
        owner_pubkey: text(&file, "/fields/owner_pubkey").parse().expect("key"),
    };
    assert_eq!(invite.role.as_str(), text(&file, "/fields/role"));
    assert_eq!(invite.canonical(), text(&file, "/canonical"));
    assert_eq!(invite.canonical().as_bytes(), bytes(&file, "/canonical_hex"));
    assert_eq!(
        InviteV2::parse(text(&file, "/claim_response/canonical_v2")),
        Ok(invite.clone())
    );

    let capability = invite.sign(&owner).expect("owner signs");
    assert_eq!(capability.signature, text(&file, "/signature"));
    assert_eq!(capability.to_json(), text(&file, "/capability_v2_db_text"));
    let read = InviteCapability::from_json(text(&file, "/capability_v2_db_text")).expect("json");
    assert_eq!(read.verify(&owner.public(), expires_at), Ok(invite));
    assert_eq!(
        read.verify(&owner.public(), expires_at + 1),
        Err(InviteError::Expired { expires_at })
    );
    assert_eq!(
        read.verify(&key("alice").public(), expires_at),
        Err(InviteError::OwnerMismatch)
    );
    let admin = InviteCapability {
        canonical: read.canonical.replace("|member|", "|admin|"),
        ..read
    };
    assert_eq!(
        admin.verify(&owner.public(), expires_at),
        Err(InviteError::BadSignature)
    );
}

#[test]
fn v2_sealed_root_key() {
    let file = vectors("invite_v2");
    // The vectors' x25519 secrets are libsodium's crypto_box_seed_keypair of a seed.
    let seeded = |seed: &str, secret: &str| {
        let bytes: [u8; 32] = array(&file, secret);
        assert_eq!(Sha512::digest(support::bytes(&file, seed))[..32], bytes);
        BoxSecretKey::from(bytes)
    };
    let recipient = seeded("/recipient_x25519/seed_hex", "/recipient_x25519/secret_hex");
    let ephemeral = seeded("/seal_detail/ephemeral_seed_hex", "/seal_detail/ephemeral_secret_hex");
    assert_eq!(
        recipient.public_key().as_bytes().as_slice(),
        bytes(&file, "/recipient_x25519/public_hex")
    );
    assert_eq!(
        ephemeral.public_key().as_bytes().as_slice(),
        bytes(&file, "/seal_detail/ephemeral_public_hex")
    );

    let claimed = text(&file, "/claim_request/recipient_x25519_pubkey");
    let public = decode_box_key(claimed).expect("key");
    assert_eq!(public, recipient.public_key());
    assert_eq!(encode_box_key(&public), claimed);

    let root: [u8; 32] = array(&file, "/root_key_hex");
    assert_eq!(encode_base64_url(&root), text(&file, "/root_key_b64url"));
    let sealed = seal_root_key_with_ephemeral(&root, &public, &ephemeral).expect("usable key");
    assert_eq!(sealed, text(&file, "/claim_response/sealed_root_key"));
    assert_eq!(
        decode_base64_url(&sealed),
        Some(bytes(&file, "/seal_detail/sealed_hex"))
    );

    assert_eq!(*open_root_key(&recipient, &sealed).expect("opens"), root);
    let opened = open_sealed(&recipient, &bytes(&file, "/seal_detail/sealed_hex")).expect("opens");
    assert_eq!(opened.as_slice(), root);
    let fresh = seal_root_key(&root, &public).expect("usable key");
    assert_eq!(fresh.len(), 107);
    assert_eq!(*open_root_key(&recipient, &fresh).expect("opens"), root);
    assert_eq!(open_root_key(&ephemeral, &sealed), Err(InviteError::SealedRootKey));
}
