//! Messages of any size up to the limit.

use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::Priority;

/// In the original a frame of more than 64 KiB ended the connection of whoever it came to.
pub async fn cli_26_a_large_message_arrives_and_one_too_large_harms_nobody(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let sessions = || [&ana, &ben, &cara].map(|seat| seat.hello().expect("a hello").presence_id.clone());
    let before = sessions();
    for size in [60_000, 70_000, 500_000] {
        let text = format!("{} {}", lab.text("large"), "ä".repeat(size / 2));
        for (target, receivers) in [("ben", vec![&ben]), ("*", vec![&ben, &cara])] {
            ana.send_text(target, &text, Priority::Now).await.unwrap();
            for receiver in receivers {
                assert!(recv_text(receiver).await == text, "{size} to {target}");
            }
        }
    }
    for size in [2_000_000, 20_000_000] {
        let text = format!("{} {}", lab.text("too large"), "x".repeat(size));
        for target in ["ben", "*"] {
            let refused = ana.send_text(target, &text, Priority::Now).await;
            assert!(
                matches!(code(refused), ErrorCode::TooLarge | ErrorCode::InvalidRequest),
                "{size} to {target}"
            );
        }
    }
    expect_nothing(&lab, &ana, &ben).await;
    expect_nothing(&lab, &ana, &cara).await;
    assert_eq!(sessions(), before, "nobody had to connect again");
    lab.finish().await;
}
