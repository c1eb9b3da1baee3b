//! Faults put into what Ringkeeper showed, one at a time, as a wrong server would show them. A
//! comparison that overlooks one of them proves nothing about its field.

use harness::rng::Rng;

use crate::observation::{Frame, Kind, Value};
use crate::play::Transcript;

/// A fault and what it does. It returns false where a transcript has no place for it.
#[derive(Clone, Copy)]
pub struct Plant {
    /// What is wrong with the server that shows this.
    pub name: &'static str,
    put: fn(&mut Transcript, &mut Rng) -> bool,
}

impl Plant {
    /// Puts the fault at a random place. False if there is none for it.
    pub fn put(&self, transcript: &mut Transcript, rng: &mut Rng) -> bool {
        (self.put)(transcript, rng)
    }
}

macro_rules! plants {
    ($($name:literal: $put:expr,)*) => {
        /// Every fault.
        pub const PLANTS: &[Plant] = &[$(Plant { name: $name, put: $put }),*];
    };
}

plants! {
    "cversion too high": |seen, rng| field(seen, rng, ends("stat.cversion"), more),
    "version too high": |seen, rng| field(seen, rng, ends("stat.version"), more),
    "aversion too high": |seen, rng| field(seen, rng, ends("stat.aversion"), more),
    "numChildren too high": |seen, rng| field(seen, rng, ends("stat.numChildren"), more),
    "dataLength too high": |seen, rng| field(seen, rng, ends("stat.dataLength"), more),
    "czxid of another transaction": |seen, rng| field(seen, rng, ends("stat.czxid"), more),
    "mzxid of another transaction": |seen, rng| field(seen, rng, ends("stat.mzxid"), more),
    "pzxid of another transaction": |seen, rng| field(seen, rng, ends("stat.pzxid"), more),
    "mtime moved by a setACL": |seen, rng| {
        // Where nothing was written since, the two times are one.
        let is_as_created = |frame: &Frame, at: usize| {
            frame.fields[at].name.ends_with("stat.mtime")
                && matches!(
                    (&frame.fields[at].value, &frame.fields[at - 1].value),
                    (Value::Time { of, .. }, Value::Time { of: created, .. }) if of == created
                )
        };
        let base = seen.base;
        let in_script = move |frame: &Frame, at: usize| {
            is_as_created(frame, at)
                && matches!(frame.fields[at].value, Value::Time { of, .. } if of >= base)
        };
        field(seen, rng, in_script, |value| match value {
            Value::Time { ms, .. } => *ms += 1,
            _ => unreachable!("a time was chosen"),
        })
    },
    "ephemeralOwner missing": |seen, rng| field(
        seen,
        rng,
        |frame, at| matches!(frame.fields[at].value, Value::Session(id) if id != 0)
            && frame.kind == Kind::Reply,
        |value| *value = Value::Session(0),
    ),
    "null data for empty, or data for null": |seen, rng| field(seen, rng, ends("data"), |value| {
        *value = Value::Bytes(match value {
            Value::Bytes(None) => Some(Vec::new()),
            _ => None,
        });
    }),
    "a write's zxid one off": |seen, rng| field(seen, rng, reply("zxid"), more),
    "a transaction too many": |seen, rng| field(
        seen,
        rng,
        |frame, at| frame.kind == Kind::Barrier && frame.fields[at].name == "zxid",
        more,
    ),
    "another error": |seen, rng| field(seen, rng, is_error, more),
    "an error for success": |seen, rng| field(
        seen,
        rng,
        |frame, at| reply("err")(frame, at) && frame.number("err") == Some(0),
        |value| *value = Value::Number(-101),
    ),
    "success for an error": |seen, rng| field(seen, rng, is_error, |value| {
        *value = Value::Number(0);
    }),
    "a multi's part with another error": |seen, rng| field(
        seen,
        rng,
        |frame, at| frame.fields[at].name.starts_with("parts[") && frame.fields[at].name.ends_with(".error"),
        more,
    ),
    "a multi's part with another type": |seen, rng| field(
        seen,
        rng,
        |frame, at| frame.fields[at].name.starts_with("parts[") && frame.fields[at].name.ends_with(".type"),
        more,
    ),
    "another event": |seen, rng| field(seen, rng, event("type"), more),
    "an event of another path": |seen, rng| field(seen, rng, event("path"), |value| {
        *value = Value::Text("/".to_owned());
    }),
    "an event's zxid of another transaction": |seen, rng| field(seen, rng, event("zxid"), |value| {
        if let Value::Zxid(zxid) = value {
            *zxid += 1000;
        }
    }),
    "an event missing": |seen, rng| frame(seen, rng, is_event, |frames, at| drop(frames.remove(at))),
    "an event twice": |seen, rng| frame(seen, rng, is_event, |frames, at| {
        frames.insert(at, frames[at].clone());
    }),
    "an event behind its write's reply": |seen, rng| frame(
        seen,
        rng,
        |frames, at| is_event(frames, at)
            && frames.get(at + 1).is_some_and(|next| next.kind == Kind::Reply),
        |frames, at| frames.swap(at, at + 1),
    ),
    "events in another order": |seen, rng| frame(
        seen,
        rng,
        |frames, at| is_event(frames, at)
            && frames.get(at + 1).is_some_and(|next| {
                next.kind == Kind::Event && next.fields[3..] != frames[at].fields[3..]
            })
            // What a closed session leaves behind goes in no order.
            && !frames.iter().any(|frame| frame.kind == Kind::Closed),
        |frames, at| frames.swap(at, at + 1),
    ),
    "a reply missing": |seen, rng| frame(seen, rng, is_reply, |frames, at| drop(frames.remove(at))),
    "replies out of order": |seen, rng| frame(
        seen,
        rng,
        |frames, at| is_reply(frames, at) && is_reply(frames, at + 1),
        |frames, at| frames.swap(at, at + 1),
    ),
    "a connection that stays": |seen, rng| frame(
        seen,
        rng,
        |frames, at| frames[at].kind == Kind::Closed,
        |frames, at| drop(frames.remove(at)),
    ),
    "a connection that is closed": |seen, rng| frame(
        seen,
        rng,
        |frames, at| frames[at].kind == Kind::Barrier,
        |frames, at| frames[at] = Frame::bare(Kind::Closed),
    ),
    "no answer": |seen, rng| frame(seen, rng, is_reply, |frames, at| {
        frames[at] = Frame::bare(Kind::Silence);
    }),
    "a child missing": |seen, rng| field(
        seen,
        rng,
        |frame, at| matches!(&frame.fields[at].value, Value::Names(names) if !names.is_empty()),
        |value| if let Value::Names(names) = value { names.truncate(names.len() - 1) },
    ),
    "a child too many": |seen, rng| field(
        seen,
        rng,
        |frame, at| matches!(frame.fields[at].value, Value::Names(_)),
        |value| if let Value::Names(names) = value { names.push("other".to_owned()) },
    ),
    "another sequence number": |seen, rng| field(
        seen,
        rng,
        |frame, at| frame.kind == Kind::Reply
            && matches!(&frame.fields[at].value, Value::Text(text) if text.ends_with("00000000")
                || text.ends_with('1')),
        |value| if let Value::Text(text) = value {
            text.pop();
            text.push('2');
        },
    ),
    "an ACL with other permissions": |seen, rng| field(
        seen,
        rng,
        |frame, at| frame.fields[at].name.contains("acl["),
        |value| if let Value::Text(text) = value { text.push('0') },
    ),
    "an ACL in another order": |seen, rng| frame(
        seen,
        rng,
        |frames, at| acls_out_of_order(&frames[at]).is_some(),
        |frames, at| frames[at] = acls_out_of_order(&frames[at]).expect("this place was chosen"),
    ),
    "an id of a connection missing": |seen, rng| frame(
        seen,
        rng,
        |frames, at| frames[at].fields.last().is_some_and(|field| field.name.starts_with("id[")),
        |frames, at| drop(frames[at].fields.pop()),
    ),
    "another session timeout": |seen, rng| field(seen, rng, ends("timeOut"), more),
    "no readOnly byte": |seen, rng| frame(
        seen,
        rng,
        |frames, at| frames[at].field("readOnly").is_some(),
        |frames, at| drop(frames[at].fields.pop()),
    ),
    "a password that nobody can derive": |seen, rng| field(seen, rng, ends("passwd"), |value| {
        if let Value::Password { bytes, .. } = value {
            bytes[0] ^= 1;
        }
    }),
    "a count of descendants that is off": |seen, rng| field(seen, rng, ends("totalNumber"), more),
}

/// Changes one field for which `fits` holds.
fn field(
    seen: &mut Transcript,
    rng: &mut Rng,
    fits: impl Fn(&Frame, usize) -> bool,
    change: impl Fn(&mut Value),
) -> bool {
    let fitting = |frame: &Frame| -> Vec<usize> {
        (0..frame.fields.len()).filter(|at| fits(frame, *at)).collect()
    };
    let choice = rng.bits();
    frame(
        seen,
        rng,
        |frames, at| !fitting(&frames[at]).is_empty(),
        |frames, at| {
            let places = fitting(&frames[at]);
            let place = places[usize::try_from(choice % places.len() as u64).expect("an index")];
            change(&mut frames[at].fields[place].value);
        },
    )
}

/// Changes one session's frames of one step at a place for which `fits` holds.
fn frame(
    seen: &mut Transcript,
    rng: &mut Rng,
    fits: impl Fn(&[Frame], usize) -> bool,
    change: impl FnOnce(&mut Vec<Frame>, usize),
) -> bool {
    let mut places = Vec::new();
    for (step, slots) in seen.steps.iter().enumerate() {
        for (slot, frames) in slots.iter().enumerate() {
            let here = (0..frames.len()).filter(|at| fits(frames, *at));
            places.extend(here.map(|at| (step, slot, at)));
        }
    }
    if places.is_empty() {
        return false;
    }
    let choice = usize::try_from(rng.below(places.len() as u64)).expect("an index");
    let (step, slot, at) = places[choice];
    change(&mut seen.steps[step][slot], at);
    true
}

fn more(value: &mut Value) {
    match value {
        Value::Number(number) | Value::Zxid(number) => *number += 1,
        _ => unreachable!("a number was chosen"),
    }
}

fn ends(name: &'static str) -> impl Fn(&Frame, usize) -> bool {
    move |frame, at| frame.fields[at].name.ends_with(name)
}

fn reply(name: &'static str) -> impl Fn(&Frame, usize) -> bool {
    move |frame, at| frame.kind == Kind::Reply && frame.fields[at].name == name
}

fn event(name: &'static str) -> impl Fn(&Frame, usize) -> bool {
    move |frame, at| frame.kind == Kind::Event && frame.fields[at].name == name
}

fn is_error(frame: &Frame, at: usize) -> bool {
    reply("err")(frame, at) && frame.number("err") != Some(0)
}

fn is_event(frames: &[Frame], at: usize) -> bool {
    frames.get(at).is_some_and(|frame| frame.kind == Kind::Event)
}

fn is_reply(frames: &[Frame], at: usize) -> bool {
    frames.get(at).is_some_and(|frame| frame.kind == Kind::Reply)
}

/// The frame with two entries of its ACL exchanged.
fn acls_out_of_order(frame: &Frame) -> Option<Frame> {
    let text = |at: usize| match &frame.fields.get(at)?.value {
        Value::Text(text) if frame.fields[at].name.contains("acl[") => Some(text),
        _ => None,
    };
    let is_swappable = |at: &usize| {
        let (Some(one), Some(next)) = (text(*at), text(at + 1)) else { return false };
        one != next
    };
    let at = (0..frame.fields.len()).find(is_swappable)?;
    let mut swapped = frame.clone();
    let (one, next) = (frame.fields[at].value.clone(), frame.fields[at + 1].value.clone());
    (swapped.fields[at].value, swapped.fields[at + 1].value) = (next, one);
    Some(swapped)
}
