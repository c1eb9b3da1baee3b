//! What the black-box tests of Ringkeeper stand on. It knows nothing of the server's code: it
//! starts the binary, speaks the client protocol with a codec of its own, and takes the disk away.
//!
//! * [`power_cut`]: a mounted filesystem that forgets what was not flushed; [`disk`] is its model.
//! * [`server`]: one server process: configuration, start, kill, what it said on stderr.
//! * [`client`]: a blocking client with requests in flight; [`wire`] is its codec.
//! * [`writer`]: a load whose surviving state can be judged after a crash.
//! * [`load`]: several of those at once.
//! * [`confine`]: what a process may be denied: system calls, memory, capabilities.

pub mod client;
pub mod confine;
pub mod disk;
pub mod load;
pub mod power_cut;
pub mod rng;
pub mod server;
pub mod wire;
pub mod writer;
