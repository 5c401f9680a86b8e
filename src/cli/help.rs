//! Help that fits: every setting is known everywhere, but a command shows those that concern it.

use clap::{Args, Command, Subcommand};

use super::remote::{ClientSettings, EXIT_CODES, Remote};
use crate::config::Settings;

/// The command line with what is foreign to a command hidden in its help, and exit codes where scripts rely on them.
pub fn arrange(command: Command) -> Command {
    let of_server = Settings::augment_args(Command::new("server"));
    let of_client = ClientSettings::augment_args(Command::new("client"));
    let remote = Remote::augment_subcommands(Command::new("remote"));
    command.mut_subcommands(|command| {
        let calls_the_api = remote.find_subcommand(command.get_name()).is_some();
        let foreign = if calls_the_api { &of_server } else { &of_client };
        let command = command.args(foreign.get_arguments().map(|arg| arg.clone().hide(true)));
        if calls_the_api { with_exit_codes(command) } else { command }
    })
}

fn with_exit_codes(command: Command) -> Command {
    let help = match command.get_after_help() {
        Some(examples) => format!("{examples}\n\n{EXIT_CODES}"),
        None => EXIT_CODES.to_owned(),
    };
    command.after_help(help).mut_subcommands(with_exit_codes)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_of_the_api_has_an_example_and_help_of_its_own() {
        let mut cli = arrange(Cli::command());
        cli.build();
        cli.clone().debug_assert();
        for group in Remote::augment_subcommands(Command::new("remote")).get_subcommands() {
            let group = cli.find_subcommand(group.get_name()).expect("a group");
            for command in group.get_subcommands().filter(|command| command.get_name() != "help") {
                let help = command.clone().render_long_help().to_string();
                let name = format!("posthaste {} {}", group.get_name(), command.get_name());
                assert!(help.contains(&format!("  {name}")) || help.contains(&format!("({name}")), "{help}");
                assert!(help.contains("--json") && help.contains("Exit codes:"), "{help}");
                assert!(!help.contains("--database-url"), "{help}");
            }
        }
        let serve = cli.find_subcommand("serve").expect("serve").clone().render_long_help().to_string();
        assert!(serve.contains("--database-url") && !serve.contains("--api-key"), "{serve}");
    }
}
