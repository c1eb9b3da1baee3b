//! What a sweep varies, and the loads that come of it. Used by `command_line`; `sweep` carries them
//! out.

use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::arguments::{
    ArgumentError, Arguments, CONNECTIONS_MAX, IN_FLIGHT_MAX, POINTS_MAX, Plan, RATE_MAX,
    VALUE_BYTES_MAX,
};

/// An option with the values that it takes one after the other.
#[derive(Clone, Debug)]
pub struct Varied {
    pub option: Variable,
    /// At least one.
    pub values: Vec<u32>,
}

/// An option that may be varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    Connections,
    InFlight,
    Rate,
    ReadShare,
    ValueSize,
}

/// Why a text does not say what to vary.
#[derive(Debug, thiserror::Error)]
pub enum VariedError {
    #[error("expected OPTION=VALUE,...")]
    NoValues,
    #[error(
        "{0:?} cannot be varied, but connections, in-flight, rate, read-share or value-size can"
    )]
    Option(String),
    #[error("{0:?} is not a number")]
    Number(String),
    #[error("{value} is not in {}..={}", .range.start(), .range.end())]
    Range { value: u32, range: RangeInclusive<u32> },
}

impl Variable {
    const ALL: [Variable; 5] = [
        Variable::Connections,
        Variable::InFlight,
        Variable::Rate,
        Variable::ReadShare,
        Variable::ValueSize,
    ];

    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Variable::Connections => "connections",
            Variable::InFlight => "in-flight",
            Variable::Rate => "rate",
            Variable::ReadShare => "read-share",
            Variable::ValueSize => "value-size",
        }
    }

    fn range(self) -> RangeInclusive<u32> {
        match self {
            Variable::Connections => 1..=CONNECTIONS_MAX,
            Variable::InFlight => 1..=IN_FLIGHT_MAX,
            Variable::Rate => 1..=RATE_MAX,
            Variable::ReadShare => 0..=100,
            Variable::ValueSize => 0..=VALUE_BYTES_MAX,
        }
    }

    /// Its value in a plan that came of it.
    pub fn of(self, plan: &Plan) -> u32 {
        match self {
            Variable::Connections => plan.connections,
            Variable::InFlight => plan.in_flight,
            Variable::Rate => plan.rate.expect("every load of the sweep has a rate"),
            Variable::ReadShare => u32::from(plan.read_share),
            Variable::ValueSize => plan.value_size,
        }
    }

    /// Sets it in the options; the value is in its range.
    fn set(self, load: &mut Arguments, value: u32) {
        match self {
            Variable::Connections => load.connections = value,
            Variable::InFlight => load.in_flight = Some(value),
            Variable::Rate => load.rate = Some(value),
            Variable::ReadShare => {
                load.read_share = Some(u8::try_from(value).expect("a share ends at 100"));
            }
            Variable::ValueSize => load.value_size = value,
        }
    }
}

impl FromStr for Varied {
    type Err = VariedError;

    fn from_str(text: &str) -> Result<Varied, VariedError> {
        let (name, values) = text.split_once('=').ok_or(VariedError::NoValues)?;
        let option = Variable::ALL.into_iter().find(|option| option.name() == name);
        let option = option.ok_or_else(|| VariedError::Option(name.to_owned()))?;
        let value = |text: &str| {
            let value = text.parse().map_err(|_| VariedError::Number(text.to_owned()))?;
            let range = option.range();
            if range.contains(&value) {
                Ok(value)
            } else {
                Err(VariedError::Range { value, range })
            }
        };
        let values = values.split(',').map(value).collect::<Result<_, _>>()?;
        Ok(Varied { option, values })
    }
}

/// The load with every combination of the values; the last option changes the fastest.
///
/// # Errors
/// When a combination is no load, or there are too many.
pub fn points(
    load: &Arguments,
    varied: &[Varied],
    servers: &[String],
) -> Result<Vec<Plan>, ArgumentError> {
    let mut loads = vec![load.clone()];
    for (at, Varied { option, values }) in varied.iter().enumerate() {
        if varied[..at].iter().any(|before| before.option == *option) {
            return Err(ArgumentError::VariedTwice { option: option.name() });
        }
        if loads.len() * values.len() > POINTS_MAX {
            return Err(ArgumentError::TooManyPoints);
        }
        let with = |load: &Arguments, value: u32| {
            let mut load = load.clone();
            option.set(&mut load, value);
            load
        };
        loads = loads
            .iter()
            .flat_map(|load| values.iter().map(|value| with(load, *value)).collect::<Vec<_>>())
            .collect();
    }
    loads.into_iter().map(|load| load.into_plan(servers)).collect()
}
