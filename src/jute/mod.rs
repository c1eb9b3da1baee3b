//! ZooKeeper's serialisation and the records of its client protocol, transactions and files.

pub mod error_code;
pub mod opcode;
pub mod records;
