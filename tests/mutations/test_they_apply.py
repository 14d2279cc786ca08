"""Each deliberate bug still fits the code, is told in the docs, and has its tests."""

from __future__ import annotations

import ast

import pytest

from tests.mutations.catalogue import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_it_applies_exactly_once_and_is_still_python(mutation: Mutation) -> None:
    text = (ROOT / mutation.path).read_text(encoding="utf-8")
    mutated = mutation.applied(text)
    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(text)), "it changes nothing"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_its_tests_are_there(mutation: Mutation) -> None:
    for test in mutation.tests:
        file, _, name = test.partition("::")
        path = ROOT / file
        assert path.exists()
        if name:
            folder = path.parent
            texts = [one.read_text(encoding="utf-8") for one in folder.glob("*.py")]
            function = name.rpartition("::")[2].partition("[")[0]
            assert any(f"def {function}(" in text for text in texts)


def test_no_two_share_a_name() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


def test_the_page_of_proofs_lists_them() -> None:
    page = (ROOT / "docs" / "proofs.md").read_text(encoding="utf-8")
    for mutation in MUTATIONS:
        assert f"| {mutation.name} | {mutation.bug} |" in page
