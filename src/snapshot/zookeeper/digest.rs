//! ZooKeeper's digest of a tree (version 2): the sum of its znodes' digests, so that it can be kept
//! up to date change by change, and that the order of children does not matter.

use crate::tree::StoredStat;

/// What is below is left out of the digest, for it differs between servers: configuration, counts
/// of quotas. The znode itself counts.
const LEFT_OUT: &str = "/zookeeper/";

/// What a znode adds (wrapping) to the digest of its tree. The root's path may be `/` or empty.
pub fn znode_digest(path: &str, data: Option<&[u8]>, stat: &StoredStat) -> u64 {
    if path.starts_with(LEFT_OUT) {
        return 0;
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(if path == "/" { b"" } else { path.as_bytes() });
    crc.update(data.unwrap_or_default());
    crc.update(&stat_bytes(stat));
    u64::from(crc.finalize())
}

/// The Stat in the digest's own order.
fn stat_bytes(stat: &StoredStat) -> [u8; 60] {
    let mut bytes = [0; 60];
    let longs = [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime];
    for (place, long) in bytes.chunks_exact_mut(8).zip(longs) {
        place.copy_from_slice(&long.to_be_bytes());
    }
    let ints = [stat.version, stat.cversion, stat.aversion];
    for (place, int) in bytes[40..52].chunks_exact_mut(4).zip(ints) {
        place.copy_from_slice(&int.to_be_bytes());
    }
    bytes[52..].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_tree_has_the_digest_that_zookeeper_gives_it() {
        let stat = StoredStat::default();
        let digest = |path| znode_digest(path, Some(b"".as_slice()), &stat);
        let paths = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];
        assert_eq!(paths.into_iter().map(digest).sum::<u64>(), 0x51c6_d660);
        assert_eq!(digest("/"), digest(""));
    }
}
