//! `ringkeeper dump LOG|SNAPSHOT [--json]`: what a log segment or a snapshot holds, one line for
//! each batch, transaction, session, ACL or znode. What is readable is printed even if there is
//! damage behind it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::ids::{SessionId, Zxid};
use crate::jute::decode::DecodeError;
use crate::jute::records::Acl;
use crate::jute::txn::{Transaction, Txn};
use crate::log::format::{SEGMENT_MAGIC, take_record};
use crate::log::scan::{Found, OpenError, SegmentReader};
use crate::rt::files::{BLOCK, DiskError};
use crate::snapshot::format::{Record, SNAPSHOT_MAGIC, Znode};
use crate::snapshot::load::{LoadError, SnapshotReader};

/// How ZooKeeper's own logs and snapshots begin.
const ZOOKEEPER_LOG: &[u8] = b"ZKLG";
const ZOOKEEPER_SNAPSHOT: &[u8] = b"ZKSN";

/// Bytes of data or text that a line of text shows; JSON shows all.
const SHOWN_BYTES: usize = 64;

/// Why a file could not be printed to its end.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(
        "{} is a {kind} of ZooKeeper's; dump reads Ringkeeper's own files",
        path.display()
    )]
    ZooKeeper { path: PathBuf, kind: &'static str },
    #[error("{} is neither a log segment nor a snapshot", .0.display())]
    Unknown(PathBuf),
    #[error("{}: {source}", path.display())]
    Segment { path: PathBuf, source: OpenError },
    #[error("{} is damaged at byte {offset}: batch {batch} is not whole", path.display())]
    Torn { path: PathBuf, offset: u64, batch: u64 },
    #[error("{} is damaged at byte {offset}: a batch is lost before batch {later}", path.display())]
    Lost { path: PathBuf, offset: u64, later: u64 },
    #[error("transaction {zxid} makes no sense: {source}")]
    Txn { zxid: Zxid, source: DecodeError },
    #[error("{0}")]
    Snapshot(Box<LoadError<io::Error>>),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Prints the file at `path` to `out`: as text, or as one JSON object a line.
///
/// # Errors
/// When the file is of another kind, damaged or unreadable. What is good before the damage has
/// then been printed.
pub fn dump(path: &Path, json: bool, out: &mut dyn Write) -> Result<(), DumpError> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(DiskError::of("open", path))?;
    file.take(8).read_to_end(&mut start).map_err(DiskError::of("read", path))?;
    let mut lines = Lines { json, out };
    let path_buf = || path.to_path_buf();
    match &start[..] {
        magic if *magic == SEGMENT_MAGIC => segment(path, &mut lines),
        magic if *magic == SNAPSHOT_MAGIC => snapshot(path, &mut lines),
        magic if magic.starts_with(ZOOKEEPER_LOG) => {
            Err(DumpError::ZooKeeper { path: path_buf(), kind: "log" })
        }
        magic if magic.starts_with(ZOOKEEPER_SNAPSHOT) => {
            Err(DumpError::ZooKeeper { path: path_buf(), kind: "snapshot" })
        }
        _ => Err(DumpError::Unknown(path_buf())),
    }
}

/// Where the lines go, and as what.
struct Lines<'o> {
    json: bool,
    out: &'o mut dyn Write,
}

impl Lines<'_> {
    /// Prints an object: as JSON, or its kind and its fields as `name=value`.
    fn print(&mut self, kind: &str, fields: Value) -> io::Result<()> {
        let Value::Object(fields) = fields else { unreachable!("a line is an object") };
        if self.json {
            let mut line = serde_json::Map::new();
            line.insert("kind".to_owned(), kind.into());
            line.extend(fields);
            return writeln!(self.out, "{}", Value::Object(line));
        }
        write!(self.out, "{kind}")?;
        for (name, value) in &fields {
            match value {
                Value::Null => write!(self.out, " {name}=null")?,
                Value::String(text) => write!(self.out, " {name}={}", shortened(text))?,
                other => write!(self.out, " {name}={other}")?,
            }
        }
        writeln!(self.out)
    }
}

fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_BYTES) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…({} bytes)", &text[..end], text.len())),
    }
}

fn segment(path: &Path, lines: &mut Lines<'_>) -> Result<(), DumpError> {
    let mut reader = SegmentReader::open(path)
        .map_err(|source| DumpError::Segment { path: path.to_path_buf(), source })?;
    let header = *reader.header();
    lines.print(
        "segment",
        json!({
            "ordinal": header.ordinal,
            "generation": format!("{:016x}", header.generation),
            "bytes": reader.length(),
        }),
    )?;
    let mut offset = BLOCK as u64;
    loop {
        match reader.at(offset)? {
            Found::Batch(header, mut records) => {
                lines.print(
                    "batch",
                    json!({
                        "offset": offset,
                        "sequence": header.sequence,
                        "after": header.after().to_string(),
                        "txns": header.count,
                        "bytes": header.length,
                    }),
                )?;
                while let Some(record) = take_record(&mut records) {
                    let zxid = record.zxid;
                    let txn = Transaction::decode(record.txn)
                        .map_err(|source| DumpError::Txn { zxid, source })?;
                    lines.print("txn", transaction(&txn))?;
                }
                offset += header.bytes_on_disk();
            }
            Found::Torn(header) => {
                let path = path.to_path_buf();
                return Err(DumpError::Torn { path, offset, batch: header.sequence });
            }
            Found::Nothing => break,
        }
    }
    match reader.next_header(offset)? {
        Some((_, header)) => {
            Err(DumpError::Lost { path: path.to_path_buf(), offset, later: header.sequence })
        }
        None => Ok(()),
    }
}

/// A transaction as an object: its header, then what its type has.
fn transaction(transaction: &Transaction<'_>) -> Value {
    let header = &transaction.header;
    let mut fields = json!({
        "zxid": header.zxid.to_string(),
        "session": header.client_id.to_string(),
        "cxid": header.cxid,
        "time": header.time_ms,
        "type": header.op.0,
    });
    extend(&mut fields, operation(&transaction.txn));
    if let Some(digest) = transaction.digest {
        fields["digest"] = json!(format!("{:#x}", digest.tree));
    }
    fields
}

fn extend(fields: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (fields, more) {
        fields.extend(more);
    }
}

fn operation(txn: &Txn<'_>) -> Value {
    match txn {
        Txn::CreateSession { timeout_ms } => {
            json!({ "op": "createSession", "timeout": timeout_ms })
        }
        Txn::CloseSession { paths } => json!({
            "op": "closeSession",
            "paths": paths.map(|paths| paths.iter().collect::<Vec<_>>()),
        }),
        Txn::Create { path, data, acl, ephemeral, parent_cversion } => json!({
            "op": "create", "path": path, "data": data.map(text), "acl": acls(&acl.to_vec()),
            "ephemeral": ephemeral, "parentCversion": parent_cversion,
        }),
        Txn::CreateContainer { path, data, acl, parent_cversion } => json!({
            "op": "createContainer", "path": path, "data": data.map(text),
            "acl": acls(&acl.to_vec()), "parentCversion": parent_cversion,
        }),
        Txn::CreateTtl { path, data, acl, parent_cversion, ttl_ms } => json!({
            "op": "createTTL", "path": path, "data": data.map(text), "acl": acls(&acl.to_vec()),
            "parentCversion": parent_cversion, "ttl": ttl_ms,
        }),
        Txn::Delete { path } => json!({ "op": "delete", "path": path }),
        Txn::DeleteContainer { path } => json!({ "op": "deleteContainer", "path": path }),
        Txn::SetData { path, data, version } => json!({
            "op": "setData", "path": path, "data": data.map(text), "version": version,
        }),
        Txn::Reconfig { path, data, version } => json!({
            "op": "reconfig", "path": path, "data": data.map(text), "version": version,
        }),
        Txn::SetAcl { path, acl, version } => json!({
            "op": "setACL", "path": path, "acl": acls(&acl.to_vec()), "version": version,
        }),
        Txn::Check { path, version } => {
            json!({ "op": "check", "path": path, "version": version })
        }
        Txn::Multi(parts) => json!({
            "op": "multi",
            "parts": parts.iter().map(|part| operation(&part.txn)).collect::<Vec<_>>(),
        }),
        Txn::Error(code) => json!({ "op": "error", "err": code }),
    }
}

/// Data as text where it is, else as `0x…`.
fn text(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => data.iter().fold("0x".to_owned(), |mut hex, byte| {
            hex.push_str(&format!("{byte:02x}"));
            hex
        }),
    }
}

/// An ACL as the four-letter words and the shell show it: `scheme:id:perms`.
fn acls(acl: &[Acl]) -> Vec<String> {
    let letters = |perms: i32| -> String {
        let known = [(4, 'c'), (8, 'd'), (1, 'r'), (2, 'w'), (16, 'a')];
        known.iter().filter(|(bit, _)| perms & bit != 0).map(|(_, letter)| *letter).collect()
    };
    acl.iter()
        .map(|entry| format!("{}:{}:{}", entry.id.scheme, entry.id.id, letters(entry.perms)))
        .collect()
}

fn snapshot(path: &Path, lines: &mut Lines<'_>) -> Result<(), DumpError> {
    let failed = |e| DumpError::Snapshot(Box::new(e));
    let reader = SnapshotReader::open(path).map_err(failed)?;
    let header = *reader.header();
    let fields = json!({ "zxid": header.zxid().to_string(), "time": header.time_ms });
    lines.print("snapshot", fields)?;
    let totals = reader.read_all(|record| match record {
        Record::Session(session, timeout_ms) => {
            let session = SessionId::from_bits(session).to_string();
            lines.print("session", json!({ "session": session, "timeout": timeout_ms }))
        }
        Record::Acl(number, acl) => {
            lines.print("acl", json!({ "number": number, "acl": acls(&acl) }))
        }
        Record::Znode(znode) => lines.print("znode", stored(&znode)),
    });
    match totals {
        Ok(totals) => Ok(lines.print(
            "end",
            json!({
                "sessions": totals.sessions, "acls": totals.acls, "znodes": totals.znodes,
            }),
        )?),
        Err(LoadError::Refused { source, .. }) => Err(source.into()),
        Err(e) => Err(failed(e)),
    }
}

fn stored(znode: &Znode<'_>) -> Value {
    let zxid = |bits| Zxid::from_bits(bits).to_string();
    json!({
        "path": znode.path,
        "data": znode.data.map(text),
        "acl": znode.acl,
        "czxid": zxid(znode.czxid),
        "mzxid": zxid(znode.mzxid),
        "pzxid": zxid(znode.pzxid),
        "ctime": znode.ctime,
        "mtime": znode.mtime,
        "version": znode.version,
        "cversion": znode.cversion,
        "aversion": znode.aversion,
        "ephemeralOwner": format!("{:#x}", znode.ephemeral_owner),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::jute::opcode::OpCode;
    use crate::jute::txn::TxnHeader;
    use crate::log::group_commit::{GroupCommit, Tail};
    use crate::log::segment;
    use crate::log::spares::Spares;
    use crate::rt::disk::run_here;
    use crate::rt::files::Pace;
    use crate::snapshot::write::SnapshotWriter;

    fn printed(path: &Path, json: bool) -> (String, Result<(), DumpError>) {
        let mut out = Vec::new();
        let result = dump(path, json, &mut out);
        (String::from_utf8(out).unwrap(), result)
    }

    /// A segment with two batches of one setData each.
    fn log(folder: &Path) -> PathBuf {
        let length = 8 * BLOCK as u64;
        let segment = segment::prepare(folder, 1, length, Pace::Full).unwrap();
        let path = segment.path.clone();
        let tail = Tail { segment, position: BLOCK as u64, sequence: 1, last_zxid: Zxid::ZERO };
        let spares = Spares::new(folder, length, None);
        run_here(async move {
            let mut log = GroupCommit::open(tail, spares).await.unwrap();
            for (counter, data) in [(1, &b"text"[..]), (2, &[0, 255])] {
                let zxid = Zxid::new(Epoch::new(1), counter);
                let header = TxnHeader {
                    client_id: SessionId::from_bits(0x77),
                    cxid: 5,
                    zxid,
                    time_ms: 1000,
                    op: OpCode::SET_DATA,
                };
                let txn = Txn::SetData { path: "/a", data: Some(data), version: 3 };
                let whole = Transaction { header, txn, digest: None };
                log.append(zxid, |to| whole.encode(to));
                log.start_flush().await.unwrap();
            }
        });
        path
    }

    #[test]
    fn a_log_is_printed_as_text_and_as_json_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = log(dir.path());
        let (text, result) = printed(&path, false);
        result.unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[0].starts_with("segment "), "{text}");
        for part in ["zxid=0x100000001", "session=0x77", "op=setData", "path=/a", "data=text"] {
            assert!(lines[2].contains(part), "{part} is not in {}", lines[2]);
        }
        let (text, result) = printed(&path, true);
        result.unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&last["kind"], &last["data"]), (&json!("txn"), &json!("0x00ff")));
        assert_eq!(last["version"], json!(3));
    }

    #[test]
    fn what_is_good_before_damage_is_printed_and_the_damage_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = log(dir.path());
        let good = std::fs::read(&path).unwrap();
        let mut content = good.clone();
        content[2 * BLOCK + 90] ^= 1;
        std::fs::write(&path, &content).unwrap();
        let (text, result) = printed(&path, false);
        assert_eq!(text.lines().filter(|line| line.starts_with("txn")).count(), 1);
        assert!(matches!(result, Err(DumpError::Torn { offset: 8192, batch: 2, .. })));
        content = good;
        content[BLOCK] ^= 1;
        std::fs::write(&path, &content).unwrap();
        let (_, result) = printed(&path, false);
        assert!(matches!(result, Err(DumpError::Lost { offset: 4096, later: 2, .. })));
    }

    #[test]
    fn a_snapshot_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        let at = Zxid::from_bits(0x1_0000_0009);
        let mut writer = SnapshotWriter::create(dir.path(), at, 7, Pace::Full).unwrap();
        writer.session(SessionId::from_bits(0x77), 4000).unwrap();
        let znode = Znode {
            path: "/a",
            data: None,
            acl: 0,
            czxid: 1,
            mzxid: 2,
            pzxid: 3,
            ctime: 4,
            mtime: 5,
            version: 6,
            cversion: 7,
            aversion: 8,
            ephemeral_owner: 0x77,
        };
        writer.znode(znode).unwrap();
        let path = writer.finish().unwrap().path;
        let (text, result) = printed(&path, false);
        result.unwrap();
        assert!(text.starts_with("snapshot "), "{text}");
        assert!(text.contains("session session=0x77") || text.contains("timeout=4000"), "{text}");
        assert!(text.contains("data=null"), "{text}");
        assert!(text.lines().last().unwrap().contains("znodes=1"), "{text}");
    }

    #[test]
    fn files_of_others_are_named_for_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for (content, expected) in [
            (&b"ZKLG\0\0\0\x02"[..], "log of ZooKeeper's"),
            (b"ZKSN\0\0\0\x02", "snapshot of ZooKeeper's"),
            (b"hello", "neither a log segment nor a snapshot"),
            (b"", "neither a log segment nor a snapshot"),
        ] {
            std::fs::write(&path, content).unwrap();
            let refused = printed(&path, false).1.unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
        let refused = printed(&dir.path().join("none"), false).1.unwrap_err().to_string();
        assert!(refused.contains("cannot open"), "{refused}");
    }
}
