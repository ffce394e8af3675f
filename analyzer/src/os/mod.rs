//! What we know of operating systems: identification, facts, walks and decoders. No output happens here.

pub mod linux;
