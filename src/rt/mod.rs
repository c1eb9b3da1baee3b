//! The only place that knows the operating system: cores, rings, sockets, files.
//!
//! `unsafe` lives here (and in the tree's memory), each block with the reason that it is sound.

pub mod clock;
pub mod cores;
pub mod disk;
pub mod event;
pub mod files;
pub mod huge_pages;
pub mod inbox;
mod linger;
pub mod net;
pub mod process;
mod receive_buffers;
pub mod ring;
pub mod task;
pub mod tcp;
pub mod timer;
