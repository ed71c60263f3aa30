"""The version of munas-hil: this one place. pyproject.toml reads it, CHANGELOG.md's first entry is named after it."""

VERSION = "0.2.0"
