//! The keys that limit requests and handshakes. All are off by default.

use super::error::{ConfigError, Notice};
use super::values::Values;
use crate::reactor::throttle::{LargeRequests, RequestThrottle};
use crate::reactor::token_bucket::{Blue, ConnectionThrottle};

const TRUE: [&str; 2] = ["false", "true"];
const MS: &str = "milliseconds";
const INT_MAX: u32 = i32::MAX as u32;

/// `request_throttle_*`, `request_stale_latency_check` and `throttled_op_wait_time`.
///
/// # Errors
/// When a value cannot be.
pub fn requests(values: &mut Values) -> Result<Option<RequestThrottle>, ConfigError> {
    const WAIT: &str = "throttled_op_wait_time";
    let most = values.number("request_throttle_max_requests", 0..=INT_MAX, "requests")?;
    let drop_stale = values.choice("request_throttle_drop_stale", TRUE, true)?;
    let by_latency = values.choice("request_stale_latency_check", TRUE, false)?;
    let wait_line = values.line(WAIT);
    let wait_ms = values.number(WAIT, 0..=INT_MAX, MS)?.filter(|ms| *ms > 0);
    let Some(requests_max) = most.filter(|most| *most > 0) else {
        if wait_ms.is_some() {
            let place = values.place(wait_line.expect("it has a value"));
            let lost = "no operation waits unless request_throttle_max_requests is there";
            values.notices.push(Notice::NoEffect { place, key: WAIT.to_owned(), lost });
        }
        return Ok(None);
    };
    Ok(Some(RequestThrottle {
        requests_max: requests_max as usize,
        op_wait_ms: wait_ms.map(u64::from),
        drops_late: drop_stale && by_latency,
    }))
}

/// `largeRequestThreshold` and `largeRequestMaxBytes`.
///
/// # Errors
/// When a value cannot be.
pub fn large_requests(values: &mut Values) -> Result<Option<LargeRequests>, ConfigError> {
    let threshold = values.number("largeRequestThreshold", -1..=i64::from(i32::MAX), "bytes")?;
    let most = values.number("largeRequestMaxBytes", 1..=INT_MAX, "bytes")?;
    let threshold = threshold.and_then(|bytes| usize::try_from(bytes).ok()).filter(|it| *it > 0);
    let bytes_max = most.unwrap_or(100 << 20) as usize;
    Ok(threshold.map(|threshold| LargeRequests { threshold, bytes_max }))
}

/// `connection_throttle_*`.
///
/// # Errors
/// When a value cannot be.
pub fn connections(values: &mut Values) -> Result<Option<ConnectionThrottle>, ConfigError> {
    const WEIGHT: std::ops::RangeInclusive<u32> = 1..=1000;
    let tokens = values.number("connection_throttle_tokens", 0..=1_000_000u32, "tokens")?;
    let fill_time_ms = values.number("connection_throttle_fill_time", 1..=3_600_000u64, MS)?;
    let fill_count = values.number("connection_throttle_fill_count", 0..=1_000_000u64, "tokens")?;
    let freeze_ms = values.number("connection_throttle_freeze_time", -1..=3_600_000i64, MS)?;
    let mut share = |key, default: f64| -> Result<f64, ConfigError> {
        Ok(values.number(key, 0.0..=1.0, "parts of 1, which may have a point,")?.unwrap_or(default))
    };
    let increase = share("connection_throttle_drop_increase", 0.02)?;
    let decrease = share("connection_throttle_drop_decrease", 0.002)?;
    let decrease_ratio = share("connection_throttle_decrease_ratio", 0.0)?;
    let weighed = values.choice("connection_throttle_weight_enabled", TRUE, false)?;
    let mut weight = |key, default| -> Result<u32, ConfigError> {
        Ok(values.number(key, WEIGHT, "tokens")?.unwrap_or(default))
    };
    // A session is never cheaper than a local one, of which there are none here.
    let local = weight("connection_throttle_local_session_weight", 1)?;
    let global = weight("connection_throttle_global_session_weight", 3)?.max(local);
    let renew = weight("connection_throttle_renew_session_weight", 2)?.max(local);
    let Some(tokens) = tokens.filter(|tokens| *tokens > 0) else { return Ok(None) };
    let blue = u64::try_from(freeze_ms.unwrap_or(-1)).ok().map(|freeze_time_ms| Blue {
        freeze_time_ms,
        increase,
        decrease,
        decrease_ratio,
    });
    // The number of tokens is meant for new sessions, so it grows with what they weigh.
    let (scale, new_weight, renew_weight) =
        if weighed { (global, global, renew) } else { (1, 1, 1) };
    Ok(Some(ConnectionThrottle {
        tokens: tokens * scale,
        fill_time_ms: fill_time_ms.unwrap_or(1),
        fill_count: fill_count.unwrap_or(1) * u64::from(scale),
        blue,
        new_weight,
        renew_weight,
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::properties;

    fn values(text: &str) -> Values {
        Values::new(Path::new("zoo.cfg"), properties::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn nothing_is_throttled_without_keys() {
        assert_eq!(requests(&mut values("")).unwrap(), None);
        assert_eq!(large_requests(&mut values("largeRequestMaxBytes=5")).unwrap(), None);
        assert_eq!(connections(&mut values("connection_throttle_fill_time=5")).unwrap(), None);
    }

    #[test]
    fn requests_wait_as_the_keys_say() {
        let mut given = values(
            "request_throttle_max_requests=7\nthrottled_op_wait_time=9\n\
             request_stale_latency_check=true",
        );
        let throttle = RequestThrottle { requests_max: 7, op_wait_ms: Some(9), drops_late: true };
        assert_eq!(requests(&mut given).unwrap(), Some(throttle));
        let mut given = values("request_throttle_max_requests=7");
        let throttle = RequestThrottle { requests_max: 7, op_wait_ms: None, drops_late: false };
        assert_eq!(requests(&mut given).unwrap(), Some(throttle));
    }

    #[test]
    fn an_operation_cannot_wait_where_none_is_held_up() {
        let mut given = values("throttled_op_wait_time=9");
        assert_eq!(requests(&mut given).unwrap(), None);
        assert_eq!(given.notices.len(), 1);
    }

    #[test]
    fn large_requests_have_a_threshold_and_a_sum() {
        let of = |text| large_requests(&mut values(text)).unwrap();
        let large = LargeRequests { threshold: 10, bytes_max: 104_857_600 };
        assert_eq!(of("largeRequestThreshold=10"), Some(large));
        let large = LargeRequests { threshold: 10, bytes_max: 20 };
        assert_eq!(of("largeRequestThreshold=10\nlargeRequestMaxBytes=20"), Some(large));
        assert_eq!(of("largeRequestThreshold=-1"), None);
    }

    #[test]
    fn handshakes_take_tokens_and_with_weights_more_of_them() {
        let of = |text| connections(&mut values(text)).unwrap().unwrap();
        let plain = of("connection_throttle_tokens=5");
        assert_eq!((plain.tokens, plain.fill_time_ms, plain.fill_count), (5, 1, 1));
        assert_eq!((plain.new_weight, plain.renew_weight, plain.blue), (1, 1, None));
        let weighed = of("connection_throttle_tokens=5\nconnection_throttle_weight_enabled=true\n\
             connection_throttle_fill_count=2\nconnection_throttle_fill_time=10\n\
             connection_throttle_freeze_time=0\nconnection_throttle_drop_increase=0.5");
        assert_eq!((weighed.tokens, weighed.fill_time_ms, weighed.fill_count), (15, 10, 6));
        assert_eq!((weighed.new_weight, weighed.renew_weight), (3, 2));
        let blue = Blue { freeze_time_ms: 0, increase: 0.5, decrease: 0.002, decrease_ratio: 0.0 };
        assert_eq!(weighed.blue, Some(blue));
    }
}
