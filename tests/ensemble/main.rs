//! Ensembles of whole servers, ours alone and together with Apache ZooKeeper
//! (`tests/clients/zookeeper`): members are killed and come back, each leads in turn, and in the
//! end all have the same tree.

mod fixture;
mod lost;
mod mixed;
mod observer;
mod ours;
mod snapshots;
mod tree;
