//! What is left of a transcript once everything is gone that two correct servers may choose:
//! zxids count from the script's start, sessions have ordinals, a time is its transaction's, and
//! what has no order is sorted.

use std::collections::HashMap;

use crate::observation::{Frame, Kind, Value};
use crate::play::Transcript;
use crate::request::op;
use crate::script::{SLOTS, Script, Slot};

/// A frame in words that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// What it is.
    pub kind: Kind,
    /// Names and values of its fields.
    pub fields: Vec<(String, String)>,
}

/// For each step, for each session, its frames.
pub type PlainSteps = Vec<[Vec<Plain>; SLOTS]>;

/// What one server showed, ready to be compared.
#[derive(Clone, Debug)]
pub struct Seen {
    raw: Vec<[Vec<Frame>; SLOTS]>,
    plain: PlainSteps,
}

impl Seen {
    /// From a transcript of this script. Frames keep their positions, except for the events of a
    /// step that closes a session: the order in which its ephemerals go is the server's choice.
    pub fn live(transcript: &Transcript, script: &Script) -> Seen {
        let mut names = Names {
            base: transcript.base,
            sessions: transcript.sessions.clone(),
            times: HashMap::new(),
        };
        let mut raw = transcript.steps.clone();
        for (seen, step) in raw.iter_mut().zip(&script.steps) {
            if step.requests().iter().any(|request| request.op() == op::CLOSE_SESSION) {
                seen.iter_mut().for_each(|frames| sort_events(frames));
            }
        }
        let step = |seen: &[Vec<Frame>; SLOTS]| {
            std::array::from_fn(|slot| seen[slot].iter().map(|frame| names.frame(frame)).collect())
        };
        let plain = raw.iter().map(step).collect();
        Seen { raw, plain }
    }

    /// From a recording, which has no raw frames.
    pub fn recorded(plain: PlainSteps) -> Seen {
        Seen { raw: Vec::new(), plain }
    }

    /// A step's frames as they came; none of a recording.
    pub fn raw(&self, step: usize) -> &[Vec<Frame>] {
        self.raw.get(step).map_or(&[], |slots| slots.as_slice())
    }

    /// A step's frames in words, by session.
    pub fn plain(&self, step: usize) -> &[Vec<Plain>] {
        self.plain.get(step).map_or(&[], |slots| slots.as_slice())
    }

    /// A frame in both forms.
    pub fn frame(&self, step: usize, slot: Slot, at: usize) -> (Option<&Frame>, Option<&Plain>) {
        let raw = self.raw(step).get(slot).and_then(|frames| frames.get(at));
        (raw, self.plain(step).get(slot).and_then(|frames| frames.get(at)))
    }

    /// All of it in words.
    pub fn steps(&self) -> &PlainSteps {
        &self.plain
    }
}

fn sort_events(frames: &mut [Frame]) {
    for run in frames.chunk_by_mut(|one, next| one.kind == Kind::Event && next.kind == Kind::Event)
    {
        run.sort_by_key(|event| {
            (event.path().unwrap_or_default().to_owned(), event.number("type"))
        });
    }
}

struct Names {
    base: i64,
    sessions: Vec<i64>,
    times: HashMap<i64, i64>,
}

impl Names {
    fn frame(&mut self, frame: &Frame) -> Plain {
        let fields = frame.fields.iter();
        let fields = fields.map(|field| (field.name.clone(), self.value(&field.value))).collect();
        Plain { kind: frame.kind, fields }
    }

    fn value(&mut self, value: &Value) -> String {
        match value {
            Value::Number(number) => number.to_string(),
            Value::Zxid(zxid) => self.zxid(*zxid),
            Value::Time { ms, of } => self.time(*ms, *of),
            Value::Session(0) => "none".to_owned(),
            Value::Session(id) => match self.sessions.iter().position(|known| known == id) {
                Some(ordinal) => format!("session {ordinal}"),
                None => "a session of somebody else".to_owned(),
            },
            Value::Password { bytes, of: 0 } if *bytes == [0; 16] => "zeros".to_owned(),
            Value::Password { bytes, of } if *bytes == password(*of) => "derived".to_owned(),
            Value::Password { bytes, .. } => format!("not derived from the id: {bytes:02x?}"),
            Value::Bytes(None) => "null".to_owned(),
            // All that a script writes is one letter again and again.
            Value::Bytes(Some(bytes)) if is_one_letter(bytes) => {
                format!("{} times {}", bytes.len(), bytes[..1].escape_ascii())
            }
            Value::Bytes(Some(bytes)) => format!("\"{}\"", bytes.escape_ascii()),
            Value::Text(text) => format!("{text:?}"),
            Value::Names(names) => {
                let mut names = names.clone();
                names.sort_unstable();
                format!("{names:?}")
            }
        }
    }

    fn zxid(&self, zxid: i64) -> String {
        match zxid {
            -1 | 0 => zxid.to_string(),
            zxid if zxid < self.base => "before the script".to_owned(),
            zxid => format!("+{}", zxid - self.base),
        }
    }

    /// A transaction has one time, wherever it shows.
    fn time(&mut self, ms: i64, of: i64) -> String {
        if of < self.base {
            return if ms == 0 { "0".to_owned() } else { "before the script".to_owned() };
        }
        let known = *self.times.entry(of).or_insert(ms);
        if known == ms { "right" } else { "not its transaction's" }.to_owned()
    }
}

fn is_one_letter(bytes: &[u8]) -> bool {
    bytes.len() > 30 && bytes.iter().all(|byte| *byte == bytes[0])
}

/// The password that ZooKeeper derives from a session's id: `java.util.Random`, seeded with the id
/// and a constant.
fn password(session: i64) -> [u8; 16] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut state = ((session ^ 0xB341_5C00).cast_unsigned() ^ MULTIPLIER) & MASK;
    let mut bytes = [0; 16];
    for word in bytes.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        word.copy_from_slice(&u32::try_from(state >> 16).expect("32 bits").to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_known_session_comes_out() {
        let known = [
            0x83, 0xd1, 0xcf, 0x75, 0x53, 0xe8, 0xd5, 0x95, 0x2b, 0x07, 0xef, 0xeb, 0xc0, 0x2a,
            0xe1, 0x64,
        ];
        assert_eq!(password(0x0100_002d_3f24_000c), known);
    }

    #[test]
    fn a_time_that_is_not_its_transactions_shows() {
        let mut names = Names { base: 10, sessions: Vec::new(), times: HashMap::new() };
        assert_eq!(names.time(5000, 11), names.time(5000, 11));
        assert_ne!(names.time(5000, 11), names.time(5001, 11));
        assert_eq!(names.time(5000, 12), names.time(5000, 11));
    }
}
