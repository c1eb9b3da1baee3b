//! Compares what two servers showed for one script, frame by frame and field by field, up to the
//! first difference that nothing explains.

use std::fmt;

use crate::explained::{self, Reason, Ruling, Situation};
use crate::observation::Kind;
use crate::peer::Release;
use crate::plain::{Plain, Seen};
use crate::script::{SLOTS, Script, Slot};

/// Where two servers differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The step.
    pub step: usize,
    /// The session that saw it.
    pub slot: Slot,
    /// Which of its frames of that step.
    pub frame: usize,
    /// What differs: a field's name, or `frame` if one of them has none or another kind.
    pub field: String,
    /// Ringkeeper's.
    pub ours: String,
    /// ZooKeeper's.
    pub theirs: String,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The first difference without an explanation.
    pub difference: Option<Difference>,
    /// The explained ones before it.
    pub explained: Vec<Reason>,
}

/// Compares what two servers showed for a script, Ringkeeper and a ZooKeeper of this release.
pub fn compare(script: &Script, ours: &Seen, theirs: &Seen, release: Release) -> Verdict {
    let situation = Situation::new(script, release);
    let mut comparison = Comparison { ours, theirs, situation, verdict: Verdict::default() };
    for step in 0..script.steps.len() {
        comparison.situation.enter(step, ours);
        for slot in 0..SLOTS {
            if !comparison.frames(step, slot) {
                return comparison.verdict;
            }
        }
    }
    comparison.verdict
}

struct Comparison<'a> {
    ours: &'a Seen,
    theirs: &'a Seen,
    situation: Situation<'a>,
    verdict: Verdict,
}

impl Comparison<'_> {
    /// Compares one session's frames of one step. False ends the comparison.
    fn frames(&mut self, step: usize, slot: Slot) -> bool {
        for at in 0.. {
            let (our_frame, ours) = self.ours.frame(step, slot, at);
            let (their_frame, theirs) = self.theirs.frame(step, slot, at);
            if ours.is_none() && theirs.is_none() {
                break;
            }
            let difference = difference(ours, theirs)
                .map(|(field, ours, theirs)| Difference {
                    step,
                    slot,
                    frame: at,
                    field,
                    ours,
                    theirs,
                })
                .or_else(|| self.zxid_rule(step, slot, at));
            let Some(difference) = difference else { continue };
            let frames = (our_frame, their_frame);
            let Some((reason, ruling)) = explained::explain(&self.situation, &difference, frames)
            else {
                self.verdict.difference = Some(difference);
                return false;
            };
            self.verdict.explained.push(reason);
            if ruling == Ruling::EndsHere {
                return false;
            }
        }
        true
    }

    /// An event's zxid is that of a write of its step, or -1 for what setWatches made up for. This
    /// holds whatever the peer shows: ZooKeeper 3.8 has -1 everywhere.
    fn zxid_rule(&self, step: usize, slot: Slot, at: usize) -> Option<Difference> {
        let event = self.ours.frame(step, slot, at).0?;
        let zxid = event.number("zxid")?;
        if event.kind != Kind::Event || explained::event_zxid_is_right(&self.situation, zxid) {
            return None;
        }
        Some(Difference {
            step,
            slot,
            frame: at,
            field: "zxid".to_owned(),
            ours: zxid.to_string(),
            theirs: "by rule, the zxid of a write of this step".to_owned(),
        })
    }
}

/// The first difference of two frames: what differs, ours, theirs.
fn difference(ours: Option<&Plain>, theirs: Option<&Plain>) -> Option<(String, String, String)> {
    let (Some(our), Some(their)) = (ours, theirs) else {
        return Some(("frame".to_owned(), in_words(ours), in_words(theirs)));
    };
    if our.kind != their.kind {
        return Some(("frame".to_owned(), in_words(ours), in_words(theirs)));
    }
    // The error says most; then the fields in their order.
    let error = |plain: &Plain| plain.fields.iter().find(|field| field.0 == "err").cloned();
    if let (Some(our), Some(their)) = (error(our), error(their))
        && our != their
    {
        return Some((our.0, our.1, their.1));
    }
    let longest = our.fields.len().max(their.fields.len());
    (0..longest).find_map(|number| {
        let (our, their) = (our.fields.get(number), their.fields.get(number));
        if our == their {
            return None;
        }
        let name = our.or(their).expect("one of them is there").0.clone();
        let value = |field: Option<&(String, String)>| match field {
            Some((found, value)) if *found == name => value.clone(),
            Some((found, value)) => format!("{found} {value}"),
            None => "nothing".to_owned(),
        };
        Some((name.clone(), value(our), value(their)))
    })
}

/// A frame in one line.
pub fn in_words(plain: Option<&Plain>) -> String {
    let Some(plain) = plain else { return "nothing".to_owned() };
    let fields = plain.fields.iter().map(|(name, value)| format!(" {name}={value}"));
    format!("{:?}{}", plain.kind, fields.collect::<String>())
}

impl fmt::Display for Difference {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { step, slot, frame, field, ours, theirs } = self;
        writeln!(to, "step {step}, session {slot}, frame {frame}: {field}")?;
        writeln!(to, "    Ringkeeper: {ours}")?;
        write!(to, "    ZooKeeper:  {theirs}")
    }
}

/// All that every session saw in a step, on both servers.
pub fn trace(step: usize, ours: &Seen, theirs: &Seen) -> String {
    let mut text = String::new();
    for (name, seen) in [("Ringkeeper", ours), ("ZooKeeper", theirs)] {
        for (slot, frames) in seen.plain(step).iter().enumerate() {
            for frame in frames {
                text += &format!("  {name:10} session {slot}: {}\n", in_words(Some(frame)));
            }
        }
    }
    text
}
