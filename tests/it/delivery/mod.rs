//! From a publish to a POST and its history.
mod commands;
mod counted;
mod failures;
mod first;
mod holds;
mod hostile;
mod interleavings;
mod limits;
mod mutual_tls;
mod neglect;
mod operational;
mod oracle;
mod plans;
mod processes;
mod recover;
mod scale;
mod throttling;
