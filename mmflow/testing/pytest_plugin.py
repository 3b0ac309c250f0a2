"""The pytest side of the kit: `@pytest.mark.components(...)` gives a test one `component_check` for each promise.

It is loaded in every test session where mmflow is installed, so it imports nothing heavy before it is used.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest


def pytest_configure(config: pytest.Config) -> None:
    text = "components(names, cases=()): run the checks of these components; the test calls its `component_check`"
    config.addinivalue_line("markers", text)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "component_check" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("components")
    if marker is None:
        raise pytest.UsageError(
            f"{metafunc.function.__name__} takes component_check: add @pytest.mark.components(names)"
        )
    from mmflow.testing.kit import Skipped, checks_of

    names = marker.args[0] if marker.args else ()
    found = []
    for check in checks_of([names] if isinstance(names, str) else names, marker.kwargs.get("cases", ())):
        skip = [pytest.mark.skip(reason=check.reason)] if isinstance(check, Skipped) else []
        found.append(pytest.param(check, id=check.name, marks=skip))
    metafunc.parametrize("component_check", found, indirect=True)


@pytest.fixture
def component_check(request: pytest.FixtureRequest) -> Callable[[], None]:
    """One promise of a component: call it. A component that needs a case of its author is skipped, with the reason."""
    from mmflow.testing.case import Untestable

    def run() -> None:
        try:
            request.param()
        except Untestable as reason:
            pytest.skip(str(reason))

    return run
