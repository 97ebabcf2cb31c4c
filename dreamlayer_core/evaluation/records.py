"""What was measured of every scene, on disk while an evaluation runs, so that one that was cut off goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ..errors import InputError, OutputError

__all__ = ["Record", "RecordStore"]


@dataclass(frozen=True)
class Record:
    """One scene in one configuration: values by metric, and classifier features by what they are of."""

    values: Mapping[str, list[float]]
    features: Mapping[str, list[list[float]]] = field(default_factory=lambda: dict[str, list[list[float]]]())


class _StoredRecord(BaseModel):
    values: dict[str, list[float]]
    features: dict[str, list[list[float]]]


class _StoredFile(BaseModel):
    settings: dict[str, str]
    scenes: dict[int, _StoredRecord]


def _short(numbers: Sequence[float]) -> list[float]:
    return [float(f"{number:.5g}") for number in numbers]


def _rounded(record: Record) -> Record:
    """As a file holds it, so that figures do not depend on whether a run was cut off."""
    return Record(
        {name: _short(values) for name, values in record.values.items()},
        {name: [_short(row) for row in rows] for name, rows in record.features.items()})


class RecordStore:
    """One JSON file a configuration in ``folder``, rewritten whole after every batch.

    ``settings`` is all that a record depends on. Raises InputError for records that were made with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder, self._settings = folder, dict(settings)
        self._loaded: dict[str, dict[int, Record]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error}; choose a writable folder") from error

    def records(self, name: str) -> dict[int, Record]:
        """The records of a configuration by the scenes' seeds."""
        if name not in self._loaded:
            self._loaded[name] = self._read(self._folder / f"{name}.json")
        return self._loaded[name]

    def add(self, name: str, records: Mapping[int, Record]) -> None:
        """Add records and write the configuration's file, whole or not at all."""
        known = self.records(name)
        known.update({seed: _rounded(record) for seed, record in records.items()})
        stored = _StoredFile(
            settings=self._settings,
            scenes={seed: _StoredRecord(values=dict(record.values), features=dict(record.features))
                    for seed, record in sorted(known.items())})
        path = self._folder / f"{name}.json"
        partial = path.with_suffix(".partial")
        try:
            partial.write_text(stored.model_dump_json(), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error}; choose a writable folder with enough room") from error

    def _read(self, path: Path) -> dict[int, Record]:
        if not path.exists():
            return {}
        try:
            stored = _StoredFile.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InputError(f"{path} is no record of an evaluation ({error}); remove it or give another --out") from error
        for key in sorted(stored.settings.keys() | self._settings.keys()):
            found, wanted = stored.settings.get(key), self._settings.get(key)
            if found != wanted:
                raise InputError(
                    f"{path} was measured with {key} {found}, not {wanted}; give another --out, or remove this one")
        return {seed: Record(record.values, record.features) for seed, record in stored.scenes.items()}
