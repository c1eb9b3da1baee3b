//! What the server tells its operators: counters, reports of the cores, four-letter words.
//!
//! A reactor that meets a word hands its connection over (`request`); the operators' thread
//! (`desk`) asks the cores for reports (`inquiry`), writes the answer as ZooKeeper would, and
//! sends it (`deliver`). No core waits for any of it.

mod connections;
pub mod date;
mod deliver;
pub mod desk;
pub mod environment;
pub mod inquiry;
pub mod metrics;
pub mod report;
pub mod request;
mod sessions;
mod status;
mod watches;
pub mod word;
