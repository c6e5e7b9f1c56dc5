//! Reading of configuration files and directories.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::decode::{Setting, Warnings};
use super::partial::PartialConfig;

/// The largest configuration file, in bytes. One with thousands of tags or handlers is far below.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What files of a directory end in that are read.
const SUFFIX: &str = ".json";

/// Reads files in order, and of a directory every `*.json` file by name; merges them.
pub(super) fn read(
    paths: &[PathBuf],
    warnings: &mut Vec<String>,
) -> Result<PartialConfig, ConfigError> {
    let mut merged = PartialConfig::default();
    for path in paths {
        if path.is_dir() {
            for file in files_of(path).map_err(|error| ConfigError::read(path, error))? {
                merged.merge(read_file(&file, warnings)?);
            }
        } else {
            merged.merge(read_file(path, warnings)?);
        }
    }
    Ok(merged)
}

/// The files of a directory to read, in the order of their names.
fn files_of(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in directory.read_dir()? {
        let entry = entry?;
        let path = entry.path();
        // What a link points to counts: mounted configuration often is links to files, next to links to directories.
        if entry
            .file_name()
            .as_encoded_bytes()
            .ends_with(SUFFIX.as_bytes())
            && !path.is_dir()
        {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn read_file(path: &Path, warnings: &mut Vec<String>) -> Result<PartialConfig, ConfigError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| ConfigError::read(path, error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let text = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(ConfigError::read(path, io::Error::other(text)));
    }
    PartialConfig::from_json(path, &bytes, warnings)
}

impl PartialConfig {
    /// Reads the text of a file; `path` is how errors and warnings call it.
    ///
    /// # Errors
    /// [`ConfigError::Decode`].
    pub fn from_json(
        path: &Path,
        json: &[u8],
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let found = Warnings::default();
        let config = decode(json, &found).map_err(|error| ConfigError::Decode {
            path: path.to_owned(),
            line: error.line(),
            message: message_of(&error),
        })?;
        let found = found.into_inner().into_iter();
        warnings.extend(found.map(|text| format!("{}: {text}", path.display())));
        Ok(config)
    }
}

fn decode(json: &[u8], warnings: &Warnings) -> serde_json::Result<PartialConfig> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let config = <PartialConfig as Setting>::decode("", warnings, &mut deserializer)?;
    // The reference ignores it without a word, so there may be files that live on it.
    if let Err(error) = deserializer.end() {
        warnings.push(format!(
            "text after the configuration is ignored (line {})",
            error.line()
        ));
    }
    Ok(config)
}

/// The message of an error without the position, which has its own place.
fn message_of(error: &serde_json::Error) -> String {
    let position = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}
