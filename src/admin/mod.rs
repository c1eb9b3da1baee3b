//! What the server tells its operators: counters, reports of the cores, four-letter words.

pub mod report;
pub mod request;
pub mod word;
