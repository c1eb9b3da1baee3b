//! The set-up before the rounds and the cleaning up after them, on one connection of its own.
//!
//! The root znode carries a mark as its data. A root without it was made by somebody else and is
//! refused, so that cleaning up never deletes what this program did not make.

use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use crate::arguments::{Plan, Server};
use crate::client::{Client, LinkError};
use crate::paths::Paths;
use crate::wire::{self, op};
use crate::workload;

/// The data of a root that this program made.
const MARK: &[u8] = b"ringkeeper-loadgen";
/// Requests that leave together.
const BATCH_MAX: u32 = 256;
/// And their bytes at most, give or take a request.
const BATCH_BYTES_MAX: usize = 64 << 10;
/// Batches in flight, so that the server always has some to make durable while we read the replies
/// of others. Their replies (a path or a stat each, 1 MB in all at most) fit into the buffers of
/// server and sockets: a server that waits for us to read, while we wait for it to read, would stand
/// still until the session's timeout.
const BATCHES_MAX: usize = 16;
/// The largest reply that is taken: the names of some ten million children.
const REPLY_BYTES_MAX: usize = 256 << 20;

const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;

/// Why the znodes could not be made or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("{server} {error}")]
    Link { server: String, error: LinkError },
    #[error("{server} answered {operation} {path} with error {code} ({})", wire::error_name(*.code))]
    Answer { server: String, operation: &'static str, path: String, code: i32 },
    #[error("{server} sent a reply of {length} bytes, which is more than {REPLY_BYTES_MAX}")]
    ReplyTooLong { server: String, length: i32 },
    #[error("{server} sent a list of children that does not decode")]
    Children { server: String },
    #[error(
        "{root} exists on {server} and was not made by this program; choose another with --root"
    )]
    ForeignRoot { server: String, root: String },
    #[error(
        "{server} has not what was just made on {first}: they are not of one ensemble (to load two \
         one after the other: compare)"
    )]
    OtherEnsemble { server: String, first: String },
}

/// A session for set-up and cleaning up, on one of the plan's servers.
pub struct Control<'a> {
    plan: &'a Plan,
    server: &'a Server,
    stream: BufReader<TcpStream>,
    xid: i32,
}

impl<'a> Control<'a> {
    /// Opens the session, on the first of the plan's servers.
    pub fn connect(plan: &'a Plan) -> Result<Control<'a>, ControlError> {
        Control::connect_to(plan, &plan.servers[0])
    }

    /// Waits until every other server of the plan has what was written at the first one.
    pub fn catch_up(plan: &'a Plan) -> Result<(), ControlError> {
        for server in &plan.servers[1..] {
            let mut control = Control::connect_to(plan, server)?;
            let (code, _) = control.call(wire::sync_request(0, &plan.root))?;
            control.expect(code, "sync", &plan.root)?;
            // One that shares no ensemble with the first server has none.
            let (code, _) = control.call(wire::read_request(0, op::EXISTS, &plan.root))?;
            if code == NO_NODE {
                let (server, first) = (server.name.clone(), plan.servers[0].name.clone());
                return Err(ControlError::OtherEnsemble { server, first });
            }
            control.expect(code, "exists", &plan.root)?;
            control.close()?;
        }
        Ok(())
    }

    fn connect_to(plan: &'a Plan, server: &'a Server) -> Result<Control<'a>, ControlError> {
        let open = || {
            let mut stream = Client::begin(server, plan.session_timeout)?;
            Client::finish_handshake(&mut stream)?;
            Ok(stream)
        };
        let stream =
            open().map_err(|error| ControlError::Link { server: server.name.clone(), error })?;
        Ok(Control { plan, server, stream: BufReader::new(stream), xid: 0 })
    }

    /// Makes the root and what the plan's workload needs below it, or takes over what an earlier
    /// run kept.
    pub fn set_up(&mut self) -> Result<(), ControlError> {
        let paths = Paths::new(self.plan);
        self.make_root(paths.root())?;
        let value = workload::value(self.plan);
        let kind = self.plan.workload;
        if kind.creates() {
            // What an earlier run left there would bring NODEEXISTS.
            self.delete_below(&paths.created())?;
            self.make_parent(&paths.created())?;
        }
        if kind.lists() {
            // The list must have exactly the names asked for.
            self.delete_below(&paths.family())?;
            self.make_parent(&paths.family())?;
            self.make_all(self.plan.children, |number| paths.child(number), &value)?;
        }
        if kind.uses_keys() {
            self.make_parent(&paths.keys())?;
            self.make_all(self.plan.keys, |number| paths.key(number), &value)?;
        }
        Ok(())
    }

    /// Deletes what a round created, and makes again what it deleted.
    pub fn renew(&mut self) -> Result<(), ControlError> {
        let paths = Paths::new(self.plan);
        if self.plan.workload.creates() {
            self.delete_below(&paths.created())?;
        }
        if self.plan.workload.deletes_keys() {
            let value = workload::value(self.plan);
            self.make_all(self.plan.keys, |number| paths.key(number), &value)?;
        }
        Ok(())
    }

    /// Deletes the root and all below it.
    pub fn clean_up(&mut self) -> Result<(), ControlError> {
        let root = self.plan.root.clone();
        for child in self.children(&root)?.unwrap_or_default() {
            let path = format!("{root}/{child}");
            self.delete_below(&path)?;
            self.delete(&path)?;
        }
        self.delete(&root)
    }

    /// Ends the session. It would expire by itself; the connection is closed either way.
    pub fn close(mut self) -> Result<(), ControlError> {
        self.call(wire::bare_request(0, op::CLOSE_SESSION)).map(drop)
    }

    fn make_root(&mut self, root: &str) -> Result<(), ControlError> {
        let (code, _) = self.call(wire::create_request(0, root, MARK, 0))?;
        if code != NODE_EXISTS {
            return self.expect(code, "create", root);
        }
        let (code, body) = self.call(wire::read_request(0, op::GET_DATA, root))?;
        self.expect(code, "getData", root)?;
        if body.get(4..4 + MARK.len()) != Some(MARK) || wire::int_at(&body, 0) != MARK.len() as i32
        {
            let server = self.server.name.clone();
            return Err(ControlError::ForeignRoot { server, root: root.to_owned() });
        }
        Ok(())
    }

    fn make_parent(&mut self, path: &str) -> Result<(), ControlError> {
        let (code, _) = self.call(wire::create_request(0, path, b"", 0))?;
        if code == NODE_EXISTS { Ok(()) } else { self.expect(code, "create", path) }
    }

    /// Creates `count` znodes; those that exist get the value.
    fn make_all(
        &mut self,
        count: u32,
        path: impl Fn(u32) -> String,
        value: &[u8],
    ) -> Result<(), ControlError> {
        let mut existing = Vec::new();
        self.pipeline(
            count,
            |number| wire::create_request(0, &path(number), value, 0),
            |number, code| {
                if code == NODE_EXISTS {
                    existing.push(number);
                    return None;
                }
                (code != 0).then(|| ("create", path(number)))
            },
        )?;
        self.pipeline(
            existing.len() as u32,
            |index| wire::set_request(0, &path(existing[index as usize]), value),
            |index, code| (code != 0).then(|| ("setData", path(existing[index as usize]))),
        )
    }

    /// Deletes the children of `path`, which have none themselves; none if it does not exist.
    fn delete_below(&mut self, path: &str) -> Result<(), ControlError> {
        let Some(names) = self.children(path)? else { return Ok(()) };
        let child = |index: u32| format!("{path}/{}", names[index as usize]);
        self.pipeline(
            names.len() as u32,
            |index| wire::delete_request(0, &child(index)),
            |index, code| (code != 0 && code != NO_NODE).then(|| ("delete", child(index))),
        )
    }

    fn delete(&mut self, path: &str) -> Result<(), ControlError> {
        let (code, _) = self.call(wire::delete_request(0, path))?;
        if code == NO_NODE { Ok(()) } else { self.expect(code, "delete", path) }
    }

    /// The names below `path`; `None` if it does not exist.
    fn children(&mut self, path: &str) -> Result<Option<Vec<String>>, ControlError> {
        let (code, body) = self.call(wire::read_request(0, op::GET_CHILDREN, path))?;
        if code == NO_NODE {
            return Ok(None);
        }
        self.expect(code, "getChildren", path)?;
        let names = decode_names(&body);
        names.map(Some).ok_or_else(|| ControlError::Children { server: self.server.name.clone() })
    }

    fn expect(&self, code: i32, operation: &'static str, path: &str) -> Result<(), ControlError> {
        if code == 0 {
            return Ok(());
        }
        let (server, path) = (self.server.name.clone(), path.to_owned());
        Err(ControlError::Answer { server, operation, path, code })
    }

    /// Sends `count` requests in batches, several in flight. `judge` gets each one's error code and
    /// gives operation and path of one that must not be.
    fn pipeline(
        &mut self,
        count: u32,
        request: impl Fn(u32) -> Vec<u8>,
        mut judge: impl FnMut(u32, i32) -> Option<(&'static str, String)>,
    ) -> Result<(), ControlError> {
        let (mut sent, mut answered) = (0, 0);
        let mut in_flight = VecDeque::with_capacity(BATCHES_MAX);
        loop {
            while sent < count && in_flight.len() < BATCHES_MAX {
                let (first, first_xid) = (sent, self.xid + 1);
                let mut batch = Vec::new();
                while sent < count && sent - first < BATCH_MAX && batch.len() < BATCH_BYTES_MAX {
                    let mut frame = request(sent);
                    self.number(&mut frame);
                    batch.extend_from_slice(&frame);
                    sent += 1;
                }
                self.send(&batch)?;
                in_flight.push_back(first_xid..=self.xid);
            }
            let Some(xids) = in_flight.pop_front() else { return Ok(()) };
            for xid in xids {
                let (code, _) = self.reply(xid)?;
                if let Some((operation, path)) = judge(answered, code) {
                    return self.expect(code, operation, &path);
                }
                answered += 1;
            }
        }
    }

    /// Sends one request; gives its error code and the reply's body.
    fn call(&mut self, mut frame: Vec<u8>) -> Result<(i32, Vec<u8>), ControlError> {
        self.number(&mut frame);
        self.send(&frame)?;
        self.reply(self.xid)
    }

    /// Gives a request the next xid. One session makes 200 million requests at most, so that it
    /// never comes round.
    fn number(&mut self, frame: &mut [u8]) {
        self.xid += 1;
        frame[4..8].copy_from_slice(&self.xid.to_be_bytes());
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), ControlError> {
        self.stream.get_mut().write_all(bytes).map_err(|error| self.broken(error))
    }

    fn reply(&mut self, due: i32) -> Result<(i32, Vec<u8>), ControlError> {
        let mut head = [0; 4 + wire::REPLY_HEADER_BYTES];
        self.stream.read_exact(&mut head).map_err(|error| self.broken(error))?;
        let length = wire::int_at(&head, 0);
        let body =
            usize::try_from(length).ok().and_then(|l| l.checked_sub(wire::REPLY_HEADER_BYTES));
        let Some(body) = body else { return Err(self.link(LinkError::FrameLength { length })) };
        if body > REPLY_BYTES_MAX {
            return Err(ControlError::ReplyTooLong { server: self.server.name.clone(), length });
        }
        let xid = wire::int_at(&head, 4);
        if xid != due {
            return Err(self.link(LinkError::WrongXid { xid, due }));
        }
        let mut bytes = vec![0; body];
        self.stream.read_exact(&mut bytes).map_err(|error| self.broken(error))?;
        Ok((wire::int_at(&head, 16), bytes))
    }

    fn broken(&self, error: std::io::Error) -> ControlError {
        use std::io::ErrorKind;
        self.link(match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                LinkError::Closed
            }
            ErrorKind::WouldBlock => LinkError::Silent { after: self.plan.session_timeout },
            _ => LinkError::Broken(error),
        })
    }

    fn link(&self, error: LinkError) -> ControlError {
        ControlError::Link { server: self.server.name.clone(), error }
    }
}

/// The names in a getChildren reply's body.
fn decode_names(body: &[u8]) -> Option<Vec<String>> {
    let int =
        |at: usize| Some(i32::from_be_bytes(body.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let count = usize::try_from(int(0)?).ok()?;
    // Each name takes four bytes at least; a count beyond that is a lie.
    let mut names = Vec::with_capacity(count.min(body.len() / 4));
    let mut at = 4;
    for _ in 0..count {
        let length = usize::try_from(int(at)?).ok()?;
        let name = body.get(at + 4..(at + 4).checked_add(length)?)?;
        names.push(String::from_utf8(name.to_vec()).ok()?);
        at += 4 + length;
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded() {
        let body = [0, 0, 0, 2, 0, 0, 0, 1, b'a', 0, 0, 0, 2, b'b', b'c'];
        assert_eq!(decode_names(&body).unwrap(), ["a", "bc"]);
        assert_eq!(decode_names(&[0, 0, 0, 0]).unwrap(), [""; 0]);
    }

    #[test]
    fn a_list_that_ends_early_or_lies_is_none() {
        let body = [0, 0, 0, 2, 0, 0, 0, 1, b'a', 0, 0, 0, 2, b'b', b'c'];
        for end in 0..body.len() {
            assert_eq!(decode_names(&body[..end]), None, "cut at {end}");
        }
        assert_eq!(decode_names(&[0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(decode_names(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
