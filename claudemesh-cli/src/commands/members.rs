//! Finding a member by what a person types.

use super::session::Session;
use crate::CliError;
use claudemesh_proto::ErrorCode;
use claudemesh_proto::model::Member;
use claudemesh_proto::ops::ListMembers;

/// Shortest beginning of a key that counts as one.
const SHORTEST_PREFIX: usize = 8;

/// The member with this name, key, id or beginning of a key, connected or not.
pub(crate) async fn find(session: &Session, wanted: &str) -> Result<Member, CliError> {
    pick(session.call(ListMembers {}).await?.members, wanted)
}

/// The one member that `wanted` means. An exact key or id wins over a name, a name over the beginning of a key.
pub(crate) fn pick(members: Vec<Member>, wanted: &str) -> Result<Member, CliError> {
    let lower = wanted.to_lowercase();
    let rules: [&dyn Fn(&Member) -> bool; 3] = [
        &|member| member.pubkey.as_str() == lower || member.id.as_str() == wanted,
        &|member| member.display_name.to_lowercase() == lower,
        &|member| lower.len() >= SHORTEST_PREFIX && member.pubkey.as_str().starts_with(&lower),
    ];
    for rule in rules {
        let matches: Vec<&Member> = members.iter().filter(|member| rule(member)).collect();
        match matches[..] {
            [] => {}
            [member] => return Ok(member.clone()),
            _ => {
                let keys = matches
                    .iter()
                    .map(|member| format!("{} {}", member.display_name, member.pubkey));
                let keys: Vec<String> = keys.collect();
                return Err(
                    CliError::new(ErrorCode::AmbiguousTarget, format!("{wanted} may be several members."))
                        .next(format!("Use a key: {}.", keys.join(", "))),
                );
            }
        }
    }
    let names: Vec<&str> = members.iter().map(|member| member.display_name.as_str()).collect();
    Err(
        CliError::new(ErrorCode::NoSuchPeer, format!("No member is called {wanted}.")).next(format!(
            "Members: {}. `claudemesh peers --all` shows their keys.",
            names.join(", ")
        )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, key: &str) -> Member {
        let text = serde_json::json!({
            "id": format!("id-{name}"), "pubkey": key, "displayName": name, "permission": "member", "online": false,
            "joinedAt": "2025-01-01T00:00:00.000Z",
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn names_keys_and_prefixes() {
        let members = || {
            vec![
                member("Ana", "aaaa1111aa"),
                member("ben", "bbbb222222"),
                member("Ben", "bbbb222233"),
            ]
        };
        assert_eq!(pick(members(), "ana").unwrap().pubkey.as_str(), "aaaa1111aa");
        assert_eq!(pick(members(), "aaaa1111").unwrap().display_name, "Ana");
        assert_eq!(pick(members(), "bbbb222222").unwrap().pubkey.as_str(), "bbbb222222");
        assert_eq!(pick(members(), "BEN").unwrap_err().code(), "ambiguous_target");
        assert_eq!(pick(members(), "bbbb2222").unwrap_err().exit_code(), 3);
        assert_eq!(pick(members(), "carl").unwrap_err().exit_code(), 5);
    }
}
