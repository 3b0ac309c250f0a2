"""Which Prefect API a run uses: the user's own where one is named, else an embedded one."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmflow.flow.execution import EngineUnavailable
from mmflow.flow.prefect.server import ApiFailed, EmbeddedApi

if TYPE_CHECKING:
    from prefect.settings import Settings
    from prefect.settings.context import SettingKey


@contextlib.contextmanager
def api_settings(store_url: str, api: EmbeddedApi | None) -> Iterator[tuple["Settings", bool]]:
    """Settings that name an API which answers, and whether that API is ours."""
    from prefect.settings import (
        PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOGGING_TO_API_ENABLED,
        PREFECT_SERVER_ANALYTICS_ENABLED,
        temporary_settings,
    )

    with contextlib.ExitStack() as stack:
        if api is not None:
            stack.callback(api.close)
        if url := PREFECT_API_URL.value():
            settings = stack.enter_context(temporary_settings())
            _check_answers(url, settings)
            yield settings, False
            return
        if api is None:
            api = EmbeddedApi(store_url).start()
            stack.callback(api.close)
        try:
            url = api.wait()
        except ApiFailed as error:
            raise EngineUnavailable(f"{error}; `--local` runs the same stages without Prefect") from error
        updates: dict[SettingKey, str | bool | None] = {
            PREFECT_API_URL: url,
            # Plain HTTP on the loopback: spares every client the loading of certificates.
            PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            PREFECT_LOGGING_TO_API_ENABLED: False,
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
        }
        yield stack.enter_context(temporary_settings(updates)), True


def _check_answers(url: str, settings: "Settings") -> None:
    from prefect.client.orchestration import get_client

    tries, settings.client.max_retries = settings.client.max_retries, 1
    with get_client(sync_client=True, httpx_settings={"timeout": 10.0}) as client:
        error = client.api_healthcheck()
    settings.client.max_retries = tries
    if error is not None:
        raise EngineUnavailable(
            f"no Prefect API answers at {url} (PREFECT_API_URL): {type(error).__name__}: {error}; start it "
            "(`prefect server start`), unset PREFECT_API_URL to use an embedded one, or run without Prefect: `--local`"
        )
