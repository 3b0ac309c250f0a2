"""Which Prefect API a run uses: the user's own where one is named, else an embedded one."""

import contextlib
import os
from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mmflow.compat.prefect import direct_clients, introduce_telemetry
from mmflow.flow.execution import EngineUnavailable
from mmflow.flow.prefect.server import ApiFailed, EmbeddedApi, start_early
from mmflow.flow.prefect.settings import WITHOUT, environment, load_settings

if TYPE_CHECKING:
    from prefect.settings import Settings
    from prefect.settings.context import SettingKey


def find_api(store_url: str) -> EmbeddedApi | None:
    """The embedded API of a store, on its way up, or None where the user has one, which answers.

    Raises `EngineUnavailable` where Prefect refuses its settings or the user's API does not answer.
    """
    api = start_early(store_url)
    try:
        load_settings()
        from prefect.settings import PREFECT_API_URL

        if not (url := PREFECT_API_URL.value()):
            return api or EmbeddedApi(store_url).start()
        introduce_telemetry()
        with _direct(url):
            _check_answers(url)
    except BaseException:
        if api is not None:
            api.close()
        raise
    if api is not None:
        api.close()
    return None


@contextlib.contextmanager
def api_settings(api: EmbeddedApi | None) -> Iterator[tuple["Settings", bool]]:
    """Settings that name the API which `find_api` has found, and whether that API is ours; gives ours back at the end.

    Raises `EngineUnavailable` where ours does not start.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with contextlib.ExitStack() as stack:
        if api is None:
            stack.enter_context(_direct(PREFECT_API_URL.value() or ""))
            yield stack.enter_context(temporary_settings()), False
            return
        stack.callback(api.close)
        try:
            url = api.wait()
        except ApiFailed as error:
            raise EngineUnavailable(f"{error}; {WITHOUT}") from error
        stack.enter_context(_direct(url))
        stack.enter_context(environment(DO_NOT_TRACK="1"))
        yield stack.enter_context(temporary_settings(_own_settings(url))), True


def _own_settings(url: str) -> "dict[SettingKey, str | bool | int | None]":
    """An API of ours serves mmflow alone: whatever the user has set for others must not change a run or its output."""
    from prefect.settings import (
        PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
        PREFECT_API_URL,
        PREFECT_CLIENT_METRICS_ENABLED,
        PREFECT_DEBUG_MODE,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_INTERNAL_LOGGING_LEVEL,
        PREFECT_LOGGING_EXTRA_LOGGERS,
        PREFECT_LOGGING_LEVEL,
        PREFECT_LOGGING_LOG_PRINTS,
        PREFECT_LOGGING_SETTINGS_PATH,
        PREFECT_LOGGING_TO_API_ENABLED,
        PREFECT_SERVER_ANALYTICS_ENABLED,
        PREFECT_TEST_MODE,
    )

    return {
        PREFECT_API_URL: url,
        # Plain HTTP on the loopback: spares every client the loading of certificates.
        PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_CLIENT_METRICS_ENABLED: False,
        PREFECT_LOGGING_TO_API_ENABLED: False,
        PREFECT_LOGGING_LEVEL: "WARNING",
        PREFECT_INTERNAL_LOGGING_LEVEL: "ERROR",
        # A file that is not there stands for Prefect's own.
        PREFECT_LOGGING_SETTINGS_PATH: os.devnull + "/none",
        PREFECT_LOGGING_EXTRA_LOGGERS: None,
        PREFECT_LOGGING_LOG_PRINTS: False,
        PREFECT_DEBUG_MODE: False,
        PREFECT_TEST_MODE: False,
    }


@contextlib.contextmanager
def _direct(url: str) -> Iterator[None]:
    """Reach an API on this machine without a proxy, which could not reach it."""
    host = urlsplit(url).hostname or ""
    if not _is_loopback(host):
        yield
        return
    kept = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    direct = ",".join([*([kept] if kept else []), host])
    # Both spellings: web sockets and HTTP clients look at either.
    with environment(no_proxy=direct, NO_PROXY=direct), direct_clients():
        yield


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _check_answers(url: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}),
        get_client(sync_client=True, httpx_settings={"timeout": 10.0}) as client,
    ):
        error = client.api_healthcheck()
    if error is not None:
        raise EngineUnavailable(
            f"no Prefect API answers at {url} (PREFECT_API_URL): {type(error).__name__}: {error}; start it "
            f"(`prefect server start`), unset PREFECT_API_URL to use an embedded one, or leave it out: {WITHOUT}"
        )
