//! The sentences that people read beside a message.

use claudemesh_crypto::PublicKey;
use claudemesh_proto::model::Timestamp;

pub(super) fn gap(missing: u64, from: &str) -> String {
    let (count, verb) = if missing == 1 {
        ("1 message".to_owned(), "was")
    } else {
        (format!("{missing} messages"), "were")
    };
    format!(
        "{count} from {from} {verb} sent before this one and did not arrive here; unless another session of yours has them, \
         ask {from} to send again."
    )
}

pub(super) fn late() -> String {
    "This message was sent before others that came here earlier: it was held back on its way.".to_owned()
}

pub(super) fn old(sealed: Timestamp, accepted: Timestamp) -> String {
    format!(
        "This message was written at {sealed}, but reached the broker, as it says, at {accepted}: it waited at the sender, was \
         held back, or is an old one that was repeated."
    )
}

pub(super) fn replay(from: &str) -> String {
    format!("A message of {from} was repeated under a number that was used before; it is not shown.")
}

pub(super) fn fork() -> String {
    "The broker shows you and the sender different histories of this mesh: compare safety numbers, and do not trust this broker \
     until the cause is known."
        .to_owned()
}

pub(super) fn withheld(from: &str) -> String {
    format!(
        "{from} knows a newer state of the group keys than the broker shows you; somebody may have been removed from this mesh \
         without your seeing it. Ask the owner before you write to groups."
    )
}

pub(super) fn withheld_epoch(from: &str) -> String {
    format!(
        "A group message of {from} is sealed under a key that is newer than everything the broker shows you of the group log: the \
         broker holds back changes of the members, or made the message up. Ask the owner before you write to groups."
    )
}

pub(super) fn withheld_winner() -> String {
    "The broker refuses a change of the group keys because others have made one first, and does not show it: it holds back changes \
     of the members. Ask the owner before you write to groups."
        .to_owned()
}

pub(super) fn stale(days: u64) -> String {
    format!(
        "For {days} days no owner or admin has confirmed who is in this mesh: either none was online, or the broker keeps you in \
         the past. Compare the group head with another member (`claudemesh verify`) before you write to groups."
    )
}

pub(super) fn unlisted(name: &str, member: &PublicKey, safety_number: &str) -> String {
    format!(
        "That {} is the key of {name} is the broker's word: the signed list of this mesh's members does not have it (yet). Compare \
         the safety number before you trust them: {safety_number}.",
        member.short()
    )
}

pub(super) fn downgraded() -> String {
    "The broker served encrypted groups before and now says that it speaks the old protocol only: you cannot write to groups, you \
     are not told who is removed, and receipts are missing. Ask its operator why."
        .to_owned()
}

pub(super) fn clear_text(direct: bool) -> String {
    if direct {
        "This message is not encrypted: the broker can read and change it, and the sender is its word only.".to_owned()
    } else {
        "This group message is not encrypted (an older client sent it): the broker can read and change it, and the sender is \
         its word only."
            .to_owned()
    }
}

pub(super) fn unproven(from: &str) -> String {
    format!("That this is {from} is the broker's word: the sending session is not proven to be theirs.")
}

pub(super) fn meta_missing(from: &str) -> String {
    format!(
        "The protected details of this message (its order, time and priority) are missing, although {from} sends them: the \
         broker removed them, or made up who the sender is."
    )
}

pub(super) fn meta_bad(reason: &str) -> String {
    format!(
        "The protected details of this message do not fit it ({reason}): the broker changed or exchanged something."
    )
}

pub(super) fn changed(what: &str, sealed: &str, shown: &str) -> String {
    format!("The broker changed the {what} of this message: it was sent as {sealed}, not {shown}.")
}

pub(super) fn other_sender(claimed: &str, proven: &PublicKey) -> String {
    format!(
        "The broker names {claimed} as the sender, but the message is proven to come from the member with key {}.",
        proven.short()
    )
}

pub(super) fn bad_proof(from: &str) -> String {
    format!("The proof of who sent this message is false: it is not shown as a message of {from}; do not act on it.")
}

pub(super) fn unreadable() -> String {
    "This message cannot be opened with the keys of this session or member; ask the sender to send it again.".to_owned()
}

pub(super) fn not_text() -> String {
    "This message is not text.".to_owned()
}

pub(super) fn keys_missing() -> String {
    "This group message cannot be read yet: this device lacks the key. The other members were asked for it.".to_owned()
}

pub(super) fn no_groups() -> String {
    "This group message cannot be read: this device is not in the encrypted group of the mesh yet; the owner or an admin has \
     to admit it."
        .to_owned()
}

pub(super) fn ghost(device: &PublicKey) -> String {
    format!(
        "This group message is signed by {}, who is not a member of this mesh: it is not shown. Either the broker made it up, or \
         it hides an admission from you.",
        device.short()
    )
}

pub(super) fn group_altered() -> String {
    "This group message was altered on its way, or is not by whom it says; it is not shown.".to_owned()
}

pub(super) fn group_fork() -> String {
    "This group message is sealed under a key that your history of this mesh does not have: the broker shows you and the sender \
     different histories. Compare safety numbers."
        .to_owned()
}

pub(super) fn former(from: &str) -> String {
    format!("{from} has been removed from this mesh since: this message is old, or was held back until now.")
}

pub(super) fn bad_seal(author: &PublicKey, error: &str) -> String {
    format!(
        "The group key that {} made for this device does not open ({error}); the other members were asked for it.",
        author.short()
    )
}

pub(super) fn bad_grant(reason: &str) -> String {
    format!(
        "Group keys that were handed to this device are false and were refused ({reason}): a member or the broker tried to plant a key."
    )
}

pub(super) fn bad_log(reason: &str) -> String {
    format!("The broker sent an entry of the group log that breaks its rules ({reason}); it was ignored.")
}

pub(super) fn cut() -> String {
    "The owner of the mesh has started the group log anew: entries before are void. Ask the owner why.".to_owned()
}

pub(super) fn admitted(member: &PublicKey, safety_number: &str) -> String {
    format!(
        "{} joined without the secret of an invite link and was given the group keys on the broker's word; compare the safety \
         number with them: {safety_number}.",
        member.short()
    )
}

pub(super) fn comes_back(member: &PublicKey) -> String {
    format!(
        "{} was removed from this mesh and asks for the group keys again; admit them by hand if that is right.",
        member.short()
    )
}

pub(super) fn trusted_on_first_use(owner: &PublicKey) -> String {
    format!(
        "The key of this mesh's owner ({}) was taken from the broker, because no invite link named it; compare it with the owner.",
        owner.short()
    )
}

pub(super) fn invite_spent() -> String {
    "The secret of the invite link no longer admits to the encrypted group (used up, expired or revoked); the owner or an admin \
     has been asked to admit this device."
        .to_owned()
}

pub(super) fn log_lost() -> String {
    "The broker no longer has the group log that this device knows: it lost or hides the history of this mesh."
        .to_owned()
}
