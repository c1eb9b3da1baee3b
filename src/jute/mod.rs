//! ZooKeeper's serialisation and the records of its client protocol, transactions and files.

pub mod codec;
pub mod decode;
pub mod election;
pub mod error_code;
pub mod frame;
pub mod opcode;
pub mod quorum;
pub mod records;
pub mod reply;
pub mod request;
pub mod txn;
