//! Makes the manual pages and the shells' completions of the command line's own definitions.
//!
//! `cargo run --example generate -- FOLDER` writes them there.

use std::io;
use std::path::PathBuf;

use clap_complete::Shell;

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/dist")),
        PathBuf::from,
    );
    std::fs::create_dir_all(&folder)?;
    let mut command = serfling::cli::command();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "serfling", &folder)?;
    }
    clap_mangen::generate_to(command, &folder)?;
    println!("manual pages and completions are in {}", folder.display());
    Ok(())
}
