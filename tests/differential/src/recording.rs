//! What a ZooKeeper showed, kept in a file: so tests can compare with a release that is not
//! installed. Lines of text: a header, and for each script its seed and a fingerprint, for each
//! step a line `step`, and for each frame the session, the kind and the fields, with tabs between.
//! Nearly every step ends in the same answer to each session's ping. Those stand in the line of
//! the step: their zxid and the sessions.

use std::fmt::Write;

use crate::observation::Kind;
use crate::plain::{Plain, PlainSteps};
use crate::script::{SLOTS, Script, Slot};

const KINDS: [Kind; 6] =
    [Kind::Handshake, Kind::Reply, Kind::Event, Kind::Barrier, Kind::Closed, Kind::Silence];

/// One script's part of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// What its script was made from.
    pub seed: u64,
    /// Tells whether the generator still makes the same script of it.
    pub fingerprint: u64,
    /// What ZooKeeper showed.
    pub steps: PlainSteps,
}

/// A recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// The configuration.
    pub profile: String,
    /// Steps of a script behind its first connects.
    pub steps: usize,
    /// Its scripts.
    pub scripts: Vec<Recorded>,
}

/// A number that another script hardly has: FNV-1a of its text.
pub fn fingerprint(script: &Script) -> u64 {
    script.to_string().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Recording {
    /// As a file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!("profile\t{}\t{}\n", self.profile, self.steps);
        for script in &self.scripts {
            let _ = writeln!(text, "script\t{}\t{:016x}", script.seed, script.fingerprint);
            script.steps.iter().for_each(|step| write_step(&mut text, step));
        }
        text
    }

    /// From a file's text. The error names the line, counted from 1.
    pub fn from_text(text: &str) -> Result<Recording, usize> {
        let empty = Recording { profile: String::new(), steps: 0, scripts: Vec::new() };
        let mut lines = Lines { recording: empty, pings: None };
        for (index, line) in text.lines().enumerate() {
            lines.take(line).ok_or(index + 1)?;
        }
        lines.end_step();
        Ok(lines.recording)
    }
}

/// The answer to the ping behind a step.
fn ping_answer(zxid: &str) -> Plain {
    let fields = [("xid", "-2"), ("zxid", zxid), ("err", "0")];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Plain { kind: Kind::Barrier, fields: fields.to_vec() }
}

fn write_step(text: &mut String, step: &[Vec<Plain>; SLOTS]) {
    // One of the zxids; a session that was shown another one has its frame written out.
    let zxid = step.iter().filter_map(|frames| frames.last()).find_map(|frame| {
        let zxid = &frame.fields.get(1)?.1;
        (*frame == ping_answer(zxid)).then(|| zxid.clone())
    });
    let ping = zxid.as_deref().map(ping_answer);
    let is_pinged = |frames: &[Plain]| ping.is_some() && frames.last() == ping.as_ref();
    *text += "step";
    if let Some(zxid) = &zxid {
        let slots = (0..SLOTS).filter(|slot| is_pinged(&step[*slot]));
        let slots: String = slots.map(|slot| slot.to_string()).collect();
        let _ = write!(text, "\t{zxid}\t{slots}");
    }
    *text += "\n";
    for (slot, frames) in step.iter().enumerate() {
        for frame in &frames[..frames.len() - usize::from(is_pinged(frames))] {
            let fields = frame.fields.iter().map(|(name, value)| format!("\t{name}={value}"));
            let _ = writeln!(text, "{slot}\t{:?}{}", frame.kind, fields.collect::<String>());
        }
    }
}

/// A recording that is being read.
struct Lines {
    recording: Recording,
    /// The answers to pings that end the step, and whose they are.
    pings: Option<(Plain, Vec<Slot>)>,
}

impl Lines {
    fn end_step(&mut self) {
        let steps = self.recording.scripts.last_mut().map(|script| &mut script.steps);
        let step = steps.and_then(|steps| steps.last_mut());
        if let (Some(step), Some((ping, slots))) = (step, self.pings.take()) {
            slots.into_iter().for_each(|slot| step[slot].push(ping.clone()));
        }
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let mut words = line.split('\t');
        let first = words.next()?;
        if ["script", "step"].contains(&first) {
            self.end_step();
        }
        let recording = &mut self.recording;
        match first {
            "profile" => {
                words.next()?.clone_into(&mut recording.profile);
                recording.steps = words.next()?.parse().ok()?;
            }
            "script" => {
                let seed = words.next()?.parse().ok()?;
                let fingerprint = u64::from_str_radix(words.next()?, 16).ok()?;
                recording.scripts.push(Recorded { seed, fingerprint, steps: Vec::new() });
            }
            "step" => {
                recording.scripts.last_mut()?.steps.push(Default::default());
                if let Some(zxid) = words.next() {
                    let slots =
                        words.next()?.chars().map(|digit| slot(digit.encode_utf8(&mut [0])));
                    self.pings = Some((ping_answer(zxid), slots.collect::<Option<Vec<Slot>>>()?));
                }
            }
            number => {
                let slot = slot(number)?;
                let name = words.next()?;
                let kind = KINDS.into_iter().find(|kind| format!("{kind:?}") == name)?;
                let field = |word: &str| {
                    word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
                };
                let fields = words.map(field).collect::<Option<Vec<_>>>()?;
                let step = recording.scripts.last_mut()?.steps.last_mut()?;
                step[slot].push(Plain { kind, fields });
            }
        }
        Some(())
    }
}

fn slot(digit: &str) -> Option<Slot> {
    digit.parse().ok().filter(|slot| *slot < SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_read_as_it_was_written() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let reply = Plain {
            kind: Kind::Reply,
            fields: vec![field("xid", "1"), field("path", "\"/a=b\\t\"")],
        };
        let closed = Plain { kind: Kind::Closed, fields: Vec::new() };
        let ping = |zxid| ping_answer(zxid);
        let steps = vec![
            [vec![reply.clone(), closed.clone()], vec![], vec![closed]],
            Default::default(),
            [vec![ping("+1"), reply.clone(), ping("+2")], vec![ping("+3")], vec![ping("+2")]],
            [vec![ping("+2"), reply], vec![], vec![ping("+4")]],
        ];
        let recorded = Recorded { seed: 7, fingerprint: 0xfedc_ba98_7654_3210, steps };
        let recording =
            Recording { profile: "full".to_owned(), steps: 40, scripts: vec![recorded] };
        assert_eq!(Recording::from_text(&recording.to_text()), Ok(recording));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        for wrong in ["9\tReply", "step\t+1\t9", "step\t+1", "0\tNothing", "0\tReply\txid"] {
            let text = format!("profile\tfull\t40\nscript\t1\t00\nstep\n{wrong}\n");
            assert_eq!(Recording::from_text(&text), Err(4), "{wrong}");
        }
    }
}
