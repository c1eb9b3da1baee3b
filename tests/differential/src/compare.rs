//! Compares what two servers showed for one script, frame by frame and field by field, up to the
//! first difference that nothing explains.

use std::fmt;

use crate::explained::{self, Reason, Ruling, Situation};
use crate::observation::{Frame, Kind};
use crate::peer::Release;
use crate::plain::{Plain, PlainSteps, plain};
use crate::play::Transcript;
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

/// Compares two transcripts of a script, Ringkeeper's and that of a ZooKeeper of this release.
pub fn compare(
    script: &Script,
    ours: &Transcript,
    theirs: &Transcript,
    release: Release,
) -> Verdict {
    let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
    let (our_plain, their_plain) = (plain(&mut ours, script), plain(&mut theirs, script));
    let mut comparison = Comparison {
        ours: Side { raw: &ours, plain: &our_plain },
        theirs: Side { raw: &theirs, plain: &their_plain },
        situation: Situation::new(script, release),
        verdict: Verdict::default(),
    };
    for step in 0..script.steps.len() {
        comparison.situation.enter(step, &ours, &theirs);
        for slot in 0..SLOTS {
            if !comparison.frames(step, slot) {
                return comparison.verdict;
            }
        }
    }
    comparison.verdict
}

struct Side<'a> {
    raw: &'a Transcript,
    plain: &'a PlainSteps,
}

impl<'a> Side<'a> {
    fn frame(&self, step: usize, slot: Slot, at: usize) -> Option<(&'a Frame, &'a Plain)> {
        let raw = self.raw.steps.get(step)?[slot].get(at)?;
        Some((raw, self.plain[step][slot].get(at)?))
    }
}

struct Comparison<'a> {
    ours: Side<'a>,
    theirs: Side<'a>,
    situation: Situation<'a>,
    verdict: Verdict,
}

impl Comparison<'_> {
    /// Compares one session's frames of one step. False ends the comparison.
    fn frames(&mut self, step: usize, slot: Slot) -> bool {
        let (mut at_ours, mut at_theirs) = (0, 0);
        loop {
            let ours = self.ours.frame(step, slot, at_ours);
            let theirs = self.theirs.frame(step, slot, at_theirs);
            if ours.is_none() && theirs.is_none() {
                return true;
            }
            let difference = difference(ours.map(|both| both.1), theirs.map(|both| both.1))
                .map(|(field, ours, theirs)| Difference {
                    step,
                    slot,
                    frame: at_ours,
                    field,
                    ours,
                    theirs,
                })
                .or_else(|| self.zxid_rule(step, slot, at_ours));
            let Some(difference) = difference else {
                (at_ours, at_theirs) = (at_ours + 1, at_theirs + 1);
                continue;
            };
            let frames = (ours.map(|both| both.0), theirs.map(|both| both.0));
            let Some((reason, ruling)) = explained::explain(&self.situation, &difference, frames)
            else {
                self.verdict.difference = Some(difference);
                return false;
            };
            self.verdict.explained.push(reason);
            match ruling {
                Ruling::AsGood => (at_ours, at_theirs) = (at_ours + 1, at_theirs + 1),
                Ruling::WithoutOurs => at_ours += 1,
                Ruling::WithoutTheirs => at_theirs += 1,
                Ruling::EndsHere => return false,
            }
        }
    }

    /// An event's zxid is that of a write of its step, or -1 for what setWatches made up for. This
    /// holds whatever the peer shows: ZooKeeper 3.8 has -1 everywhere.
    fn zxid_rule(&self, step: usize, slot: Slot, at: usize) -> Option<Difference> {
        let (event, _) = self.ours.frame(step, slot, at)?;
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

/// All that one session, or every session, saw in a step, on both servers.
pub fn trace(script: &Script, step: usize, ours: &Transcript, theirs: &Transcript) -> String {
    let mut text = String::new();
    for (name, transcript) in [("Ringkeeper", ours), ("ZooKeeper", theirs)] {
        let mut transcript = transcript.clone();
        let steps = plain(&mut transcript, script);
        for (slot, frames) in steps[step].iter().enumerate() {
            for frame in frames {
                text += &format!("  {name:10} session {slot}: {}\n", in_words(Some(frame)));
            }
        }
    }
    text
}
