"""Services, which answer from outside, and the stage that asks them."""

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components():
    return {
        "stage/ask": "mmflow_services.ask:Ask",
        "service/scripted": "mmflow_services.scripted:Scripted",
        "service/http_chat": "mmflow_services.http_chat:HttpChat",
    }
