//! Shared files.

use super::kit::*;
use claudemesh_client::http::BrokerHttp;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{Base64, Capability, GroupName, HexSignature, KeyHex};
use claudemesh_client::proto::ops::{
    BeginUpload, CancelUpload, DeleteFile, FileProof, FileStatus, FinishUpload, GetFile, GrantFileAccess, JoinGroup,
    ListFiles, MeshInfo, RemoveMember, SetGrants, UploadBegun, WrappedFileKey,
};
use claudemesh_client::proto::tools::{FetchFile, FetchedFile, GrantFile, ShareFile, SharedFile};
use claudemesh_client::{ClientError, ClientEvent, MeshClient, Progress, with_progress};
use claudemesh_crypto::{FileKey, FileProofText, SecretKey, encode_base64, random_id, request_digest};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Notify;

/// More than one part, and no whole number of chunks.
const LARGE: usize = 9 * 1024 * 1024 + 17;

/// A directory of this test's people.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    fn write(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }
}

fn content(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let bytes = (0..length).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    bytes.collect()
}

pub fn share(path: &str, to: Option<&str>) -> ShareFile {
    ShareFile {
        path: path.to_owned(),
        name: None,
        tags: Vec::new(),
        to: to.map(str::to_owned),
        persistent: true,
        expires_in: None,
        clear: false,
    }
}

/// A program that knows nothing of meshes.
fn web() -> reqwest::Client {
    // Once for the process; later ones are refused, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

async fn shared(client: &MeshClient, path: &str, to: Option<&str>) -> SharedFile {
    // Lists are in the order of milliseconds.
    tokio::time::sleep(Duration::from_millis(2)).await;
    within("the upload", client.share_file(share(path, to))).await.unwrap()
}

fn fetch(id: &str, save_to: &str) -> FetchFile {
    FetchFile {
        id: id.to_owned(),
        save_to: save_to.to_owned(),
        overwrite: false,
    }
}

async fn fetched(client: &MeshClient, id: &str, save_to: &str) -> FetchedFile {
    within("the download", client.fetch_file(fetch(id, save_to))).await.unwrap()
}

async fn names(client: &MeshClient) -> Vec<String> {
    let list = client.list_files(ListFiles::default()).await.unwrap();
    list.files.into_iter().map(|file| file.name).collect()
}

/// Files in the broker's directory for blobs.
fn blobs(lab: &Lab) -> Vec<PathBuf> {
    fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => collect(&entry.path(), found),
                false => found.push(entry.path()),
            }
        }
    }
    let mut found = Vec::new();
    collect(&lab.data_dir().join("files"), &mut found);
    found
}

pub async fn defect_049_a_file_goes_to_whom_it_was_shared_with(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let desk = Desk::new();
    cara.request(JoinGroup { name: GroupName::new("backend/db"), role: None }).await.unwrap();
    let secret = lab.text("content of the file");
    let small = desk.write("plan ü.txt", secret.as_bytes());
    let mut events = ben.events();

    let direct = shared(&ana, &small, Some("ben")).await;
    assert_eq!((direct.recipients, direct.size, direct.to.as_str()), (1, secret.len() as u64, "ben"));
    let told = event(&mut events, "the news", |event| match event {
        ClientEvent::System(push) if push.event.as_deref() == Some("file_shared") => push.event_data.clone(),
        _ => None,
    });
    assert_eq!(told.await["fileId"], direct.id);
    let got = fetched(&ben, &direct.id, &desk.path("ben/plan.txt")).await;
    assert_eq!(fs::read(&got.path).unwrap(), secret.as_bytes());
    assert!(got.encrypted && got.authenticated && got.warnings.is_empty(), "{got:?}");
    assert_eq!((got.name.as_str(), got.from.as_deref()), ("plan ü.txt", Some("ana")));
    assert_eq!(got.from_pubkey, Some(ana.key()));
    let denied = cara.fetch_file(fetch(&direct.id, &desk.path("cara.txt"))).await;
    assert_eq!(code(denied), ErrorCode::Forbidden);
    assert!(names(&cara).await.is_empty(), "what she may not read is not listed either");

    // A group, with those below it.
    let group = shared(&ana, &small, Some("@backend")).await;
    assert_eq!(group.recipients, 1);
    fetched(&cara, &group.id, &desk.path("cara/")).await;
    assert_eq!(fs::read(desk.path("cara/plan ü.txt")).unwrap(), secret.as_bytes(), "under its own name");
    assert_eq!(code(ben.get_file(GetFile { file_id: group.id.clone(), key_only: true }).await), ErrorCode::Forbidden);
    assert_eq!(code(ana.share_file(share(&small, Some("@nobody"))).await), ErrorCode::NoSuchPeer);

    // Everybody, in several parts; sizes at the edges of chunks.
    let mut all = Vec::new();
    for size in [0, 1, 65_536, 65_537, LARGE] {
        let bytes = content(size);
        let path = desk.write(&format!("f{size}"), &bytes);
        let file = shared(&ben, &path, None).await;
        assert_eq!((file.recipients, file.size), (2, size as u64));
        for (who, client) in [("ana", &ana), ("cara", &cara), ("ben", &ben)] {
            let got = fetched(client, &file.id, &desk.path(&format!("{who}-{size}"))).await;
            assert_eq!(got.size, size as u64);
            assert!(fs::read(&got.path).unwrap() == bytes, "{who}: {size} bytes came back as others");
        }
        all.push(format!("f{size}"));
    }
    all.reverse();
    all.push("plan ü.txt".to_owned());
    assert_eq!(names(&cara).await, all, "the newest first");
    let count = cara.request(MeshInfo {}).await.unwrap().file_count;
    assert_eq!(count, all.len() as u64);

    // Nothing is replaced without being asked to.
    let again = ben.fetch_file(fetch(&direct.id, &got.path)).await;
    assert_eq!(code(again), ErrorCode::Conflict);
    let request = FetchFile { overwrite: true, ..fetch(&direct.id, &got.path) };
    ben.fetch_file(request).await.unwrap();

    let status = ana.file_status(FileStatus { file_id: direct.id.clone() }).await.unwrap();
    let who: Vec<_> = status.accesses.iter().map(|access| access.peer_name.as_str()).collect();
    assert_eq!(who, ["ben"], "a download that is repeated at once is one access");
    let holders: Vec<_> = status.recipients.iter().map(|recipient| recipient.name.as_str()).collect();
    assert!(holders.len() == 2 && holders.contains(&"ana") && holders.contains(&"ben"), "{holders:?}");
    for (client, path) in [(&ana, desk.path("missing")), (&ana, desk.path(""))] {
        assert_eq!(code(client.share_file(share(&path, None)).await), ErrorCode::InvalidRequest);
    }
    lab.finish().await;
}

pub async fn files_are_found(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let desk = Desk::new();
    for (name, tags) in [("Übersicht.md", vec!["plan", "q3"]), ("100%_done.txt", vec!["q3"]), ("notes.txt", vec![])] {
        let request = ShareFile {
            name: Some(name.to_owned()),
            tags: tags.into_iter().map(str::to_owned).collect(),
            ..share(&desk.write("file", name.as_bytes()), None)
        };
        ana.share_file(request).await.unwrap();
    }
    let found = |query: ListFiles| async {
        let list = ben.list_files(query).await.unwrap();
        list.files.into_iter().map(|file| file.name).collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    let default = ListFiles::default;
    assert_eq!(found(ListFiles { query: text("übers"), ..default() }).await, ["Übersicht.md"]);
    assert_eq!(found(ListFiles { query: text("%_"), ..default() }).await, ["100%_done.txt"], "no wildcards");
    assert_eq!(found(ListFiles { query: text("!"), ..default() }).await, [""; 0]);
    assert_eq!(found(ListFiles { tag: text("plan"), ..default() }).await, ["Übersicht.md"]);
    assert_eq!(found(ListFiles { tag: text("pla"), ..default() }).await, [""; 0]);
    assert_eq!(found(ListFiles { from: text("ana"), ..default() }).await.len(), 3);
    assert_eq!(found(ListFiles { from: text("ben"), ..default() }).await, [""; 0]);
    // Page by page.
    let mut paged: Vec<String> = Vec::new();
    let mut after = None;
    loop {
        let list = ben.list_files(ListFiles { limit: Some(1), after, ..default() }).await.unwrap();
        after = list.files.last().map(|file| file.id.clone());
        paged.extend(list.files.into_iter().map(|file| file.name));
        if !list.more {
            break;
        }
    }
    assert_eq!(paged, ["notes.txt", "100%_done.txt", "Übersicht.md"]);
    lab.finish().await;
}

pub async fn defect_048_cli_18_an_owner_opens_and_grants_after_a_restart(database: Database) {
    let (mut lab, Three { mut ana, mut ben, cara }) = Lab::with_three(database).await;
    let desk = Desk::new();
    let bytes = content(100_000);
    let file = shared(&ana, &desk.write("f", &bytes), Some("ben")).await;
    ana.restart().await;
    ben.restart().await;
    lab.restart().await;
    let got = fetched(&ana, &file.id, &desk.path("own")).await;
    assert!(fs::read(got.path).unwrap() == bytes);
    fetched(&ben, &file.id, &desk.path("ben")).await;
    let uploaded = blobs(&lab);
    let granted = ana.grant_file(GrantFile { file_id: file.id.clone(), to: "cara".to_owned() }).await.unwrap();
    assert_eq!((granted.granted, granted.to.as_str()), (1, "cara"));
    assert_eq!(blobs(&lab), uploaded, "nothing was uploaded again");
    let got = fetched(&cara, &file.id, &desk.path("cara")).await;
    assert!(got.authenticated && fs::read(got.path).unwrap() == bytes);
    lab.finish().await;
}

pub async fn defect_021_022_only_who_may_grants_deletes_and_looks(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let desk = Desk::new();
    let path = desk.write("f", b"content");
    let file = shared(&ben, &path, Some("ana")).await;
    let id = file.id.clone();
    let grant = |key: KeyHex| GrantFileAccess {
        file_id: id.clone(),
        peer_pubkey: key,
        sealed_key: Base64(encode_base64(&[1; 80])),
    };
    // Ana has the key and administers the mesh, and is still not the owner.
    assert_eq!(code(ana.grant_file_access(grant(cara.key())).await), ErrorCode::Forbidden);
    assert_eq!(code(cara.grant_file_access(grant(cara.key())).await), ErrorCode::Forbidden);
    let stranger = KeyHex(SecretKey::generate().public().to_string());
    assert_eq!(code(ben.grant_file_access(grant(stranger)).await), ErrorCode::NoSuchPeer);
    let delete = || DeleteFile { file_id: id.clone() };
    let status = || FileStatus { file_id: id.clone() };
    assert_eq!(code(cara.delete_file(delete()).await), ErrorCode::Forbidden);
    assert_eq!(code(cara.file_status(status()).await), ErrorCode::Forbidden);
    assert_eq!(code(cara.list_files(ListFiles { all: true, ..ListFiles::default() }).await), ErrorCode::Forbidden);
    let all = ana.list_files(ListFiles { all: true, ..ListFiles::default() }).await.unwrap();
    assert_eq!(all.files.len(), 1);

    // Members of another mesh.
    let olga = lab.mesh("Other", "olga").await;
    for result in [
        olga.get_file(GetFile { file_id: id.clone(), key_only: false }).await.err(),
        olga.delete_file(delete()).await.err(),
        olga.file_status(status()).await.err(),
        olga.grant_file_access(grant(olga.key())).await.err(),
    ] {
        assert_eq!(result.unwrap().code(), ErrorCode::NotFound);
    }
    // Who is blocked by the owner gets nothing, and gets it back with the grant.
    let set = |client: &MeshClient, to: KeyHex, grants: Option<Vec<Capability>>| {
        let request = SetGrants { grants: [(to, grants)].into() };
        let client = client.clone();
        async move { client.request(request).await.unwrap() }
    };
    set(&ben, ana.key(), Some(Vec::new())).await;
    assert_eq!(code(ana.get_file(GetFile { file_id: id.clone(), key_only: false }).await), ErrorCode::Forbidden);
    assert!(names(&ana).await.is_empty());
    set(&ben, ana.key(), None).await;
    assert_eq!(names(&ana).await, ["f"]);

    // The owner of the file deletes it, an admin deletes another.
    ben.delete_file(delete()).await.unwrap();
    assert_eq!(code(ben.delete_file(delete()).await), ErrorCode::NotFound);
    assert_eq!(code(ana.get_file(GetFile { file_id: id.clone(), key_only: false }).await), ErrorCode::NotFound);
    let other = shared(&ben, &path, Some("cara")).await;
    assert_eq!(blobs(&lab).len(), 1);
    ana.delete_file(DeleteFile { file_id: other.id }).await.unwrap();
    assert!(blobs(&lab).is_empty(), "defect 53: the bytes go as well");
    lab.finish().await;
}

/// An upload by hand: its key and what is sent.
struct ByHand {
    file: String,
    sealed: Vec<u8>,
    begin: BeginUpload,
}

fn by_hand(owner: &Seat, length: usize) -> ByHand {
    let (file, key) = (random_id(), FileKey::generate());
    let identity = &owner.person.identity;
    let wrapped = key.wrap_for(&identity.public()).unwrap();
    let proof = FileProofText {
        mesh_id: identity.mesh_id.as_str(),
        file_id: &file,
        name: "by hand",
        size: length as u64,
    };
    let signature = HexSignature(proof.sign(&identity.member, &key).to_string());
    let begin = BeginUpload {
        file_id: file.clone(),
        name: "by hand".to_owned(),
        size: length as u64,
        tags: Vec::new(),
        mime: None,
        persistent: true,
        expires_in: None,
        target: None,
        encrypted: true,
        keys: vec![WrappedFileKey {
            peer_pubkey: owner.key(),
            sealed_key: Base64(encode_base64(&wrapped)),
        }],
        proof: Some(FileProof { size: length as u64, signature }),
    };
    ByHand { file, sealed: content(length), begin }
}

async fn part(http: &BrokerHttp, signer: &Seat, hand: &ByHand, offset: u64, bytes: &[u8]) -> Result<u64, ClientError> {
    let identity = &signer.person.identity;
    let digest = request_digest(bytes);
    let sent = http.send_part(&identity.member, &identity.mesh_id, &hand.file, offset, bytes.to_vec(), digest).await;
    sent.map(|taken| taken.received)
}

pub async fn defect_016_047_sub_e_23_cli_42_nothing_comes_or_goes_without_a_proof(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let (http, hand) = (lab.http(), by_hand(&ana, 1000));
    let identity = &ana.person.identity;
    let client = web();
    let url = format!("{}/upload?mesh={}&file={}&offset=0", http.base_url(), identity.mesh_id, hand.file);
    // As the original's clients do it.
    let old = client
        .post(format!("{}/upload", http.base_url()))
        .header("X-Mesh-Id", identity.mesh_id.as_str())
        .header("X-Member-Id", "lab")
        .header("X-File-Name", "../../x")
        .body("content");
    assert_eq!(old.send().await.unwrap().status().as_u16(), 401);
    assert_eq!(code(part(&http, &ana, &hand, 0, &hand.sealed).await), ErrorCode::NotFound, "it was not begun");
    let begun = ana.begin_upload(hand.begin.clone()).await.unwrap();
    assert_eq!((begun.received, begun.done), (0, false));
    assert_eq!(client.post(&url).body(hand.sealed.clone()).send().await.unwrap().status().as_u16(), 401);
    // Signed by another member, whose upload it is not.
    assert_eq!(code(part(&http, &ben, &hand, 0, &hand.sealed).await), ErrorCode::NotFound);
    assert_eq!(code(ben.finish_upload(FinishUpload { file_id: hand.file.clone() }).await), ErrorCode::NotFound);
    assert!(!ben.cancel_upload(CancelUpload { file_id: hand.file.clone() }).await.unwrap().existed);
    assert_eq!(code(ben.begin_upload(hand.begin.clone()).await), ErrorCode::InvalidRequest, "not wrapped for him");
    // The body is another one than was signed.
    let lie = http
        .send_part(&identity.member, &identity.mesh_id, &hand.file, 0, hand.sealed.clone(), request_digest(b"other"))
        .await;
    assert_eq!(code(lie), ErrorCode::BadSignature);
    for (offset, length, expected) in [
        (5, 10, ErrorCode::Conflict),
        (0, 1001, ErrorCode::TooLarge),
        (0, 0, ErrorCode::InvalidRequest),
    ] {
        let bytes = vec![0; length];
        assert_eq!(code(part(&http, &ana, &hand, offset, &bytes).await), expected, "{offset} {length}");
    }
    let finish = || ana.finish_upload(FinishUpload { file_id: hand.file.clone() });
    assert_eq!(code(finish().await), ErrorCode::Conflict, "nothing of all that was kept");
    assert_eq!(part(&http, &ana, &hand, 0, &hand.sealed[..400]).await.unwrap(), 400);
    assert_eq!(ana.begin_upload(hand.begin.clone()).await.unwrap().received, 400);
    assert_eq!(code(part(&http, &ana, &hand, 0, &hand.sealed[..400]).await), ErrorCode::Conflict);
    assert_eq!(part(&http, &ana, &hand, 400, &hand.sealed[400..]).await.unwrap(), 1000);
    assert_eq!(code(ana.get_file(GetFile { file_id: hand.file.clone(), key_only: false }).await), ErrorCode::NotFound);
    finish().await.unwrap();
    finish().await.unwrap();
    assert!(ana.begin_upload(hand.begin.clone()).await.unwrap().done);
    assert_eq!(code(ana.cancel_upload(CancelUpload { file_id: hand.file.clone() }).await), ErrorCode::Conflict);

    // Down: the address is signed, and good for this file, this member and a time.
    let answer = ana.get_file(GetFile { file_id: hand.file.clone(), key_only: false }).await.unwrap();
    let get = |url: String| async {
        let response = web().get(url).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
    };
    assert!(answer.via_broker && answer.url_expires_at.is_some());
    assert_eq!(get(answer.url.clone()).await, (200, hand.sealed.clone()), "reachable as it is");
    let (start, signature) = answer.url.split_once("&sig=").unwrap();
    assert_eq!(get(start.to_owned()).await.0, 401);
    assert_eq!(get(format!("{start}&sig=")).await.0, 401);
    let other = answer.url.replace(&hand.file, &random_id());
    assert_eq!(get(other).await.0, 401);
    let later = start.replace("expires=", "expires=9");
    assert_eq!(get(format!("{later}&sig={signature}")).await.0, 401);
    let member = start.replace(identity.member_id.as_str(), ben.person.identity.member_id.as_str());
    assert_eq!(get(format!("{member}&sig={signature}")).await.0, 401);
    let bare = format!("{}/download/{}?mesh={}", http.base_url(), hand.file, identity.mesh_id);
    assert_eq!(get(bare).await.0, 401);
    // Ranges, for downloads that are gone on with.
    let range = web().get(&answer.url).header("range", "bytes=990-").send().await.unwrap();
    assert_eq!(range.status().as_u16(), 206);
    assert_eq!(range.headers()["content-range"], "bytes 990-999/1000");
    assert_eq!(range.bytes().await.unwrap(), hand.sealed[990..]);
    lab.finish().await;
}

pub async fn an_address_ends(database: Database) {
    let short = |config: &mut claudemesh_broker::config::Config| config.files.url_life = Duration::from_secs(1);
    let (lab, Three { ana, ben, cara }) = Lab::with_three_and(database, short).await;
    let desk = Desk::new();
    let file = shared(&ana, &desk.write("f", b"content"), None).await;
    let address = |client: &MeshClient| {
        let (client, file_id) = (client.clone(), file.id.clone());
        async move { client.get_file(GetFile { file_id, key_only: false }).await.unwrap().url }
    };
    let url = address(&ben).await;
    eventually("the end of the address", || async {
        (web().get(&url).send().await.unwrap().status().as_u16() == 403).then_some(())
    })
    .await;
    // And with the membership of whom it was made for.
    let url = address(&cara).await;
    let member_id = cara.person.identity.member_id.clone();
    ana.request(RemoveMember { member_id }).await.unwrap();
    assert_eq!(web().get(&url).send().await.unwrap().status().as_u16(), 403);
    lab.finish().await;
}

pub async fn an_upload_goes_on_where_it_stopped(database: Database) {
    let (mut lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let (desk, notes) = (Desk::new(), Desk::new());
    let bytes = content(2 * LARGE);
    let path = desk.write("large", &bytes);
    // Cut off after its first part, as if the program had been killed.
    let begun = Arc::new(Notify::new());
    let first = ana.person.builder().transfer_directory(notes.path("")).connect().await.unwrap();
    let uploading = {
        let (begun, path) = (begun.clone(), path.clone());
        tokio::spawn(async move {
            let sink = Arc::new(move |progress: Progress| {
                if progress.done > 0 {
                    begun.notify_one();
                }
            });
            with_progress(sink, first.share_file(share(&path, Some("ben")))).await
        })
    };
    within("the first part", begun.notified()).await;
    uploading.abort();
    assert!(uploading.await.is_err());
    lab.restart().await;
    let again = ana.person.builder().transfer_directory(notes.path("")).connect().await.unwrap();
    let file = within("the rest", again.share_file(share(&path, Some("ben")))).await.unwrap();
    assert!(file.resumed_at > 0, "{file:?}");
    let got = fetched(&ben, &file.id, &desk.path("got")).await;
    assert!(fs::read(got.path).unwrap() == bytes);
    assert_eq!(fs::read_dir(notes.path("")).unwrap().count(), 0, "nothing is left of it");
    assert_eq!(blobs(&lab).len(), 1);
    lab.finish().await;
}

pub async fn a_file_that_changed_meanwhile_is_uploaded_anew(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let (desk, notes) = (Desk::new(), Desk::new());
    let mut bytes = content(2 * LARGE);
    let path = desk.write("large", &bytes);
    let begun = Arc::new(Notify::new());
    let client = ana.person.builder().transfer_directory(notes.path("")).connect().await.unwrap();
    let uploading = {
        let (begun, path, client) = (begun.clone(), path.clone(), client.clone());
        tokio::spawn(async move {
            let sink = Arc::new(move |progress: Progress| {
                if progress.done > 0 {
                    begun.notify_one();
                }
            });
            with_progress(sink, client.share_file(share(&path, None))).await
        })
    };
    within("the first part", begun.notified()).await;
    uploading.abort();
    assert!(uploading.await.is_err());
    // The second part had been sealed: other content must not be sealed in its place.
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let file = within("the upload", client.share_file(share(&path, None))).await.unwrap();
    let got = fetched(&ben, &file.id, &desk.path("got")).await;
    assert!(fs::read(got.path).unwrap() == bytes);
    lab.finish().await;
}

pub async fn transfers_survive_a_restart_of_the_broker(database: Database) {
    let (mut lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let desk = Desk::new();
    let bytes = content(3 * LARGE);
    let path = desk.write("large", &bytes);
    let moved = Arc::new(Notify::new());
    let sink = {
        let (moved, once) = (moved.clone(), AtomicBool::new(false));
        Arc::new(move |progress: Progress| {
            if progress.done > 0 && !once.swap(true, Ordering::SeqCst) {
                moved.notify_one();
            }
        })
    };
    let upload = with_progress(sink, ana.share_file(share(&path, None)));
    let restart = async {
        moved.notified().await;
        lab.restart().await;
    };
    let (file, ()) = within("the upload", async { tokio::join!(upload, restart) }).await;
    let file = file.unwrap();
    let sink = {
        let (moved, once) = (moved.clone(), AtomicBool::new(false));
        Arc::new(move |progress: Progress| {
            if progress.done > 0 && !once.swap(true, Ordering::SeqCst) {
                moved.notify_one();
            }
        })
    };
    let got = desk.path("got");
    let download = with_progress(sink, ben.fetch_file(fetch(&file.id, &got)));
    let restart = async {
        moved.notified().await;
        lab.restart().await;
    };
    let (fetched, ()) = within("the download", async { tokio::join!(download, restart) }).await;
    assert!(fs::read(fetched.unwrap().path).unwrap() == bytes);
    lab.finish().await;
}

pub async fn a_download_goes_on_where_it_stopped(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let desk = Desk::new();
    let bytes = content(LARGE);
    let file = shared(&ana, &desk.write("large", &bytes), None).await;
    let begun = Arc::new(Notify::new());
    let downloading = {
        let (begun, client, request) = (begun.clone(), ben.client.clone(), fetch(&file.id, &desk.path("got")));
        tokio::spawn(async move {
            let sink = Arc::new(move |_: Progress| begun.notify_one());
            with_progress(sink, client.fetch_file(request)).await
        })
    };
    within("the first bytes", begun.notified()).await;
    downloading.abort();
    let _ = downloading.await;
    if !Path::new(&desk.path("got")).exists() {
        // What came is there; what is altered in it is found before it is whole.
        let partial = fs::read_dir(desk.0.path()).unwrap().flatten();
        let partial = partial.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "part"));
        assert!(fs::metadata(partial.unwrap()).unwrap().len() > 0);
        fetched(&ben, &file.id, &desk.path("got")).await;
    }
    assert!(fs::read(desk.path("got")).unwrap() == bytes);
    lab.finish().await;
}

pub async fn what_is_altered_at_the_broker_is_found(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let desk = Desk::new();
    let bytes = content(200_000);
    let file = shared(&ana, &desk.write("f", &bytes), None).await;
    let blob = blobs(&lab).remove(0);
    let good = fs::read(&blob).unwrap();
    let mut moved = good.clone();
    moved.splice(16..16 + 65_552, good[16 + 65_552..16 + 2 * 65_552].iter().copied());
    let mut altered = good.clone();
    altered[100_000] ^= 1;
    for bad in [altered, moved] {
        fs::write(&blob, bad).unwrap();
        let result = ben.fetch_file(fetch(&file.id, &desk.path("got"))).await;
        assert!(matches!(result, Err(ClientError::Crypto { .. })), "{result:?}");
        assert!(!Path::new(&desk.path("got")).exists());
    }
    fs::write(&blob, good).unwrap();
    fetched(&ben, &file.id, &desk.path("got")).await;
    assert!(fs::read(desk.path("got")).unwrap() == bytes);
    lab.finish().await;
}

pub async fn defect_053_what_is_over_is_removed(database: Database) {
    let (mut lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let desk = Desk::new();
    let request = ShareFile { expires_in: Some(1), ..share(&desk.write("brief", b"content"), None) };
    let brief = ana.share_file(request).await.unwrap();
    assert!(brief.expires_at.is_some());
    let request = ShareFile { persistent: false, ..share(&desk.write("day", b"content"), None) };
    assert!(ana.share_file(request).await.unwrap().expires_at.is_some());
    shared(&ana, &desk.write("stays", b"content"), None).await;
    eventually("the end of the file", || async {
        let gone = ben.get_file(GetFile { file_id: brief.id.clone(), key_only: false }).await;
        gone.is_err_and(|error| error.code() == ErrorCode::NotFound).then_some(())
    })
    .await;
    assert_eq!(names(&ben).await, ["stays", "day"]);
    eventually_within(SWEEP_LIMIT, "the end of its bytes", || async { (blobs(&lab).len() == 2).then_some(()) }).await;

    // An upload that nobody finishes, over a crash of its client and a restart of the broker.
    lab.config.files.upload_ms = 1;
    lab.restart().await;
    let hand = by_hand(&ana, 1000);
    let begun: UploadBegun = within("the upload", ana.begin_upload(hand.begin.clone())).await.unwrap();
    assert_eq!(begun.received, 0);
    let _ = part(&lab.http(), &ana, &hand, 0, &hand.sealed[..500]).await;
    lab.restart().await;
    eventually_within(SWEEP_LIMIT, "the end of its bytes", || async { (blobs(&lab).len() == 2).then_some(()) }).await;
    lab.finish().await;
}

pub async fn limits_are_kept_and_named(database: Database) {
    let small = |config: &mut claudemesh_broker::config::Config| {
        config.files.max_bytes = 1000;
        config.files.mesh_bytes = 2000;
        config.files.member_uploads = 2;
    };
    let (lab, Three { ana, ben, .. }) = Lab::with_three_and(database, small).await;
    let desk = Desk::new();
    let (code, field) = refusal(ana.share_file(share(&desk.write("large", &content(1000)), None)).await);
    assert_eq!((code, field.as_deref()), (ErrorCode::TooLarge, Some("/size")));
    let path = desk.write("fits", &content(900));
    let first = shared(&ana, &path, None).await;
    shared(&ana, &path, None).await;
    let error = ben.share_file(share(&path, None)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooLarge);
    assert!(error.to_string().contains("2000") && error.to_string().contains("FILE_QUOTA_BYTES"), "{error}");
    ana.delete_file(DeleteFile { file_id: first.id }).await.unwrap();
    shared(&ben, &path, None).await;
    // Ten who come at once do not get in together.
    let hands: Vec<_> = (0..10).map(|_| by_hand(&ana, 50)).collect();
    let begun = hands.iter().map(|hand| ana.begin_upload(hand.begin.clone()));
    let begun = futures_util::future::join_all(begun).await;
    assert_eq!(begun.iter().filter(|result| result.is_ok()).count(), 2, "{begun:?}");
    lab.finish().await;
}
