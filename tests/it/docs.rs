//! What the pages under docs/ show is so: their programs run, their samples are what is sent, the tests that they name are there.

mod coverage;
mod page;
mod presets;
mod program;
mod verify;
