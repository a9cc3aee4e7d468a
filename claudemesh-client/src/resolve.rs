//! From what a person writes to a key.

use crate::inner::Inner;
use crate::pending::lock;
use crate::{ClientError, MeshClient};
use claudemesh_crypto::PublicKey;
use claudemesh_proto::model::{KeyHex, Member, Peer};
use claudemesh_proto::ops::{ListMembers, ListPeers};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

/// Shortest beginning of a key that addresses a peer, in characters.
const MIN_PREFIX: usize = 8;
/// How many names an error suggests.
const SUGGESTIONS: usize = 10;

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolved {
    /// To one member.
    Direct {
        /// The member's key; of an original client, which opens nothing else, the session's.
        key: PublicKey,
        /// Session to prefer.
        session: Option<PublicKey>,
        /// Name of the member or session.
        name: String,
    },
    /// To a group, or to everybody.
    Multicast {
        /// `@group`, `@all` or `*`.
        spec: String,
    },
}

impl Resolved {
    /// The target as it goes to the broker.
    #[must_use]
    pub fn target_spec(&self) -> String {
        match self {
            Self::Direct { key, .. } => key.to_string(),
            Self::Multicast { spec } => spec.clone(),
        }
    }

    /// How to call it in a sentence.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Direct { name, .. } => name,
            Self::Multicast { spec } => spec,
        }
    }

    /// Whether a message to both would reach the same recipients.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let everybody = |spec: &str| matches!(spec, "*" | "@all");
        match (self, other) {
            (Self::Direct { key, .. }, Self::Direct { key: other, .. }) => key == other,
            (Self::Multicast { spec }, Self::Multicast { spec: other }) => {
                spec == other || (everybody(spec) && everybody(other))
            }
            _ => false,
        }
    }
}

/// Member keys that were seen, so that answering somebody needs no further request.
#[derive(Default)]
pub(crate) struct Directory {
    names: Mutex<HashMap<PublicKey, String>>,
}

impl Directory {
    fn name(&self, key: &PublicKey) -> Option<String> {
        lock(&self.names).get(key).cloned()
    }

    fn learn(&self, candidates: &[Candidate]) {
        let mut names = lock(&self.names);
        names.clear();
        // Only members that an own client can address by their member key.
        let members = candidates
            .iter()
            .filter(|candidate| candidate.target == candidate.member);
        names.extend(members.map(|candidate| (candidate.member, candidate.name.clone())));
    }
}

/// One name that somebody can be addressed by.
#[derive(Clone, Debug)]
struct Candidate {
    name: String,
    member: PublicKey,
    /// The session of this name, if it is a session's.
    session: Option<PublicKey>,
    /// The key to seal to.
    target: PublicKey,
}

impl MeshClient {
    /// Finds out who is meant by `target`: a key, the beginning of one (at least 8 characters), `@group`, `@all`, `*`, or a
    /// name, without regard to case; a part of a name if only one member fits.
    ///
    /// # Errors
    /// `no_such_peer` with the names that exist, `ambiguous_target` with the members that fit, and those of the requests.
    pub async fn resolve(&self, target: &str) -> Result<Resolved, ClientError> {
        resolve(self.inner(), target).await
    }
}

pub(crate) async fn resolve(inner: &Inner, target: &str) -> Result<Resolved, ClientError> {
    let target = target.trim();
    if target.is_empty() {
        return Err(ClientError::invalid(
            "to",
            "is empty; name a peer, a key, @group, @all or *",
        ));
    }
    if target == "*" || target.starts_with('@') {
        return Ok(Resolved::Multicast {
            spec: target.to_owned(),
        });
    }
    if let Some(key) = whole_key(target)
        && let Some(name) = inner.directory.name(&key)
    {
        return Ok(Resolved::Direct {
            key,
            session: None,
            name,
        });
    }
    let candidates = candidates(inner).await?;
    inner.directory.learn(&candidates);
    let found = choose(target, &candidates)?;
    // Who gives a whole key knows whom they mean; which key a name has is the broker's word.
    if let (Resolved::Direct { key, name, .. }, None) = (&found, whole_key(target)) {
        inner.secure.check_recipient(key, name, inner).await;
    }
    Ok(found)
}

/// Whether all live sessions of this member are original clients; there is at least one.
pub(crate) async fn runs_original_clients(inner: &Inner, member: &PublicKey) -> Result<bool, ClientError> {
    let candidates = candidates(inner).await?;
    let mut own = candidates
        .iter()
        .filter(|candidate| candidate.member == *member)
        .peekable();
    Ok(own.peek().is_some() && own.all(|candidate| candidate.target != candidate.member))
}

fn whole_key(text: &str) -> Option<PublicKey> {
    (text.len() == 64).then(|| text.parse().ok()).flatten()
}

async fn candidates(inner: &Inner) -> Result<Vec<Candidate>, ClientError> {
    let (members, peers) = tokio::join!(inner.request(&ListMembers {}), inner.request(&ListPeers {}));
    let members = match members {
        Ok(list) => list.members,
        // An original broker knows live sessions only.
        Err(ClientError::Unsupported { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(collect(&members, &peers?.peers))
}

fn collect(members: &[Member], peers: &[Peer]) -> Vec<Candidate> {
    let parse = |key: &KeyHex| key.as_str().parse::<PublicKey>().ok();
    // An original client opens with its session key only. A member with any other session, or none, gets its own key.
    let mut original: BTreeMap<PublicKey, (bool, PublicKey)> = BTreeMap::new();
    let mut candidates = Vec::new();
    for peer in peers {
        let Some(session) = parse(&peer.pubkey) else { continue };
        let member = peer.member_pubkey.as_ref().and_then(parse).unwrap_or(session);
        let is_original = peer.protocol.unwrap_or(1) < 2;
        let entry = original.entry(member).or_insert((true, session));
        entry.0 &= is_original;
        let target = if is_original { session } else { member };
        candidates.push(Candidate {
            name: peer.display_name.clone(),
            member,
            session: Some(session),
            target,
        });
    }
    for row in members {
        let Some(member) = parse(&row.pubkey) else { continue };
        let target = match original.get(&member) {
            Some((true, session)) => *session,
            _ => member,
        };
        candidates.push(Candidate {
            name: row.display_name.clone(),
            member,
            session: None,
            target,
        });
    }
    candidates
}

fn choose(target: &str, candidates: &[Candidate]) -> Result<Resolved, ClientError> {
    let lower = target.to_lowercase();
    if let Some(key) = whole_key(target) {
        let known = candidates
            .iter()
            .find(|candidate| candidate.member == key || candidate.session == Some(key));
        return Ok(match known {
            Some(candidate) => direct(&[candidate], candidate.session.filter(|session| *session == key)),
            // Not visible to us, but the broker may know it; if not, it says so.
            None => Resolved::Direct {
                key,
                session: None,
                name: key.short(),
            },
        });
    }
    if lower.len() >= MIN_PREFIX && lower.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let starts = |key: &PublicKey| key.to_string().starts_with(&lower);
        let matching =
            |candidate: &&Candidate| starts(&candidate.member) || candidate.session.as_ref().is_some_and(starts);
        let found: Vec<_> = candidates.iter().filter(matching).collect();
        if !found.is_empty() {
            let sessions = found
                .iter()
                .filter_map(|candidate| candidate.session)
                .filter(|key| starts(key));
            let session = only(sessions);
            return one_member(target, &found, session);
        }
    }
    let exact: Vec<_> = candidates
        .iter()
        .filter(|candidate| candidate.name.to_lowercase() == lower)
        .collect();
    if !exact.is_empty() {
        return one_member(target, &exact, hint(&exact));
    }
    let partial: Vec<_> = candidates
        .iter()
        .filter(|candidate| candidate.name.to_lowercase().contains(&lower))
        .collect();
    if !partial.is_empty() {
        return one_member(target, &partial, hint(&partial));
    }
    let mut names: Vec<String> = candidates.iter().map(|candidate| candidate.name.clone()).collect();
    names.sort_by_key(|name| name.to_lowercase());
    names.dedup();
    names.truncate(SUGGESTIONS);
    let message = match names.as_slice() {
        [] => format!("nobody is called {target:?}: this mesh has no other members yet"),
        names => format!("nobody is called {target:?}; there are: {}", names.join(", ")),
    };
    Err(ErrorFrame::new(ErrorCode::NoSuchPeer, message)
        .at("/to")
        .suggest(names)
        .into())
}

/// The only item, if there is exactly one distinct.
fn only(mut keys: impl Iterator<Item = PublicKey>) -> Option<PublicKey> {
    let first = keys.next()?;
    keys.all(|key| key == first).then_some(first)
}

/// The session to prefer: the only one of that name, unless the member itself has the name.
fn hint(found: &[&Candidate]) -> Option<PublicKey> {
    if found.iter().any(|candidate| candidate.session.is_none()) {
        return None;
    }
    only(found.iter().filter_map(|candidate| candidate.session))
}

fn one_member(target: &str, found: &[&Candidate], session: Option<PublicKey>) -> Result<Resolved, ClientError> {
    let mut members: BTreeMap<PublicKey, &str> = BTreeMap::new();
    for candidate in found {
        members.entry(candidate.member).or_insert(&candidate.name);
    }
    if members.len() == 1 {
        return Ok(direct(found, session));
    }
    let described: Vec<String> = members
        .iter()
        .take(SUGGESTIONS)
        .map(|(key, name)| format!("{name} ({})", &key.to_string()[..16]))
        .collect();
    let message = format!(
        "{target:?} may be any of {}: use the key, or the beginning of it in parentheses",
        described.join(", ")
    );
    let keys = members
        .keys()
        .take(SUGGESTIONS)
        .map(|key| key.to_string()[..16].to_owned());
    Err(ErrorFrame::new(ErrorCode::AmbiguousTarget, message)
        .at("/to")
        .suggest(keys)
        .into())
}

/// `found` are names of one member.
fn direct(found: &[&Candidate], session: Option<PublicKey>) -> Resolved {
    let hinted = found
        .iter()
        .find(|candidate| session.is_some() && candidate.session == session);
    let plain = found.iter().find(|candidate| candidate.target == candidate.member);
    // The callers pass at least one.
    let chosen = hinted.or(plain).unwrap_or(&found[0]);
    let session = session.filter(|session| *session != chosen.target);
    Resolved::Direct {
        key: chosen.target,
        session,
        name: chosen.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 32])
    }

    fn member(name: &str, byte: u8) -> Candidate {
        Candidate {
            name: name.to_owned(),
            member: key(byte),
            session: None,
            target: key(byte),
        }
    }

    fn session(name: &str, byte: u8, session: u8) -> Candidate {
        Candidate {
            session: Some(key(session)),
            ..member(name, byte)
        }
    }

    fn chosen(target: &str, candidates: &[Candidate]) -> (u8, Option<u8>) {
        match choose(target, candidates).unwrap() {
            Resolved::Direct { key, session, .. } => (key.as_bytes()[0], session.map(|key| key.as_bytes()[0])),
            Resolved::Multicast { .. } => panic!("expected one member"),
        }
    }

    #[test]
    fn names_keys_and_prefixes_lead_to_the_member() {
        let candidates = [
            member("Ana", 0xa1),
            session("ana-laptop", 0xa1, 0x11),
            member("Ben", 0xb2),
            session("Ben", 0xb2, 0x22),
        ];
        assert_eq!(chosen("ANA", &candidates), (0xa1, None));
        assert_eq!(chosen("ana-laptop", &candidates), (0xa1, Some(0x11)));
        assert_eq!(chosen("ben", &candidates), (0xb2, None));
        assert_eq!(chosen("lapt", &candidates), (0xa1, Some(0x11)));
        assert_eq!(chosen("b2b2b2b2", &candidates), (0xb2, None));
        assert_eq!(chosen("11111111", &candidates), (0xa1, Some(0x11)));
        assert_eq!(chosen(&key(0x22).to_string(), &candidates), (0xb2, Some(0x22)));
        assert_eq!(chosen(&key(0xcc).to_string(), &candidates), (0xcc, None));
    }

    #[test]
    fn cli_52_who_is_not_clear_is_told_with_names_and_keys() {
        let candidates = [member("ana", 0xa1), member("Ana", 0xa2), member("ben", 0xb2)];
        let error = choose("ana", &candidates).unwrap_err();
        assert_eq!(error.code(), ErrorCode::AmbiguousTarget);
        assert_eq!(error.suggestions(), ["a1".repeat(8), "a2".repeat(8)]);
        assert!(error.message().contains(&"a2".repeat(8)));
        let error = choose("carla", &candidates).unwrap_err();
        assert_eq!(error.code(), ErrorCode::NoSuchPeer);
        assert_eq!(error.suggestions(), ["ana", "Ana", "ben"]);
        let error = choose("a1a1", &candidates).unwrap_err();
        assert_eq!(error.code(), ErrorCode::NoSuchPeer, "a short prefix is a name");
    }

    #[test]
    fn an_original_client_is_addressed_by_its_session() {
        let mut old = session("old", 0xa1, 0x11);
        old.target = key(0x11);
        assert_eq!(chosen("old", &[old]), (0x11, None));
    }

    #[test]
    fn two_ways_to_say_the_same_are_one_target() {
        let all = |spec: &str| Resolved::Multicast { spec: spec.to_owned() };
        assert!(all("*").same_as(&all("@all")));
        assert!(!all("@a").same_as(&all("@b")));
    }
}
