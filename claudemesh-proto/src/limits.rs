//! Sizes and counts that every party keeps to. Schemas state them too, so that a caller is told before the broker is.

/// Largest WebSocket message that the broker accepts, in bytes.
pub const MAX_FRAME_BYTES: usize = 2 * 1024 * 1024;
/// Largest frame that an original broker is sure to accept, in bytes.
pub const MAX_V1_FRAME_BYTES: usize = 65_536;
/// Largest base64 ciphertext of a message, in characters (about 768 KiB of text).
pub const MAX_CIPHERTEXT_CHARS: usize = 1024 * 1024;
/// Longest message text that a client seals, in bytes of UTF-8.
pub const MAX_MESSAGE_BYTES: usize = 750_000;
/// Largest state value, in bytes of compact JSON.
pub const MAX_STATE_VALUE_BYTES: usize = 65_536;
/// Most keys in one mesh's state.
pub const MAX_STATE_KEYS: usize = 10_000;
/// Most rows that a shared SQL statement gives.
pub const MAX_SQL_ROWS: usize = 1_000;
/// Most bytes of JSON that the rows of a shared SQL statement have, and about the largest value.
pub const MAX_SQL_RESULT_BYTES: usize = 1024 * 1024;
/// Most dimensions of a vector.
pub const MAX_VECTOR_DIMENSIONS: usize = 4_096;
/// Longest name of a vector collection, in bytes of UTF-8.
pub const MAX_COLLECTION_NAME_BYTES: usize = 64;
/// Largest text of a vector, in bytes of UTF-8.
pub const MAX_VECTOR_TEXT_BYTES: usize = 32_768;
/// Largest metadata of a vector, in bytes of compact JSON.
pub const MAX_VECTOR_METADATA_BYTES: usize = 16_384;
/// Most values in the metadata of a vector that searches can filter by.
pub const MAX_VECTOR_TAGS: usize = 256;
/// Longest name of a metadata field that searches can filter by, in bytes of UTF-8.
pub const MAX_FILTER_KEY_BYTES: usize = 128;
/// Longest text in metadata that searches can filter by, in bytes of UTF-8.
pub const MAX_FILTER_TEXT_BYTES: usize = 256;
/// Most fields of a filter.
pub const MAX_FILTER_FIELDS: usize = 16;
/// Most values of one field of a filter.
pub const MAX_FILTER_VALUES: usize = 64;
/// Results of `vector_search` when the caller names no limit.
pub const DEFAULT_VECTOR_RESULTS: usize = 10;
/// Most records that a query of the graph gives.
pub const MAX_GRAPH_RECORDS: usize = 1_000;
/// Most bytes of JSON that the records of a query of the graph have.
pub const MAX_GRAPH_RESULT_BYTES: usize = 1024 * 1024;
/// How deep lists and maps may be nested in a parameter or a value of the graph.
pub const MAX_GRAPH_DEPTH: usize = 32;
/// Most streams in one mesh.
pub const MAX_STREAMS: usize = 1_000;
/// Most streams that one session may subscribe to.
pub const MAX_SUBSCRIPTIONS_PER_SESSION: usize = 256;
/// Largest event of a stream, in bytes of compact JSON.
pub const MAX_STREAM_EVENT_BYTES: usize = 65_536;
/// Most past events that a subscription may ask for, and most that a stream keeps.
pub const MAX_REPLAY_EVENTS: u32 = 256;
/// Most bytes of past events that a stream keeps.
pub const MAX_REPLAY_BYTES: usize = 1024 * 1024;
/// Most groups that one session may be in.
pub const MAX_GROUPS_PER_SESSION: usize = 64;
/// Largest body of an HTTP request that is not an upload, in bytes.
pub const MAX_HTTP_BODY_BYTES: usize = 65_536;
/// Shortest and longest time that a message may wait for its recipient, in milliseconds.
pub const MESSAGE_TTL_MS: std::ops::RangeInclusive<u64> = 1_000..=30 * 24 * 3_600_000;
/// How long a message waits when the sender does not say, in milliseconds: seven days.
pub const DEFAULT_MESSAGE_TTL_MS: u64 = 7 * 24 * 3_600_000;
/// Most messages in one answer to `pull_messages` and most acknowledgements in one `ack_messages`.
pub const MAX_BATCH: usize = 256;
/// Largest text of one memory, in bytes of UTF-8.
pub const MAX_MEMORY_BYTES: usize = 32_768;
/// Results of `recall` when the caller names no limit, and of `get_context`.
pub const DEFAULT_RESULTS: usize = 20;
/// Most texts, in bytes, that one answer of a search or list holds; what is beyond is left out, and the answer says so.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Topics on which one member has a context; on one more the oldest goes.
pub const MAX_CONTEXT_TOPICS: usize = 100;
/// Most contexts in one list.
pub const MAX_LISTED_CONTEXTS: usize = 500;
/// Most tasks in one list.
pub const MAX_LISTED_TASKS: usize = 100;
/// Most tasks of one mesh that are open or claimed.
pub const MAX_UNFINISHED_TASKS: usize = 10_000;
/// Largest file that one member reads out of another's shared directory, in bytes.
pub const MAX_PEER_FILE_BYTES: u64 = 1024 * 1024;
/// Most of it in one answer, in bytes.
pub const MAX_PEER_FILE_PART: usize = 512 * 1024;
/// Most names in one answer of `list_peer_files`.
pub const MAX_PEER_FILE_NAMES: usize = 500;
/// Longest path of a peer's file, in bytes.
pub const MAX_PEER_PATH_BYTES: usize = 4096;
/// Longest time that a file that is not persistent may be kept, in seconds: 30 days.
pub const MAX_FILE_LIFE_SECS: u64 = 30 * 24 * 3600;
/// Longest name of a skill, in characters.
pub const MAX_SKILL_NAME_CHARS: usize = 64;
/// Longest instructions of a skill, in bytes of UTF-8.
pub const MAX_SKILL_INSTRUCTIONS_BYTES: usize = 128 * 1024;
/// Largest manifest of a skill, in bytes of compact JSON.
pub const MAX_SKILL_MANIFEST_BYTES: usize = 16 * 1024;
/// Most skills in one mesh.
pub const MAX_SKILLS: usize = 1_000;
/// Most files that come with one skill, SKILL.md not counted.
pub const MAX_SKILL_FILES: usize = 128;
/// Largest file that comes with a skill, in bytes: what one frame carries as base64.
pub const MAX_SKILL_FILE_BYTES: usize = 768 * 1024;
/// Most bytes that the files of one skill have together.
pub const MAX_SKILL_BUNDLE_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes that the files of all skills of one mesh have together, bundles on their way included.
pub const MAX_MESH_SKILL_BYTES: usize = 128 * 1024 * 1024;
/// Longest path of a file that comes with a skill, in bytes.
pub const MAX_SKILL_PATH_BYTES: usize = 255;
/// Most parts of such a path.
pub const MAX_SKILL_PATH_DEPTH: usize = 16;
/// Bundles of one member that are on their way at the same time.
pub const MAX_SKILL_UPLOADS: usize = 8;
/// How long a bundle that is not deployed is kept, in milliseconds: an hour.
pub const SKILL_UPLOAD_MS: i64 = 3_600_000;
/// Largest zip archive that skills are deployed from, in bytes.
pub const MAX_SKILL_ARCHIVE_BYTES: u64 = 32 * 1024 * 1024;
