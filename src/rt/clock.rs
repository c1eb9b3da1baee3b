//! The clocks. What is decided from them takes the reading as a value.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, as the operator set it: it may jump.
pub fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).expect("the year is not 292 million"),
        // A clock before 1970 is as wrong as one at 1970, and nothing depends on which.
        Err(_) => 0,
    }
}

/// Milliseconds of a clock that never jumps and stands still while the machine is suspended, so
/// that a suspended server does not find all its sessions expired when it wakes.
pub fn monotonic_ms() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Milliseconds since the machine was started, time suspended included.
pub fn boot_ms() -> u64 {
    read(libc::CLOCK_BOOTTIME)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec into a live local.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert!(result == 0, "clock {clock} cannot be read");
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_run_and_the_boot_clock_is_not_behind() {
        let before = monotonic_ms();
        assert!(boot_ms() >= before);
        assert!(monotonic_ms() >= before);
        assert!(wall_ms() > 1_700_000_000_000);
    }
}
