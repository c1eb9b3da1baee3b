//! ZooKeeper's form of snapshots: files that real servers wrote are read, and what we write is read
//! by a real server.

mod contents;
mod files;
mod loaded_by_zookeeper;
