//! iperf3 3.21's output made from data: its text for people, its JSON document and its JSON lines.
//!
//! Everything here takes data and returns strings; who prints them, and when, is cli's. Layout, keys, types, units
//! and their order are those of iperf3 3.21, checked against captured output of it.

pub mod json;
pub mod number;
pub mod pretty;
pub mod text;
pub mod view;

#[cfg(test)]
mod tests;
