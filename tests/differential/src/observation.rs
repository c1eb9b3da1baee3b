//! What a client sees, field by field: a server's frames, decoded by what they answer.

use std::io;

use harness::wire::Decoder;

use crate::request::{Request, op};

/// A field's value, by what it means: that decides how two servers' values are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number that must be the same.
    Number(i64),
    /// A transaction id.
    Zxid(i64),
    /// When a transaction was made: milliseconds, and the transaction's zxid.
    Time { ms: i64, of: i64 },
    /// A session id; 0 is none.
    Session(i64),
    /// A session's password, and the session.
    Password { bytes: Vec<u8>, of: i64 },
    /// A buffer; null differs from empty.
    Bytes(Option<Vec<u8>>),
    /// A string.
    Text(String),
    /// Strings without an order.
    Names(Vec<String>),
}

/// A field and its name, as in `parts[2].stat.pzxid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// What kind of thing arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer to a connect request.
    Handshake,
    /// The answer to a request.
    Reply,
    /// A watch event.
    Event,
    /// The answer to the ping that ends a step.
    Barrier,
    /// The server ended the connection.
    Closed,
    /// Nothing came within the time that a server may take.
    Silence,
}

/// One thing that a connection showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Its fields in their order on the wire.
    pub fields: Vec<Field>,
}

impl Frame {
    /// A frame without fields.
    pub fn bare(kind: Kind) -> Frame {
        Frame { kind, fields: Vec::new() }
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|field| field.name == name).map(|field| &field.value)
    }

    /// The number or zxid of this name.
    pub fn number(&self, name: &str) -> Option<i64> {
        match self.field(name) {
            Some(Value::Number(number) | Value::Zxid(number)) => Some(*number),
            _ => None,
        }
    }

    /// The path that a reply or an event names.
    pub fn path(&self) -> Option<&str> {
        match self.field("path") {
            Some(Value::Text(path)) => Some(path),
            _ => None,
        }
    }

    fn put(&mut self, name: impl Into<String>, value: Value) {
        self.fields.push(Field { name: name.into(), value });
    }

    fn number_of(&mut self, name: impl Into<String>, value: i32) {
        self.put(name, Value::Number(value.into()));
    }
}

/// Decodes the answer to a connect request.
pub fn handshake(bytes: &[u8]) -> Frame {
    decode(Kind::Handshake, bytes, connect_response)
}

/// Decodes what is no answer to a connect request: an event, or the answer to `request`.
pub fn frame(bytes: &[u8], request: Option<&Request>) -> Frame {
    let xid = bytes.first_chunk().map(|xid| i32::from_be_bytes(*xid));
    if xid == Some(-1) {
        return decode(Kind::Event, bytes, event);
    }
    // createSession inside a session is answered with a connect response, which has no header.
    let is_connect_response = [36, 37].contains(&bytes.len());
    if request.is_some_and(|request| request.op() == op::CREATE_SESSION) && is_connect_response {
        return decode(Kind::Reply, bytes, connect_response);
    }
    decode(Kind::Reply, bytes, |frame, body| reply(frame, body, request))
}

fn decode(
    kind: Kind,
    bytes: &[u8],
    fields: impl FnOnce(&mut Frame, &mut Decoder<'_>) -> io::Result<()>,
) -> Frame {
    let mut frame = Frame::bare(kind);
    let mut body = Decoder::new(bytes);
    if let Err(error) = fields(&mut frame, &mut body) {
        frame.put("undecodable", Value::Text(error.to_string()));
    }
    if !body.is_empty() {
        frame.put("bytes behind it", Value::Bytes(Some(body.rest().to_vec())));
    }
    frame
}

fn connect_response(frame: &mut Frame, body: &mut Decoder<'_>) -> io::Result<()> {
    frame.number_of("protocolVersion", body.int()?);
    frame.number_of("timeOut", body.int()?);
    let session = body.long()?;
    frame.put("sessionId", Value::Session(session));
    let password = body.nullable()?.unwrap_or_default().to_vec();
    frame.put("passwd", Value::Password { bytes: password, of: session });
    if !body.is_empty() {
        frame.number_of("readOnly", body.bool()?.into());
    }
    Ok(())
}

fn event(frame: &mut Frame, body: &mut Decoder<'_>) -> io::Result<()> {
    frame.number_of("xid", body.int()?);
    frame.put("zxid", Value::Zxid(body.long()?));
    frame.number_of("err", body.int()?);
    frame.number_of("type", body.int()?);
    frame.number_of("state", body.int()?);
    frame.put("path", Value::Text(body.string()?));
    Ok(())
}

fn reply(frame: &mut Frame, body: &mut Decoder<'_>, request: Option<&Request>) -> io::Result<()> {
    frame.number_of("xid", body.int()?);
    frame.put("zxid", Value::Zxid(body.long()?));
    let error = body.int()?;
    frame.number_of("err", error);
    match request {
        // These two have a body behind an error, too.
        Some(request) if matches!(request.op(), op::MULTI | op::MULTI_READ) => {
            let has_parts = error == 0 || !body.is_empty();
            has_parts.then(|| parts(frame, body)).transpose()?;
        }
        Some(request) if request.op() == op::SASL && !body.is_empty() => {
            frame.put("token", Value::Bytes(body.nullable()?.map(<[u8]>::to_vec)));
        }
        Some(request) if error == 0 => record(frame, body, request.op(), "")?,
        _ => {}
    }
    Ok(())
}

/// The path of a sync, as it was sent: null is not empty.
fn synced(body: &mut Decoder<'_>) -> io::Result<Value> {
    let Some(path) = body.nullable()? else { return Ok(Value::Bytes(None)) };
    let path = std::str::from_utf8(path);
    let path = path.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Value::Text(path.to_owned()))
}

/// The record that answers an operation; its fields' names begin with `at`.
fn record(frame: &mut Frame, body: &mut Decoder<'_>, op: i32, at: &str) -> io::Result<()> {
    match op {
        op::CREATE => frame.put(format!("{at}path"), Value::Text(body.string()?)),
        op::SYNC => frame.put(format!("{at}path"), synced(body)?),
        op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            frame.put(format!("{at}path"), Value::Text(body.string()?));
            stat(frame, body, at)?;
        }
        op::EXISTS | op::SET_DATA | op::SET_ACL => stat(frame, body, at)?,
        op::GET_DATA | op::RECONFIG => {
            let data = body.nullable()?.map(<[u8]>::to_vec);
            frame.put(format!("{at}data"), Value::Bytes(data));
            stat(frame, body, at)?;
        }
        op::GET_ACL => {
            let count = body.int()?;
            frame.number_of(format!("{at}acls"), count);
            for number in 0..count {
                let (perms, scheme, id) = (body.int()?, body.string()?, body.string()?);
                let text = format!("{scheme}:{id}:{perms}");
                frame.put(format!("{at}acl[{number}]"), Value::Text(text));
            }
            stat(frame, body, at)?;
        }
        op::GET_CHILDREN | op::GET_EPHEMERALS => {
            frame.put(format!("{at}names"), Value::Names(body.strings()?));
        }
        op::GET_CHILDREN2 => {
            frame.put(format!("{at}names"), Value::Names(body.strings()?));
            stat(frame, body, at)?;
        }
        op::GET_ALL_CHILDREN_NUMBER => frame.number_of(format!("{at}totalNumber"), body.int()?),
        op::ADD_WATCH => frame.number_of(format!("{at}error"), body.int()?),
        op::WHO_AM_I => {
            let count = body.int()?;
            for number in 0..count {
                let id = format!("{}:{}", body.string()?, body.string()?);
                frame.put(format!("{at}id[{number}]"), Value::Text(id));
            }
        }
        _ => {}
    }
    Ok(())
}

fn parts(frame: &mut Frame, body: &mut Decoder<'_>) -> io::Result<()> {
    for number in 0.. {
        let (op, done, error) = (body.int()?, body.bool()?, body.int()?);
        let at = format!("parts[{number}].");
        frame.number_of(format!("{at}type"), op);
        frame.number_of(format!("{at}done"), done.into());
        frame.number_of(format!("{at}err"), error);
        if done {
            break;
        }
        match op {
            -1 => frame.number_of(format!("{at}error"), body.int()?),
            op => record(frame, body, op, &at)?,
        }
    }
    Ok(())
}

fn stat(frame: &mut Frame, body: &mut Decoder<'_>, at: &str) -> io::Result<()> {
    let (czxid, mzxid) = (body.long()?, body.long()?);
    frame.put(format!("{at}stat.czxid"), Value::Zxid(czxid));
    frame.put(format!("{at}stat.mzxid"), Value::Zxid(mzxid));
    frame.put(format!("{at}stat.ctime"), Value::Time { ms: body.long()?, of: czxid });
    frame.put(format!("{at}stat.mtime"), Value::Time { ms: body.long()?, of: mzxid });
    for name in ["version", "cversion", "aversion"] {
        frame.number_of(format!("{at}stat.{name}"), body.int()?);
    }
    frame.put(format!("{at}stat.ephemeralOwner"), Value::Session(body.long()?));
    for name in ["dataLength", "numChildren"] {
        frame.number_of(format!("{at}stat.{name}"), body.int()?);
    }
    frame.put(format!("{at}stat.pzxid"), Value::Zxid(body.long()?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use harness::wire::Encoder;

    use super::*;

    fn bytes(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
        let mut out = Encoder::frame();
        write(&mut out);
        out.finish()[4..].to_vec()
    }

    #[test]
    fn a_failed_multi_shows_every_parts_error() {
        let parts = Request::Multi(vec![Request::Ping, Request::Ping]);
        let bytes = bytes(|out| {
            out.int(5).long(9).int(0);
            out.int(-1).bool(false).int(0).int(0);
            out.int(-1).bool(false).int(-110).int(-110);
            out.int(-1).bool(true).int(-1);
        });
        let seen = frame(&bytes, Some(&parts));
        assert_eq!(seen.kind, Kind::Reply);
        assert_eq!(seen.number("zxid"), Some(9));
        assert_eq!(seen.number("parts[0].error"), Some(0));
        assert_eq!(seen.number("parts[1].err"), Some(-110));
        assert_eq!(seen.number("parts[2].done"), Some(1));
        assert_eq!(seen.field("undecodable"), None);
    }

    #[test]
    fn a_short_reply_and_bytes_behind_one_are_seen() {
        let request = Request::Sync { path: "/".to_owned() };
        let short = bytes(|out| {
            out.int(1).long(2).int(0).int(5);
        });
        assert!(frame(&short, Some(&request)).field("undecodable").is_some());
        let long = bytes(|out| {
            out.int(1).long(2).int(-101).int(5);
        });
        assert!(frame(&long, Some(&request)).field("bytes behind it").is_some());
    }
}
