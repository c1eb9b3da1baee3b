//! What the process asks of the system for itself.

use std::io;

/// Raises the number of files (so of connections) that the process may have open to the most that
/// it is allowed to ask for, and returns that.
///
/// # Errors
/// When the system does not tell or refuses.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = get(libc::RLIMIT_NOFILE)?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one rlimit from a live local.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// Bytes that the process may lock in memory.
///
/// # Errors
/// When the system does not tell.
pub fn locked_memory() -> io::Result<u64> {
    Ok(get(libc::RLIMIT_MEMLOCK)?.rlim_cur)
}

fn get(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit into a live local.
    match unsafe { libc::getrlimit(resource, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_can_be_raised_and_told() {
        assert!(raise_open_files().unwrap() > 0);
        assert!(locked_memory().unwrap() > 0);
    }
}
