"""The document of the profile's format is what the records say."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from chipassay.results.profile_doc import FITTED, OTHERS, RECORDS, markdown, meaning

DOCUMENT = Path(__file__).resolve().parents[2] / "results" / "PROFILE.md"


def test_the_document_is_current():
    assert DOCUMENT.read_text(encoding="utf-8") == markdown(), "python -m chipassay.results.profile_doc > results/PROFILE.md"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_is_explained(record):
    assert [f.name for f in fields(record) if not meaning(record, f.name)] == []


def test_no_explanation_is_of_a_field_that_is_gone():
    names = {f"{record.__name__}.{f.name}" for record in RECORDS for f in fields(record)}
    assert sorted(set(OTHERS) - names) == []
    assert [name for name in FITTED if not any(key.endswith(f".{name}") for key in names)] == []


def test_a_field_has_its_row_with_type_default_and_the_text_under_it():
    assert (
        "| `products` | object[ProductModel] | empty | dtype -> time of a matrix product by its shape; "
        "`matmul` is the one line through the same rows |"
    ) in markdown()
