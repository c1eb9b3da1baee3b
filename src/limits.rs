//! Every bound of the system, with its unit and what happens when it is reached.

use std::num::NonZeroU32;

/// Reactors of one server. More is refused in the configuration.
pub const REACTORS_MAX: usize = 256;

/// Default of `jute.maxbuffer`, bytes: the largest frame from a client. A longer one costs its
/// sender the connection, as in ZooKeeper.
pub const FRAME_BYTES_DEFAULT: usize = 0xf_ffff;

/// The largest `jute.maxbuffer` that is taken, bytes. More is refused in the configuration.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Entries (writes, connects, touches…) in one submission of a reactor to the consensus core.
/// Full: the reactor hands it over and starts the next.
pub const SUBMISSION_ENTRIES_MAX: usize = 1024;

/// Request bytes in one submission. A single larger frame travels alone.
pub const SUBMISSION_BYTES_MAX: usize = 1 << 20;

/// Submissions that one reactor may have waiting at the consensus core. Full: it stops reading
/// from the clients that write, and TCP carries the pressure back to them.
pub const SUBMISSIONS_WAITING_MAX: usize = 64;

/// Submissions that a reactor has ready while the consensus core has no room for them. Full: as
/// above.
pub const SUBMISSIONS_SEALED_MAX: usize = 4;

/// `clientPortListenBacklog` without the key: clients that may wait to be accepted. More: the system
/// lets them try again.
pub const LISTEN_BACKLOG_DEFAULT: NonZeroU32 = NonZeroU32::new(128).expect("it is more than 0");

/// Files and sockets that a server keeps for itself, besides those of its reactors and the clients
/// that wait to be accepted: for its log, its snapshots and its rings. What the system allows beyond
/// is for connections; one more is closed at once, for a log that cannot open its next file would
/// stop the server.
pub const FILES_RESERVED: u64 = 64;

/// Files that a reactor has open besides its connections.
pub const FILES_PER_REACTOR: u64 = 8;

/// Milliseconds between two warnings that a connection was refused because there are too many. The
/// others are counted.
pub const REFUSAL_WARNING_MS: u64 = 1_000;

/// Authentication ids of one connection. More: the auth packet is refused as AUTHFAILED.
pub const AUTH_IDS_MAX: usize = 64;

/// Bytes of all authentication ids of one connection, schemes included. More: as above.
pub const AUTH_ID_BYTES_MAX: usize = 64 << 10;

/// Milliseconds that a stopping reactor, or a connection that leaves, waits for its client to take
/// the last replies. Then it is closed without.
pub const DEPARTURE_MS_MAX: u64 = 5_000;

/// Milliseconds that a connection which was closed behind a last reply is still listened to, so that
/// the reply is not lost to a reset. Later: it is closed whether its client has read or not.
pub const LINGER_MS_MAX: u64 = 10_000;

/// Bytes that such a connection may still send, which are thrown away. More: as above.
pub const LINGER_BYTES_MAX: usize = 16 << 20;

/// Such connections of one reactor, which count for no address. More: the oldest is closed.
pub const LINGER_CONNECTIONS_MAX: usize = 256;

/// Milliseconds that a stopping reactor, all of whose connections are closed, waits for those that
/// linger. Later: they are closed.
pub const LINGER_STOP_MS_MAX: u64 = 100;

/// Published batches that may wait at one reactor. Full: the consensus core stops preparing until
/// the reactor has caught up.
pub const PUBLISHED_WAITING_MAX: usize = 1024;

/// Requests of one connection that wait for an earlier write of the same session. Full: the
/// reactor stops reading from that connection.
pub const PIPELINE_REQUESTS_MAX: usize = 1024;

/// Bytes of the requests that wait in one connection's pipeline. Full: as above.
pub const PIPELINE_BYTES_MAX: usize = 2 << 20;

/// Reply bytes that wait for one client to read them. Above: the reactor stops reading from that
/// connection until they are gone; a single reply may exceed it.
pub const REPLY_BYTES_WAITING_MAX: usize = 1 << 20;

/// Bytes of events that wait for one client to read them. More: its connection is closed, for what
/// it watches may change for ever; when it comes back it can ask what it missed.
pub const EVENT_BYTES_WAITING_MAX: usize = 4 << 20;

/// Bytes of names in one list of children. A longer list is answered MARSHALLINGERROR: no client
/// takes it (their `jute.maxbuffer` is far smaller), and a send must stay below 1 GiB.
pub const REPLY_BYTES_MAX: usize = 256 << 20;

/// Bytes of the paths in an answer to getEphemerals. A longer list is answered MARSHALLINGERROR, as
/// one of children is: no client takes it.
pub const EPHEMERALS_BYTES_MAX: usize = 64 << 20;

/// Bytes of one answer to a multiRead. A longer one is MARSHALLINGERROR: a request of few bytes
/// could ask for gigabytes, and no client takes them.
pub const MULTI_READ_BYTES_MAX: usize = 64 << 20;

/// Reply bytes that may wait for one client when reads have to be answered whether it reads or not,
/// for the next write of its own session must not show in them. More: it is closed.
pub const REPLY_BYTES_HELD_MAX: usize = 64 << 20;

/// Bytes that one group commit gathers before the consensus core stops taking submissions.
pub const GROUP_COMMIT_BYTES_MAX: usize = 4 << 20;

/// Default length of a log segment, bytes (`ringkeeper.segmentSizeKb`). Full: the log goes on in
/// the next one; a batch that is longer than a segment gets a longer one.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// Purged segments that wait to be used again. More: the file is removed.
pub const SPARE_SEGMENTS_MAX: usize = 4;

/// The smallest file of the log, bytes. `preAllocSize` is raised to it.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// The largest file of the log, bytes.
pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;

/// Operations in one multi. A longer one is answered MARSHALLINGERROR.
pub const MULTI_OPERATIONS_MAX: usize = 100_000;

/// Bytes of the transaction that a multi becomes, which `auth` in its ACLs makes longer than the
/// request. More: it fails as a whole with MARSHALLINGERROR.
pub const MULTI_TXN_BYTES_MAX: usize = 16 << 20;

/// Milliseconds that the cores may take to end when the server is told to stop. Later: it ends
/// with an error. What was acknowledged is durable all the same.
pub const STOP_MS_MAX: u64 = 30_000;

/// Milliseconds that a core may take to answer an operator. Later: the answer says that the server
/// does not serve.
pub const ADMIN_ANSWER_MS_MAX: u64 = 1000;

/// Four-letter words that may wait for the thread that answers them. Full: the reactor closes the
/// connection that brings one more.
pub const ADMIN_REQUESTS_WAITING_MAX: usize = 64;

/// Answers to four-letter words that may be on their way to clients that read slowly. More: the
/// rest of the answer is not sent.
pub const ADMIN_SLOW_ANSWERS_MAX: usize = 4;

/// Milliseconds that a client may take to read the answer to its four-letter word.
pub const ADMIN_DELIVERY_MS_MAX: u64 = 10_000;

/// Milliseconds that a start waits for a port in use to become free, in case its last user is a
/// server that has just been killed. Then it is refused.
pub const PORT_IN_USE_MS_MAX: u64 = 2_000;

/// Milliseconds that a connection may take to finish its handshake or four-letter word.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;

/// Bytes of a configuration file. A longer one is refused: it is something else.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a file of SASL credentials. A longer one is refused: it is something else.
pub const CREDENTIALS_BYTES_MAX: u64 = 1 << 20;

/// Readers of one tree: two of each reactor, snapshots, and what the consensus core has. More is an
/// error of our own.
pub const TREE_READERS_MAX: usize = 2 * REACTORS_MAX + 16;

/// Transactions that may be proposed and not yet committed. Full: the consensus core stops taking
/// submissions at half of it, so that all sessions could expire at once on top.
pub const PROPOSALS_WAITING_MAX: usize = 1 << 21;

/// Sessions that may be open at once. Full: the connection that asks for one more is closed.
pub const SESSIONS_MAX: usize = 1_000_000;

/// Entries in the ACL list of one request, and in what is stored for it, where `auth` has become
/// the ids of the client. More is answered INVALIDACL: every permission check may have to look at
/// all of them.
pub const ACL_ENTRIES_MAX: usize = 1000;

/// Bytes of an ACL list as it is stored, in jute. More: as above.
pub const ACL_BYTES_MAX: usize = 1 << 20;

/// Bytes of paths that a closeSession transaction names. The ephemerals beyond are deleted with
/// the session all the same, as applying a closeSession does.
pub const CLOSE_SESSION_PATH_BYTES_MAX: usize = 512 << 10;

/// Milliseconds between two steps of the search for containers and TTL znodes whose time is over.
pub const REAP_STEP_MS: u64 = 5;

/// Containers and TTL znodes that one step looks at. The rest waits for the next step.
pub const REAP_LOOKS_MAX: usize = 256;

/// Milliseconds between two warnings that a quota is exceeded. The others are counted.
pub const QUOTA_WARNING_MS: u64 = 1_000;

/// Quotas whose counts one multi may create, each of which takes a walk through all that is counted.
/// More: it fails as a whole with MARSHALLINGERROR.
pub const QUOTAS_COUNTED_MAX: usize = 16;

/// Bytes of a quota's limits or counts. A longer text is none: the server reads it with every
/// write below the quota.
pub const QUOTA_TEXT_BYTES_MAX: usize = 256;

/// Published batches that the consensus core holds for a reactor whose inbox is full. It stops
/// preparing at the first, so there are never more than were already gathering or in flight.
pub const PUBLISHED_HELD_MAX: usize = 8;

/// Submissions that the consensus core takes before it looks after its log and its sessions again.
pub const SUBMISSIONS_PER_TURN_MAX: usize = 16;

/// Submissions that the consensus core takes out of its inbox and keeps while a reactor's inbox is
/// full. Full: it leaves the rest in its inbox.
pub const SUBMISSIONS_PARKED_MAX: usize = SUBMISSIONS_WAITING_MAX * REACTORS_MAX;

/// Requests that our own client (`client`, not a server's part) may have in flight. Full: whoever
/// sends one more waits.
pub const CLIENT_REQUESTS_MAX: usize = 1024;

/// Bytes of a reply that our own client takes. A longer one costs the connection.
pub const CLIENT_REPLY_BYTES_MAX: usize = 64 << 20;

/// Milliseconds that our own client waits for the answer of a server that is there. Later: the
/// request has failed for its caller.
pub const CLIENT_ANSWER_MS_MAX: u64 = 120_000;

const _: () = assert!(GROUP_COMMIT_BYTES_MAX > FRAME_BYTES_DEFAULT, "a frame must fit one commit");
const _: () = assert!(PIPELINE_BYTES_MAX > FRAME_BYTES_DEFAULT, "a frame must fit the pipeline");
const _: () = assert!(
    PROPOSALS_WAITING_MAX / 2 + SUBMISSION_ENTRIES_MAX + SESSIONS_MAX < PROPOSALS_WAITING_MAX,
    "all sessions may expire on top of what is proposed"
);

/// Bytes of one packet between servers, behind its header. More, be it a learner's request or a
/// leader's proposal, costs the link: no server writes such a packet.
pub const QUORUM_PACKET_BYTES_MAX: usize = 64 << 20;

/// Authentication ids that a learner may send along with a request.
pub const QUORUM_PACKET_IDS_MAX: usize = 1024;

/// Bytes of one message on the election port, as in ZooKeeper.
pub const ELECTION_MESSAGE_BYTES_MAX: usize = 512 << 10;

/// Bytes of the addresses in the first message on the election port, as in ZooKeeper.
pub const ELECTION_ADDRESS_BYTES_MAX: usize = 2048;

/// Bytes of committed transactions that a member keeps in memory to bring learners up to date
/// with. More: the oldest are dropped, and a learner that lacks them is sent the log or a snapshot.
pub const HISTORY_BYTES_MAX: usize = 64 << 20;

/// Packets of the leader that a learner keeps while its disk works on what came before them. Full:
/// it leaves the leader. The driver stops reading from the link long before.
pub const LEARNER_PACKETS_WAITING_MAX: usize = 1 << 20;

/// Requests of a learner's clients that the leader has not answered. Full: the consensus core takes no
/// more submissions.
pub const FORWARDED_MAX: usize = 1 << 16;

/// Committed transactions that a member keeps in memory, to bring learners up to date with.
pub const HISTORY_KEPT: usize = 500;

/// Bytes of transactions out of the log that a learner is brought up to date with. More: it gets a
/// snapshot.
pub const DIFF_BYTES_MAX: usize = 64 << 20;

/// Learners that wait to be accepted on the quorum port.
pub const QUORUM_BACKLOG: i32 = 128;

/// Requests of learners that may wait for a sync of their session at a leader. More: the learner that
/// sends them is left.
pub const REQUESTS_BEHIND_SYNCS_MAX: usize = 1 << 16;

/// Syncs that may wait at a leader. Full: the next is refused.
pub const SYNCS_WAITING_MAX: usize = 1 << 20;

/// Callers on the election port that have not yet said who they are. One more: the one that takes
/// longest is closed, for a server says it at once.
pub const ELECTION_HANDSHAKES_MAX: usize = 32;

/// Servers that the configuration does not have (observers, servers that are to be added) and that
/// may use the election port at once. One more is closed.
pub const ELECTION_STRANGERS_MAX: usize = 64;

/// Milliseconds that a peer may take to receive a notification. Then its connection is closed.
pub const ELECTION_WRITE_MS_MAX: u64 = 10_000;

/// Bytes of one whole packet between servers, authentication ids included. More costs the link.
pub const LINK_PACKET_BYTES_MAX: usize = QUORUM_PACKET_BYTES_MAX + (1 << 20);

/// Links of the quorum port. One more is closed: it is no learner of an ensemble of that size.
pub const LINKS_MAX: usize = 256;

/// Bytes of packets that wait for one peer to receive them, among them what is proposed while it is
/// sent a snapshot. More: the link is closed, and the peer comes back to be brought up to date.
pub const LINK_BYTES_WAITING_MAX: usize = 256 << 20;

/// Bytes of a snapshot that wait between a link and the thread that makes or takes it. Full: the
/// thread waits, or the link stops reading.
pub const LINK_STREAM_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(LINK_BYTES_WAITING_MAX > LINK_PACKET_BYTES_MAX, "a packet must fit a link");
