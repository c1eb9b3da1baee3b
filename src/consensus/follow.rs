//! What the core does while this server follows or observes: it forwards what its clients ask for to
//! the leader, applies what the leader proposes, and tells its clients what came of it.
//!
//! A request that cannot be decoded is refused here: a leader on the JVM proposes nonsense for it, or
//! stops (zookeeper-formats 8.1). A session's requests go to the leader only through the connection
//! that has the session here, so that what an old connection left behind takes no effect.

use std::collections::HashMap;

use bytes::Bytes;

use crate::consensus::core::{Core, LinkFault, Moment, Order, Role};
use crate::consensus::forwarded::{Forwarded, Renewal, Sync};
use crate::consensus::handoff::{Entry, IdentityIndex, Outcome};
use crate::consensus::prepare::apply::Asked;
use crate::consensus::prepare::write;
use crate::consensus::quorum_messages::{self, FromLeader};
use crate::consensus::sessions::Owner;
use crate::ids::{ConnId, ReactorId, SessionId, Zxid};
use crate::jute::error_code::ErrorCode;
use crate::jute::opcode::OpCode;
use crate::jute::quorum::{ForwardedRequest, QuorumPacket};
use crate::jute::records::Id;
use crate::jute::reply;
use crate::jute::txn::Transaction;
use crate::zab::step::{Input, LinkId};

/// What a learner keeps about its clients.
#[derive(Debug, Default)]
pub struct Following {
    forwarded: Forwarded,
    /// Sessions heard of since the last PING of the leader, with their timeouts.
    touched: HashMap<SessionId, i32>,
}

impl Following {
    /// The answer to a PING.
    pub fn pong(&mut self, zxid: Zxid) -> QuorumPacket {
        quorum_messages::pong(zxid, self.touched.drain())
    }
}

impl Core {
    fn following(&mut self) -> &mut Following {
        let Role::Following(following) = &mut self.role else { unreachable!("it follows") };
        following
    }

    /// Requests that the leader has not answered.
    pub fn forwarded(&self) -> usize {
        match &self.role {
            Role::Following(following) => following.forwarded.sent(),
            _ => 0,
        }
    }

    /// Takes an entry of a reactor's.
    pub(super) fn follow(
        &mut self,
        reactor: ReactorId,
        entry: Entry,
        bytes: &[u8],
        moment: Moment,
    ) {
        let owner = |conn: ConnId| Owner::Connection { reactor, conn };
        match entry {
            Entry::Write { conn, session, xid, op, identity, body } => {
                let body = &bytes[body.start as usize..body.end as usize];
                let refused = write::undecodable(op, body);
                match refused.map_or_else(|| self.prepare.allowed(session, owner(conn)), Err) {
                    Ok(()) => {
                        self.following().forwarded.send(session, owner(conn), xid);
                        let ids = self.ids(reactor, identity);
                        self.ask(session, xid, op, Bytes::copy_from_slice(body), Some(ids));
                    }
                    Err(err) => {
                        let outcome = match (err, op) {
                            (ErrorCode::SessionMoved, _) => Outcome::Close,
                            (err, OpCode::CLOSE_SESSION) => {
                                Outcome::ReplyAndClose { err, body: 0..0 }
                            }
                            (err, _) => Outcome::Reply { err, body: 0..0 },
                        };
                        self.answer_in_turn(session, owner(conn), xid, outcome, moment);
                    }
                }
            }
            Entry::OpenSession { conn, timeout_ms } => {
                let Some(session) = self.prepare.sessions.new_id() else {
                    self.gathering.note(moment.now_ms);
                    return self.gathering.answer(owner(conn), 0, Outcome::Close);
                };
                self.following().forwarded.send(session, owner(conn), 0);
                let body = Bytes::copy_from_slice(&timeout_ms.to_be_bytes());
                self.ask(session, 0, OpCode::CREATE_SESSION, body, None);
            }
            Entry::Sync { conn, session, xid } => {
                match self.prepare.allowed(session, owner(conn)) {
                    Ok(()) => {
                        let sync = Sync { from: owner(conn), xid, session };
                        self.following().forwarded.sync(sync);
                        let mut path = Vec::new();
                        reply::string(&mut path, "/");
                        self.ask(session, xid, OpCode::SYNC, path.into(), None);
                    }
                    Err(err) => {
                        let outcome = match err {
                            ErrorCode::SessionMoved => Outcome::Close,
                            err => Outcome::Reply { err, body: 0..0 },
                        };
                        self.answer_in_turn(session, owner(conn), xid, outcome, moment);
                    }
                }
            }
            Entry::GetEphemerals { conn, session, xid, prefix } => {
                let prefix = &bytes[prefix.start as usize..prefix.end as usize];
                let outcome = self.prepare.ephemerals_outcome(session, owner(conn), prefix);
                self.answer_in_turn(session, owner(conn), xid, outcome, moment);
            }
            Entry::RenewSession { conn, session, timeout_ms } => {
                let renewal = Renewal { from: owner(conn), timeout_ms };
                self.following().forwarded.renew(session, renewal);
                self.tell_leader(quorum_messages::revalidate(session, timeout_ms));
            }
            Entry::WrongPassword { session } => self.close_owner(session, moment),
            Entry::Touch { session, .. } => {
                if let Some(timeout_ms) = self.prepare.sessions.timeout_ms(session) {
                    self.following().touched.insert(session, timeout_ms);
                }
            }
            Entry::Disconnected { conn, session } => {
                self.prepare.sessions.disconnected(session, owner(conn));
            }
            Entry::DefineIdentity { .. } | Entry::ForgetIdentity { .. } => {
                unreachable!("taken whatever the role")
            }
        }
    }

    fn ids(&self, reactor: ReactorId, identity: IdentityIndex) -> Vec<Id> {
        self.prepare.identities.get(reactor, identity).to_vec()
    }

    fn ask(
        &mut self,
        session: SessionId,
        cxid: i32,
        op: OpCode,
        body: Bytes,
        ids: Option<Vec<Id>>,
    ) {
        let request = ForwardedRequest { session, cxid, op: op.0, body };
        self.tell_leader(quorum_messages::request(&request, ids));
    }

    fn tell_leader(&mut self, packet: QuorumPacket) {
        let link = self.zab.leader_link().expect("a link, while it follows");
        self.orders.push(Order::Send { link, packet });
    }

    /// Answers a request that does not go to the leader, behind those of its session that do.
    fn answer_in_turn(
        &mut self,
        session: SessionId,
        from: Owner,
        xid: i32,
        outcome: Outcome,
        moment: Moment,
    ) {
        let forwarded = &mut self.following().forwarded;
        if let Some(outcome) = forwarded.answer_behind(session, from, xid, outcome) {
            self.gathering.note(moment.now_ms);
            self.gathering.answer(from, xid, outcome);
        }
    }

    /// Takes a packet of the leader's.
    pub(super) fn hear_leader(
        &mut self,
        link: LinkId,
        packet: QuorumPacket,
        moment: Moment,
    ) -> Result<(), LinkFault> {
        let said = FromLeader::read(packet)?;
        match said {
            FromLeader::Zab(packet) => self.step(moment, Input::Packet { link, packet })?,
            FromLeader::Synced => {
                self.step(moment, Input::Heard(link))?;
                let Role::Following(following) = &mut self.role else {
                    return Err(LinkFault::Unasked("sync"));
                };
                let session = following.forwarded.synced().ok_or(LinkFault::Unasked("sync"))?;
                self.gathering.note(moment.now_ms);
                self.answer_due(session);
            }
            FromLeader::Revalidated { session, valid } => {
                self.step(moment, Input::Heard(link))?;
                let Role::Following(following) = &mut self.role else {
                    return Err(LinkFault::Unasked("renewal"));
                };
                let renewal = following.forwarded.renewed(session);
                let renewal = renewal.ok_or(LinkFault::Unasked("renewal"))?;
                self.renewed(session, valid, renewal, moment);
            }
        }
        Ok(())
    }

    fn renewed(&mut self, session: SessionId, valid: bool, renewal: Renewal, moment: Moment) {
        let Renewal { from, timeout_ms } = renewal;
        let sessions = &mut self.prepare.sessions;
        let renewed = match valid {
            // The leader proposed its createSession before it said so.
            true => sessions.renew(session, timeout_ms, from, moment.now_ms).ok(),
            false => None,
        };
        self.gathering.note(moment.now_ms);
        if let Some(Some(before)) = renewed {
            self.gathering.answer(before, 0, Outcome::Close);
        }
        let outcome = match renewed {
            Some(_) => Outcome::SessionOpened { session, timeout_ms },
            None => Outcome::SessionRefused,
        };
        self.gathering.answer(from, 0, outcome);
    }

    /// Applies a transaction of the leader's as the newest version.
    pub(super) fn append(&mut self, txn: &[u8], moment: Moment) {
        let transaction = Transaction::decode(txn).expect("it was decoded when it came in");
        let (session, xid) = (transaction.header.client_id, transaction.header.cxid);
        let gathering = &mut self.gathering;
        gathering.note(moment.now_ms);
        let asked = match &mut self.role {
            Role::Following(following) => following.forwarded.take(session, xid, |skipped| {
                gathering.answer(skipped, xid, Outcome::Close);
            }),
            _ => None,
        };
        let asked = asked.map(|from| Asked { from, xid });
        self.prepare.apply(&transaction, asked, moment.now_ms, &mut self.gathering);
        self.answer_due(session);
    }

    fn answer_due(&mut self, session: SessionId) {
        if let Role::Following(following) = &mut self.role {
            let gathering = &mut self.gathering;
            following.forwarded.due(session, |from, xid, outcome| {
                gathering.answer(from, xid, outcome);
            });
        }
    }
}
