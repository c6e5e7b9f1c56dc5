//! Go's flag syntax, translated for clap.
//!
//! Scripts and unit files write flags for Serf as Go's `flag` package takes them: one dash or two, `-f v` or `-f=v`,
//! switches as `-f` or `-f=false`, and no flags after the first argument that is none. [`translate`] makes of that what
//! a clap command with long options reads: `--f=v` throughout, then `--` and the arguments. Switches must be options
//! with a `true` or `false` value.

use clap::{Arg, ArgMatches, Command};

/// A wrong flag, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FlagError {
    #[error("flag provided but not defined: -{name}{hint}")]
    Unknown { name: String, hint: String },
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    #[error("invalid boolean value {value:?} for -{name}: expected true or false")]
    NoBoolean { name: String, value: String },
    #[error("bad flag syntax: {0}")]
    Syntax(String),
}

/// A flag that takes a value.
pub(super) fn flag(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .help(help)
        .overrides_with(name)
}

/// A flag that may be given several times.
pub(super) fn repeated(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .help(help)
        .action(clap::ArgAction::Append)
}

/// A flag that is true or false.
pub(super) fn switch(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_parser(clap::value_parser!(bool))
        .default_value(default)
        .value_name("true|false")
        .help(help)
        .overrides_with(name)
}

/// Whether a switch is on.
pub(super) fn is_on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one::<bool>(name).copied().unwrap_or_default()
}

/// A flag's value, if it was given and is not empty.
pub(super) fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches
        .get_one::<String>(name)
        .map(String::as_str)
        .filter(|text| !text.is_empty())
}

/// All values of a flag or argument.
pub(super) fn texts(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches
        .get_many::<String>(name)
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

/// What comes of a command's arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Translated {
    /// The user asks for help.
    Help,
    /// For clap.
    Arguments(Vec<String>),
}

/// Translates the arguments of `command`, its name not included.
pub(super) fn translate(command: &Command, arguments: &[String]) -> Result<Translated, FlagError> {
    let mut out = Vec::with_capacity(arguments.len() + 1);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.as_slice().first() {
        // A lone dash is an argument, as in Go.
        let Some(flag) = argument.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            break;
        };
        rest.next();
        if flag == "-" {
            break;
        }
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(FlagError::Syntax(argument.clone()));
        }
        let Some(arg) = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(name))
        else {
            if matches!(name, "h" | "help") {
                return Ok(Translated::Help);
            }
            return Err(FlagError::Unknown {
                name: name.to_owned(),
                hint: hint(command, name),
            });
        };
        let is_switch = arg.get_value_parser().type_id() == std::any::TypeId::of::<bool>();
        let value = match value {
            Some(value) if is_switch => boolean(name, value)?.to_string(),
            Some(value) => value.to_owned(),
            None if is_switch => "true".to_owned(),
            None => rest
                .next()
                .ok_or_else(|| FlagError::NoValue(name.to_owned()))?
                .clone(),
        };
        out.push(format!("--{name}={value}"));
    }
    out.push("--".to_owned());
    out.extend(rest.cloned());
    Ok(Translated::Arguments(out))
}

/// What Go's `strconv.ParseBool` takes.
fn boolean(name: &str, value: &str) -> Result<bool, FlagError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(FlagError::NoBoolean {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
    }
}

/// The flags a command has, for who asked for another.
fn hint(command: &Command, name: &str) -> String {
    let known: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
    let near = known
        .iter()
        .find(|known| known.contains(name) || name.contains(**known));
    match near {
        Some(near) => format!(" (did you mean -{near}?)"),
        None => {
            let known: Vec<String> = known.iter().map(|known| format!("-{known}")).collect();
            if known.is_empty() {
                String::new()
            } else {
                format!(" (expected one of {})", known.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("x")
            .arg(flag("node", "name", ""))
            .arg(repeated("tag", "key=value", ""))
            .arg(switch("replay", "false", ""))
            .arg(Arg::new("words").num_args(0..))
    }

    fn run(line: &str) -> Result<Vec<String>, FlagError> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match translate(&command(), &arguments)? {
            Translated::Help => Ok(vec!["help".to_owned()]),
            Translated::Arguments(arguments) => Ok(arguments),
        }
    }

    #[test]
    fn every_form_of_a_flag_is_read() {
        assert_eq!(
            run("-node=a --tag k=v -tag=x=y -replay w").unwrap(),
            [
                "--node=a",
                "--tag=k=v",
                "--tag=x=y",
                "--replay=true",
                "--",
                "w"
            ]
        );
        assert_eq!(
            run("-replay=F -node - a -b").unwrap(),
            ["--replay=false", "--node=-", "--", "a", "-b"]
        );
        assert_eq!(run("-- -node").unwrap(), ["--", "-node"]);
        assert_eq!(run("- -node").unwrap(), ["--", "-", "-node"]);
        assert_eq!(run("-h").unwrap(), ["help"]);
    }

    #[test]
    fn clap_reads_what_is_translated() {
        let arguments: Vec<String> = ["-replay", "-node=a", "-node=b", "w", "-v"]
            .map(str::to_owned)
            .to_vec();
        let Ok(Translated::Arguments(arguments)) = translate(&command(), &arguments) else {
            panic!()
        };
        let matches = command()
            .no_binary_name(true)
            .try_get_matches_from(arguments)
            .unwrap();
        assert!(is_on(&matches, "replay"));
        assert_eq!(text(&matches, "node"), Some("b"));
        assert_eq!(texts(&matches, "words"), ["w", "-v"]);
    }

    #[test]
    fn wrong_flags_are_named() {
        for (line, text) in [
            (
                "-nod",
                "flag provided but not defined: -nod (did you mean -node?)",
            ),
            (
                "-zz",
                "flag provided but not defined: -zz (expected one of -node, -tag, -replay)",
            ),
            ("-node", "flag needs an argument: -node"),
            (
                "-replay=maybe",
                "invalid boolean value \"maybe\" for -replay: expected true or false",
            ),
            ("---node", "bad flag syntax: ---node"),
        ] {
            assert_eq!(run(line).unwrap_err().to_string(), text);
        }
    }
}
