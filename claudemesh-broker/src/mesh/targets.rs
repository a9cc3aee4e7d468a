//! Whom a message is for.

use super::roster::is_shown;
use super::session::is_in_group;
use super::{MemberState, Mesh};
use claudemesh_proto::model::{Capability, KeyHex, MemberId, Target, TargetKind};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use std::collections::{BTreeMap, BTreeSet};

/// Shortest key prefix that stands for a key.
const MIN_PREFIX: usize = 8;
/// Most names in an error.
const MAX_SUGGESTIONS: usize = 5;

/// What a sender asks for.
#[derive(Clone, Copy, Debug)]
pub struct TargetRequest<'a> {
    /// The sending member.
    pub sender: &'a MemberId,
    /// The target as the sender gave it.
    pub spec: &'a str,
    /// Session of the recipient to prefer.
    pub session_hint: Option<&'a KeyHex>,
    /// Whether names and key prefixes are resolved. Not for sealed messages: their sender needs the key.
    pub allow_names: bool,
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// How it is addressed. Keys are in lower case, names are replaced by the key.
    pub target: Target,
    /// The members, in the order of their ids. Empty only if the sender is alone in the mesh.
    pub recipients: Vec<Recipient>,
}

/// One member that a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The member.
    pub member: MemberId,
    /// Its key.
    pub key: KeyHex,
    /// Key of its session to prefer.
    pub session_hint: Option<KeyHex>,
    /// What it would have to let the sender do and does not.
    pub refused: Option<Capability>,
}

/// Finds the recipients of a message.
///
/// * A key: the member with it, or the member of the live session with it, which is then preferred. The sender's own
///   is fine: reminders and pings go there.
/// * `*` and `@all`: every other member that is visible: one of its live sessions is, or it is offline and left so.
/// * `@group`: every other member with a visible live session in the group or below it, or that is offline, left
///   visibly and was in it then.
/// * Anything else is a name or the beginning of a key, see [`TargetRequest::allow_names`].
///
/// # Errors
/// `no_such_peer` with near matches, `ambiguous_target` with the candidates' keys.
pub fn resolve(mesh: &Mesh, request: &TargetRequest<'_>) -> Result<Resolved, ErrorFrame> {
    let spec = request.spec;
    if spec == "*" || spec == "@all" {
        return Ok(multicast(mesh, request, TargetKind::Broadcast, |mesh, member| {
            reached(mesh, member, |_| true, |_| true)
        }));
    }
    if let Some(group) = spec.strip_prefix('@') {
        let resolved = multicast(mesh, request, TargetKind::Group, |mesh, member| {
            is_reached_as(mesh, member, group)
        });
        if resolved.recipients.is_empty() {
            return Err(no_such_group(mesh, request, group));
        }
        return Ok(resolved);
    }
    let lower = spec.to_ascii_lowercase();
    if is_hex(&lower) && lower.len() == 64 {
        return by_key(mesh, request, &lower);
    }
    by_name(mesh, request, &lower)
}

fn multicast(
    mesh: &Mesh,
    request: &TargetRequest<'_>,
    kind: TargetKind,
    reaches: impl Fn(&Mesh, &MemberState) -> bool,
) -> Resolved {
    let others = mesh
        .members()
        .filter(|member| member.facts.id != *request.sender && reaches(mesh, member));
    let recipients = others
        .map(|member| recipient(mesh, request, member, None, Capability::Broadcast))
        .collect();
    Resolved {
        target: Target {
            kind,
            spec: request.spec.to_owned(),
        },
        recipients,
    }
}

/// Whether one of the member's live sessions is shown and `wanted`; of an offline one, whether it left visibly and
/// `wanted_offline` holds.
fn reached(
    mesh: &Mesh,
    member: &MemberState,
    wanted: impl Fn(&super::Session) -> bool,
    wanted_offline: impl Fn(&MemberState) -> bool,
) -> bool {
    if mesh.is_online(&member.facts.id) {
        mesh.sessions_of(&member.facts.id)
            .any(|session| is_shown(session) && wanted(session))
    } else {
        member.state.visible && wanted_offline(member)
    }
}

fn is_reached_as(mesh: &Mesh, member: &MemberState, group: &str) -> bool {
    reached(
        mesh,
        member,
        |session| is_in_group(session.groups.iter().map(|group| &group.name), group),
        |member| is_in_group(member.resting_groups().iter().map(|group| &group.name), group),
    )
}

fn by_key(mesh: &Mesh, request: &TargetRequest<'_>, key: &str) -> Result<Resolved, ErrorFrame> {
    if let Some(member) = mesh.member_by_key(key) {
        return Ok(direct(mesh, request, member, key, None));
    }
    let session = mesh.session_by_key(key);
    if let Some(member) = session.and_then(|session| mesh.member(&session.facts.member)) {
        return Ok(direct(mesh, request, member, key, Some(KeyHex::from(key))));
    }
    let text = format!(
        "no member and no connected session of this mesh has the key {}…; session keys end with their session, member \
         keys stay",
        &key[..MIN_PREFIX]
    );
    Err(ErrorFrame::new(ErrorCode::NoSuchPeer, text).at("/targetSpec"))
}

fn by_name(mesh: &Mesh, request: &TargetRequest<'_>, lower: &str) -> Result<Resolved, ErrorFrame> {
    let spec = request.spec;
    if !request.allow_names {
        let text = format!("\"{spec}\" is not a key, @group, @all or *: look up the key with list_members");
        return Err(ErrorFrame::new(ErrorCode::NoSuchPeer, text)
            .at("/targetSpec")
            .suggest(near_names(mesh, lower)));
    }
    // Member → session to prefer: a name that only a session has means that session.
    let mut found: BTreeMap<&MemberId, Option<&KeyHex>> = BTreeMap::new();
    for member in mesh.members() {
        if member.facts.name.to_lowercase() == spec.to_lowercase() {
            found.insert(&member.facts.id, None);
        }
    }
    for session in mesh.sessions().filter(|session| is_shown(session)) {
        let name = session.facts.display_name.as_deref().unwrap_or_default();
        if !name.is_empty() && name.to_lowercase() == spec.to_lowercase() {
            found
                .entry(&session.facts.member)
                .or_insert(session.facts.session_key.as_ref());
        }
    }
    if found.is_empty() && is_hex(lower) && (MIN_PREFIX..64).contains(&lower.len()) {
        for member in mesh
            .members()
            .filter(|member| member.facts.key.as_str().starts_with(lower))
        {
            found.insert(&member.facts.id, None);
        }
    }
    let found: Vec<_> = found
        .into_iter()
        .filter_map(|(id, hint)| Some((mesh.member(id)?, hint)))
        .collect();
    match found.as_slice() {
        [] => {
            let text = format!("nobody in this mesh is called \"{spec}\"");
            Err(ErrorFrame::new(ErrorCode::NoSuchPeer, text)
                .at("/targetSpec")
                .suggest(near_names(mesh, lower)))
        }
        [(member, hint)] => Ok(direct(mesh, request, member, member.facts.key.as_str(), hint.cloned())),
        many => {
            let facts = many.iter().map(|(member, _)| &member.facts);
            let names: Vec<_> = facts
                .clone()
                .map(|facts| format!("{} ({}…)", facts.name, facts.key.short()))
                .collect();
            let text = format!("\"{spec}\" may be {}", names.join(" or "));
            let keys = facts.map(|facts| facts.key.0.clone()).take(MAX_SUGGESTIONS);
            Err(ErrorFrame::new(ErrorCode::AmbiguousTarget, text)
                .at("/targetSpec")
                .suggest(keys))
        }
    }
}

fn direct(
    mesh: &Mesh,
    request: &TargetRequest<'_>,
    member: &MemberState,
    spec: &str,
    session: Option<KeyHex>,
) -> Resolved {
    let hint = session.or_else(|| request.session_hint.cloned());
    Resolved {
        target: Target {
            kind: TargetKind::Direct,
            spec: spec.to_owned(),
        },
        recipients: vec![recipient(mesh, request, member, hint, Capability::Dm)],
    }
}

fn recipient(
    mesh: &Mesh,
    request: &TargetRequest<'_>,
    member: &MemberState,
    session_hint: Option<KeyHex>,
    needed: Capability,
) -> Recipient {
    let facts = &member.facts;
    let refused = (!mesh.allows(&facts.id, request.sender, needed)).then_some(needed);
    Recipient {
        member: facts.id.clone(),
        key: facts.key.clone(),
        session_hint,
        refused,
    }
}

fn no_such_group(mesh: &Mesh, request: &TargetRequest<'_>, group: &str) -> ErrorFrame {
    let sender_is_in = mesh
        .member(request.sender)
        .is_some_and(|sender| is_reached_as(mesh, sender, group));
    let text = if sender_is_in {
        format!("nobody else is in @{group}")
    } else {
        format!("nobody is in @{group}: look at the groups in mesh_info")
    };
    let mut names = BTreeSet::new();
    for member in mesh.members().filter(|member| member.facts.id != *request.sender) {
        for group in mesh.groups_of(&member.facts.id) {
            names.extend(group.name.with_ancestors().map(str::to_owned));
        }
    }
    names.retain(|name| is_reached_by_others(mesh, request.sender, name));
    let near = near(names.iter().map(String::as_str), &group.to_lowercase());
    let near = near.into_iter().map(|name| format!("@{name}"));
    ErrorFrame::new(ErrorCode::NoSuchPeer, text)
        .at("/targetSpec")
        .suggest(near)
}

fn is_reached_by_others(mesh: &Mesh, sender: &MemberId, group: &str) -> bool {
    mesh.members()
        .any(|member| member.facts.id != *sender && is_reached_as(mesh, member, group))
}

fn near_names(mesh: &Mesh, lower: &str) -> Vec<String> {
    let mut names: BTreeSet<&str> = mesh.members().map(|member| member.facts.name.as_str()).collect();
    let sessions = mesh.sessions().filter(|session| is_shown(session));
    names.extend(sessions.filter_map(|session| session.facts.display_name.as_deref()));
    names.remove("");
    near(names.into_iter(), lower)
}

/// The names that are most like `lower`, the nearest first.
pub(crate) fn near<'a>(names: impl Iterator<Item = &'a str>, lower: &str) -> Vec<String> {
    let lower = lower.trim_start_matches(['@', '#']);
    let mut near: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let candidate = name.to_lowercase();
            let distance = strsim::levenshtein(&candidate, lower);
            let contains = !lower.is_empty() && (candidate.contains(lower) || lower.contains(candidate.as_str()));
            let limit = (lower.chars().count() / 3).max(2);
            (contains || distance <= limit).then_some((distance, name))
        })
        .collect();
    near.sort_unstable();
    near.into_iter()
        .take(MAX_SUGGESTIONS)
        .map(|(_, name)| name.to_owned())
        .collect()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
