//! Paths on the client's side: ZooKeeper's words for a wrong one, and the chroot.

use crate::tree::path::{self, PathError};

use super::error::ClientError;

/// A folder that stands in front of every path of a client: `/app` in `host:2181/app`.
/// The empty one stands for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chroot(String);

impl Chroot {
    /// The chroot `folder`; `/` and the empty string are none.
    ///
    /// # Errors
    /// It is not a valid path.
    pub fn new(folder: &str) -> Result<Chroot, PathError> {
        if folder.is_empty() || folder == "/" {
            return Ok(Chroot::default());
        }
        path::validate(folder)?;
        Ok(Chroot(folder.to_owned()))
    }

    /// The server's path of the client's `path`, which is checked.
    ///
    /// # Errors
    /// `path` breaks a rule.
    pub fn outside(&self, path: &str) -> Result<String, ClientError> {
        check(path)?;
        Ok(self.join(path))
    }

    /// As [`Self::outside`], for a path that gets a sequence number: a trailing slash is a name
    /// that is all number.
    ///
    /// # Errors
    /// As there.
    pub fn outside_sequential(&self, path: &str) -> Result<String, ClientError> {
        path::validate(&format!("{path}1"))
            .map_err(|error| ClientError::Path { path: path.to_owned(), error })?;
        Ok(self.join(path))
    }

    fn join(&self, path: &str) -> String {
        if self.0.is_empty() {
            path.to_owned()
        } else if path == "/" {
            self.0.clone()
        } else {
            format!("{}{path}", self.0)
        }
    }

    /// The client's path of the server's `path`. What is not below the chroot stays as it is: the
    /// configuration's znode, for one, is the same for every client.
    pub fn inside<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(self.0.as_str()) {
            Some("") if !self.0.is_empty() => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        }
    }
}

fn check(path: &str) -> Result<(), ClientError> {
    path::validate(path).map_err(|error| ClientError::Path { path: path.to_owned(), error })
}

/// What is wrong with `path`, as `PathUtils.validatePath` says it.
pub fn explain(path: &str, error: PathError) -> String {
    // Java counts UTF-16 units.
    let position = |at: usize| path.get(..at).unwrap_or(path).encode_utf16().count();
    let reason = match error {
        PathError::Empty => return "Path length must be > 0".to_owned(),
        PathError::NoLeadingSlash => return "Path must start with / character".to_owned(),
        PathError::TrailingSlash => return "Path must not end with / character".to_owned(),
        PathError::EmptyComponent { at } => {
            format!("empty node name specified @{}", position(at))
        }
        PathError::RelativeComponent { at } => {
            let last =
                if path.get(at..).is_some_and(|rest| rest.starts_with("..")) { 1 } else { 0 };
            format!("relative paths not allowed @{}", position(at) + last)
        }
        PathError::BadCharacter { character: '\0', at } => {
            format!("null character not allowed @{}", position(at))
        }
        PathError::BadCharacter { at, .. } => format!("invalid character @{}", position(at)),
    };
    format!("Invalid path string \"{path}\" caused by {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chroot_stands_before_every_path_and_is_taken_off_again() {
        let chroot = Chroot::new("/app").unwrap();
        assert_eq!(chroot.outside("/").unwrap(), "/app");
        assert_eq!(chroot.outside("/a").unwrap(), "/app/a");
        assert_eq!(chroot.inside("/app"), "/");
        assert_eq!(chroot.inside("/app/a"), "/a");
        assert_eq!(chroot.inside("/apple"), "/apple");
        assert_eq!(chroot.inside("/zookeeper/config"), "/zookeeper/config");
    }

    #[test]
    fn without_a_chroot_paths_are_the_servers() {
        for none in ["", "/"] {
            let chroot = Chroot::new(none).unwrap();
            assert_eq!(chroot.outside("/a").unwrap(), "/a");
            assert_eq!(chroot.inside("/"), "/");
            assert_eq!(chroot.inside("/a"), "/a");
        }
        assert_eq!(Chroot::new("app"), Err(PathError::NoLeadingSlash));
    }

    #[test]
    fn a_sequential_path_may_end_with_a_slash() {
        let chroot = Chroot::default();
        assert_eq!(chroot.outside_sequential("/queue/").unwrap(), "/queue/");
        assert!(chroot.outside("/queue/").is_err());
        assert!(chroot.outside_sequential("queue").is_err());
    }

    #[test]
    fn wrong_paths_are_explained_as_zookeeper_does() {
        let said = |path: &str| explain(path, path::validate(path).unwrap_err());
        assert_eq!(said(""), "Path length must be > 0");
        assert_eq!(said("a"), "Path must start with / character");
        assert_eq!(said("//"), "Path must not end with / character");
        let caused = |path: &str| {
            let text = said(path);
            let start = format!("Invalid path string \"{path}\" caused by ");
            text.strip_prefix(&start).unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        assert_eq!(caused("/zookeeper/quota//limits"), "empty node name specified @17");
        assert_eq!(caused("/a/./b"), "relative paths not allowed @3");
        assert_eq!(caused("/a/.."), "relative paths not allowed @4");
        assert_eq!(caused("/é\u{1}"), "invalid character @2");
        assert_eq!(caused("/a\0"), "null character not allowed @2");
    }
}
