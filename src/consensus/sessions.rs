//! The session table: who has a session, through which connection, and until when. Called by
//! `prepare` and `core` alone, on the consensus core; has no clock of its own.
//!
//! Sessions expire in whole ticks, as in ZooKeeper: a session falls into the bucket of the tick
//! *after* its timeout has run out, and all of a bucket expire together. Each open session has one
//! entry in the queue of buckets. A touch only notes the new bucket in the session; its entry
//! moves when the old bucket comes up, so that a touch costs one look-up.
//!
//! A session is known from the moment its createSession is prepared, *closing* from the moment its
//! closeSession is, and gone when that is committed. Times are milliseconds of a monotonic clock.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::ids::{ConnId, ReactorId, ServerId, SessionId, Zxid};
use crate::limits::SESSIONS_MAX;
use crate::zab::step::LinkId;

/// Through whom a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A connection of this server.
    Connection { reactor: ReactorId, conn: ConnId },
    /// A learner of this leader, which knows the connection.
    Learner(LinkId),
}

/// Why a request of a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such session (any more).
    Unknown,
    /// It is closing, because it expired or its client asked for it.
    Closing,
    /// Another connection has it now.
    Moved,
}

#[derive(Debug)]
struct Session {
    /// What createSession said; kept in snapshots, and what it starts with after a restart.
    logged_timeout_ms: i32,
    /// What was negotiated with the connection that it has now.
    timeout_ms: i32,
    owner: Option<Owner>,
    /// The transaction that created it; zero for one that was recovered.
    opened_at: Zxid,
    closing: bool,
    /// When it expires, unless touched.
    bucket_ms: u64,
    /// The bucket that its entry is in: `bucket_ms` or an earlier one. 0: it has none.
    entry_ms: u64,
}

/// What a transaction did to a session, to be undone.
#[derive(Clone, Copy, Debug)]
enum Change {
    Opened(SessionId),
    /// It is opened again; this is what its timeout was.
    OpenedAgain(SessionId, i32),
    Closing(SessionId),
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    table: HashMap<SessionId, Session>,
    /// By the millisecond at which the bucket expires.
    buckets: BTreeMap<u64, Vec<SessionId>>,
    /// What transactions that are not committed have changed, oldest first.
    changes: VecDeque<(Zxid, Change)>,
    tick_ms: u64,
    next_id: i64,
}

impl Sessions {
    /// No sessions. `tick_ms` is at least 1; `clock_ms`, the milliseconds since boot, seeds the
    /// ids: the clock's lower 40 bits, shifted by 16, below the server's id in the top byte, and
    /// counting up.
    pub fn new(me: ServerId, tick_ms: u64, clock_ms: u64) -> Sessions {
        assert!(tick_ms > 0, "a tick of 0 ms");
        let mut next_id = ((clock_ms << 24) >> 8) as i64 | me.number() << 56;
        // That value marks containers.
        if next_id == i64::MIN {
            next_id += 1;
        }
        let (table, buckets, changes) = (HashMap::new(), BTreeMap::new(), VecDeque::new());
        Sessions { table, buckets, changes, tick_ms, next_id }
    }

    /// Sessions that are open or closing.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The sessions as of the transaction `through`, with the timeouts that they were created
    /// with, by id: what a snapshot at that transaction holds. `through` must be the last one
    /// committed.
    pub fn as_of(&self, through: Zxid) -> Vec<(SessionId, i32)> {
        let mut sessions: Vec<_> = self
            .table
            .iter()
            .filter(|(_, session)| session.opened_at <= through)
            .map(|(id, session)| (*id, session.logged_timeout_ms))
            .collect();
        sessions.sort_unstable();
        sessions
    }

    /// Each session with the time at which it expires, unless touched.
    pub fn expiries(&self) -> impl Iterator<Item = (SessionId, u64)> + '_ {
        self.table.iter().map(|(id, session)| (*id, session.bucket_ms))
    }

    /// Puts back a session from a snapshot. False: it is there already.
    pub fn restore(&mut self, id: SessionId, timeout_ms: i32) -> bool {
        let new = !self.table.contains_key(&id);
        if new {
            self.insert(id, timeout_ms, None, Zxid::ZERO);
        }
        new
    }

    /// A snapshot of the leader's takes the place of all that is here. A session that is in it more
    /// than once has the last timeout.
    pub fn replace(&mut self, sessions: &[(SessionId, i32)]) {
        self.table.clear();
        self.buckets.clear();
        self.changes.clear();
        for (id, timeout_ms) in sessions {
            self.recreate(*id, *timeout_ms);
        }
    }

    /// Puts back a session from a replayed createSession. A client may have asked for another one
    /// inside its session: the last timeout counts.
    pub fn recreate(&mut self, id: SessionId, timeout_ms: i32) {
        self.insert(id, timeout_ms, None, Zxid::ZERO);
    }

    /// Drops a session for which a replayed closeSession was found. No error if there is none.
    pub fn remove(&mut self, id: SessionId) {
        self.table.remove(&id);
    }

    /// Recovery is over: every session gets its full timeout from now on, for it is not the
    /// client's fault that nobody heard its pings.
    pub fn begin(&mut self, now_ms: u64) {
        self.buckets.clear();
        for (id, session) in &mut self.table {
            let bucket_ms = bucket(now_ms, session.timeout_ms, self.tick_ms);
            session.bucket_ms = bucket_ms;
            session.entry_ms = bucket_ms;
            self.buckets.entry(bucket_ms).or_default().push(*id);
        }
    }

    /// Whether one more session may be opened.
    pub fn has_room(&self) -> bool {
        self.table.len() < SESSIONS_MAX
    }

    /// An id for a new session, or `None` when the table is full.
    pub fn new_id(&mut self) -> Option<SessionId> {
        if !self.has_room() {
            return None;
        }
        loop {
            let id = SessionId::from_bits(self.next_id);
            self.next_id = self.next_id.wrapping_add(1);
            // The clock starts over with the machine; sessions from before may still be there.
            if id != SessionId::NONE && !self.table.contains_key(&id) {
                return Some(id);
            }
        }
    }

    /// Opens a session; its createSession is the transaction `opened_at`. Nobody has it yet, if
    /// that came from the leader for a client of another server.
    ///
    /// # Panics
    /// When there is a session of this id.
    pub fn open(
        &mut self,
        id: SessionId,
        timeout_ms: i32,
        owner: Option<Owner>,
        opened_at: Zxid,
        now_ms: u64,
    ) {
        assert!(!self.table.contains_key(&id), "session {id} opened twice");
        self.insert(id, timeout_ms, owner, opened_at);
        self.changes.push_back((opened_at, Change::Opened(id)));
        let bucket_ms = bucket(now_ms, timeout_ms, self.tick_ms);
        self.put(id, bucket_ms);
    }

    /// Whether there is such a session, open or closing.
    pub fn has(&self, id: SessionId) -> bool {
        self.table.contains_key(&id)
    }

    /// What was negotiated for the session with the connection that has it.
    pub fn timeout_ms(&self, id: SessionId) -> Option<i32> {
        self.table.get(&id).map(|session| session.timeout_ms)
    }

    /// Undoes what transactions after `zxid` did, none of which is committed.
    pub fn take_back_after(&mut self, zxid: Zxid) {
        let kept = self.changes.partition_point(|(at, _)| *at <= zxid);
        for (_, change) in self.changes.split_off(kept).into_iter().rev() {
            match change {
                Change::Opened(id) => drop(self.table.remove(&id)),
                Change::OpenedAgain(id, timeout_ms) => {
                    let session = self.table.get_mut(&id).expect("it is closed when committed");
                    session.logged_timeout_ms = timeout_ms;
                }
                Change::Closing(id) => {
                    self.table.get_mut(&id).expect("it is closed when committed").closing = false;
                }
            }
        }
    }

    /// Everything through `zxid` is committed: it will not be undone.
    pub fn committed(&mut self, zxid: Zxid) {
        self.changes.drain(..self.changes.partition_point(|(at, _)| *at <= zxid));
    }

    /// This server's role is over: nobody has any session here.
    pub fn forget_owners(&mut self) {
        for session in self.table.values_mut() {
            session.owner = None;
        }
    }

    /// A client came back on the connection `owner`, with a newly negotiated timeout. Returns the
    /// connection that had the session, if it is another one.
    ///
    /// # Errors
    /// When the session is unknown or closing.
    pub fn renew(
        &mut self,
        id: SessionId,
        timeout_ms: i32,
        owner: Owner,
        now_ms: u64,
    ) -> Result<Option<Owner>, Refusal> {
        let session = self.table.get_mut(&id).ok_or(Refusal::Unknown)?;
        if session.closing {
            return Err(Refusal::Closing);
        }
        session.timeout_ms = timeout_ms;
        let before = session.owner.replace(owner);
        let bucket_ms = bucket(now_ms, timeout_ms, self.tick_ms);
        self.put(id, bucket_ms);
        Ok(before.filter(|before| *before != owner))
    }

    /// A createSession, the transaction `zxid`, of a session that is open: its timeout after the
    /// next restart.
    ///
    /// # Panics
    /// When there is no such session.
    pub fn log_again(&mut self, id: SessionId, timeout_ms: i32, zxid: Zxid) {
        let session = self.table.get_mut(&id).expect("only open sessions are created again");
        let before = std::mem::replace(&mut session.logged_timeout_ms, timeout_ms);
        self.changes.push_back((zxid, Change::OpenedAgain(id, before)));
    }

    /// The connection that has the session.
    pub fn owner(&self, id: SessionId) -> Option<Owner> {
        self.table.get(&id)?.owner
    }

    /// The session was heard of at `heard_ms`. Unknown and closing sessions are past saving.
    pub fn touch(&mut self, id: SessionId, heard_ms: u64) {
        let tick_ms = self.tick_ms;
        let Some(session) = self.table.get_mut(&id) else { return };
        if session.closing {
            return;
        }
        // A touch that was long on its way must not take back what a later one gave.
        let bucket_ms = bucket(heard_ms, session.timeout_ms, tick_ms).max(session.bucket_ms);
        session.bucket_ms = bucket_ms;
    }

    /// Whether the session may write through the connection `from`; if nobody has it, `from` gets
    /// it.
    ///
    /// # Errors
    /// Unknown, closing, or owned by another connection.
    pub fn check(&mut self, id: SessionId, from: Owner) -> Result<(), Refusal> {
        let session = self.table.get_mut(&id).ok_or(Refusal::Unknown)?;
        if session.closing {
            return Err(Refusal::Closing);
        }
        match session.owner {
            Some(owner) if owner != from => Err(Refusal::Moved),
            Some(_) => Ok(()),
            None => {
                session.owner = Some(from);
                Ok(())
            }
        }
    }

    /// The connection is gone. Its session, unless it moved before, waits for another one.
    pub fn disconnected(&mut self, id: SessionId, from: Owner) {
        if let Some(session) = self.table.get_mut(&id)
            && session.owner == Some(from)
        {
            session.owner = None;
        }
    }

    /// A closeSession of it, the transaction `zxid`, is prepared: it takes no more writes. False:
    /// there is no such session, or one is prepared already.
    pub fn close(&mut self, id: SessionId, zxid: Zxid) -> bool {
        match self.table.get_mut(&id) {
            Some(session) if !session.closing => {
                session.closing = true;
                self.changes.push_back((zxid, Change::Closing(id)));
                true
            }
            _ => false,
        }
    }

    /// Its closeSession is committed: it is gone.
    ///
    /// # Panics
    /// When it was not closing.
    pub fn closed(&mut self, id: SessionId) {
        let session = self.table.remove(&id);
        assert!(session.is_some_and(|session| session.closing), "session {id} was not closing");
    }

    /// When the next bucket comes up, if there is one.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.buckets.keys().next().copied()
    }

    /// Appends to `expired` the sessions whose time has run out by `now_ms`, bucket after bucket.
    /// They are to be closed: none is named twice.
    pub fn expire(&mut self, now_ms: u64, expired: &mut Vec<SessionId>) {
        while let Some(due_ms) = self.next_expiry_ms().filter(|due_ms| *due_ms <= now_ms) {
            for id in self.buckets.remove(&due_ms).unwrap_or_default() {
                let Some(session) = self.table.get_mut(&id) else { continue };
                // Else the entry was replaced by one in an earlier bucket.
                if session.entry_ms != due_ms || session.closing {
                    continue;
                }
                session.entry_ms = 0;
                let bucket_ms = session.bucket_ms;
                if bucket_ms > due_ms {
                    self.put(id, bucket_ms);
                } else {
                    expired.push(id);
                }
            }
        }
    }

    fn insert(&mut self, id: SessionId, timeout_ms: i32, owner: Option<Owner>, opened_at: Zxid) {
        let session = Session {
            logged_timeout_ms: timeout_ms,
            timeout_ms,
            owner,
            opened_at,
            closing: false,
            bucket_ms: 0,
            entry_ms: 0,
        };
        self.table.insert(id, session);
    }

    /// Notes that `id` expires with this bucket, and makes sure that its entry comes up by then.
    fn put(&mut self, id: SessionId, bucket_ms: u64) {
        let session = self.table.get_mut(&id).expect("only sessions in the table are put");
        session.bucket_ms = bucket_ms;
        if session.entry_ms == 0 || bucket_ms < session.entry_ms {
            session.entry_ms = bucket_ms;
            self.buckets.entry(bucket_ms).or_default().push(id);
        }
    }
}

/// The end of the tick after the one in which the timeout runs out. Rounded up, as ZooKeeper does:
/// a session closed early would lose its ephemerals, which every other client reads as a crash.
fn bucket(now_ms: u64, timeout_ms: i32, tick_ms: u64) -> u64 {
    let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
    ((now_ms + timeout_ms) / tick_ms + 1) * tick_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 2_000;

    fn owner(slot: u32) -> Owner {
        Owner::Connection { reactor: ReactorId(0), conn: ConnId { slot, tenant: 0 } }
    }

    fn table() -> Sessions {
        Sessions::new(ServerId::STANDALONE, TICK, 0x2d_3f24)
    }

    fn opened(sessions: &mut Sessions, timeout_ms: i32, now_ms: u64) -> SessionId {
        let id = sessions.new_id().unwrap();
        sessions.open(id, timeout_ms, Some(owner(1)), Zxid::from_bits(1), now_ms);
        id
    }

    fn expired(sessions: &mut Sessions, now_ms: u64) -> Vec<SessionId> {
        let mut expired = Vec::new();
        sessions.expire(now_ms, &mut expired);
        for id in &expired {
            assert!(sessions.close(*id, Zxid::from_bits(2)), "{id} expired twice");
        }
        expired
    }

    #[test]
    fn ids_count_up_from_the_clock_below_the_servers_id() {
        let mut sessions = table();
        assert_eq!(sessions.new_id().unwrap().to_string(), "0x100002d3f240000");
        assert_eq!(sessions.new_id().unwrap().to_string(), "0x100002d3f240001");
        let mut wrapped = Sessions::new(ServerId::new(0x80), TICK, 1 << 40);
        assert_eq!(wrapped.new_id().unwrap().to_string(), "0x8000000000000001");
    }

    #[test]
    fn an_id_from_before_a_reboot_is_not_given_again() {
        let mut sessions = table();
        sessions.restore(SessionId::from_bits(0x100_002d_3f24_0000), 4_000);
        assert_eq!(sessions.new_id().unwrap().to_string(), "0x100002d3f240001");
    }

    #[test]
    fn a_session_expires_at_the_end_of_the_tick_after_its_timeout() {
        let mut sessions = table();
        let id = opened(&mut sessions, 4_000, 1_999);
        assert_eq!(sessions.next_expiry_ms(), Some(6_000));
        assert_eq!(expired(&mut sessions, 5_999), []);
        assert_eq!(expired(&mut sessions, 6_000), [id]);
        // A whole tick more, although the timeout ran out on the boundary itself.
        let id = opened(&mut sessions, 4_000, 8_000);
        assert_eq!(expired(&mut sessions, 13_999), []);
        assert_eq!(expired(&mut sessions, 14_000), [id]);
    }

    #[test]
    fn all_of_a_bucket_expire_together() {
        let mut sessions = table();
        let first = opened(&mut sessions, 4_000, 100);
        let second = opened(&mut sessions, 5_000, 200);
        let mut both = expired(&mut sessions, 6_000);
        both.sort_unstable();
        assert_eq!(both, [first, second]);
    }

    #[test]
    fn a_touch_moves_the_expiry_and_a_late_one_does_not_move_it_back() {
        let mut sessions = table();
        let id = opened(&mut sessions, 4_000, 0);
        sessions.touch(id, 3_000);
        sessions.touch(id, 1_000);
        assert_eq!(expired(&mut sessions, 7_999), []);
        assert_eq!(expired(&mut sessions, 8_000), [id]);
        sessions.touch(id, 9_000);
        assert_eq!(expired(&mut sessions, 99_000), [], "closing already");
    }

    #[test]
    fn a_renewal_with_a_shorter_timeout_moves_the_expiry_forward() {
        let mut sessions = table();
        let id = opened(&mut sessions, 40_000, 0);
        assert_eq!(sessions.renew(id, 4_000, owner(2), 1_000), Ok(Some(owner(1))));
        sessions.touch(id, 2_000);
        assert_eq!(expired(&mut sessions, 7_999), []);
        // Renewed for longer and shorter again, it has stale entries; it still expires once.
        assert_eq!(sessions.renew(id, 40_000, owner(2), 7_999), Ok(None));
        assert_eq!(expired(&mut sessions, 8_000), []);
        assert_eq!(sessions.renew(id, 4_000, owner(2), 9_000), Ok(None));
        assert_eq!(expired(&mut sessions, 99_000), [id]);
    }

    #[test]
    fn after_recovery_every_session_has_its_full_timeout() {
        let mut sessions = table();
        let [short, long] = [7, 8].map(SessionId::from_bits);
        sessions.restore(short, 4_000);
        sessions.restore(long, 10_000);
        sessions.begin(1_000_000);
        assert_eq!(expired(&mut sessions, 1_005_999), []);
        assert_eq!(expired(&mut sessions, 1_006_000), [short]);
        assert_eq!(expired(&mut sessions, 1_012_000), [long]);
    }

    #[test]
    fn only_the_owner_may_write_and_the_first_to_write_becomes_it() {
        let mut sessions = table();
        let id = opened(&mut sessions, 4_000, 0);
        assert_eq!(sessions.check(id, owner(1)), Ok(()));
        assert_eq!(sessions.check(id, owner(2)), Err(Refusal::Moved));
        sessions.disconnected(id, owner(2));
        assert_eq!(sessions.check(id, owner(2)), Err(Refusal::Moved), "it was not the owner's");
        sessions.disconnected(id, owner(1));
        assert_eq!(sessions.check(id, owner(2)), Ok(()));
        assert_eq!(sessions.check(id, owner(1)), Err(Refusal::Moved));
        assert!(sessions.close(id, Zxid::from_bits(2)));
        assert!(!sessions.close(id, Zxid::from_bits(2)));
        assert_eq!(sessions.check(id, owner(2)), Err(Refusal::Closing));
        assert_eq!(sessions.renew(id, 1, owner(2), 0), Err(Refusal::Closing));
        sessions.closed(id);
        assert_eq!(sessions.check(id, owner(2)), Err(Refusal::Unknown));
        assert_eq!(sessions.renew(id, 1, owner(2), 0), Err(Refusal::Unknown));
    }

    #[test]
    fn a_snapshot_holds_the_sessions_of_its_transaction() {
        let mut sessions = table();
        let old = SessionId::from_bits(7);
        sessions.restore(old, 30_000);
        sessions.begin(0);
        let new = sessions.new_id().unwrap();
        sessions.open(new, 10_000, Some(owner(1)), Zxid::from_bits(5), 0);
        sessions.renew(old, 4_000, owner(2), 0).unwrap();
        sessions.close(old, Zxid::from_bits(6));
        assert_eq!(sessions.as_of(Zxid::from_bits(4)), [(old, 30_000)]);
        sessions.closed(old);
        assert_eq!(sessions.as_of(Zxid::from_bits(5)), [(new, 10_000)]);
    }

    #[test]
    fn what_was_never_committed_is_undone() {
        let mut sessions = table();
        let at = Zxid::from_bits;
        let kept = SessionId::from_bits(7);
        sessions.restore(kept, 30_000);
        sessions.begin(0);
        let early = sessions.new_id().unwrap();
        sessions.open(early, 10_000, Some(owner(1)), at(5), 0);
        let late = sessions.new_id().unwrap();
        sessions.open(late, 10_000, None, at(6), 0);
        sessions.log_again(kept, 4_000, at(7));
        assert!(sessions.close(kept, at(8)));
        sessions.take_back_after(at(5));
        assert_eq!(sessions.as_of(at(9)), [(kept, 30_000), (early, 10_000)]);
        assert_eq!(sessions.check(kept, owner(2)), Ok(()), "it is not closing any more");
        // What is committed stays.
        assert!(sessions.close(early, at(6)));
        sessions.committed(at(6));
        sessions.take_back_after(at(5));
        assert_eq!(sessions.check(early, owner(1)), Err(Refusal::Closing));
    }
}
